"""Keep part of a dataclass from every encoder, and keep every decoder from making one.

Handlers return users, and frameworks encode whatever fields they find; requests carry JSON, and
frameworks decode it into whatever dataclass a handler names. A sealed value is beside the fields, in
a slot of its own, so an encoder that walks fields does not find it.
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
    """Holds a value that no encoder, repr or error tracker is to find.

    `value` cannot be changed, so copies are the same object.
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
        raise ConfigError(_MESSAGE.format("this class"))  # FastAPI, asked to read the arguments of its __init__


class Sealing:
    """The slot for the sealed value of a dataclass."""

    __slots__ = ("_sealed",)


_MESSAGE = (
    "{0} is who the verified token says, and is never read from a request or from other data. Ask for the user of "
    "the request: with CurrentUser or CurrentProfile of stackauth_middleware.contrib.fastapi, or with "
    "require_user(request) or load_profile(request) in any framework. To read one that you have written, "
    "validate its members as a class of your own."
)


def seal(owner: Any, sealed: Sealed | None) -> None:
    """Put `sealed` into the slot of `owner`, from its ``__post_init__``.

    Raises:
        RuntimeError: `sealed` is None: a decoder such as msgspec has filled the fields, and knows no other
            argument. Not a TypeError or ValueError, which decoders blame on the client.
    """
    if sealed is None:
        raise RuntimeError(_MESSAGE.format(type(owner).__name__))
    object.__setattr__(owner, "_sealed", sealed)


def sealed_of(owner: Any) -> Any:
    """Return the value in the slot of `owner`."""
    return owner._sealed.value


def state_of(owner: Any) -> tuple[tuple[Any, ...], Sealed]:
    """Return the values of the fields of `owner`, in order, and what is sealed."""
    return tuple(getattr(owner, each.name) for each in fields(owner)), owner._sealed


def rebuild(kind: type[Any], values: tuple[Any, ...], sealed: Sealed) -> Any:
    """Return the `kind` that `state_of` was asked about; for pickles and copies."""
    return kind(*values, _sealed=sealed)


class _Fields:
    """A class's ``__dataclass_fields__``, with the argument ``_sealed`` on instances, under a key that is no name.

    `dataclasses.replace` looks at the instance and reads each argument that is no field (`InitVar`) from it,
    by the name in the entry: so the copy keeps what is sealed. Whoever looks at the class, as pydantic does,
    sees the fields. Encoders that look at the instance, skip what is no field (`dataclasses.asdict`, orjson) or read
    by the key (msgspec), and there is no such attribute.
    """

    def __init__(self, found: dict[str, Field[Any]]) -> None:
        self._fields = {name: each for name, each in found.items() if name != "_sealed"}
        self._arguments = {**self._fields, "": found["_sealed"]}

    def __get__(self, instance: object, owner: type[Any]) -> dict[str, Field[Any]]:
        return self._fields if instance is None else self._arguments


def conceal(kind: type[Any]) -> None:
    """Hide the argument ``_sealed`` of the finished dataclass `kind` from all but `dataclasses.replace`."""
    kind.__init__.__annotations__["_sealed"] = Sealed  # FastAPI looks there, for Depends(kind), and is refused
    delattr(kind, "_sealed")  # the default of the argument, which hides the slot
    kind.__dataclass_fields__ = _Fields(kind.__dataclass_fields__)


def pydantic_schema(kind: type[T], source: Any, handler: Any, from_asdict: Callable[[dict[str, Any]], T | None]) -> Any:
    """Return the schema of `kind` for pydantic: encoded by its fields, and validated from nothing but an instance.

    Args:
        kind: the dataclass.
        source: the first argument of ``__get_pydantic_core_schema__``.
        handler: the second one.
        from_asdict: makes an instance of what `dataclasses.asdict` returned for one, and None of what any
            decoder returns. FastAPI used to validate responses in that form.

    Raises:
        ConfigError: FastAPI is asked to read `kind` from a request. The app cannot be built.
    """
    from pydantic_core import core_schema

    if _is_fastapi_parameter():
        raise ConfigError(_MESSAGE.format(kind.__name__))

    def validate(value: Any, _: Any) -> T:
        made = from_asdict(value) if isinstance(value, dict) else value
        if not isinstance(made, kind):
            raise RuntimeError(_MESSAGE.format(kind.__name__))
        return made

    return core_schema.no_info_wrap_validator_function(validate, handler(source))


def _is_fastapi_parameter() -> bool:
    """Say whether FastAPI is reading the parameters of a handler, and not the type of its response.

    It asks pydantic for the same schema either way. Where this does not recognise it, the validator still refuses.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "fastapi.dependencies.utils":
            return True
        frame = frame.f_back
    return False
