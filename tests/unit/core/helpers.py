"""Keys, tokens, key sets and a driver of scripts, made without the code under test."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import HealthCheck, settings

from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.upstream import (
    Answer,
    Call,
    Effect,
    Led,
    NoReply,
    NoReplyKind,
    Reply,
    Resume,
    Script,
    Share,
    ShareEnd,
)
from stackauth_middleware._core.users import UserType

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
OTHER_PROJECT = "11111111-2222-4333-8444-555555555555"
API = "https://api.stack-auth.com"
USER_ID = "22222222-2222-4222-8222-222222222222"
WALL = 1_800_000_000.0
MONO = 5_000.0
NOW = Clocks(WALL, MONO)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256."""

NORMAL, RESTRICTED, ANONYMOUS = UserType.NORMAL, UserType.RESTRICTED, UserType.ANONYMOUS
SUFFIXES = {NORMAL: "", RESTRICTED: ":restricted", ANONYMOUS: ":anon"}
PATHS = {NORMAL: "projects", RESTRICTED: "projects-restricted-users", ANONYMOUS: "projects-anonymous-users"}
AUDIENCES = {PROJECT + suffix: kind for kind, suffix in SUFFIXES.items()}
HOSTS = (API, "https://api.hexclave.com")
ISSUERS = {f"{host}/api/v1/{path}/{PROJECT}": kind for host in HOSTS for kind, path in PATHS.items()}

bounded = settings(
    deadline=None,
    max_examples=150,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
"""Settings for property tests: no deadline, and a bounded number of examples."""


class _LeftOut:
    def __repr__(self) -> str:
        return "left out"


UNSENT, TIMED_OUT, BROKEN, TOO_LARGE, ENCODED = NO_REPLIES = tuple(NoReply(each, each.value) for each in NoReplyKind)
DEAD_POOLED = NoReply(NoReplyKind.UNSENT, "broken off before an HTTP answer", inconclusive=True)

LEFT_OUT: Any = _LeftOut()
"""As the value of a claim, header parameter or JWK member: the member is absent."""


def as_id(value: object) -> str:
    """Return `value` as the id of a case: the same in every process, so that workers agree."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:50]


def without(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not LEFT_OUT}


def b64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@cache
def _private(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


@dataclass(frozen=True)
class Signer:
    """A P-256 key, the same for the same number in every run, under a key id."""

    number: int
    kid: str

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        return _private(self.number)

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        return self.private.public_key()

    @property
    def point(self) -> tuple[bytes, bytes]:
        numbers = self.public.public_numbers()
        return numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")

    def jwk(self, **changes: Any) -> dict[str, Any]:
        x, y = map(b64url, self.point)
        return without({"kty": "EC", "alg": "ES256", "crv": "P-256", "x": x, "y": y, "kid": self.kid, **changes})

    def sign(self, signing_input: bytes) -> bytes:
        r, s = decode_dss_signature(self.private.sign(signing_input, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def token(self, claims: Any, **header: Any) -> str:
        """Return a signed token of `claims`, an object or raw bytes, with the `header` parameters changed."""
        parameters = without({"alg": "ES256", "kid": self.kid, **header})
        return self.compact(json.dumps(parameters).encode(), claims)

    def compact(self, header: bytes, claims: Any) -> str:
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signing_input = f"{b64url(header)}.{b64url(payload)}"
        return f"{signing_input}.{b64url(self.sign(signing_input.encode()))}"


SIGNERS = {
    kind: (Signer(1000 + 2 * at, f"{kind.value}-old"), Signer(1001 + 2 * at, f"{kind.value}-new"))
    for at, kind in enumerate(UserType)
}
"""Two keys for each user type, the first of which signs, as Stack Auth has them."""
STRANGER = Signer(4242, SIGNERS[NORMAL][0].kid)
"""A key of an attacker under a published key id."""

_FLAGS: dict[UserType, dict[str, Any]] = {
    NORMAL: {"is_anonymous": False, "is_restricted": False, "restricted_reason": None},
    RESTRICTED: {"is_anonymous": False, "is_restricted": True, "restricted_reason": {"type": "email_not_verified"}},
    ANONYMOUS: {"is_anonymous": True, "is_restricted": True, "restricted_reason": {"type": "anonymous"}},
}


def claims(kind: UserType = NORMAL, **changes: Any) -> dict[str, Any]:
    """Return the claims of a user of `kind` (docs/stack-auth.md section 2) with `changes`."""
    made = {
        "sub": USER_ID,
        "project_id": PROJECT,
        "branch_id": "main",
        "refresh_token_id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
        "role": "authenticated",
        "name": "Jane Doe",
        "email": "jane@example.com",
        "email_verified": kind is NORMAL,
        "selected_team_id": None,
        "signed_up_at": WALL - 86_400,
        **_FLAGS[kind],
        "requires_totp_mfa": False,
        "iss": f"{API}/api/v1/{PATHS[kind]}/{PROJECT}",
        "iat": WALL - 60,
        "aud": PROJECT + SUFFIXES[kind],
        "exp": WALL + 540,
    }
    return without({**made, **changes})


def token(kind: UserType = NORMAL, *, signer: Signer | None = None, **changes: Any) -> str:
    """Return a correctly signed token of a user of `kind`, with `changes` of the claims."""
    return (signer or SIGNERS[kind][0]).token(claims(kind, **changes))


DOCUMENTS = {
    NORMAL: (NORMAL,),
    RESTRICTED: (NORMAL, RESTRICTED),
    ANONYMOUS: (NORMAL, RESTRICTED, ANONYMOUS),
}
"""For each user type, the user types whose keys its document holds."""


def document(*kinds: UserType, signers: Mapping[UserType, Iterable[Signer]] = SIGNERS) -> dict[str, Any]:
    return {"keys": [signer.jwk() for kind in kinds for signer in signers[kind]]}


def reply(body: Any = b"", status: int = 200, **headers: str) -> Reply:
    """Return a reply. A body other than bytes is sent as JSON; ``_`` in a header name stands for ``-``."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self, wall: float = WALL, mono: float = MONO) -> None:
        self.wall = wall
        self.mono = mono

    @property
    def now(self) -> Clocks:
        return Clocks(self.wall, self.mono)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


class StackAuth:
    """Answers the calls of scripts as Stack Auth does, and records them.

    Attributes:
        signers: the keys that are published.
        answers: replacements by the query of a URL: an `Answer` or a function that returns one.
        down: the answer to every other call for a key set, or None for the published keys.
        profile: the answer to users/me.
        calls: the calls received.
    """

    def __init__(self) -> None:
        self.signers: dict[UserType, tuple[Signer, ...]] = dict(SIGNERS)
        self.down: Answer | None = None
        self.answers: dict[str, Answer | Callable[[Call], Answer]] = {}
        self.profile: Answer = BROKEN
        self.calls: list[Call] = []

    @property
    def queries(self) -> list[str]:
        """The queries of the calls so far."""
        return [call.url.partition("?")[2] for call in self.calls]

    def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        if call.url.endswith("/users/me"):
            return self.profile
        query = call.url.partition("?")[2]
        special = self.answers.get(query)
        if special is not None:
            return special(call) if callable(special) else special
        if self.down is not None:
            return self.down
        kind = {"": NORMAL, "include_restricted=true": RESTRICTED, "include_anonymous=true": ANONYMOUS}[query]
        return reply(document(*DOCUMENTS[kind], signers=self.signers), cache_control="public, max-age=3600")


class FakeRunner:
    """Drives scripts as a runner with a single caller does, which leads every shared fetch.

    Attributes:
        shares: the `Share` effects so far.
        joined: results of the next `Share` effects, which are followed and not led.
        takes: seconds by which each call advances the clock.
    """

    def __init__(self, clock: Clock, answer: Callable[[Call], Answer]) -> None:
        self.clock = clock
        self.answer = answer
        self.takes = 0.0
        self.shares: list[Share] = []
        self.joined: list[Callable[[], ShareEnd]] = []

    def __call__(self, step: Any) -> Any:
        """Return `step`, or what it returns if it is a script."""
        return self._drive(step) if hasattr(step, "send") else step

    def _drive(self, script: Script[Any]) -> Any:
        try:
            effect: Effect = next(script)
            while True:
                try:
                    answer = self._perform(effect)
                except Exception as error:
                    effect = script.throw(error)
                else:
                    effect = script.send(Resume(answer, self.clock.now))
        except StopIteration as stop:
            return stop.value

    def _perform(self, effect: Effect) -> Answer:
        if isinstance(effect, Call):
            answer = self.answer(effect)
            self.clock.pass_by(self.takes)
            return answer
        self.shares.append(effect)
        if self.joined:
            return self.joined.pop(0)()
        return Led(self._drive(effect.script()))
