"""Configs and verifiers cross process borders by their settings: process pools, Ray Serve, forkserver."""

from __future__ import annotations

import copy
import pickle
import sys
import types
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from stackauth_middleware import (
    AsyncVerifier,
    ErrorCode,
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    User,
    Verifier,
)
from stackauth_middleware._core.flow import Flow
from stackauth_middleware.errors import Event, RefusalInfo

from .helpers import PROJECT


def is_staff(user: User) -> bool:
    return user.email_verified


def body(code: ErrorCode, info: RefusalInfo) -> Any:
    return code.value


def observe(event: Event) -> None: ...


GIVEN: dict[str, Any] = {
    "project_id": PROJECT,
    "secret_server_key": "ssk_canary",
    "rules": [Rule("/docs/**", "public"), Rule("/admin/{id}", check=is_staff, methods=["GET"])],
    "error_body": body,
    "observers": [observe],
    "issuer_url": "https://auth.example.com",
    "cors_origins": ["https://*.example.com"],
    "state_key": None,
}


@pytest.mark.parametrize("kind", [Verifier, AsyncVerifier])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copied_verifier_shares_the_caches(kind: Any, copied: Any) -> None:
    verifier = kind(StackAuthConfig(**GIVEN))
    again = copied(verifier)
    assert (again is not verifier, again._flow is verifier._flow) == (True, True)
    assert again.status() == verifier.status()


async def asgi_app(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    return []


@pytest.mark.parametrize(("kind", "app"), [(StackAuthASGIMiddleware, asgi_app), (StackAuthWSGIMiddleware, wsgi_app)])
def test_middleware_is_pickled_with_its_app_and_config(kind: Any, app: Any) -> None:
    config = StackAuthConfig(**GIVEN)
    again, settings = pickle.loads(pickle.dumps((kind(app, config), config)))
    assert (again.app, again._config) == (app, settings)
    assert again._flow is settings.get_or_create(Flow)
    assert copy.deepcopy(again)._flow is again._flow


def test_config_crosses_to_a_spawned_process() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        assert pool.submit(repr, StackAuthConfig(**GIVEN)).result(60).startswith("StackAuthConfig(project_id=")


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ({"rules": [Rule("/a", check=lambda user: True)]}, r"check of Rule\('/a'\)"),
        ({"error_body": lambda code, info: {}}, "error_body"),
        ({"observers": [observe, lambda event: None]}, "observers"),
    ],
    ids=["check", "error_body", "observers"],
)
def test_error_names_the_function_that_cannot_be_pickled(
    setting: dict[str, Any], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StackAuthConfig(**{**GIVEN, **setting})
    for loaded in [name for name in sys.modules if name.endswith(("cloudpickle", "dill"))]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(
        pickle.PicklingError, match=f"{where} is <function .*<lambda> .*top level of a module"
    ) as raised:
        pickle.dumps(config)
    frames = [each.frame.f_locals for each in raised.traceback if "stackauth_middleware/_core" in str(each.path)]
    assert frames
    assert "canary" not in repr(frames)


def test_cloudpickle_may_pickle_functions_by_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.cloudpickle", types.ModuleType("ray.cloudpickle"))
    state = StackAuthConfig(**{**GIVEN, "error_body": lambda code, info: {}}).__getstate__()
    assert state["error_body"].__name__ == "<lambda>"
