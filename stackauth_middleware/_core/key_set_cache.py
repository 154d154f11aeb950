"""The order of steps around keys: which set, whether to fetch it, whom to make wait. Part of the flow."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from ..errors import AuthServerError, ErrorCode, RefusedError
from . import key_sets
from .cache import Atomic
from .config import StackAuthConfig
from .key_sets import Action, Age, Document, Key, KeySet
from .rate_limited_log import RateLimitedLog
from .records import Clocks
from .tokens import Token
from .upstream import CANCEL_GRACE, GAVE_UP, Failure, Resume, Script, Share, ShareEnd, fetch
from .users import UserType

REFRESH_BUDGET = 1.0
"""Seconds that a request spends at most on a key set while there are keys to go on with."""
MAX_WAITERS = 4
"""Threads that may wait, over all key sets, for a key that may not exist while there are keys to go on with."""


@dataclass(frozen=True, slots=True)
class Status:
    """How ready a verifier is.

    Attributes:
        ready: whether tokens of normal users can be verified without asking anybody.
        keys_age: seconds since the keys of normal users were fetched; None where there are none.
        failure: the row that the last fetch failed with; None where it did not.
    """

    ready: bool
    keys_age: float | None
    failure: ErrorCode | None


class KeySetCache:
    """The key sets of one config, one for each user type."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._url = config.key_set_url
        self._key_sets = {user_type: Atomic(KeySet()) for user_type in UserType}
        self._faults = RateLimitedLog(logging.ERROR)
        self._outages = RateLimitedLog(logging.WARNING)

    def record(self, user_type: UserType) -> KeySet:
        """Return what is held for `user_type`."""
        return self._key_sets[user_type].record

    def status(self, now: Clocks) -> Status:
        """Say how ready this is, from what is held."""
        record = self.record(UserType.NORMAL)
        age = now.mono - record.fetched_at
        return Status(record.age(now.mono) is not Age.NONE, age if math.isfinite(age) else None, record.failure)

    def key_for(self, token: Token, now: Clocks, *, defer_refresh: bool) -> Script[tuple[Key, Action, Clocks]]:
        """Return the key that `token` names, fetching what must be; and whether its set is stale.

        Raises:
            RefusedError: INVALID_TOKEN, no such key is published.
            AuthServerError: whether it is cannot be told.
        """
        cell = self._key_sets[token.user_type]
        resume = Resume(ShareEnd.DONE, now)
        while True:
            record, mono = cell.record, resume.clocks.mono
            action = record.action(token.kid, mono)
            if action is Action.USE_AND_REFRESH and not defer_refresh and resume.answer not in GAVE_UP:
                flight = self._flight(token.user_type, record, mono)
                resume = yield flight._replace(budget=REFRESH_BUDGET, wait=0, cancel_grace=CANCEL_GRACE)
                continue
            if action in (Action.USE, Action.USE_AND_REFRESH):
                return record.keys[token.kid], action, resume.clocks
            if action is not Action.REFRESH:
                raise no_key(record, mono)
            resume = yield self._flight_for_unknown(token.user_type, record, mono)
            if resume.answer in GAVE_UP:
                raise AuthServerError(ErrorCode.SERVER_ERROR, 1, "the keys did not come in time")

    def refresh_if_stale(self, user_type: UserType, now: Clocks) -> Script[None]:
        """Fetch the key set of `user_type`, unless another has or does; for a door whose app is done."""
        record = self.record(user_type)
        if record.age(now.mono) is not Age.FRESH and record.may_refresh(now.mono):
            yield self._flight(user_type, record, now.mono)._replace(wait=0)

    def prefetch_keys(self, now: Clocks) -> Script[None]:
        """Fetch the key set of normal users, or join those who do."""
        record = self.record(UserType.NORMAL)
        if not record.keys:
            yield self._flight(UserType.NORMAL, record, now.mono)

    def _flight_for_unknown(self, user_type: UserType, record: KeySet, mono: float) -> Share:
        """Return the fetch for a key that is not held.

        While other keys can be used, few threads wait for it: tokens that name keys and user types at will
        cost a stranger nothing, and must not hold up the users whose keys are there. Where the set itself has
        other keys, the fetch is short as well, and goes past caches.
        """
        if record.age(mono) is Age.NONE:
            is_any_usable = any(each.record.age(mono) is not Age.NONE for each in self._key_sets.values())
            flight = self._flight(user_type, record, mono)
            return flight._replace(max_waiters=MAX_WAITERS if is_any_usable else None, cancel_grace=CANCEL_GRACE)
        flight = self._flight(user_type, record, mono, past_caches=True)
        return flight._replace(
            budget=REFRESH_BUDGET, wait=REFRESH_BUDGET, max_waiters=MAX_WAITERS, cancel_grace=CANCEL_GRACE
        )

    def _flight(self, user_type: UserType, record: KeySet, mono: float, *, past_caches: bool = False) -> Share:
        def script() -> Script[None]:
            return self._refresh(user_type, record, mono, past_caches=past_caches)

        return Share(("keys", user_type), script, pool="keys")

    def _refresh(self, user_type: UserType, seen: KeySet, as_of: float, *, past_caches: bool) -> Script[None]:
        """Fetch the key set of `user_type` and keep what came of it.

        Nothing is fetched if the record is not `seen` any more, since another fetch ended meanwhile; and nothing
        is kept if the record's keys were asked for after `as_of`, by another runner or event loop.
        """
        cell = self._key_sets[user_type]
        if cell.record is not seen:
            return
        document, clocks = yield from self._documents(user_type, past_caches=past_caches)
        if isinstance(document, Document):
            keys = document.keys(cell.record.keys)
            if keys or not document.points:
                filled = document.fresh_for, as_of, clocks.mono
                cell.swap(lambda record: (record.filled(keys, *filled), None))
                return
            document = Failure(ErrorCode.SERVER_ERROR, "a JWK Set without a usable key")
        failure = document
        notice = self._faults if failure.code is ErrorCode.MISCONFIGURED else self._outages
        notice(clocks.mono, f"no {user_type.value} key set from {self._url}: {failure.detail}")
        cell.swap(lambda record: (record.failed(failure, as_of, clocks.mono), None))

    def _documents(self, user_type: UserType, *, past_caches: bool) -> Script[tuple[Document | Failure, Clocks]]:
        """Fetch what the keys of `user_type` are read from: two documents but for normal users."""
        smaller = Document({})
        below = key_sets.SMALLER.get(user_type)
        if below is not None:
            found, resume = yield from self._document(below, past_caches=past_caches)
            if below is UserType.RESTRICTED and self._is_older(resume):
                found, resume = yield from self._document(UserType.NORMAL, past_caches=past_caches)
            if isinstance(found, Failure):
                return found, resume.clocks
            smaller = found
        found, resume = yield from self._document(user_type, past_caches=past_caches)
        if user_type is UserType.RESTRICTED and self._is_older(resume):
            return Document({}), resume.clocks
        return (found if isinstance(found, Failure) else found.less(smaller)), resume.clocks

    def _is_older(self, resume: Resume) -> bool:
        """Say whether a server answers so that never knew of restricted users: one whose keys are held does know."""
        held = self.record(UserType.RESTRICTED)
        knows = held.keys and held.age(resume.clocks.mono) is not Age.NONE
        return key_sets.is_unsupported(resume.answer) and not knows

    def _document(self, user_type: UserType, *, past_caches: bool) -> Script[tuple[Document | Failure, Resume]]:
        resume = yield from fetch(key_sets.call(self._url, user_type, past_caches=past_caches))
        return key_sets.read(resume.answer, resume.clocks), resume


def no_key(record: KeySet, mono: float) -> RefusedError | AuthServerError:
    """Return why there is no key for a key id, at a time at which nobody may be asked."""
    if record.failure is None:
        return RefusedError(ErrorCode.INVALID_TOKEN, "signed by an unknown key")
    if record.failure is ErrorCode.MISCONFIGURED:
        return AuthServerError(ErrorCode.MISCONFIGURED, detail="Stack Auth knows no such project")
    return AuthServerError(ErrorCode.SERVER_ERROR, record.retry_after(mono), "the keys cannot be had")
