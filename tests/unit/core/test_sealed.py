"""Sealed values: encoders do not find them, decoders cannot create the class, and copies keep them.

tests/frameworks/test_sealed.py has the encoders and decoders of frameworks.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import types
from dataclasses import InitVar, dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from stackauth_middleware._core.sealed import (
    _DECODERS,
    Sealed,
    Sealing,
    conceal,
    pydantic_schema,
    rebuild,
    seal,
    sealed_of,
    state_of,
)
from stackauth_middleware.errors import ConfigError

DEFAULT = Sealed("default")


def from_asdict(value: dict[str, Any]) -> Value | None:
    return Value(value["name"]) if isinstance(value["name"], Name) else None


class Name(str):
    """A type that no decoder makes."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Value(Sealing):
    name: str
    _sealed: InitVar[Sealed | None] = field(default=DEFAULT, kw_only=True)

    def __post_init__(self, _sealed: Sealed | None = None) -> None:  # noqa: RUF033 - decoders pass nothing
        seal(self, _sealed, DEFAULT, is_typed=self.name != "untyped")

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (Value, *state_of(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls, source, handler, from_asdict)


conceal(Value)


def test_sealed_value_shows_nothing() -> None:
    sealed = Sealed("secret")
    assert "secret" not in repr(sealed)
    assert "secret" not in repr(Value("a", _sealed=sealed))
    assert not hasattr(sealed, "__dict__")


def test_sealed_values_compare_and_hash_by_value() -> None:
    assert Sealed("a") == Sealed("a")
    assert Sealed("a") != Sealed("b")
    assert Sealed("a") != "a"
    assert hash(Sealed("a")) == hash(Sealed("a"))


def test_copy_of_a_sealed_value_is_the_same_object() -> None:
    sealed = Sealed(["secret"])
    assert copy.deepcopy(sealed) is sealed
    assert pickle.loads(pickle.dumps(sealed)) == sealed


def test_encoders_do_not_find_the_sealed_value() -> None:
    value = Value("a", _sealed=Sealed("secret"))
    assert dataclasses.asdict(value) == {"name": "a"}
    assert [each.name for each in dataclasses.fields(value)] == ["name"]
    assert json.loads(TypeAdapter(Value).dump_json(value)) == {"name": "a"}


def test_copies_keep_the_sealed_value() -> None:
    value = Value("a", _sealed=Sealed("secret"))
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert (again, sealed_of(again)) == (value, "secret")
    replaced = dataclasses.replace(value, name="b")
    assert (replaced.name, sealed_of(replaced)) == ("b", "secret")
    assert sealed_of(Value("a")) == "default"


def test_decoder_that_fills_the_fields_only_is_an_error() -> None:
    """msgspec calls ``__post_init__`` without the argument. A ValueError would be reported as the client's mistake."""
    with pytest.raises(RuntimeError, match="Value comes from a verified token or Stack Auth only"):
        Value("a", _sealed=None)


@pytest.mark.parametrize("module", [*sorted(filter(None, _DECODERS)), "dacite.core", None])
def test_decoder_that_calls_the_constructor_is_an_error(module: str | None) -> None:
    """None stands for generated code. A handler below the decoder may call the constructor."""
    names: dict[str, Any] = {"__name__": module} if module else {}
    exec("def call(function, *values):\n    return function(*values)", names)
    with pytest.raises(RuntimeError, match="Value comes from a verified token or Stack Auth only"):
        names["call"](Value, "a")
    assert names["call"](lambda: Value("a")) == Value("a")
    sealed = Value("a", _sealed=Sealed("of a token"))
    assert names["call"](dataclasses.replace, sealed) == names["call"](copy.copy, sealed) == sealed


def test_value_of_a_type_that_json_has_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Value comes from a verified token or Stack Auth only"):
        Value("untyped", _sealed=Sealed("x"))


@pytest.mark.parametrize("data", [{"name": "a"}, "a", None, [], {"name": "a", "_sealed": "x"}], ids=str)
def test_pydantic_validates_no_data(data: Any) -> None:
    with pytest.raises(RuntimeError, match="Value comes from a verified token or Stack Auth only"):
        TypeAdapter(Value).validate_python(data)


def test_pydantic_validates_an_instance_and_a_result_of_asdict() -> None:
    class Model(BaseModel):
        value: Value

    value = Value("a")
    assert Model(value=value).value is value
    assert TypeAdapter(Value).validate_python({"name": Name("a")}) == value


def test_fastapi_parameter_is_a_config_error() -> None:
    """FastAPI requests the schema from this module, for the parameters of a handler."""
    module = types.ModuleType("fastapi.dependencies.utils")
    exec("def build(adapter, kind):\n    return adapter(kind)", vars(module))
    with pytest.raises(ConfigError, match="Value comes from a verified token or Stack Auth only"):
        module.build(TypeAdapter, Value)


def test_sealed_as_a_pydantic_type_is_a_config_error() -> None:
    """FastAPI reads the arguments of ``__init__`` for `Depends`."""
    assert Value.__init__.__annotations__["_sealed"] is Sealed
    with pytest.raises(ConfigError, match="this class comes from a verified token or Stack Auth only"):
        TypeAdapter(Sealed)
