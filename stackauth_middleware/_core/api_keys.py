"""API keys of users and teams: their format, and the record of a checked key (docs/stack-auth.md section 11).

The text of a key holds its type, whether it is public, its id, and a checksum at the end. So most values that are not
a key are refused without a call.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, fields
from enum import Enum
from typing import Any, NamedTuple

from .frozen import FrozenDict, freeze, thaw
from .sealed import Sealed, Sealing, conceal, pydantic_schema, rebuild, seal, sealed_of, state_of
from .user_profile import text

KEY_LENGTH = 102
"""Length of an API key, in characters."""

_NO_MEMBERS = Sealed(FrozenDict())
_FORM = re.compile(
    r"(?P<prefix>[sp]k)_[0-9a-z]{45}(?P<id>[0-9a-f]{32})(?P<type>user|team)(?P<kind>[0-3])574ck4u7h"
    r"(?P<checksum>[0-9a-f]{8})"
)
_UUID_PARTS = (slice(0, 8), slice(8, 12), slice(12, 16), slice(16, 20), slice(20, 32))


class ApiKeyType(str, Enum):
    """Type of an API key: whether it stands for a user or for a team. Equal to the strings ``"user"`` and ``"team"``.

    Attributes:
        USER: the key of a user.
        TEAM: the key of a team. It stands for no user.

    Example::

        if key.type is ApiKeyType.TEAM:
            return reports_of_team(key.team_id)
    """

    USER = "user"
    TEAM = "team"

    __str__ = str.__str__


class ApiKeyForm(NamedTuple):
    """What the text of an API key contains. Anybody can make up such a text, so it proves nothing.

    Attributes:
        id: id of the key, a UUID as text.
        type: `ApiKeyType`.
        is_public: whether it is a public key (``pk_``), which is no secret.
    """

    id: str
    type: ApiKeyType
    is_public: bool


def form_of(value: str) -> ApiKeyForm | None:
    """Return what the text of an API key contains; None if `value` has another form or a wrong checksum.

    Args:
        value: any text.
    """
    match = _FORM.fullmatch(value) if len(value) == KEY_LENGTH else None
    if match is None or zlib.crc32(value[:-8].encode("ascii")) != int(match["checksum"], 16):
        return None
    is_public = match["prefix"] == "pk"
    if is_public is not (match["kind"] in "23"):  # 2 and 3: public keys; 1 and 3: keys of self-hosted servers
        return None
    return ApiKeyForm("-".join(match["id"][part] for part in _UUID_PARTS), ApiKeyType(match["type"]), is_public)


@dataclass(frozen=True, slots=True)
class ApiKey(Sealing):
    """An API key that Stack Auth has found valid. Immutable, hashable, picklable; never holds the key itself.

    Decoders cannot create one from a request, as for `User`.

    Attributes:
        id: id of the key, a UUID as text. Not the key.
        type: `ApiKeyType`, which equals ``"user"`` or ``"team"``.
        user_id: id of the user for whom the key stands; None for the key of a team.
        team_id: id of the team for which the key stands; None for the key of a user.
        description: written by the creator of the key, or None. Untrusted text.
        created_at: seconds since the epoch, or None.
        expires_at: seconds since the epoch, or None if the key does not expire.

    Not promised: that the owner is allowed in. A key stays valid when its owner is restricted.

    Example::

        key = client.check_api_key(value)
        print(key.type, key.user_id or key.team_id)
    """

    id: str
    type: ApiKeyType
    user_id: str | None
    team_id: str | None
    description: str | None
    created_at: float | None
    expires_at: float | None
    _sealed: InitVar[Sealed | None] = field(default=_NO_MEMBERS, kw_only=True)

    def __post_init__(self, _sealed: Sealed | None = None) -> None:  # noqa: RUF033 - decoders pass nothing
        seal(self, _sealed, _NO_MEMBERS, is_typed=type(self.type) is ApiKeyType)

    @property
    def raw(self) -> Mapping[str, Any]:
        """Members unknown to this release. They can be server-only."""
        members: Mapping[str, Any] = sealed_of(self)
        return members

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values in a new dict."""
        return {each.name: thaw(getattr(self, each.name)) for each in fields(self)} | {"type": self.type.value}

    def __eq__(self, other: object) -> bool:
        return state_of(self) == state_of(other) if isinstance(other, ApiKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(state_of(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (ApiKey, *state_of(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls, source, handler, _key_from_asdict)


conceal(ApiKey)


def _key_from_asdict(value: dict[str, Any]) -> ApiKey | None:
    """Return the key that `dataclasses.asdict` returned `value` for, or None if a decoder made `value`."""
    return ApiKey(**value) if type(value.get("type")) is ApiKeyType else None


_OWNER = {ApiKeyType.USER: "user_id", ApiKeyType.TEAM: "team_id"}
_NOT_RAW = frozenset(
    {*(each.name for each in fields(ApiKey)), "created_at_millis", "expires_at_millis", "is_public", "value"}
)


def api_key_from_json(body: Mapping[str, Any], form: ApiKeyForm) -> ApiKey:
    """Return the key in an answer of ``POST /user-api-keys/check`` or ``/team-api-keys/check``.

    Args:
        body: the JSON object of the answer.
        form: of the key that was checked.

    Raises:
        ValueError: the answer is about another key, a public or a revoked one, or its members are not of the form
            that Stack Auth sends.
    """
    if body.get("id") != form.id or body.get("type") != form.type.value:
        raise ValueError("the answer is about another key")
    owner = body.get(_OWNER[form.type])
    if not isinstance(owner, str) or not owner:
        raise ValueError("the key has no owner")
    if body.get("is_public") is not False:
        raise ValueError("the key is public")
    if body.get("manually_revoked_at_millis") is not None:
        raise ValueError("the key is revoked")
    return ApiKey(
        id=form.id,
        type=form.type,
        user_id=owner if form.type is ApiKeyType.USER else None,
        team_id=owner if form.type is ApiKeyType.TEAM else None,
        description=text(body.get("description")),
        created_at=_seconds(body, "created_at_millis"),
        expires_at=_seconds(body, "expires_at_millis"),
        _sealed=Sealed(FrozenDict({name: freeze(value) for name, value in body.items() if name not in _NOT_RAW})),
    )


def _seconds(body: Mapping[str, Any], name: str) -> float | None:
    """Return a time in milliseconds as seconds; None if it is absent or null."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is no whole number")
    return value / 1000
