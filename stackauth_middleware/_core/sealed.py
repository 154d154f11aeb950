"""Hide part of a dataclass from encoders, and prevent decoders from creating instances.

A framework encodes all fields of an object that a handler returns, and decodes the JSON of a request into the
dataclass that a handler names. A sealed value is in a slot that is not a field, so encoders do not find it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import Field, fields
from types import FrameType
from typing import Any, NoReturn, TypeVar

from ..errors import ConfigError

T = TypeVar("T")


class Sealed:
    """A container that encoders, `repr` and error trackers do not look into.

    `value` is immutable, so a copy is the same object.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Sealed(...)"

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Sealed) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.value)

    def __deepcopy__(self, memo: object) -> Sealed:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Sealed, (self.value,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> NoReturn:
        raise ConfigError(_MESSAGE.format("this class"))  # FastAPI reads the arguments of __init__


class Sealing:
    """Base class with the slot for the sealed value of a dataclass."""

    __slots__ = ("_sealed",)


_MESSAGE = (
    "{0} comes from a verified token or Stack Auth only, and is never decoded from a request or other data. Get the "
    "user of the request with CurrentUser or CurrentProfile of stackauth_middleware.contrib.fastapi, or with "
    "require_user(request) or load_profile(request) in any framework. To decode one that you have encoded, "
    "use a class of your own. In tests, User(...) takes a UserType as user_type, and UserProfile.from_json makes a "
    "profile."
)


_DECODERS = frozenset({"anyio", "blacksheep", "cattrs", "concurrent", "dacite", "litestar", "trio", None})
"""Packages whose decoders call the constructor of a dataclass, and packages that run decoders in a thread. None stands
for generated code, such as that of cattrs."""


def seal(owner: Any, sealed: Sealed | None, default: Sealed, *, is_typed: bool) -> None:
    """Store `sealed` in the slot of `owner`; called by its ``__post_init__``.

    Args:
        owner: the instance.
        sealed: the argument ``_sealed``; None if there was none, as msgspec calls ``__post_init__``.
        default: the default of the argument, which both tests of an app and decoders leave in place.
        is_typed: whether a field whose type JSON does not have is of that type; decoders leave a string or list.

    Raises:
        RuntimeError: a decoder has filled the fields. Decoders report a TypeError or ValueError as the client's
            mistake, so it is neither.
    """
    if sealed is None or not is_typed or (sealed is default and _is_called_by_decoder()):
        raise RuntimeError(_MESSAGE.format(type(owner).__name__))
    object.__setattr__(owner, "_sealed", sealed)


def _is_called_by_decoder() -> bool:
    """Return whether the frame that calls the constructor belongs to a decoder, and not only a frame further up."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in ("__init__", "__post_init__"):
        frame = frame.f_back
    name = frame.f_globals.get("__name__") if frame is not None else "__main__"
    return (name.partition(".")[0] if isinstance(name, str) else None) in _DECODERS


def sealed_of(owner: Any) -> Any:
    """Return the value in the slot of `owner`."""
    return owner._sealed.value


def state_of(owner: Any) -> tuple[tuple[Any, ...], Sealed]:
    """Return the values of the fields of `owner`, in order, and its sealed value."""
    return tuple(getattr(owner, each.name) for each in fields(owner)), owner._sealed


def rebuild(kind: type[Any], values: tuple[Any, ...], sealed: Sealed) -> Any:
    """Return the instance of `kind` with this `state_of`; used by pickle and copy."""
    return kind(*values, _sealed=sealed)


class _Fields:
    """Descriptor for ``__dataclass_fields__`` that adds the argument ``_sealed`` on instances only, with the key "".

    `dataclasses.replace` reads the instance's entries and copies each `InitVar` by its name, so a copy keeps the
    sealed value. Pydantic reads the class, and sees the fields only. Encoders that read the instance skip an
    `InitVar` (`dataclasses.asdict`, orjson) or read the attribute with the key as its name (msgspec); none is named "".
    """

    def __init__(self, found: dict[str, Field[Any]]) -> None:
        self._fields = {name: each for name, each in found.items() if name != "_sealed"}
        self._arguments = {**self._fields, "": found["_sealed"]}

    def __get__(self, instance: object, owner: type[Any]) -> dict[str, Field[Any]]:
        return self._fields if instance is None else self._arguments


def conceal(kind: type[Any]) -> None:
    """Hide the argument ``_sealed`` of the dataclass `kind` from all readers except `dataclasses.replace`."""
    kind.__init__.__annotations__["_sealed"] = Sealed  # read by FastAPI for Depends(kind), which then fails
    delattr(kind, "_sealed")  # the default of the argument hides the slot
    kind.__dataclass_fields__ = _Fields(kind.__dataclass_fields__)


def pydantic_schema(kind: type[T], source: Any, handler: Any, from_asdict: Callable[[dict[str, Any]], T | None]) -> Any:
    """Return a pydantic schema that encodes the fields of `kind`, and validates instances only.

    Args:
        kind: the dataclass.
        source: first argument of ``__get_pydantic_core_schema__``.
        handler: second argument of ``__get_pydantic_core_schema__``.
        from_asdict: returns the instance for a result of `dataclasses.asdict`, and None for a result of a
            decoder. Older releases of FastAPI validate responses in that form.

    Raises:
        ConfigError: a FastAPI route reads `kind` from the request; raised while the app is built.
    """
    from pydantic_core import core_schema

    if _is_fastapi_parameter():
        raise ConfigError(_MESSAGE.format(kind.__name__))

    def validate(value: Any, _: Any) -> T:
        instance = from_asdict(value) if isinstance(value, dict) else value
        if not isinstance(instance, kind):
            raise RuntimeError(_MESSAGE.format(kind.__name__))
        return instance

    return core_schema.no_info_wrap_validator_function(validate, handler(source))


def _is_fastapi_parameter() -> bool:
    """Return whether FastAPI is reading the parameters of a handler, not the type of its response.

    FastAPI requests the same schema for both. If this returns False for a parameter, the validator still rejects.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "fastapi.dependencies.utils":
            return True
        frame = frame.f_back
    return False
