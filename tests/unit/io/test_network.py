"""Shared by both runners: certificates, proxies, headers, clocks."""

from __future__ import annotations

import asyncio
import base64
import logging
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

from stackauth_middleware import ConfigError
from stackauth_middleware._core.upstream import Reply
from stackauth_middleware._io import network
from tests.unit.core.helpers import bounded
from tests.unit.io import authority, hostile
from tests.unit.io.either import Kind, every_runner, running
from tests.unit.io.loopback import Exchange, Loopback, config_for

# -- certificates ----------------------------------------------------------------------------------


def subjects(context: ssl.SSLContext) -> set[Any]:
    return {each["subject"] for each in context.get_ca_certs()}


def test_certifi_is_trusted_by_default() -> None:
    """And not the certificates of the system, so that all installations agree."""
    expected = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    expected.load_verify_locations(certifi.where())
    context = network.tls_context()
    assert subjects(context) == subjects(expected)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_ssl_cert_file_replaces_certifi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not merely added."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.make(tmp_path).file))
    assert len(network.tls_context().get_ca_certs()) == 1


def test_ssl_cert_dir_is_trusted_in_addition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads it only when it needs a certificate, by the hash of its name."""
    asked: list[Any] = []
    create = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda **named: asked.append(named) or create(**named))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert network.tls_context().get_ca_certs()
    assert asked == [{"cafile": certifi.where(), "capath": str(tmp_path)}]


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["missing", "empty", "other"])
def test_file_without_certificates_is_a_config_error(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable, with and without proxies."""
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigError, match=r"^SSL_CERT_FILE is '.*authorities\.pem'; it must be a file of PEM"):
        network.tls_context()
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        network.check_environment(config_for("http://127.0.0.1:9"))


BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def test_first_variable_that_is_not_empty_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the documented order; an empty value counts as unset."""
    files = {}
    for name in BUNDLES:
        (tmp_path / name).mkdir()
        files[name] = str(authority.make(tmp_path / name).file)
    certifis = subjects(network.tls_context())
    for first in ("", files["SSL_CERT_FILE"]):
        for second in ("", files["REQUESTS_CA_BUNDLE"]):
            monkeypatch.setenv("SSL_CERT_DIR", "")
            monkeypatch.setenv("SSL_CERT_FILE", first)
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", second)
            named = first or second
            expected = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if named:
                expected.load_verify_locations(named)
            assert subjects(network.tls_context()) == (subjects(expected) if named else certifis)


def test_requests_ca_bundle_may_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads it only when it needs a certificate."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert network.tls_context().get_ca_certs() == []


@pytest.mark.parametrize("name", [*BUNDLES, "SSL_CERT_DIR"])
def test_config_error_names_the_variable(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=rf"^{name} is '.*missing'; it must be a f"):
        network.check_environment(config_for("http://127.0.0.1:9"))


@every_runner
@pytest.mark.parametrize("name", BUNDLES)
def test_both_http_clients_trust_the_named_certificates(
    name: str, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = authority.make(tmp_path)
    monkeypatch.setenv(name, str(mine.file))
    monkeypatch.setenv("SSL_CERT_DIR", "")
    with Loopback(hostile.whole, mine.server_context()) as server, running(kind, server.url) as runner:
        assert isinstance(runner.ask(), Reply)


# -- proxies ---------------------------------------------------------------------------------------

PROXY = "http://proxy:3128"
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
        ({"https_proxy": "http://me:word://x@proxy"}, HTTPS, "http://me:word://x@proxy"),
        ({"https_proxy": "HTTPS://me:word@proxy"}, HTTPS, "https://me:word@proxy"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "api.example.com"}, HTTP, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": ".example.com"}, HTTP, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "api.example.com:8102"}, HTTP, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "api.example.com:80"}, HTTP, "http://proxy:3128"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "example.com.evil"}, HTTP, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "*"}, HTTPS, None),
        *(
            ({"all_proxy": "http://proxy:3128", "NO_PROXY": f"example.com, {entry}"}, url, None if excepted else PROXY)
            for entry, url, excepted in (
                ("10.0.0.0/8", "https://10.1.2.3/api", True),
                ("10.0.0.0/8", "https://11.1.2.3/api", False),
                ("10.1.2.3/8", "https://10.9.9.9/api", True),
                ("10.1.2.3", "https://10.1.2.3:8102/api", True),
                ("fd00::/8", "https://[fd12::1]/api", True),
                ("fd00::/8", "https://[fe80::1]/api", False),
                ("::1", "http://[::1]:8102/api", True),
                ("[::1]", "http://[::1]:8102/api", True),
                ("[::1]:8102", "http://[::1]:8102/api", True),
                ("[::1]:8103", "http://[::1]:8102/api", False),
                ("0:0:0:0:0:0:0:1", "http://[::1]:8102/api", True),
                ("0.0.0.0/0", "https://[::1]/api", False),
                ("10.0.0.0/33", "https://10.1.2.3/api", False),
                ("10.0.0.0/8", "https://api.stack.example/api", False),
            )
        ),
    ],
)
def test_proxy_for_a_url(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert network.proxy_for(url) == proxy


def test_url_without_a_host_uses_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy")
    assert network.proxy_for("http:///x") == "http://proxy"


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4", "ftp"])
def test_unsupported_proxy_is_a_config_error(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only if it would be used. The error does not hold its password."""
    monkeypatch.setenv("all_proxy", f"{scheme}://me:password@proxy:1080")
    with pytest.raises(ConfigError, match=rf"proxy for https in the environment is {scheme}://….*http proxy") as caught:
        network.check_environment(config_for("https://api.example.com", trust_env_proxies=True))
    assert "password" not in str(caught.value)
    network.check_environment(config_for("https://api.example.com"))


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("me:password://x@proxy", "is no URL;"),
        ("socks5://me:password://x@proxy", "is socks5://…;"),
        ("pass.word@proxy://", "is no URL;"),
    ],
)
def test_error_about_a_proxy_shows_no_credential(proxy: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConfigError, match="must be an http proxy") as caught:
        network.proxy_for(HTTPS)
    assert shown in str(caught.value)
    assert "word" not in str(caught.value)


def test_unused_proxy_is_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without its password; not if there is none or it is used."""
    caplog.set_level(logging.INFO)
    network._log_unused_proxy.cache_clear()
    network.check_environment(config_for("https://api.example.com"))
    monkeypatch.setenv("https_proxy", "http://me:canary@proxy:3128")
    network.check_environment(config_for("https://api.example.com", trust_env_proxies=True))
    assert caplog.messages == []
    for _ in range(2):
        network.check_environment(config_for("https://api.example.com"))
    assert caplog.messages == ["the environment names a proxy, which is not used: trust_env_proxies is False"]


@every_runner
@pytest.mark.parametrize(
    ("userinfo", "pair"),
    [
        ("me:word", "me:word"),
        ("me:пароль", "me:пароль"),
        ("m%C3%A9:%D0%BF%40%3A%2F", "mé:п@:/"),
        ("token", "token:"),
        (":word", ":word"),
    ],
)
def test_proxy_credentials_are_sent_in_utf_8(
    userinfo: str, pair: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.reply(b"", 403)

    with Loopback(refuse) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("://", f"://{userinfo}@"))
        with running(kind, "https://127.0.0.1:9", trust_env_proxies=True) as runner:
            runner.ask()
    expected = f"Basic {base64.b64encode(pair.encode()).decode()}"
    assert [each.headers["proxy-authorization"] for each in proxy.requests] == [expected]


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
    assert network.is_encoded({} if value is None else {"content-encoding": value}) is encoded


@bounded
@given(st.text())
def test_only_identity_is_not_encoded(value: str) -> None:
    """Every other value counts as encoded, since the size of a decompressed body could not be limited."""
    assert network.is_encoded({"content-encoding": value}) == (value.strip().lower() not in ("", "identity"))


def test_clocks_read_both_clocks() -> None:
    before = time.time(), time.monotonic()
    read = network.clocks()
    after = time.time(), time.monotonic()
    assert before[0] <= read.wall <= after[0]
    assert before[1] <= read.mono <= after[1]


def test_in_event_loop() -> None:
    """Of asyncio or trio, but not in a worker thread."""
    seen = {"nowhere": network.in_event_loop()}

    async def under_asyncio() -> None:
        seen["asyncio"] = network.in_event_loop()
        seen["asyncio's thread"] = await asyncio.to_thread(network.in_event_loop)

    async def under_trio() -> None:
        seen["trio"] = network.in_event_loop()
        seen["trio's thread"] = await trio.to_thread.run_sync(network.in_event_loop)

    asyncio.run(under_asyncio())
    trio.run(under_trio)
    assert seen == {"nowhere": False, "asyncio": True, "asyncio's thread": False, "trio": True, "trio's thread": False}


def test_in_event_loop_imports_nothing() -> None:
    code = (
        "import sys\n"
        "from stackauth_middleware._io import network\n"
        "assert not {'asyncio', 'trio', 'requests', 'httpx'} & set(sys.modules)\n"
        "assert network.in_event_loop() is False\n"
        "assert not {'asyncio', 'trio'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_transport_override_by_default() -> None:
    assert network.transport_override is None
