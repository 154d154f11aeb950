"""No encoder finds what is sealed in a `User` or `UserProfile`, and no decoder makes one from data.

Encoders are whatever a handler's return value, a log line or a debugger may use. A decoder raises an error that names
what to use instead.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import pickle
import pprint
from collections.abc import Callable
from typing import Annotated, Any

import blacksheep
import cattrs
import fastapi.encoders
import flask
import litestar
import litestar.serialization
import msgspec
import orjson
import pydantic
import pytest
import quart
import quart.json.provider
from fastapi import Body, Depends, FastAPI, Form, Query
from litestar.dto import DataclassDTO, DTOConfig
from litestar.enums import RequestEncodingType
from litestar.params import Body as LitestarBody
from litestar.testing import create_test_client
from pydantic import BaseModel, TypeAdapter

from stackauth_middleware import ConfigError, User, UserProfile, UserType
from stackauth_middleware._core.sealed import Sealed
from stackauth_middleware._core.users import user_from_claims, with_profile

PROFILE = UserProfile.from_json({"id": "victim", "server_metadata": {"plan": "pro"}, "new": 1})
VICTIM = User(
    "victim", UserType.NORMAL, False, False, None, None, True, None, None, None, None, False, None, 2e9, PROFILE
)
INSTANCES: dict[type[Any], Any] = {User: VICTIM, UserProfile: PROFILE}
markers_are_optional = pytest.mark.filterwarnings("ignore:.*will stop working in Litestar 3:DeprecationWarning")
both_classes = pytest.mark.parametrize("kind", INSTANCES)


@dataclasses.dataclass
class InDataclass:
    user: User


class InModel(BaseModel):
    user: User


class InStruct(msgspec.Struct):
    user: User


@both_classes
@pytest.mark.parametrize(
    "wrap",
    [
        lambda kind: kind,
        lambda kind: kind | None,
        lambda kind: kind | str,
        lambda kind: list[kind],
        lambda kind: dict[str, kind],
        lambda kind: Annotated[kind, Body()],
        lambda kind: Annotated[kind, Body(embed=True)],
        lambda kind: Annotated[kind, Form()],
        lambda kind: Annotated[kind, Query()],
        lambda kind: Annotated[kind, Depends()],
        lambda kind: dataclasses.make_dataclass("Wrapper", [("member", kind)]),
    ],
    ids=["bare", "None", "union", "list", "dict", "Body", "embedded", "Form", "Query", "Depends", "dataclass"],
)
def test_fastapi_builds_no_route_that_reads_a_user_from_a_request(
    wrap: Callable[[Any], Any], kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.dependencies.utils.ensure_multipart_is_installed", lambda: None)
    app = FastAPI()

    def handler(user: Any) -> None:
        raise AssertionError

    handler.__annotations__["user"] = wrap(kind)
    with pytest.raises(ConfigError, match="CurrentUser"):
        app.post("/")(handler)


def test_fastapi_builds_no_route_that_makes_a_profile_of_a_body() -> None:
    def handler(profile: Annotated[Any, Depends(UserProfile.from_json)]) -> None:
        raise AssertionError

    with pytest.raises(ConfigError, match="CurrentProfile"):
        FastAPI().post("/")(handler)


def test_fastapi_refuses_a_user_inside_a_model_when_it_is_sent() -> None:
    """A model is made before FastAPI sees it and may be a response, so building the route cannot fail."""
    from fastapi.testclient import TestClient

    app = FastAPI()

    @app.post("/")
    def handler(body: InModel) -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="CurrentUser"):
        TestClient(app).post("/", json={"user": VICTIM.to_dict()})


def _text(value: Any) -> str:
    return json.dumps(value.to_dict())


PYDANTIC: list[Callable[[type[Any], Any], Any]] = [
    lambda kind, value: TypeAdapter(kind).validate_python(value.to_dict()),
    lambda kind, value: TypeAdapter(kind).validate_json(_text(value)),
    lambda kind, value: TypeAdapter(kind).validate_strings({"id": "victim"}),
    lambda kind, value: TypeAdapter(kind | dict[str, Any]).validate_python(value.to_dict()),
    lambda kind, value: TypeAdapter(list[kind]).validate_json(f"[{_text(value)}]"),
    lambda kind, value: pydantic.create_model("M", user=(kind, ...)).model_validate({"user": value.to_dict()}),
    lambda kind, value: pydantic.validate_call(_takes(kind))(value.to_dict()),
    lambda kind, value: pydantic.dataclasses.dataclass(dataclasses.make_dataclass("D", [("user", kind)]))(
        user=value.to_dict()
    ),
]


def _takes(kind: type[Any]) -> Callable[[Any], Any]:
    def function(user: Any) -> None:
        raise AssertionError

    function.__annotations__["user"] = kind
    return function


MSGSPEC: list[Callable[[type[Any], Any], Any]] = [
    lambda kind, value: msgspec.json.decode(_text(value), type=kind),
    lambda kind, value: msgspec.json.decode(_text(value), type=kind, strict=False),
    lambda kind, value: msgspec.json.Decoder(list[kind]).decode(f"[{_text(value)}]"),
    lambda kind, value: msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind),
    lambda kind, value: msgspec.convert(value.to_dict(), kind),
    lambda kind, value: msgspec.convert(value.to_dict(), kind | None, strict=False),
    lambda kind, value: msgspec.convert({"u": value.to_dict()}, msgspec.defstruct("S", [("u", kind)])),
    lambda kind, value: msgspec.convert({"u": value.to_dict()}, dataclasses.make_dataclass("D", [("u", kind)])),
]


@both_classes
@pytest.mark.parametrize("decode", [*PYDANTIC, *MSGSPEC])
def test_no_decoder_makes_a_user(decode: Callable[[type[Any], Any], Any], kind: type[Any]) -> None:
    """It raises no ValidationError, for which frameworks send 400 or 422: this is an error in the app."""
    with pytest.raises(
        RuntimeError,
        match=r"User(Profile)? comes from a verified token or Stack Auth only.*CurrentUser.*require_user\(request\)",
    ):
        decode(kind, INSTANCES[kind])


@pytest.mark.filterwarnings("ignore:.*declared using deprecated inferred style:DeprecationWarning")
@markers_are_optional
@pytest.mark.parametrize("in_thread", [False, True])
def test_litestar_refuses_a_user_provided_from_the_query(in_thread: bool) -> None:
    """`Provide` takes the parameters of a constructor from the query, and may call it in a thread."""

    async def handler(user: User) -> None:
        raise AssertionError

    route = litestar.get("/", dependencies={"user": litestar.di.Provide(User, sync_to_thread=in_thread)})(handler)
    query = {name: "1" if value is None else str(value) for name, value in VICTIM.to_dict().items()}
    del query["profile"]
    with create_test_client([route], raise_server_exceptions=False, debug=True) as client:
        answer = client.get("/", params={**query, "is_anonymous": "false", "is_restricted": "false"})
    assert answer.status_code == 500
    assert "CurrentUser" in answer.text


CONSTRUCTORS: list[Callable[[type[Any], Any], Any]] = [
    lambda kind, value: kind(**value),
    lambda kind, value: cattrs.structure(value, kind),
    lambda kind, value: cattrs.Converter(detailed_validation=False).structure(value, kind),
]


@both_classes
@pytest.mark.parametrize("decode", CONSTRUCTORS, ids=["by hand", "cattrs", "cattrs, plain"])
def test_no_constructor_makes_a_user_of_json(decode: Callable[[type[Any], Any], Any], kind: type[Any]) -> None:
    value = json.loads(_text(INSTANCES[kind])) | ({"profile": None} if kind is User else {})
    with pytest.raises(Exception) as raised:
        decode(kind, value)
    error = raised.value
    if isinstance(error, cattrs.ClassValidationError):
        (error,) = error.exceptions
    assert isinstance(error, RuntimeError)
    assert "require_user(request)" in str(error)


@both_classes
@pytest.mark.parametrize("binder", ["implicit", "FromJSON", "list"])
def test_blacksheep_refuses_a_user_in_a_body(binder: str, kind: type[Any]) -> None:
    from blacksheep import Application, Content, FromJSON
    from blacksheep.server.routing import Router
    from blacksheep.testing import TestClient

    app = Application(router=Router())

    async def handler(user: Any) -> None:
        raise AssertionError

    handler.__annotations__["user"] = {"implicit": kind, "FromJSON": FromJSON[kind], "list": list[kind]}[binder]
    app.router.add("POST", "/", handler)
    errors = []

    async def keep(_app: Any, _request: Any, error: Exception) -> Any:
        errors.append(error)
        return blacksheep.Response(500)

    app.exceptions_handlers[RuntimeError] = keep
    text = _text(INSTANCES[kind]).encode()

    async def status() -> int:
        await app.start()
        body = Content(b"application/json", b"[%s]" % text if binder == "list" else text)
        answer = await TestClient(app).post("/", content=body)
        await app.stop()
        return int(answer.status)

    assert asyncio.run(status()) == 500
    assert ["CurrentUser" in str(error) for error in errors] == [True]


@markers_are_optional
@pytest.mark.parametrize("is_generated", [False, True])
def test_litestar_refuses_a_user_in_a_body_read_by_a_dto(is_generated: bool) -> None:
    class UserDTO(DataclassDTO[User]):
        config = DTOConfig(
            experimental_codegen_backend=is_generated,
            exclude={"id", "claims", "identity", "is_authenticated", "profile"},
        )

    async def handler(data: User) -> None:
        raise AssertionError

    handlers = [litestar.post("/", dto=UserDTO, return_dto=None)(handler)]
    with create_test_client(handlers, raise_server_exceptions=False, debug=True) as client:
        answer = client.post("/", json=VICTIM.to_dict())
    assert answer.status_code == 500
    assert "CurrentUser" in answer.text


@markers_are_optional
@pytest.mark.parametrize(
    ("annotation", "wrap"),
    [
        (User, lambda value: value),
        (list[User], lambda value: [value]),
        (User | None, lambda value: value),
        (Annotated[User, LitestarBody()], lambda value: value),
        (InDataclass, lambda value: {"user": value}),
        (InModel, lambda value: {"user": value}),
        (InStruct, lambda value: {"user": value}),
    ],
    ids=["bare", "list", "None", "Annotated", "dataclass", "model", "Struct"],
)
def test_litestar_refuses_a_user_in_a_body(annotation: Any, wrap: Callable[[Any], Any]) -> None:
    async def handler(data: Any) -> None:
        raise AssertionError

    handler.__annotations__["data"] = annotation
    with create_test_client([litestar.post("/")(handler)], raise_server_exceptions=False, debug=True) as client:
        answer = client.post("/", json=wrap(VICTIM.to_dict()))
    assert answer.status_code == 500
    assert "CurrentUser" in answer.text


@markers_are_optional
def test_litestar_refuses_a_user_in_a_form() -> None:
    async def handler(data: Any) -> None:
        raise AssertionError

    handler.__annotations__["data"] = Annotated[User, LitestarBody(media_type=RequestEncodingType.URL_ENCODED)]
    with create_test_client([litestar.post("/")(handler)], raise_server_exceptions=False, debug=True) as client:
        fields = {name: str(value) for name, value in VICTIM.to_dict().items() if name != "profile"}
        answer = client.post("/", data={**fields, "is_anonymous": "false"})
    assert answer.status_code in (400, 500)


@markers_are_optional
def test_an_instance_passes_as_a_dependency_and_in_a_model() -> None:
    """What is a User already was not made by the decoder."""
    assert InModel(user=VICTIM).user is VICTIM
    assert msgspec.convert({"user": VICTIM}, InStruct).user is VICTIM

    @litestar.get("/", sync_to_thread=False)
    def handler(user: User) -> dict[str, str]:
        return {"id": user.id}

    def provide() -> User:
        return VICTIM

    dependencies = {"user": litestar.di.Provide(provide, sync_to_thread=False)}
    with create_test_client([handler], dependencies=dependencies) as client:
        assert client.get("/").json() == {"id": "victim"}


@both_classes
def test_what_asdict_returned_is_a_response_of_an_older_fastapi(kind: type[Any]) -> None:
    again = TypeAdapter(kind).validate_python(dataclasses.asdict(INSTANCES[kind]))
    assert again.to_dict() == INSTANCES[kind].to_dict()


ENCODERS: dict[str, Callable[[Any], object]] = {
    "repr": repr,
    "str": str,
    "pprint": pprint.pformat,
    "to_dict": lambda value: value.to_dict(),
    "asdict": dataclasses.asdict,
    "astuple": dataclasses.astuple,
    "json of asdict": lambda value: json.dumps(dataclasses.asdict(value)),
    "json by default=str": lambda value: json.dumps(value, default=str),
    "__dataclass_fields__ of the class": lambda value: [
        getattr(value, name) for name in type(value).__dataclass_fields__
    ],
    "__dataclass_fields__ of the instance": lambda value: [
        getattr(value, each.name) for each in value.__dataclass_fields__.values()
    ],
    "slots": lambda value: [
        getattr(value, name) for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())
    ],
    "msgspec": msgspec.json.encode,
    "msgspec's builtins": msgspec.to_builtins,
    "msgpack": msgspec.msgpack.encode,
    "pydantic": lambda value: TypeAdapter(type(value)).dump_json(value),
    "pydantic in Python": lambda value: TypeAdapter(type(value)).dump_python(value),
    "pydantic without a type": lambda value: TypeAdapter(Any).dump_json(value),
    "FastAPI": fastapi.encoders.jsonable_encoder,
    "Flask": lambda value: flask.json.provider.DefaultJSONProvider(flask.Flask("x")).dumps(value),
    "Quart": lambda value: quart.json.provider.DefaultJSONProvider(quart.Quart("x")).dumps(value),
    "Litestar": litestar.serialization.encode_json,
    "orjson": orjson.dumps,
    "cattrs": cattrs.unstructure,
}
"""Whatever a handler's return value, a log line or a debugger can reach."""


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_no_encoder_finds_the_claims_or_what_only_servers_may_see(encode: Callable[[Any], object]) -> None:
    canary = {"of": ["canary"]}
    profile = UserProfile.from_json(
        {
            "id": "u",
            "server_metadata": canary,
            "restricted_by_admin_private_details": "canary",
            "country_code": "canary",
            "risk_scores": canary,
            "of_tomorrow": canary,
            "selected_team": {"id": "team-1", "server_metadata": canary, "of_tomorrow": canary},
            "oauth_providers": [{"id": "github", "account_id": "1", "of_tomorrow": canary}],
        }
    )
    claims = {"sub": "u", "exp": 2e9, "secret_claim": "canary"}
    made = with_profile(user_from_claims(claims, UserType.NORMAL, json.dumps(claims).encode()), profile)
    for value in (made, profile):
        assert "canary" not in str(encode(value))
    assert not hasattr(made, "__dict__")
    assert (made.claims["secret_claim"], profile.country_code) == ("canary", "canary")
    assert profile.server_metadata == profile.risk_scores == profile.raw["of_tomorrow"] == {"of": ("canary",)}


def test_a_sealed_value_is_compared_copied_and_pickled_but_not_shown() -> None:
    sealed = Sealed(("secret",))
    assert (sealed, hash(sealed)) == (Sealed(("secret",)), hash(Sealed(("secret",))))
    assert sealed != Sealed(())
    assert sealed != ("secret",)
    assert copy.deepcopy(sealed) is sealed
    assert pickle.loads(pickle.dumps(sealed)) == sealed
    assert "secret" not in repr(sealed)
