"""What the two edges share."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from stackauth_middleware import ConfigError, StackAuthConfig
from stackauth_middleware._edge import check_environment, clocks, in_event_loop, is_encoded, proxy_for, tls_context

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"


def test_the_certificates_are_certifis_or_those_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) > 50
    empty = tmp_path / "none.pem"
    empty.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE is .*none\.pem"):
        tls_context()
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        check_environment(StackAuthConfig(project_id=PROJECT))


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://api.example/", None),
        ({"https_proxy": "http://proxy:1"}, "https://api.example/", "http://proxy:1"),
        ({"https_proxy": "proxy:1"}, "https://api.example/", "http://proxy:1"),
        ({"https_proxy": "HTTPS://proxy:1"}, "https://api.example/", "https://proxy:1"),
        ({"all_proxy": "http://proxy:2"}, "http://api.example/", "http://proxy:2"),
        ({"http_proxy": "http://proxy:1"}, "https://api.example/", None),
        ({"https_proxy": "http://proxy:1", "no_proxy": "api.example"}, "https://api.example/", None),
        ({"https_proxy": "http://proxy:1", "no_proxy": "api.example:8443"}, "https://api.example:8443/", None),
        ({"https_proxy": "http://proxy:1", "no_proxy": "other.example"}, "https://api.example/", "http://proxy:1"),
    ],
)
def test_the_proxy_that_the_environment_names(
    environ: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_a_proxy_that_could_hold_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://user:secret@proxy:1")
    with pytest.raises(ConfigError, match="socks5") as caught:
        proxy_for("https://api.example/")
    assert "secret" not in str(caught.value)
    check_environment(StackAuthConfig(project_id=PROJECT))
    with pytest.raises(ConfigError):
        check_environment(StackAuthConfig(project_id=PROJECT, trust_env_proxies=True))


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [(None, False), ("", False), ("identity", False), (" Identity ", False), ("gzip", True), ("identity, gzip", True)],
)
def test_is_encoded(encoding: str | None, encoded: bool) -> None:
    assert is_encoded({} if encoding is None else {"content-encoding": encoding}) is encoded


def test_clocks() -> None:
    wall, mono = clocks()
    assert abs(wall - time.time()) < 60
    assert 0 <= time.monotonic() - mono < 60


def test_in_event_loop() -> None:
    async def ask() -> Any:
        return in_event_loop()

    assert not in_event_loop()
    assert asyncio.run(ask())
    assert trio.run(ask)
    assert not in_event_loop()


def test_in_event_loop_where_none_was_ever_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackauth_middleware._edge.sys.modules", {})
    assert not in_event_loop()
