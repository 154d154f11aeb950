"""The token cache: what has to hold for a cached token to be used again. `test_flow` has the orders of events."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from stackauth_middleware._core.cache import Atomic
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.credentials import MAX_BYTES
from stackauth_middleware._core.key_sets import FRESH_FOR, STALE_IF_ERROR, Key, KeySet
from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.token_cache import TokenCache, VerifiedToken
from stackauth_middleware._core.tokens import check_signature, parse, user_of
from stackauth_middleware._core.users import UserType
from stackauth_middleware.errors import ErrorCode, RefusedError

from .helpers import AUDIENCES, ISSUERS, MONO, NOW, PROJECT, SIGNERS, WALL, token

LEEWAY = 5
EXPIRY = WALL + 2 * STALE_IF_ERROR
TOKEN = token(exp=EXPIRY)
NEVER_VERIFIED = token(exp=EXPIRY, name="another")


class World:
    """A cache with one token, which the first signer of normal users signed."""

    def __init__(self) -> None:
        signer = SIGNERS[UserType.NORMAL][0]
        public: Any = signer.private.public_key()
        self.key = Key((b"", b""), public)
        self.key_sets = {kind: Atomic(KeySet()) for kind in UserType}
        self.publish({signer.kid: self.key})
        self.cache = TokenCache(StackAuthConfig(project_id=PROJECT, leeway=LEEWAY), self.key_sets)
        parsed = parse(TOKEN, AUDIENCES, ISSUERS)
        check_signature(parsed, public)
        self.verified = VerifiedToken(
            user_of(parsed, WALL, LEEWAY), sha256(TOKEN.encode()).digest(), signer.kid, self.key
        )
        self.cache.put(self.verified.digest, self.verified)

    def publish(self, keys: dict[str, Key]) -> None:
        cell = self.key_sets[UserType.NORMAL]
        cell.put(KeySet().filled(keys, FRESH_FOR, NOW, NOW))

    def both(self, now: Clocks, *, defer_refresh: bool = True) -> tuple[VerifiedToken | None, VerifiedToken | None]:
        return self.cache.current(TOKEN, *now), self.cache.recheck(
            self.verified.digest, now, defer_refresh=defer_refresh
        )


@pytest.fixture
def world() -> World:
    return World()


def test_cached_token_is_current_and_most_recently_used(world: World) -> None:
    world.cache.put(b"other", world.verified)
    assert world.both(NOW) == (world.verified, world.verified)
    assert world.cache.current(TOKEN, *NOW) is world.verified
    assert list(world.cache._values) == [b"other", world.verified.digest]


@pytest.mark.parametrize(
    "text",
    [NEVER_VERIFIED, TOKEN + " ", TOKEN[:-1], TOKEN[:-4] + "\xe9" + TOKEN[-3:], "a" * MAX_BYTES + TOKEN, "", "a.b.c"],
    ids=["never-verified", "longer", "shorter", "not-ascii", "over-8-kib", "empty", "garbage"],
)
def test_any_other_string_is_not_current(world: World, text: str) -> None:
    assert world.cache.current(text, *NOW) is None


@pytest.mark.parametrize("keys", [{}, {"other": None}, {SIGNERS[UserType.NORMAL][0].kid: "an equal key"}], ids=str)
def test_token_is_dropped_when_its_key_is_withdrawn_or_replaced(world: World, keys: dict[str, Any]) -> None:
    world.publish({kid: world.key._replace() for kid in keys})
    assert world.both(NOW) == (None, None)
    assert len(world.cache) == 0


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_token_is_refused_and_dropped_once_it_has_expired(world: World, late: float) -> None:
    now = Clocks(EXPIRY + LEEWAY + late, MONO)
    assert world.cache.current(TOKEN, *now) is None
    with pytest.raises(RefusedError) as raised:
        world.cache.recheck(world.verified.digest, now, defer_refresh=True)
    assert raised.value.code is ErrorCode.EXPIRED_TOKEN
    assert world.cache.recheck(world.verified.digest, now, defer_refresh=True) is None


@pytest.mark.parametrize("clock", ["wall", "mono"])
def test_token_of_a_stale_key_set_is_not_current(world: World, clock: str) -> None:
    """On either clock. It can be used if the middleware refreshes the key set after the response."""
    fresh = Clocks(*(at + FRESH_FOR - 1 if clock == name else at for name, at in NOW._asdict().items()))
    assert world.both(fresh) == (world.verified, world.verified)
    stale = Clocks(*(at + FRESH_FOR if clock == name else at for name, at in NOW._asdict().items()))
    assert world.both(stale) == (None, world.verified._replace(stale=True))
    assert world.both(stale, defer_refresh=False) == (None, None)
    assert len(world.cache) == 1


def test_token_of_a_key_set_past_stale_if_error_is_not_current(world: World) -> None:
    assert world.both(Clocks(WALL, MONO + STALE_IF_ERROR)) == (None, None)
