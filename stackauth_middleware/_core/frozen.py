"""Immutable JSON values, safe to share between requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn


def _refuse_change(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError("this mapping is shared between requests and cannot be changed; copy it first")


_immutable: Any = _refuse_change


class FrozenDict(dict[str, Any]):
    """An immutable JSON object. It is a dict, so every encoder accepts it; hashable if its values are."""

    __slots__ = ()

    __setitem__ = __delitem__ = _immutable
    clear = pop = popitem = setdefault = update = __ior__ = _immutable

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)

    def __copy__(self) -> FrozenDict:
        return self

    def __deepcopy__(self, memo: object) -> FrozenDict:
        return self


def freeze(value: Any) -> Any:
    """Return a copy of the JSON `value` that is immutable at every depth: `FrozenDict` for dict, tuple for list."""
    if isinstance(value, dict):
        return FrozenDict({name: freeze(member) for name, member in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(member) for member in value)
    return value


def thaw(value: Any) -> Any:
    """Return a copy of a frozen `value` made of plain dicts and lists."""
    if isinstance(value, Mapping):
        return {name: thaw(member) for name, member in value.items()}
    if isinstance(value, tuple):
        return [thaw(member) for member in value]
    return value
