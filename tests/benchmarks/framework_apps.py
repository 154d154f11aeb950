"""One app per framework: bare, behind our middleware, and behind the framework's own JWT tool, set up as it documents.

Each answers ``/items/42`` with the id of the user, or bare with a constant. All check the same ES256 tokens, signature,
audience and expiry, with the key at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, require_user

from .material import PROJECT, Site

BARE, OURS = "without", "with the middleware"


def fastapi_apps(stack: Site) -> dict[str, Any]:
    from fastapi import Depends, FastAPI
    from fastapi_users import BaseUserManager, FastAPIUsers
    from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy

    from stackauth_middleware.contrib.fastapi import CurrentUser

    class Users(BaseUserManager[Any, str]):
        def parse_id(self, value: Any) -> str:
            return str(value)

        async def get(self, id: str) -> Any:  # noqa: A002 - the name in the base class
            return SimpleNamespace(id=id, is_active=True)

    def strategy() -> Any:
        return JWTStrategy("unused", None, [PROJECT], "ES256", _public_pem(stack))

    backend: Any = AuthenticationBackend("jwt", BearerTransport("login"), strategy)
    signed_in = FastAPIUsers[Any, str](lambda: Users(None), [backend]).current_user(active=True)
    bare, ours, theirs = FastAPI(), FastAPI(), FastAPI()
    ours.add_middleware(StackAuthASGIMiddleware, config=stack.config())

    @bare.get("/items/{item}")
    async def _(item: int) -> dict[str, str]:
        return {"id": "42"}

    async def with_user(item: int, user: Any) -> dict[str, str]:
        return {"id": user.user_id}

    async def with_their_user(item: int, user: Any) -> dict[str, str]:
        return {"id": user.id}

    with_user.__annotations__["user"] = CurrentUser  # strings could not name what is imported here
    with_their_user.__annotations__["user"] = Annotated[Any, Depends(signed_in)]
    ours.get("/items/{item}")(with_user)
    theirs.get("/items/{item}")(with_their_user)
    return {BARE: bare, OURS: ours, "fastapi-users": theirs}


def litestar_apps(stack: Site) -> dict[str, Any]:
    from litestar import Litestar, Request, get
    from litestar.middleware import DefineMiddleware
    from litestar.security.jwt import JWTAuth

    async def retrieve(token: Any, connection: Any) -> Any:
        return SimpleNamespace(id=token.sub)

    auth = JWTAuth[Any](
        token_secret=_public_pem(stack),
        algorithm="ES256",
        retrieve_user_handler=retrieve,
        accepted_audiences=[PROJECT],
    )

    def app(user_id: Callable[[Any], str], **settings: Any) -> Any:
        async def read(item: int, request: Any) -> dict[str, str]:
            return {"id": user_id(request)}

        read.__annotations__["request"] = Request
        return Litestar([get("/items/{item:int}")(read)], openapi_config=None, **settings)

    middleware = DefineMiddleware(StackAuthASGIMiddleware, config=stack.config())
    return {
        BARE: app(lambda request: "42"),
        OURS: app(lambda request: require_user(request).user_id, middleware=[middleware]),
        "Litestar JWTAuth": app(lambda request: str(request.user.id), on_app_init=[auth.on_app_init]),
    }


def flask_apps(stack: Site) -> dict[str, Any]:
    from flask import Flask, request
    from flask_jwt_extended import JWTManager, get_jwt_identity, jwt_required

    def app(read: Callable[[], str]) -> Any:
        made = Flask("bench")
        made.add_url_rule("/items/<int:item>", "read", lambda item: {"id": read()})
        return made

    bare, ours = app(lambda: "42"), app(lambda: require_user(request).user_id)
    ours.wsgi_app = StackAuthWSGIMiddleware(ours.wsgi_app, stack.config())
    theirs = app(jwt_required()(lambda: str(get_jwt_identity())))
    theirs.config.update(
        JWT_ALGORITHM="ES256",
        JWT_PUBLIC_KEY=_public_pem(stack),
        JWT_DECODE_AUDIENCE=PROJECT,
        JWT_TOKEN_LOCATION="headers",
    )
    JWTManager(theirs)
    return {BARE: bare, OURS: ours, "flask-jwt-extended": theirs}


def django_apps(stack: Site) -> dict[str, Any]:
    """A process has one Django, so the apps are handlers of one project with other URLs and middleware."""
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpRequest, JsonResponse
    from django.test import override_settings
    from django.urls import path

    config: StackAuthConfig = stack.config()
    settings.configure(
        SECRET_KEY="bench",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        STACK_AUTH=config,
        REST_FRAMEWORK={
            "UNAUTHENTICATED_USER": None,
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        },
        SIMPLE_JWT={
            "ALGORITHM": "ES256",
            "VERIFYING_KEY": _public_pem(stack),
            "AUDIENCE": PROJECT,
            "USER_ID_CLAIM": "sub",
            "TOKEN_TYPE_CLAIM": None,
            "JTI_CLAIM": None,
        },
    )
    django.setup()
    from rest_framework.permissions import IsAuthenticated
    from rest_framework.response import Response
    from rest_framework.views import APIView
    from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication

    class Theirs(APIView):
        authentication_classes = (JWTStatelessUserAuthentication,)
        permission_classes = (IsAuthenticated,)

        def get(self, request: Any, item: int) -> Any:
            return Response({"id": request.user.id})

    class Plain(APIView):
        authentication_classes = ()

        def get(self, request: Any, item: int) -> Any:
            return Response({"id": "42"})

    def bare(request: HttpRequest, item: int) -> JsonResponse:
        return JsonResponse({"id": "42"})

    def ours(request: Any, item: int) -> JsonResponse:
        return JsonResponse({"id": request.stack_user.user_id})

    urls: Any = ModuleType("bench_urls")
    urls.urlpatterns = []

    def app(name: str, view: Any, *middleware: str) -> Any:
        urls.urlpatterns.append(path(f"{name}/<int:item>", view))
        with override_settings(MIDDLEWARE=[*middleware]):
            handler = WSGIHandler()
        return lambda environ, start_response: handler({**environ, "PATH_INFO": f"/{name}/42"}, start_response)

    settings.ROOT_URLCONF = urls
    return {
        BARE: app("bare", bare),
        OURS: app("ours", ours, "stackauth_middleware.contrib.django.StackAuthMiddleware"),
        "Django REST framework, without": app("plain", Plain.as_view()),
        "simplejwt, in Django REST framework": app("theirs", Theirs.as_view()),
    }


def _public_pem(stack: Site) -> str:
    return stack.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
