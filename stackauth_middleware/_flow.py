"""The order of steps, written once: the only generators of the package.

A step that needs nothing from outside is a plain call. One that may need Stack Auth returns either
its result or a script: a generator that yields what it needs, a `Call` or a `Flight`, and is resumed
with a `Tick`. Either pump can drive it. Nothing below this module knows that time passes.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from typing import NamedTuple

from . import _keyset, _tokens
from ._config import StackAuthConfig
from ._credentials import MAX_OCTETS, extract
from ._keyset import Action, Age, Document, Failure, KeySet
from ._memory import Cell, Memory
from ._notices import Notice
from ._responses import Responder
from ._rules import Policy, admit
from ._user import User, UserType
from ._wire import Call, Clocks, Flight, FlightEnd, Inbound, NoReply, Response, Script, Tick
from .errors import AuthServerError, ErrorCode, Event, RefusedError

logger = logging.getLogger("stackauth_middleware")

CARRY_BESIDE = 1.0
"""Seconds that a request spends at most on a key set while there are keys to go on with."""
MAX_WAITERS = 4
"""Threads that may wait for a key that may not exist while there are keys to go on with."""


class Presented:
    """A verified token, kept for the request that brought it so that its profile can be asked for."""

    __slots__ = ("flow", "token")

    def __init__(self, flow: Flow, token: str) -> None:
        self.flow = flow
        self.token = token


class Admitted(NamedTuple):
    """The verdict on a request that the app gets to see.

    Attributes:
        user: who is there, or None for nobody.
        presented: the token behind `user`.
        error: why nobody is there although somebody tried, on an optional route.
        refresh: the user type whose key set is stale: for a door to see to once the app is done.
    """

    user: User | None = None
    presented: Presented | None = None
    error: ErrorCode | None = None
    refresh: UserType | None = None


NOBODY = Admitted()


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


class _Remembered(NamedTuple):
    user: User
    kid: str
    key: _keyset.Key


class _Seen(NamedTuple):
    user: User
    action: Action


class Flow:
    """The steps of one config, and what they remember."""

    def __init__(self, config: StackAuthConfig) -> None:
        self.config = config
        self._respond = Responder(config)
        self._key_sets = {user_type: Cell(KeySet()) for user_type in UserType}
        self._tokens: Memory[bytes, _Remembered] = Memory(config.token_memory)
        self._foreign = Notice(logging.WARNING)
        self._faults = Notice(logging.ERROR)
        self._outages = Notice(logging.WARNING)
        self._default = Policy(
            "required",
            profile=False,
            allow_restricted=config.allow_restricted,
            allow_anonymous=config.allow_anonymous,
        )

    # -- requests ----------------------------------------------------------------------------------

    def gate(
        self, inbound: Inbound, now: Clocks, *, defer_refresh: bool
    ) -> Admitted | Response | Script[Admitted | Response]:
        """Let a request in, or refuse it.

        Args:
            inbound: what the door saw.
            now: both clocks.
            defer_refresh: whether the door sees to a stale key set after the app is done.
        """
        try:
            admitted = self._gate(inbound, now, defer_refresh=defer_refresh)
        except Exception as error:
            return self._refuse(inbound, error)
        if isinstance(admitted, Admitted):
            self._observe(inbound, admitted)
            return admitted
        return self._gated(inbound, admitted)

    def _gate(self, inbound: Inbound, now: Clocks, *, defer_refresh: bool) -> Admitted | Script[Admitted]:
        if _is_preflight(inbound):
            return NOBODY
        policy = self.config.policy(inbound.method, inbound.path, inbound.root_path)
        if policy.access == "public":
            return NOBODY
        token = extract(inbound.headers, self.config.carriers)
        if token is None:
            if policy.access == "optional":
                return NOBODY
            raise RefusedError(ErrorCode.MISSING_TOKEN, "no token")
        seen = self._seen(token, now)
        if seen is None or not (seen.action is Action.USE or (seen.action is Action.USE_AND_REFRESH and defer_refresh)):
            return self._admission(token, policy, now, defer_refresh=defer_refresh)
        admit(seen.user, policy)
        refresh = seen.user.user_type if seen.action is Action.USE_AND_REFRESH else None
        return Admitted(seen.user, Presented(self, token), refresh=refresh)

    def _admission(self, token: str, policy: Policy, now: Clocks, *, defer_refresh: bool) -> Script[Admitted]:
        try:
            user, action = yield from self._verified(token, now, defer_refresh=defer_refresh)
        except AuthServerError as error:
            if policy.access == "optional":
                return Admitted(error=error.code)
            raise
        admit(user, policy)
        refresh = user.user_type if action is Action.USE_AND_REFRESH and defer_refresh else None
        return Admitted(user, Presented(self, token), refresh=refresh)

    def _gated(self, inbound: Inbound, script: Script[Admitted]) -> Script[Admitted | Response]:
        try:
            admitted = yield from script
        except Exception as error:
            return self._refuse(inbound, error)
        self._observe(inbound, admitted)
        return admitted

    # -- tokens ------------------------------------------------------------------------------------

    def verify(self, token: str, now: Clocks) -> User | Script[User]:
        """Return the user of `token`, let in as the settings say, or the script that will.

        Raises:
            RefusedError: the token was refused.
            AuthServerError: the keys to judge it cannot be had.
        """
        seen = self._seen(token, now)
        if seen is None or seen.action is not Action.USE:
            return self._verification(token, now)
        admit(seen.user, self._default)
        return seen.user

    def authenticate(self, inbound: Inbound, now: Clocks) -> User | Script[User] | None:
        """Do as `verify` does for the token that `inbound` carries; None where it carries none."""
        token = extract(inbound.headers, self.config.carriers)
        return None if token is None else self.verify(token, now)

    def _verification(self, token: str, now: Clocks) -> Script[User]:
        user, _ = yield from self._verified(token, now, defer_refresh=False)
        admit(user, self._default)
        return user

    def _seen(self, token: str, now: Clocks) -> _Seen | None:
        """Return the user of a token that was verified before, by a key that is still published."""
        if len(token) > MAX_OCTETS or not token.isascii():
            raise RefusedError(ErrorCode.INVALID_TOKEN, "not a token by form")
        digest = _digest(token)
        remembered = self._tokens.get(digest)
        if remembered is None:
            return None
        user, kid, key = remembered
        record = self._key_sets[user.user_type].record
        if record.keys.get(kid) is not key:
            self._tokens.drop(digest)
            return None
        if user.expires_at <= now.wall - self.config.leeway:
            self._tokens.drop(digest)
            raise RefusedError(ErrorCode.EXPIRED_TOKEN, "expired")
        return _Seen(user, record.action(kid, now.mono))

    def _verified(self, token: str, now: Clocks, *, defer_refresh: bool) -> Script[_Seen]:
        """Verify `token`: what can refuse without a key, then the key, the signature, the claims."""
        try:
            parsed = _tokens.parse(token, self.config.audiences, self.config.issuers)
        except _tokens.ForeignToken as error:
            self._foreign(now.mono, "tokens of another project or issuer were refused; is project_id right?")
            raise RefusedError(error.code, error.detail) from None
        cell = self._key_sets[parsed.user_type]
        tick = Tick(FlightEnd.LANDED, now)
        while True:
            record, mono = cell.record, tick.clocks.mono
            action = record.action(parsed.kid, mono)
            if action is Action.USE_AND_REFRESH and not defer_refresh and tick.answer is FlightEnd.LANDED:
                tick = yield Flight(("keys", parsed.user_type), lambda: self.refresh(parsed.user_type), CARRY_BESIDE, 0)
                continue
            if action in (Action.USE, Action.USE_AND_REFRESH):
                break
            if action is not Action.REFRESH:
                raise _no_key(record, mono)
            tick = yield self._flight_for(parsed.user_type, record.age(mono))
            if tick.answer is not FlightEnd.LANDED:
                raise AuthServerError(ErrorCode.SERVER_ERROR, 1, "the keys did not come in time")
        key = record.keys[parsed.kid]
        _tokens.check_signature(parsed, key.public)
        user = _tokens.user_of(parsed, tick.clocks.wall, self.config.leeway)
        self._tokens.put(_digest(token), _Remembered(user, parsed.kid, key))
        return _Seen(user, action)

    def _flight_for(self, user_type: UserType, age: Age) -> Flight:
        """Return the flight for a key that is not held: short where other users' keys are there to serve."""
        if age is Age.NONE:
            return Flight(("keys", user_type), lambda: self.refresh(user_type))
        return Flight(
            ("keys", user_type),
            lambda: self.refresh(user_type, past_caches=True),
            CARRY_BESIDE,
            CARRY_BESIDE,
            MAX_WAITERS,
        )

    # -- keys --------------------------------------------------------------------------------------

    def refresh_if_stale(self, user_type: UserType) -> Script[None]:
        """Fetch the key set of `user_type` unless another does; for a door whose app is done."""
        yield Flight(("keys", user_type), lambda: self.refresh(user_type), wait=0)

    def warm_up(self) -> Script[None]:
        """Fetch the key set of normal users, or join those who do."""
        if self._key_sets[UserType.NORMAL].record.keys:
            return
        yield Flight(("keys", UserType.NORMAL), lambda: self.refresh(UserType.NORMAL))

    def refresh(self, user_type: UserType, *, past_caches: bool = False) -> Script[None]:
        """Fetch the key set of `user_type` and keep what came of it; the script of a flight."""
        document, clocks = yield from self._documents(user_type, past_caches=past_caches)
        cell = self._key_sets[user_type]
        if isinstance(document, Document):
            keys = document.keys(cell.record.keys)
            if keys or not document.points:
                return cell.put(KeySet.filled(keys, document.fresh_for, clocks.mono))
            document = Failure(ErrorCode.SERVER_ERROR, "a JWK Set without a usable key")
        failure = document
        notice = self._faults if failure.code is ErrorCode.MISCONFIGURED else self._outages
        notice(clocks.mono, f"no {user_type.value} key set from {self.config.key_set_url}: {failure.detail}")
        return cell.swap(lambda record: (record.failed(failure, clocks.mono), None))

    def _documents(self, user_type: UserType, *, past_caches: bool) -> Script[tuple[Document | Failure, Clocks]]:
        """Fetch what the keys of `user_type` are read from: two documents but for normal users."""
        smaller = Document({})
        below = _keyset.SMALLER.get(user_type)
        if below is not None:
            found, tick = yield from self._document(below, past_caches=past_caches)
            if below is UserType.RESTRICTED and _keyset.is_unsupported(tick.answer):
                found, tick = yield from self._document(UserType.NORMAL, past_caches=past_caches)
            if isinstance(found, Failure):
                return found, tick.clocks
            smaller = found
        found, tick = yield from self._document(user_type, past_caches=past_caches)
        if user_type is UserType.RESTRICTED and _keyset.is_unsupported(tick.answer):
            return Document({}), tick.clocks
        return (found if isinstance(found, Failure) else found.less(smaller)), tick.clocks

    def _document(self, user_type: UserType, *, past_caches: bool) -> Script[tuple[Document | Failure, Tick]]:
        call = _keyset.call(self.config.key_set_url, user_type, past_caches=past_caches)
        tick = yield from _ask(call)
        return _keyset.read(tick.answer, tick.clocks), tick

    def status(self, now: Clocks) -> Status:
        """Say how ready this is, from what is held."""
        record = self._key_sets[UserType.NORMAL].record
        age = now.mono - record.fetched_at
        return Status(record.age(now.mono) is not Age.NONE, age if math.isfinite(age) else None, record.failure)

    # -- refusals ----------------------------------------------------------------------------------

    def _refuse(self, inbound: Inbound, error: Exception) -> Response:
        """Return the response for `error`; one of our own making closes the door without blaming the client."""
        if not isinstance(error, RefusedError | AuthServerError):
            logger.error("refusing a request: the verification failed", exc_info=error)
            error = AuthServerError(ErrorCode.SERVER_ERROR, 1, "an error of the middleware")
        cause = error.__cause__
        logger.info(
            "refused %s %r: %s (%s)", inbound.method, inbound.path, error.code.value, error.detail, exc_info=cause
        )
        self._tell(Event(inbound.method.upper(), inbound.path, error.code, error.detail))
        return self._respond(error, inbound.method, inbound.path, inbound.headers.get("origin", ""))

    def _observe(self, inbound: Inbound, admitted: Admitted) -> None:
        if self.config.observers:
            user_id = admitted.user.user_id if admitted.user else None
            self._tell(Event(inbound.method.upper(), inbound.path, admitted.error, user_id=user_id))

    def _tell(self, event: Event) -> None:
        for observer in self.config.observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer raised; going on without it")


def _ask(call: Call) -> Script[Tick]:
    """Send `call`, and once more where the connection failed before an answer: a pool can hold dead ones."""
    tick = yield call
    if tick.answer is NoReply.UNSENT:
        tick = yield call
    return tick


def _no_key(record: KeySet, mono: float) -> RefusedError | AuthServerError:
    """Return why there is no key for a key id, at a time at which nobody may be asked."""
    if record.failure is None:
        return RefusedError(ErrorCode.INVALID_TOKEN, "signed by an unknown key")
    if record.failure is ErrorCode.MISCONFIGURED:
        return AuthServerError(ErrorCode.MISCONFIGURED, detail="Stack Auth knows no such project")
    return AuthServerError(ErrorCode.SERVER_ERROR, record.retry_after(mono), "the keys cannot be had")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()


def _is_preflight(inbound: Inbound) -> bool:
    """Say whether this is a CORS preflight, which carries no credentials: the test of the Fetch standard."""
    return (
        inbound.method == "OPTIONS"
        and "origin" in inbound.headers
        and "access-control-request-method" in inbound.headers
    )
