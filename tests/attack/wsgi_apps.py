"""One site per WSGI framework: the routes of `table`, registered as the users of each framework write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .table import ROUTES, Route, record

HTTP_ROUTES = tuple(route for route in ROUTES if route.kind != "websocket")


def _angled(template: str) -> str:
    return template.replace("{name}", "<name>").replace("{rest}", "<path:rest>")


def flask() -> Any:
    from flask import Flask, request

    app = Flask(__name__, static_folder=None)

    def handler(route: Route) -> Callable[..., str]:
        def handle(**_: str) -> str:
            record(route.name, request.environ)
            return route.name

        return handle

    for route in HTTP_ROUTES:
        template = _angled(route.template)
        options: Any = {"methods": route.methods, "provide_automatic_options": "OPTIONS" not in route.methods}
        app.add_url_rule(template, route.name, handler(route), **options)
        if route.kind == "mount":
            app.add_url_rule(f"{template}/<path:rest>", f"{route.name} below", handler(route), **options)
    return app


def bottle() -> Any:
    from bottle import Bottle, request

    app = Bottle()

    def handler(route: Route) -> Callable[..., str]:
        def handle(**_: str) -> str:
            record(route.name, request.environ)
            return route.name

        return handle

    for route in HTTP_ROUTES:
        template = route.template.replace("{name}", "<name>").replace("{rest}", "<rest:path>")
        methods: Any = "ANY" if "OPTIONS" in route.methods else list(route.methods)
        app.route(template, methods, handler(route))
        if route.kind == "mount":
            app.route(f"{template}/<rest:path>", methods, handler(route))
    return app


def falcon(**options: bool) -> Any:
    import re

    import falcon

    app = falcon.App()
    for name, value in options.items():
        setattr(app.req_options, name, value)
    resources: dict[str, Any] = {}

    def responder(route: Route) -> Any:
        def respond(req: Any, resp: Any, **_: str) -> None:
            record(route.name, req.env)
            resp.text = route.name

        return respond

    for route in HTTP_ROUTES:
        template = route.template.replace("{rest}", "{rest:path}")
        if route.kind == "mount":
            app.add_sink(responder(route), re.compile(re.escape(template) + r"(?:/|\Z)"))
            continue
        resource = resources.setdefault(template, type("Resource", (), {})())
        for method in route.methods:
            setattr(resource, f"on_{method.lower()}", responder(route))
    for template, resource in resources.items():
        app.add_route(template, resource)
    return app


def falcon_without_trailing_slash() -> Any:
    return falcon(strip_url_path_trailing_slash=True)


def django(**more: Any) -> Any:
    from django.core.wsgi import get_wsgi_application

    from .django_urls import installed

    with installed(**more):
        return get_wsgi_application()


def pyramid() -> Any:
    from pyramid.config import Configurator
    from pyramid.response import Response

    config = Configurator()

    def view(route: Route) -> Callable[[Any], Any]:
        def handle(request: Any) -> Any:
            record(route.name, request.environ)
            return Response(route.name)

        return handle

    for route in HTTP_ROUTES:
        config.add_route(route.name, route.template.replace("{rest}", "*rest"), request_method=route.methods)
        config.add_view(view(route), route_name=route.name)
        if route.kind == "mount":
            config.add_route(f"{route.name} below", f"{route.template}/*rest")
            config.add_view(view(route), route_name=f"{route.name} below")
    return config.make_wsgi_app()


def pyramid_traversal() -> Any:
    """Resources in a tree; the rules know their paths. Views by name are what ``@@`` reaches besides."""
    from pyramid.config import Configurator
    from pyramid.response import Response

    class Node(dict[str, Any]):
        route: Route | None = None

    root = Node()
    for route in HTTP_ROUTES:
        if "{" in route.template or route.kind == "mount" or "POST" in route.methods:
            continue
        node = root
        for segment in filter(None, route.template.split("/")):
            node = node.setdefault(segment, Node())
        node.route = route

    def view(request: Any) -> Any:
        found = request.context.route
        if found is None:
            return Response(status=404)
        record(found.name, request.environ)
        return Response(found.name)

    config = Configurator(root_factory=lambda request: root)
    config.add_view(view, context=Node)
    return config.make_wsgi_app()


def cherrypy() -> Any:
    import cherrypy

    cherrypy.config.update({"environment": "embedded", "log.screen": False})
    by_template: dict[str, list[Route]] = {}
    for route in HTTP_ROUTES:
        by_template.setdefault(route.template, []).append(route)

    def ran(template: str) -> str:
        request = cherrypy.request
        method = "GET" if request.method == "HEAD" else request.method
        for route in by_template[template]:
            if method in route.methods:
                record(route.name, request.wsgi_environ)
                return route.name
        raise cherrypy.HTTPError(405)

    class Node:
        pass

    def page(template: str) -> Any:
        def handle() -> str:
            return ran(template)

        return cherrypy.expose(handle)

    class Users(Node):
        @cherrypy.expose
        def default(self, name: str, action: str = "") -> str:
            if action not in ("", "edit"):
                raise cherrypy.NotFound
            return ran("/users/{name}/edit" if action else "/users/{name}")

    def below(template: str) -> Any:
        class Below(Node):
            @cherrypy.expose
            def default(self, *rest: str) -> str:
                if not rest:
                    raise cherrypy.NotFound
                return ran(template)

        return Below()

    class One(Node):
        def __init__(self, template: str) -> None:
            self.template = template

        @cherrypy.expose
        def default(self, name: str) -> str:
            return ran(self.template)

    root: Any = Node()
    root.index = page("/")
    for template in by_template:
        if template.count("/") == 1 and "{" not in template and template not in ("/", "/sink"):
            setattr(root, template[1:], page(template))
    root.public, root.api, root.users = One("/public/{name}"), One("/api/{name}"), Users()
    root.api.admin = page("/api/admin")
    root.files, root.sink = below("/files/{rest}"), below("/sink")
    return cherrypy.Application(root)


BUILDERS: dict[str, Callable[[], Any]] = {
    "flask": flask,
    "bottle": bottle,
    "falcon-wsgi": falcon,
    "falcon-wsgi-strip": falcon_without_trailing_slash,
    "django-wsgi": django,
    "pyramid": pyramid,
    "pyramid-traversal": pyramid_traversal,
    "cherrypy": cherrypy,
}
