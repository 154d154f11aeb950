"""The steps around key sets: which one to fetch, when, and which requests wait for it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import AuthServerError, ErrorCode, RefusedError
from . import key_sets
from .cache import Atomic
from .clocks import elapsed
from .config import StackAuthConfig
from .key_sets import Action, Age, Document, Key, KeySet
from .rate_limited_log import RateLimitedLog
from .records import Clocks
from .tokens import Token
from .upstream import CANCEL_GRACE, GAVE_UP, Failure, Resume, Script, Share, ShareEnd, fetch
from .users import UserType

REFRESH_BUDGET = 1.0
"""Limit in seconds on the time that a request spends on a fetch while the cached key set is usable."""
MAX_WAITERS = 4
"""Limit on the number of threads, over all key sets, that wait for an unknown key while any key set is usable."""


@dataclass(frozen=True, slots=True)
class Status:
    """The readiness of a verifier.

    Attributes:
        ready: whether tokens of normal users can be verified without a fetch.
        keys_age: seconds since the keys of normal users were fetched; None if there are none.
        failure: the error code of the last fetch, or None if it succeeded.
    """

    ready: bool
    keys_age: float | None
    failure: ErrorCode | None


class KeySetCache:
    """The key sets of one config, one for each user type.

    Attributes:
        cells: the key set of each user type. Only this class replaces them.
    """

    def __init__(self, config: StackAuthConfig) -> None:
        self._url = config.key_set_url
        self.cells: Mapping[UserType, Atomic[KeySet]] = {user_type: Atomic(KeySet()) for user_type in UserType}
        self._log_misconfiguration = RateLimitedLog(logging.ERROR)
        self._log_outage = RateLimitedLog(logging.WARNING)

    def record(self, user_type: UserType) -> KeySet:
        """Return the key set of `user_type`."""
        return self.cells[user_type].record

    def status(self, now: Clocks) -> Status:
        """Return the readiness for tokens of normal users, without a fetch."""
        record = self.record(UserType.NORMAL)
        age = elapsed(record.fetched_at, now)
        return Status(record.age(now) is not Age.NONE, age if math.isfinite(age) else None, record.failure)

    def key_for(self, token: Token, now: Clocks, *, defer_refresh: bool) -> Script[tuple[Key, Action, Clocks]]:
        """Return the key that `token` names, fetching the key set if needed.

        Args:
            token: a token of the right form.
            now: both clocks.
            defer_refresh: whether the caller refreshes a stale key set after the response.

        Returns:
            The key, the action for it (USE or USE_AND_REFRESH), and both clocks after any fetch.

        Raises:
            RefusedError: INVALID_TOKEN, since the key is not published.
            AuthServerError: the key set cannot be fetched.
        """
        cell = self.cells[token.user_type]
        resume = Resume(ShareEnd.DONE, now)
        while True:
            record, now = cell.record, resume.clocks
            action = record.action(token.kid, now)
            if action is Action.USE_AND_REFRESH and not defer_refresh and resume.answer not in GAVE_UP:
                share = self._shared_fetch(token.user_type, record, now)
                resume = yield share._replace(budget=REFRESH_BUDGET, wait=0, cancel_grace=CANCEL_GRACE)
                continue
            if action in (Action.USE, Action.USE_AND_REFRESH):
                return record.keys[token.kid], action, resume.clocks
            if action is not Action.REFRESH:
                raise no_key(record, now)
            resume = yield self._shared_fetch_of_unknown_key(token.user_type, record, now)
            if resume.answer in GAVE_UP:
                raise AuthServerError(ErrorCode.SERVER_ERROR, 1, "the keys were not fetched in time")

    def refresh_if_stale(self, user_type: UserType, now: Clocks) -> Script[None]:
        """Refresh the key set of `user_type` if it is stale and no other caller is refreshing it."""
        record = self.record(user_type)
        if record.age(now) is not Age.FRESH and record.may_refresh(now):
            yield self._shared_fetch(user_type, record, now)._replace(wait=0)

    def prefetch_keys(self, now: Clocks) -> Script[None]:
        """Fetch the key set of normal users if there is none, or wait for the fetch in progress."""
        record = self.record(UserType.NORMAL)
        if not record.keys:
            yield self._shared_fetch(UserType.NORMAL, record, now)

    def _shared_fetch_of_unknown_key(self, user_type: UserType, record: KeySet, now: Clocks) -> Share:
        """Return the fetch for a key id that the cached key set does not have.

        While any key set is usable, few threads may wait for it: tokens with made-up key ids and user types cost
        an attacker nothing and must not block users whose keys are cached. If this key set is usable, the fetch
        also has a short budget, and bypasses HTTP caches.
        """
        if record.age(now) is Age.NONE:
            is_any_usable = any(each.record.age(now) is not Age.NONE for each in self.cells.values())
            share = self._shared_fetch(user_type, record, now)
            return share._replace(max_waiters=MAX_WAITERS if is_any_usable else None, cancel_grace=CANCEL_GRACE)
        share = self._shared_fetch(user_type, record, now, past_caches=True)
        return share._replace(
            budget=REFRESH_BUDGET, wait=REFRESH_BUDGET, max_waiters=MAX_WAITERS, cancel_grace=CANCEL_GRACE
        )

    def _shared_fetch(self, user_type: UserType, record: KeySet, now: Clocks, *, past_caches: bool = False) -> Share:
        def script() -> Script[None]:
            return self._refresh(user_type, record, now, past_caches=past_caches)

        return Share(("keys", user_type), script, pool="keys")

    def _refresh(self, user_type: UserType, seen: KeySet, as_of: Clocks, *, past_caches: bool) -> Script[None]:
        """Fetch the key set of `user_type` and cache the result.

        Nothing is fetched if the cached key set is no longer `seen`: another fetch has ended since the caller
        looked. Nothing is cached if another runner or event loop has cached keys whose fetch started after `as_of`.
        """
        cell = self.cells[user_type]
        if cell.record is not seen:
            return
        document, clocks = yield from self._documents(user_type, past_caches=past_caches)
        if isinstance(document, Document):
            keys = document.keys(cell.record.keys)
            if keys or not document.points:
                filled = document.fresh_for, as_of, clocks
                cell.swap(lambda record: (record.filled(keys, *filled), None))
                return
            document = Failure(ErrorCode.SERVER_ERROR, "a JWK Set without a usable key")
        failure = document
        log = self._log_misconfiguration if failure.code is ErrorCode.MISCONFIGURED else self._log_outage
        log(clocks, f"no {user_type.value} key set from {self._url}: {failure.detail}")
        cell.swap(lambda record: (record.failed(failure, as_of, clocks), None))

    def _documents(self, user_type: UserType, *, past_caches: bool) -> Script[tuple[Document | Failure, Clocks]]:
        """Fetch the document of `user_type`, and return it without the keys of the next smaller one."""
        smaller = Document({})
        smaller_type = key_sets.SMALLER.get(user_type)
        if smaller_type is not None:
            found, resume = yield from self._document(smaller_type, past_caches=past_caches)
            if smaller_type is UserType.RESTRICTED and self._is_older(resume):
                found, resume = yield from self._document(UserType.NORMAL, past_caches=past_caches)
            if isinstance(found, Failure):
                return found, resume.clocks
            smaller = found
        found, resume = yield from self._document(user_type, past_caches=past_caches)
        if user_type is UserType.RESTRICTED and self._is_older(resume):
            return Document({}), resume.clocks
        return (found if isinstance(found, Failure) else found.less(smaller)), resume.clocks

    def _is_older(self, resume: Resume) -> bool:
        """Return whether the server predates restricted users.

        It does if it rejected the query parameter, and no usable restricted keys show that it knew it before.
        """
        held = self.record(UserType.RESTRICTED)
        is_usable = held.keys and held.age(resume.clocks) is not Age.NONE
        return key_sets.is_unsupported(resume.answer) and not is_usable

    def _document(self, user_type: UserType, *, past_caches: bool) -> Script[tuple[Document | Failure, Resume]]:
        resume = yield from fetch(key_sets.call(self._url, user_type, past_caches=past_caches))
        return key_sets.read(resume.answer, resume.clocks), resume


def no_key(record: KeySet, now: Clocks) -> RefusedError | AuthServerError:
    """Return the error for a key id that `record` does not have while no fetch may start."""
    if record.failure is None:
        return RefusedError(ErrorCode.INVALID_TOKEN, "signed by an unknown key")
    if record.failure is ErrorCode.MISCONFIGURED:
        return AuthServerError(ErrorCode.MISCONFIGURED, detail="Stack Auth does not know the project")
    return AuthServerError(ErrorCode.SERVER_ERROR, record.retry_after(now), "the keys cannot be fetched")
