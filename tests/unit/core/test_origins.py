"""Origins: invalid entries of ``cors_origins``, and what patterns match."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stackauth_middleware._core.origins import Origins, checked_origins
from stackauth_middleware.errors import ConfigError

from .helpers import bounded

RIGHT = """
    * https://app.example.com https://app.example.com:8443 http://localhost:3000 https://example.com.
    http://127.0.0.1:5173 http://[::1]:3000 http://[::ffff:102:304] https://xn--mnchen-3ya.example
    https://*.example.com https://*.vercel.app http://*.localhost:3000 capacitor://localhost
    chrome-extension://abcdefghijklmnopabcdefghijklmnop
""".split()
NEVER_SENT = {
    "": "scheme, host and port only",
    "app.example.com": "scheme, host and port only",
    "https://": "scheme, host and port only",
    "https://app.example.com/": "scheme, host and port only",
    "https://app.example.com/x": "scheme, host and port only",
    "https://app.example.com?": "scheme, host and port only",
    "https://user@app.example.com": "scheme, host and port only",
    "https://app.example.com ": "scheme, host and port only",
    "https://a\r\nx: y": "scheme, host and port only",
    "https://app.example.com\n": "scheme, host and port only",
    "https://app.example.com:": "scheme, host and port only",
    "https://app.example.com:08443": "scheme, host and port only",
    "https://app.example.com:0": "scheme, host and port only",
    "https://app.example.com:70000": "over 65535",
    "https://app.example.com:443": "write 'https://app.example.com'",
    "http://app.example.com:80": "write 'http://app.example.com'",
    "HTTPS://app.example.com": "write 'https://app.example.com'",
    "https://App.example.com": "write 'https://app.example.com'",
    "https://m\u00fcnchen.example": "punycode",
    "null": "sandboxed frame",
    "wss://app.example.com": "scheme 'wss'",
    "file://localhost": "scheme 'file'",
    "https://a..example.com": "not a valid host name",
    "https://.example.com": "not a valid host name",
    "https://" + "a" * 64 + ".example.com": "not a valid host name",
    "https://" + ".".join(["a" * 60] * 5): "not a valid host name",
    "https://127.1": "four decimal numbers",
    "https://0x7f000001": "four decimal numbers",
    "https://127.0.0.01": "four decimal numbers",
    "http://[0:0:0:0:0:0:0:1]": "shortest form",
    "http://[::g]": "scheme, host and port only",
    "http://[1::2::3]": "shortest form",
    "https://*": "domain of your own",
    "https://*.com": "domain of your own",
    "https://*.*.example.com": "first label",
    "https://app.*.example.com": "whole first label",
    "https://app-*.example.com": "whole first label",
    "https://*example.com": "whole first label",
    "https://*.0.0.1": "part of an address",
    "capacitor://*.example.com": "http or https host",
}


@pytest.mark.parametrize("entry", RIGHT)
def test_entry_that_a_browser_can_send_is_kept(entry: str) -> None:
    assert checked_origins({entry}) == (entry,)


@pytest.mark.parametrize(("entry", "words"), NEVER_SENT.items(), ids=map(ascii, NEVER_SENT))
def test_entry_that_can_never_match_is_a_config_error(entry: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_origins(["https://app.example.com", entry])
    shown = entry.replace("user@", "***@")  # ConfigError masks what may be a password
    assert str(caught.value).startswith(f"cors_origins has {shown!r}; ")
    assert words in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, "https://app.example.com"])
def test_value_that_is_no_list_is_a_config_error(value: Any) -> None:
    with pytest.raises(ConfigError, match="must be a list such as"):
        checked_origins(value)


def test_entry_that_is_no_string_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="has None"):
        checked_origins([None])


LOOK_ALIKES = [
    "https://example.com",
    "https://.example.com",
    "https://a.b.example.com",
    "https://evil-example.com",
    "https://evilexample.com",
    "https://app.example.com.evil.com",
    "https://app.example.com:443",
    "https://app.example.com:8443",
    "https://app.example.com.",
    "https://app.example.com/",
    "https://app.example.com\n",
    "https://app.example.org",
    "https://appXexample.com",
    "https://*.example.com",
    "https://user@app.example.com",
    "https://evil.com/.example.com",
    "https://evil.com#.example.com",
    "https://evil.com\\.example.com",
    "https://evil%2e.example.com",
    "https://App.example.com",
    "https://\u0430pp.example.com",
    "https://\uff41pp.example.com",
    "http://app.example.com",
    "https:/app.example.com",
    "https://https://app.example.com",
    "https://" + "a" * 64 + ".example.com",
    "https://app.example.com,https://app.example.com",
    " https://app.example.com",
    "null",
    "",
]


@pytest.mark.parametrize("origin", LOOK_ALIKES, ids=ascii)
def test_pattern_matches_no_look_alike(origin: str) -> None:
    assert Origins(["https://*.example.com", "https://other.example.net"]).allowed(origin) is None


@pytest.mark.parametrize(
    "origin", ["https://app.example.com", "https://xn--pp-8ia.example.com", "https://a_b-1.example.com"]
)
def test_pattern_matches_one_label(origin: str) -> None:
    assert Origins(["https://*.example.com"]).allowed(origin) == origin


def expected(entries: list[str], origin: str) -> bool:
    """Return whether `origin` matches one of `entries`, by the URL parser of the standard library (an oracle)."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    port_text = f":{port}" if port else ""
    if origin != f"{parts.scheme}://{host}{port_text}" or not host.isascii():
        return False
    labels = host.split(".")
    is_label = 0 < len(labels[0]) < 64 and labels[0].replace("-", "").replace("_", "").isalnum()
    pattern = ".".join(["*", *labels[1:]])
    return origin in entries or (is_label and f"{parts.scheme}://{pattern}{port_text}" in entries)


PIECES = [
    "https://",
    "http://",
    "*",
    "app",
    "evil",
    "example",
    "com",
    "a.b",
    ".",
    ".",
    ".",
    "-",
    "_",
    ":8443",
    "@",
    "/",
    "A",
    "\n",
    "%2e",
]
origins = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "https:", ""]),
    st.sampled_from(["", "app", "a.b", "*", "-", "x@y", "\u00e9", "a" * 64, "a/", "a\\", "a\n"]) | st.text(max_size=3),
    st.sampled_from([".example.com", "example.com", "-example.com", "..example.com", ".example.com."]),
    st.sampled_from(["", ":8443", ":443", "/", "\n", ",", ".evil.com"]),
)
ENTRIES = ["https://*.example.com", "http://*.example.com:8443", "https://app.example.net"]


@bounded
@given(origins)
@example("https://app.example.com")
@example("http://app.example.com:8443")
def test_patterns_match_as_the_oracle_does(origin: str) -> None:
    found = Origins(ENTRIES).allowed(origin)
    assert found == (origin if expected(ENTRIES, origin) else None)


def test_star_allows_every_origin_without_echoing_it() -> None:
    allowed = Origins(["*", "https://app.example.com"]).allowed
    assert [allowed(origin) for origin in ("https://app.example.com", "https://x\r\ny", "null", "")] == [
        "https://app.example.com",
        "*",
        "*",
        None,
    ]
