"""Every site that is attacked in process: a framework, a policy, a way of mounting, and the middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthWSGIMiddleware

from . import asgi_apps, wsgi_apps
from .table import MET_BY, Caller, config_of, settings_of

ROOT = "/r1"
"""Where an operator mounts a site; it is also the path of a route."""
ROOTED = ("starlette", "fastapi", "litestar", "quart", "falcon-asgi", "django-asgi")
"""The ASGI frameworks that are also attacked below an operator's root path."""

reached: list[str] = []
"""One entry for each request that a middleware let through, since the driver last cleared it."""


class Site(NamedTuple):
    """A guarded app.

    Attributes:
        app: the middleware around the framework's app, or the app that has it inside.
        root: the root path that the operator's server gives.
        script_name: whether a client may choose ``SCRIPT_NAME``. CherryPy routes on it too, so with it nothing holds.
        below: what the paths of the site begin with where they hold a root path.
        wraps: whether the middleware is outermost and notes in `reached` what it lets through.
        at: where the site is mounted in a larger app.
        limits: the documentation promises less here: that each request needs a user whom the default lets in.
        active: the context in which requests have to be sent.
    """

    name: str
    app: Any
    asgi: bool
    root: str = ""
    below: str = ""
    wraps: bool = True
    at: str = ""
    limits: bool = False
    script_name: bool = True
    active: Callable[[], AbstractContextManager[Any]] = nullcontext

    def forgives(self, caller: Caller) -> bool:
        """Say whether the documented limits of the site cover a handler that ran for `caller`."""
        return self.limits and caller in MET_BY["required"]


def _noting_asgi(app: Any) -> Any:
    async def noting(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])
        await app(scope, receive, send)

    return noting


def _noting_wsgi(app: Any) -> Any:
    def noting(environ: Any, start_response: Any) -> Iterable[bytes]:
        reached.append("http")
        answered: Iterable[bytes] = app(environ, start_response)
        return answered

    return noting


def _plain_asgi(name: str, policy: str) -> Site:
    app = StackAuthASGIMiddleware(_noting_asgi(asgi_apps.BUILDERS[name]()), config_of(policy))
    return Site(f"{name}/{policy}", app, True, active=_active(name))


def _rooted(name: str, policy: str) -> Site:
    inner = asgi_apps.BUILDERS[name](prefix=ROOT)
    app = StackAuthASGIMiddleware(_noting_asgi(inner), config_of(policy, root_path=ROOT))
    return Site(f"{name}/{policy}/root", app, True, root=ROOT, below=ROOT, active=_active(name))


def _plain_wsgi(name: str, policy: str) -> Site:
    app = StackAuthWSGIMiddleware(_noting_wsgi(wsgi_apps.BUILDERS[name]()), config_of(policy))
    limits, script_name = name == "pyramid-traversal", name != "cherrypy"
    return Site(f"{name}/{policy}", app, False, limits=limits, script_name=script_name, active=_active(name))


def _fastapi_with_its_own_root(policy: str) -> Site:
    """``FastAPI(root_path=...)`` takes its own root path off a path, whatever the server says."""
    app = StackAuthASGIMiddleware(asgi_apps.fastapi(root_path="/sub"), config_of(policy))
    return Site(f"fastapi/{policy}/own-root", app, True, below="/sub", wraps=False)


def _starlette_inside(policy: str) -> Site:
    app = asgi_apps.starlette()
    app.add_middleware(StackAuthASGIMiddleware, config=config_of(policy))
    return Site(f"starlette/{policy}/inside", app, True, wraps=False)


def _litestar_inside(policy: str) -> Site:
    from litestar.middleware import DefineMiddleware

    app = asgi_apps.litestar(middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=config_of(policy))])
    return Site(f"litestar/{policy}/inside", app, True, wraps=False)


def _starlette_mounted(policy: str) -> Site:
    """The middleware below a mount: its rules are those of the mounted app."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    guarded = StackAuthASGIMiddleware(_noting_asgi(asgi_apps.starlette()), config_of(policy))
    return Site(f"starlette/{policy}/mounted", Starlette(routes=[Mount("/sub", guarded)]), True, wraps=False, at="/sub")


def _flask_dispatched(policy: str) -> Site:
    from werkzeug.exceptions import NotFound
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    guarded = StackAuthWSGIMiddleware(_noting_wsgi(wsgi_apps.flask()), config_of(policy))
    app = DispatcherMiddleware(NotFound(), {"/sub": guarded})
    return Site(f"flask/{policy}/dispatched", app, False, wraps=False, at="/sub")


def _django_inside(interface: str, policy: str) -> Site:
    settings = {name.upper(): value for name, value in settings_of(policy).items()}
    middleware = {"MIDDLEWARE": ["stackauth_middleware.contrib.django.StackAuthMiddleware"], "STACK_AUTH": settings}
    app = asgi_apps.django(**middleware) if interface == "asgi" else wsgi_apps.django(**middleware)
    return Site(f"django-{interface}/{policy}/inside", app, interface == "asgi", wraps=False, active=_active("django"))


def _active(name: str) -> Callable[[], AbstractContextManager[Any]]:
    if not name.startswith("django"):
        return nullcontext
    from .django_urls import installed

    return installed


def makers() -> dict[str, Callable[[], Site]]:
    """Return the maker of every site, by its name."""
    made: dict[str, Callable[[], Site]] = {
        "starlette/optional": partial(_plain_asgi, "starlette", "optional"),
        "flask/optional": partial(_plain_wsgi, "flask", "optional"),
        "pyramid-traversal/closed": partial(_plain_wsgi, "pyramid-traversal", "closed"),
    }
    for policy in ("closed", "open"):
        for name in asgi_apps.BUILDERS:
            made[f"{name}/{policy}"] = partial(_plain_asgi, name, policy)
        for name in wsgi_apps.BUILDERS:
            if name == "pyramid-traversal":
                continue  # its views can be reached by more paths than rules can name
            made[f"{name}/{policy}"] = partial(_plain_wsgi, name, policy)
        for name in ROOTED:
            made[f"{name}/{policy}/root"] = partial(_rooted, name, policy)
        for interface in ("asgi", "wsgi"):
            made[f"django-{interface}/{policy}/inside"] = partial(_django_inside, interface, policy)
        made[f"fastapi/{policy}/own-root"] = partial(_fastapi_with_its_own_root, policy)
        made[f"starlette/{policy}/inside"] = partial(_starlette_inside, policy)
        made[f"litestar/{policy}/inside"] = partial(_litestar_inside, policy)
        made[f"starlette/{policy}/mounted"] = partial(_starlette_mounted, policy)
        made[f"flask/{policy}/dispatched"] = partial(_flask_dispatched, policy)
    return made
