"""Base of the records that the server API returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..frozen import FrozenDict, freeze, thaw
from ..sealed import Sealed, Sealing, pydantic_schema, rebuild, sealed_of, state_of

NO_MEMBERS = Sealed(FrozenDict({"raw": FrozenDict()}))


class Record(Sealing):
    """Base of a frozen dataclass whose fields clients may see. Other members are sealed, as those of `UserProfile`.

    A subclass is a dataclass with ``eq=False`` and the argument ``_sealed``.
    """

    __slots__ = ()

    @property
    def raw(self) -> Mapping[str, Any]:
        """Members unknown to this release. They can be server-only."""
        members: Mapping[str, Any] = sealed_of(self)["raw"]
        return members

    def to_dict(self, *, server_only: bool = False) -> dict[str, Any]:
        """Return the fields as JSON values in a new dict.

        Args:
            server_only: include the members that Stack Auth does not show to clients. Do not send them to a browser.
        """
        members = {each.name: thaw(getattr(self, each.name)) for each in fields(self)}  # type: ignore[arg-type]
        return members | thaw(sealed_of(self)) if server_only else members

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and state_of(self) == state_of(other)

    def __hash__(self) -> int:
        return hash(state_of(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), *state_of(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls, source, handler, lambda _: None)


def sealed_members(body: Mapping[str, Any], known: Mapping[str, Any], names: frozenset[str]) -> Sealed:
    """Return the sealed members of a record.

    Args:
        body: the JSON object of the answer.
        known: server-only members of the record.
        names: members of `body` that the record holds, under the same or another name. The rest is kept in ``raw``.
    """
    raw = FrozenDict({name: freeze(value) for name, value in body.items() if name not in names})
    return Sealed(FrozenDict({**{name: freeze(value) for name, value in known.items()}, "raw": raw}))


def items_of(body: Any) -> list[dict[str, Any]]:
    """Return the objects in a list that the API sent.

    Raises:
        ValueError: `body` has no such list.
    """
    items = body.get("items") if isinstance(body, dict) else None
    if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
        raise ValueError("no list of objects")
    return items


def text_of(body: Mapping[str, Any], name: str) -> str:
    """Return a member that is never null.

    Raises:
        ValueError: it is absent, or not a string.
    """
    value = body.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is no string")
    return value


def seconds_of(body: Mapping[str, Any], name: str) -> float | None:
    """Return a time in milliseconds as seconds; None if it is absent, null or not a number."""
    value = body.get(name)
    return value / 1000 if isinstance(value, int | float) and not isinstance(value, bool) else None
