"""Mounting on plain WSGI and ASGI apps, asgiref, Bottle and Django. Type-checked, not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from asgiref.wsgi import WsgiToAsgi
from bottle import Bottle, request  # type: ignore[import-untyped,unused-ignore]
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped,unused-ignore]
from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped,unused-ignore]

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, User, require_user

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

auth = StackAuthConfig()


def wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    user: User = require_user(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [user.id.encode()]


async def asgi_app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    user: User = require_user(scope)
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": False})
    await send({"type": "http.response.body", "body": user.id.encode(), "more_body": False})


guarded: WSGIApplication = StackAuthWSGIMiddleware(wsgi_app, auth)
twice: WSGIApplication = StackAuthWSGIMiddleware(guarded, auth)
plain: ASGI3Application = StackAuthASGIMiddleware(asgi_app, auth)
both = StackAuthASGIMiddleware(WsgiToAsgi(wsgi_app), auth)  # type: ignore[no-untyped-call]
inside = WsgiToAsgi(StackAuthWSGIMiddleware(wsgi_app, auth))  # type: ignore[no-untyped-call]

bottle_app = Bottle()
bottle_app.route("/me", callback=lambda: require_user(request).to_dict())
bottle_application: WSGIApplication = StackAuthWSGIMiddleware(bottle_app, auth)

django_asgi = StackAuthASGIMiddleware(get_asgi_application(), auth)
django_wsgi: WSGIApplication = StackAuthWSGIMiddleware(get_wsgi_application(), auth)
