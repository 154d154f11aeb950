"""Apps by name: what is an app, what is a factory, and of which kind an app is."""

from __future__ import annotations

import functools
import re
import sys
from types import ModuleType
from typing import Any

import pytest

from stackauth_middleware._apps import Kind, load
from stackauth_middleware.errors import ConfigError

ASGI, WSGI = frozenset({Kind.ASGI}), frozenset({Kind.WSGI})


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


class Asgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Asgi2:
    def __init__(self, scope: Any) -> None: ...


class Wsgi:
    def __init__(self, debug: bool = False) -> None: ...

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


class Proxy:
    def __call__(self, *arguments: Any, **options: Any) -> Any: ...


def make(debug: bool = False, name: str = "") -> Any:
    return wsgi


async def make_later() -> Any: ...


def raising() -> Any:
    raise KeyError("theirs")


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("shop")
    vars(module).update(globals())
    module.instance, module.wsgi_instance, module.proxy = Asgi(), Wsgi(), Proxy()
    module.partial = functools.partial(make, True)
    module.builtin = map
    monkeypatch.setitem(sys.modules, "shop", module)
    return module


@pytest.mark.parametrize(
    ("name", "made", "kinds"),
    [
        ("asgi", "asgi", ASGI),
        ("wsgi", "wsgi", WSGI),
        ("instance", "instance", ASGI),
        ("wsgi_instance", "wsgi_instance", WSGI),
        ("Asgi2", "Asgi2", ASGI),
        ("make", "wsgi", WSGI),
        ("make()", "wsgi", WSGI),
        ("partial", "wsgi", WSGI),
        ("proxy", "proxy", ASGI | WSGI),
        ("builtin", "builtin", ASGI | WSGI),
    ],
)
def test_app_and_its_kinds(shop: ModuleType, name: str, made: str, kinds: frozenset[Kind]) -> None:
    assert load(f"shop:{name}", "X") == (getattr(shop, made), kinds)


@pytest.mark.parametrize(("name", "kind"), [("Asgi", Asgi), ("Wsgi", Wsgi)])
def test_class_without_arguments_is_a_factory(name: str, kind: type) -> None:
    assert type(load(f"shop:{name}", "X")[0]) is kind


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("shop:nothing", "shop has no 'nothing'"),
        ("shop:make_later", "that is of the type coroutine; it must be an ASGI or WSGI app, or a plain function"),
        ("shop:__name__", "that is of the type str"),
        ("shop:raising", "calling shop:raising raised KeyError: 'theirs'"),
        ("shop:wsgi()", "calling shop:wsgi raised TypeError: wsgi() missing 2 required"),
        ("stackauth_middleware.serve:app", "the module that serves the app; it must name the app itself"),
    ],
)
def test_what_is_no_app(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"X is {spec!r}") + ".*" + re.escape(message)):
        load(spec, "X")


def test_async_function_of_other_arguments_is_no_app(shop: ModuleType) -> None:
    async def one(scope: Any) -> None: ...

    shop.one = one
    with pytest.raises(ConfigError, match="of the type function"):
        load("shop:one", "X")


def test_exception_of_a_factory_is_the_cause() -> None:
    with pytest.raises(ConfigError) as caught:
        load("shop:raising", "X")
    assert type(caught.value.__cause__) is KeyError
