"""What the two edges share: certificates, proxies, the reading of headers, the clocks."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import certifi
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware import ConfigError, _edge
from tests.core.helpers import bounded
from tests.edges import authority
from tests.edges.loopback import config_for

# -- certificates ----------------------------------------------------------------------------------


def subjects(context: ssl.SSLContext) -> set[Any]:
    return {each["subject"] for each in context.get_ca_certs()}


def test_the_authorities_are_certifis() -> None:
    """Whatever the system has: both edges believe the same, everywhere."""
    expected = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    expected.load_verify_locations(certifi.where())
    context = _edge.tls_context()
    assert subjects(context) == subjects(expected)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_the_authorities_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file takes the place of certifi's; it does not join them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.make(tmp_path).file))
    assert len(_edge.tls_context().get_ca_certs()) == 1


def test_a_folder_of_authorities_joins_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL looks into it only when it needs a certificate, under the hash of its name."""
    asked: list[Any] = []
    create = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda **named: asked.append(named) or create(**named))  # type: ignore[func-returns-value]
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert _edge.tls_context().get_ca_certs()
    assert asked == [{"cafile": certifi.where(), "capath": str(tmp_path)}]


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["missing", "empty", "other"])
def test_a_file_without_authorities(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told which variable is wrong, whether a proxy is to be used or not."""
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigError, match=r"^SSL_CERT_FILE is '.*authorities\.pem'; it must be a file of PEM"):
        _edge.tls_context()
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        _edge.check_environment(config_for("http://127.0.0.1:9"))


# -- proxies ---------------------------------------------------------------------------------------

HTTP, HTTPS = "http://api.example.com:8102/api", "https://api.example.com/api"


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, HTTPS, None),
        ({"http_proxy": "http://proxy:3128"}, HTTPS, None),
        ({"http_proxy": "http://proxy:3128"}, HTTP, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"all_proxy": "http://proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"all_proxy": "http://other:1", "https_proxy": "http://proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"https_proxy": ""}, HTTPS, None),
        ({"https_proxy": "proxy:3128"}, HTTPS, "http://proxy:3128"),
        ({"https_proxy": "//proxy:3128"}, HTTPS, "http:////proxy:3128"),
        ({"https_proxy": "HTTPS://me:word@proxy"}, HTTPS, "https://me:word@proxy"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "api.example.com"}, HTTP, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": ".example.com"}, HTTP, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "api.example.com:8102"}, HTTP, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "api.example.com:80"}, HTTP, "http://proxy:3128"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "example.com.evil"}, HTTP, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "*"}, HTTPS, None),
    ],
)
def test_the_proxy_of_the_environment(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _edge.proxy_for(url) == proxy


def test_a_url_without_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy")
    assert _edge.proxy_for("http:///x") == "http://proxy"


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4", "ftp"])
def test_a_proxy_of_another_kind(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused where it is to be used, without its password; where none is to be used it is nobody's business."""
    monkeypatch.setenv("all_proxy", f"{scheme}://me:password@proxy:1080")
    with pytest.raises(ConfigError, match=rf"proxy for https in the environment is {scheme}://….*http proxy") as caught:
        _edge.check_environment(config_for("https://api.example.com", trust_env_proxies=True))
    assert "password" not in str(caught.value)
    _edge.check_environment(config_for("https://api.example.com"))


# -- headers, clocks, loops ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, False),
        ("", False),
        (" ", False),
        ("identity", False),
        (" Identity ", False),
        ("gzip", True),
        ("identity, gzip", True),
        ("identity, identity", True),
        ("x-unknown", True),
    ],
)
def test_is_encoded(value: str | None, encoded: bool) -> None:
    assert _edge.is_encoded({} if value is None else {"content-encoding": value}) is encoded


@bounded
@given(st.text())
def test_only_identity_is_not_encoded(value: str) -> None:
    """Whatever is said besides: doubt counts as encoded, since an inflated body could not be capped."""
    assert _edge.is_encoded({"content-encoding": value}) == (value.strip().lower() not in ("", "identity"))


def test_both_clocks() -> None:
    before = time.time(), time.monotonic()
    read = _edge.clocks()
    after = time.time(), time.monotonic()
    assert before[0] <= read.wall <= after[0]
    assert before[1] <= read.mono <= after[1]


def test_in_event_loop() -> None:
    """Asyncio's and trio's; not in a worker thread of either."""
    seen = {"nowhere": _edge.in_event_loop()}

    async def under_asyncio() -> None:
        seen["asyncio"] = _edge.in_event_loop()
        seen["asyncio's thread"] = await asyncio.to_thread(_edge.in_event_loop)

    async def under_trio() -> None:
        seen["trio"] = _edge.in_event_loop()
        seen["trio's thread"] = await trio.to_thread.run_sync(_edge.in_event_loop)

    asyncio.run(under_asyncio())
    trio.run(under_trio)
    assert seen == {"nowhere": False, "asyncio": True, "asyncio's thread": False, "trio": True, "trio's thread": False}


def test_in_event_loop_where_there_is_no_such_library() -> None:
    """Nothing is imported to find out."""
    code = (
        "import sys\n"
        "from stackauth_middleware import _edge\n"
        "assert not {'asyncio', 'trio', 'requests', 'httpx'} & set(sys.modules)\n"
        "assert _edge.in_event_loop() is False\n"
        "assert not {'asyncio', 'trio'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_nothing_stands_in_for_the_network() -> None:
    """Unless a test suite puts it in."""
    assert _edge.stand_in is None
