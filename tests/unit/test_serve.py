"""`stackauth_middleware.serve`: its attributes are made when they are read. See also servers/test_serve.py."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from stackauth_middleware import ConfigError, StackAuthASGIMiddleware, StackAuthWSGIMiddleware

MIDDLEWARES = {"app": StackAuthASGIMiddleware, "application": StackAuthWSGIMiddleware}


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, as if newly imported, and no app named."""
    module = ModuleType("shop")
    vars(module).update(app=asgi, application=wsgi)
    monkeypatch.setitem(sys.modules, "shop", module)
    monkeypatch.setenv("STACK_PROJECT_ID", "internal")
    monkeypatch.delenv("STACKAUTH_APP", raising=False)
    yield importlib.reload(importlib.import_module("stackauth_middleware.serve"))
    for name in MIDDLEWARES:
        vars(importlib.import_module("stackauth_middleware.serve")).pop(name, None)


@pytest.mark.parametrize("name", MIDDLEWARES)
def test_attribute_is_made_once_when_it_is_read(serve: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert name not in vars(serve)
    monkeypatch.setenv("STACKAUTH_APP", f"shop:{name}")
    made = getattr(serve, name)
    assert type(made) is MIDDLEWARES[name]
    assert made.app is {"app": asgi, "application": wsgi}[name]
    assert getattr(serve, name) is made
    create = serve.create_app if name == "app" else serve.create_application
    assert type(create()) is MIDDLEWARES[name]
    assert create() is not made


def test_settings_are_those_of_the_environment(serve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKAUTH_APP", "shop:app")
    monkeypatch.setenv("STACKAUTH_REALM", "the realm of the environment")
    assert serve.app._config.realm == "the realm of the environment"


@pytest.mark.parametrize(
    ("name", "app", "message"),
    [
        ("app", "", "STACKAUTH_APP is not set; it must name the app to serve, as in STACKAUTH_APP=package.module:app"),
        ("app", "shop:application", "a WSGI app and not an ASGI app; serve stackauth_middleware.serve:application"),
        ("application", "shop:app", "an ASGI app and not a WSGI app; serve stackauth_middleware.serve:app"),
        ("application", "shop:ap", "shop has no 'ap'; did you mean 'app'?"),
    ],
)
def test_wrong_app(serve: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, app: str, message: str) -> None:
    monkeypatch.setenv("STACKAUTH_APP", app)
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        getattr(serve, name)
    assert name not in vars(serve)


def test_attribute_error_within_is_not_one_of_the_module(serve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn and gunicorn would report a missing attribute, and hide the reason."""

    def fail() -> None:
        raise AttributeError("of something else")

    monkeypatch.setitem(serve._MADE, "app", fail)
    with pytest.raises(RuntimeError, match=r"serve\.app cannot be made: of something else"):
        serve.app  # noqa: B018


def test_other_attributes_do_not_exist(serve: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        serve.other  # noqa: B018
    assert set(serve.__all__) == {"create_app", "create_application"}
