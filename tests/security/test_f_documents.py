"""Threats F9 to F14 through real sockets: odd keys in a good document, odd clocks, and odd environments."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.unit.core.helpers import LEFT_OUT, NORMAL, SIGNERS, WALL, Clock, Signer, b64url, token
from tests.unit.core.test_key_sets import OFF, UNUSABLE
from tests.unit.io import authority
from tests.unit.io.loopback import Issuer, Loopback, config_for, live_token

from .published import EXPIRED, INVALID, LET_IN, Asker, Published, Way, both_middlewares, down, every_way

ONE, TWO = SIGNERS[NORMAL]
OTHER = Signer(31_337, ONE.kid)
"""Another key under the id of the first."""


@pytest.mark.parametrize("copies", [2, 20])
@both_middlewares
def test_f9_duplicate_key_is_one_key(copies: int, way: Way, keys: Published, clock: Clock) -> None:
    keys.publish(*[ONE.jwk(), ONE.jwk(use="sig"), ONE.jwk(alg=LEFT_OUT)] * copies)
    with keys.asker(way) as asker:
        assert asker.ask(token(signer=ONE)) == LET_IN


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "the other first"])
@both_middlewares
def test_f9_id_of_two_conflicting_keys_verifies_nothing(order: int, way: Way, keys: Published, clock: Clock) -> None:
    """Otherwise the order would decide. Other keys are not affected; without other keys it is a failure."""
    twice = [ONE.jwk(), OTHER.jwk()][::order]
    keys.publish(*twice, TWO.jwk())
    with keys.asker(way) as asker:
        assert [asker.ask(token(signer=each)) for each in (ONE, OTHER, TWO)] == [INVALID, INVALID, LET_IN]
        assert asker.passed == 1
    keys.publish(*twice)
    with keys.asker(way) as asker:
        assert [asker.ask(token(signer=each)) for each in (ONE, OTHER, TWO)] == [down(10)] * 3
    assert keys.calls == 2


BESIDE = [
    {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "rsa", "alg": "RS256"},
    {"kty": "RSA", "n": "AA", "e": "AQAB", "kid": ONE.kid, "alg": "ES256"},
    {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": ONE.kid},
    {"kty": "oct", "k": "AAAA", "kid": ONE.kid, "alg": "HS256"},
    {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "pq"},
    None,
    5,
    "key",
    [],
    {},
]


@both_middlewares
def test_f10_unusable_key_does_not_affect_others(way: Way, keys: Published, clock: Clock) -> None:
    """Each next to it, before and after, all at once, and under its id."""
    odd = [*BESIDE, *UNUSABLE.values(), *OFF.values()]
    under_its_id = [{**each, "kid": ONE.kid} for each in BESIDE if isinstance(each, dict) and "kty" in each]
    for jwks in ([*odd, TWO.jwk()], [TWO.jwk(), *odd], [*under_its_id, ONE.jwk()], [ONE.jwk(), *under_its_id]):
        keys.publish(*jwks)
        signer = TWO if TWO.jwk() in jwks else ONE
        with keys.asker(way) as asker:
            assert asker.ask(token(signer=signer)) == LET_IN


@pytest.mark.parametrize("name", [*UNUSABLE, *OFF, *(f"beside {at}" for at in range(len(BESIDE)))])
def test_f11_document_without_usable_key_is_a_failure(name: str, keys: Published, clock: Clock) -> None:
    """It verifies nothing, causes no 401, and raises no exception."""
    jwk = BESIDE[int(name.split()[1])] if name.startswith("beside") else {**UNUSABLE, **OFF}[name]
    keys.publish(jwk)
    ways: tuple[Way, ...] = ("wsgi", "asyncio")
    for way in ways:
        with keys.asker(way) as asker:
            assert asker.ask(token(signer=ONE)) == down(10)
            assert asker.passed == 0
    assert keys.calls == 2


@pytest.mark.parametrize("alone", [True, False])
@every_way
def test_f12_published_private_key_is_neither_used_nor_logged(
    alone: bool, way: Way, keys: Published, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Everyone who read it can sign. The log holds no part of the key."""
    d = b64url(ONE.private.private_numbers().private_value.to_bytes(32, "big"))
    keys.publish(ONE.jwk(d=d), *([] if alone else [TWO.jwk()]))
    caplog.set_level(logging.DEBUG)
    with keys.asker(way) as asker:
        assert asker.ask(token(signer=ONE)) == (down(10) if alone else INVALID)
        assert asker.ask(token(signer=TWO)) == (down(10) if alone else LET_IN)
    assert d not in caplog.text
    assert ONE.jwk()["x"] not in caplog.text
    warned = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert [("without a usable key" in each) for each in warned] == [True] * alone


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0, 400 * 86_400.0])
@every_way
def test_f13_wall_clock_that_is_set_causes_at_most_a_fetch(
    jump: float, way: Way, keys: Published, clock: Clock
) -> None:
    """Set forward, it ages the keys, as on a suspended host; tokens expire by it in any case."""
    lasting = {"exp": WALL + 500 * 86_400}
    short, long = token(), token(**lasting)
    with keys.asker(way) as asker:
        assert asker.ask(short) == asker.ask(long) == LET_IN
        clock.wall += jump
        assert asker.ask(long) == asker.ask(token(name="new", **lasting)) == LET_IN
        assert asker.ask(short) == asker.ask(token(name="too")) == (EXPIRED if jump > 0 else LET_IN)
        calls = 2 if jump > 0 else 1
        assert keys.calls == calls
        clock.wall -= jump
        assert asker.ask(short) == LET_IN, "an expired token that was dropped from the cache is verified again"
        clock.mono += 600
        assert asker.ask(long) == LET_IN
        assert keys.calls == calls + 1


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
@both_middlewares
def test_f13_wall_clock_that_is_set_back_extends_no_pause(jump: float, way: Way, keys: Published, clock: Clock) -> None:
    keys.conduct = lambda exchange: exchange.reply(b"", 503)
    with keys.asker(way) as asker:
        assert asker.ask(token()) == down(10)
        clock.wall += jump
        assert asker.ask(token(exp=WALL + 10 * 86_400)) == down(10)
        assert keys.calls == (2 if jump > 0 else 1)
        clock.mono += 10
        assert asker.ask(token(exp=WALL + 10 * 86_400)) == down(10)
        assert keys.calls == (3 if jump > 0 else 2)


@every_way
def test_f14_environment_does_not_redirect_calls(
    way: Way, keys: Published, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy, no netrc, and none of the other variables of HTTP clients."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password canary\ndefault login user password canary\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(netrc.read_text())
    for name in ("CURL_CA_BUNDLE", "SSLKEYLOGFILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
    with Loopback(lambda exchange: exchange.reply(b"proxy")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://user:canary@127.0.0.1:{proxy.port}")
        with keys.asker(way) as asker:
            assert asker.ask(token()) == LET_IN
        assert proxy.connections == 0
        assert keys.calls == 1
        with keys.asker(way, trust_env_proxies=True) as asker:
            assert asker.ask(token()) == down(10)
        assert proxy.targets == [f"{keys.server.url}{keys.server.targets[0]}"]
        assert keys.calls == 1
    sent = json.dumps([each.headers for each in keys.server.requests])
    assert "canary" not in sent
    assert "authorization" not in sent


@both_middlewares
def test_f14_only_the_named_authorities_are_trusted(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown authority is an outage: no request is sent, and the response is no 401."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    mine = authority.make(tmp_path)
    with Loopback(Issuer(), mine.server_context()) as server:
        with Asker(way, config_for(server.url)) as asker:
            assert asker.ask(live_token()) == down(10)
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(mine.file))
        with Asker(way, config_for(server.url)) as asker:
            assert asker.ask(live_token()) == LET_IN
    assert len(server.requests) == 1
