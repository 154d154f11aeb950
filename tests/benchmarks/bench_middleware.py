"""Benchmark d: what a middleware adds to a request in process, compared with the bare app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthWSGIMiddleware

from .contenders import Snippet, pyjwt
from .drive import HEADER, Asgi, Wsgi
from .material import Site, site
from .timing import Benchmark, Contender, Pace, excess, interleaved, over

BARE = "bare app"
ASGI, WSGI = "ASGI middleware", "WSGI middleware"
MANY = 100


def middleware(pace: Pace) -> Benchmark:
    benchmark = Benchmark("d", "Cost of the middleware per request")
    with site() as stack:
        for headers in (5, 20, 50):
            _asgi_case(benchmark, stack, pace, headers)
            _wsgi_case(benchmark, stack, pace, headers)
    for kind, name, limit in (("ASGI", ASGI, 3.5), ("WSGI", WSGI, 3)):
        case = f"{kind}, 20 headers"
        plain, bare = benchmark.figure(case, name), benchmark.figure(case, BARE)
        over_bare = excess(plain, bare)
        benchmark.at_most(f"{kind} at most {limit} us over the bare app, 20 headers", over_bare, limit, "us")
        ruled = excess(benchmark.figure(case, f"{name}, {MANY} rules"), plain)
        benchmark.at_most(f"{MANY} rules add at most 5 us, {kind}", ruled, 5, "us")
    benchmark.notes.append(
        "A cached token; the app and the middleware are called directly, without an event loop or a server."
    )
    benchmark.notes.append("The path matches none of the rules, so all of them are tried.")
    return benchmark


def _asgi_case(benchmark: Benchmark, stack: Site, pace: Pace, headers: int) -> None:
    asgi, token = Asgi(headers), stack.token()
    apps: dict[str, Any] = {BARE: asgi.app}
    for name, config in _configs(stack, ASGI, headers):
        apps[name] = StackAuthASGIMiddleware(asgi.app, config)
    if headers == 20:
        apps["documented snippet, raw ASGI"] = snippet_asgi(asgi.app, Snippet(stack.jwks_url))
        starlette = _starlette(asgi.app, stack, benchmark.notes)
        if starlette is not None:
            apps["Starlette AuthenticationMiddleware, PyJWT"] = starlette
    scope, bad = asgi.scope(token), asgi.scope("garbage")
    contenders = []
    for name, app in apps.items():
        asgi.fetch_keys(app, token)
        _prove(name, asgi.statuses, lambda app=app: asgi.call(app, bad), {200, 401} if app is not asgi.app else {200})
        contenders.append(
            Contender(name, over([scope], lambda each, app=app: asgi.call(app, each)), name[:4] == "ASGI")
        )
    benchmark.figures += interleaved(f"ASGI, {headers} headers", contenders, pace)


def _wsgi_case(benchmark: Benchmark, stack: Site, pace: Pace, headers: int) -> None:
    wsgi, token = Wsgi(headers), stack.token()
    apps: dict[str, Any] = {BARE: wsgi.app}
    for name, config in _configs(stack, WSGI, headers):
        apps[name] = StackAuthWSGIMiddleware(wsgi.app, config)
    if headers == 20:
        apps["documented snippet, raw WSGI"] = snippet_wsgi(wsgi.app, Snippet(stack.jwks_url))
    environ, bad = wsgi.environ(token), wsgi.environ("garbage")
    contenders = []
    for name, app in apps.items():
        wsgi.call(app, environ)
        expected = {"200 OK", "401 Unauthorized"} if app is not wsgi.app else {"200 OK"}
        _prove(name, wsgi.statuses, lambda app=app: wsgi.call(app, bad), expected)
        contenders.append(
            Contender(name, over([environ], lambda each, app=app: wsgi.call(app, each)), name[:4] == "WSGI")
        )
    benchmark.figures += interleaved(f"WSGI, {headers} headers", contenders, pace)


def _configs(stack: Site, name: str, headers: int) -> list[tuple[str, Any]]:
    """Return the configs to measure by name: with 20 headers also some with rules."""
    counts = (0, 10, MANY) if headers == 20 else (0,)
    rules = [[Rule(f"/area-{number}/**", "public") for number in range(count)] for count in counts]
    return [(f"{name}, {len(each)} rules" if each else name, stack.config(rules=each)) for each in rules]


def _prove(name: str, statuses: set[Any], send_bad: Callable[[], None], expected: set[Any]) -> None:
    """Raise unless the good request was answered and a bad one refused."""
    send_bad()
    assert statuses == expected, f"{name}: {statuses}"
    statuses.clear()


def snippet_asgi(app: Any, snippet: Snippet) -> Any:
    """Return the documented function in a minimal ASGI middleware."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        wanted = HEADER.encode()
        token = next((value for name, value in scope["headers"] if name == wanted), b"").decode()
        user = snippet.verify(token) if token else None
        if not user:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        scope["user"] = user
        await app(scope, receive, send)

    return wrapped


def snippet_wsgi(app: Any, snippet: Snippet) -> Any:
    def wrapped(environ: Any, start_response: Any) -> Any:
        token = environ.get("HTTP_X_STACK_ACCESS_TOKEN")
        user = snippet.verify(token) if token else None
        if not user:
            start_response("401 Unauthorized", [("Content-Length", "0")])
            return []
        environ["user"] = user
        return app(environ, start_response)

    return wrapped


def _starlette(app: Any, stack: Site, notes: list[str]) -> Any:
    try:
        from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
        from starlette.middleware.authentication import AuthenticationMiddleware
        from starlette.responses import PlainTextResponse
    except ImportError:
        notes.append("starlette is not installed here, and left out.")
        return None
    decode = pyjwt(stack).verify

    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            try:
                claims: Any = decode(conn.headers.get(HEADER, ""))
            except Exception as error:
                raise AuthenticationError("bad token") from error
            return AuthCredentials(["authenticated"]), SimpleUser(claims["sub"])

    def refuse(conn: Any, error: Any) -> Any:
        return PlainTextResponse("Unauthorized", status_code=401)

    return AuthenticationMiddleware(app, backend=Backend(), on_error=refuse)


BENCHMARKS: dict[str, Callable[[Pace], Benchmark]] = {"d": middleware}
