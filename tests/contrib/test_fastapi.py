"""FastAPI: the dependencies, the docs, and all that an app of its users may do, behind the middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnect

import stackauth_middleware
from stackauth_middleware import ConfigError, Rule, StackAuthASGIMiddleware, User, UserProfile
from stackauth_middleware.contrib import fastapi as contrib
from stackauth_middleware.contrib.fastapi import (
    CurrentProfile,
    CurrentUser,
    OptionalUser,
    current_profile,
    current_user,
    optional_user,
)
from stackauth_middleware.errors import ErrorCode, RefusedError
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE, ORIGIN, Answer, Case, answered, seen
from .clients import TestClient, WebSocketDenialResponse
from .examples import example
from .serving import client, uvicorn_serving


class OutOfStock(Exception):
    """An exception of the app's own."""


class Site:
    """An app with a route of each kind, and what its handlers did."""

    def __init__(self, **settings: Any) -> None:
        self.ran: list[Any] = []
        self.app = app = FastAPI()
        self.config = cases.config(**settings)
        app.add_middleware(StackAuthASGIMiddleware, config=self.config)

        @app.get("/me")
        async def me(user: CurrentUser) -> User:
            self.ran.append(user)
            return user

        @app.get("/in-thread")
        @app.get("/admin")
        def in_thread(user: CurrentUser) -> dict[str, Any]:
            self.ran.append(user)
            return seen(user)

        @app.get("/optional/hello")
        @app.get("/public/hello")
        async def hello(user: OptionalUser) -> str | None:
            return user.email if user else None

        @app.get("/optional/guarded", dependencies=[Depends(current_user)])
        @app.get("/public/guarded", dependencies=[Depends(current_user)])
        async def guarded() -> None:
            self.ran.append("guarded")

        @app.get("/optional/profile")
        async def profile(profile: CurrentProfile) -> UserProfile:
            self.ran.append(profile)
            return profile

        @app.get("/stream")
        async def stream(user: CurrentUser) -> StreamingResponse:
            async def lines() -> AsyncIterator[str]:
                for _ in range(3):
                    await asyncio.sleep(0)
                    yield f"{user.email}\n"

            return StreamingResponse(lines())

        @app.post("/later")
        async def later(user: CurrentUser, request: Request, tasks: BackgroundTasks) -> str:
            def task() -> None:
                self.ran.append((user.email, stackauth_middleware.require_user(request)))

            tasks.add_task(task)
            return "accepted"

        @app.get("/buy")
        async def buy(user: CurrentUser) -> None:
            raise OutOfStock

        @app.get("/gone")
        async def gone(user: CurrentUser) -> None:
            raise HTTPException(410, "No longer here")

        @app.exception_handler(OutOfStock)
        async def sold_out(request: Request, error: OutOfStock) -> JSONResponse:
            return JSONResponse({"sold_out": True}, 409)

        @app.websocket("/socket")
        @app.websocket("/optional/socket")
        async def socket(websocket: WebSocket, user: CurrentUser) -> None:
            self.ran.append(user)
            await websocket.accept()
            await websocket.send_json(seen(user))
            await websocket.close()

        @app.websocket("/public/socket")
        async def anybody(websocket: WebSocket, user: OptionalUser) -> None:
            await websocket.accept()
            await websocket.send_json(user is None)
            await websocket.close()


@pytest.fixture
def site(stackauth: LocalStackAuth) -> Site:
    return Site()


@pytest.fixture
def http(site: Site) -> Iterator[TestClient]:
    with TestClient(site.app) as client:
        yield client


# -- the user arrives ---------------------------------------------------------------------------------


def test_a_handler_gets_the_user(site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    """And returning the user tells the fields, no more: neither token nor claims."""
    token = stackauth.token(display_name_of_another="claim")
    answer = answered(http.get("/me", headers={"x-stack-access-token": token}))
    (user,) = site.ran
    assert answer.status == 200
    assert answer.body == user.to_dict()
    assert (user.user_id, user.email) == (JANE["id"], JANE["email"])


def test_a_plain_function_gets_the_user(http: TestClient, stackauth: LocalStackAuth) -> None:
    assert http.get("/in-thread", headers=stackauth.headers()).json() == {**JANE, "profile": False}


@pytest.mark.parametrize("path", ["/public/hello", "/optional/hello"])
def test_nobody_is_none_where_nobody_need_be(path: str, http: TestClient) -> None:
    assert answered(http.get(path))[::2] == (200, None)


def test_an_optional_route_gets_the_user(http: TestClient, stackauth: LocalStackAuth) -> None:
    assert http.get("/optional/hello", headers=stackauth.headers()).json() == JANE["email"]


def test_a_public_route_looks_at_no_token(http: TestClient, stackauth: LocalStackAuth) -> None:
    stackauth.requests.clear()
    assert http.get("/public/hello", headers=stackauth.headers()).json() is None
    assert stackauth.requests.count() == 0


def test_a_handler_gets_the_profile(http: TestClient, stackauth: LocalStackAuth) -> None:
    stackauth.users.create(JANE["id"], primary_email="new@example.com", server_metadata={"plan": "pro"})
    body = http.get("/optional/profile", headers=stackauth.headers()).json()
    assert body["primary_email"] == "new@example.com"
    assert "server_metadata" not in body
    assert stackauth.requests.count("users/me") == 1


def test_the_dependencies_can_be_called_by_hand(stackauth: LocalStackAuth) -> None:
    """As an app does that guards something by a dependency of its own."""
    app = FastAPI()
    app.add_middleware(StackAuthASGIMiddleware, config=cases.config())

    @app.get("/me")
    async def me(request: Request) -> list[str | None]:
        user, somebody = await current_user(request), await optional_user(request)
        assert user is somebody
        return [user.email, (await current_profile(request)).id]

    assert TestClient(app).get("/me", headers=stackauth.headers()).json() == [JANE["email"], JANE["id"]]


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.REFUSED)
def test_the_middleware_refuses(name: str, site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == case.answer()
    assert site.ran == []
    assert case.asks or stackauth.requests.count() == 0


def inside(case: Case) -> Answer:
    """Return the answer in FastAPI's own form."""
    return case.answer({"detail": {"error": case.message, "code": case.code, **case.more}}, (",", ":"))


@pytest.mark.parametrize("name", cases.REFUSED_INSIDE)
def test_a_dependency_refuses(name: str, site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == inside(case)
    assert site.ran == []


@pytest.mark.parametrize("name", cases.NO_PROFILE)
def test_no_profile_is_a_refusal(name: str, site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    case = cases.NO_PROFILE[name]
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert answered(http.get(case.path, headers=headers)) == inside(case)
    assert site.ran == []


@pytest.mark.parametrize("path", ["/public/guarded", "/optional/profile"])
def test_a_refusal_inside_goes_through_the_apps_own_handler(path: str, site: Site) -> None:
    """Which learns the row from the cause, and what to send with it from the exception."""

    @site.app.exception_handler(HTTPException)
    async def own(request: Request, error: HTTPException) -> JSONResponse:
        assert isinstance(error.__cause__, RefusedError)
        return JSONResponse({"oops": error.__cause__.code.value}, error.status_code, error.headers)

    answer = answered(TestClient(site.app).get(path))
    assert answer.body == {"oops": "missing_token"}
    assert answer.headers["www-authenticate"] == 'Bearer realm="stack-auth"'


def test_without_a_middleware_the_mistake_is_named(stackauth: LocalStackAuth) -> None:
    """It is no 401: nobody could ever be let in."""
    app = FastAPI()

    @app.get("/")
    async def guarded(user: CurrentUser) -> None: ...

    with pytest.raises(ConfigError, match="no Stack Auth middleware saw this request"):
        TestClient(app).get("/", headers=stackauth.headers())


# -- the rest of an app -------------------------------------------------------------------------------


def test_the_apps_own_exceptions_are_its_own(http: TestClient, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    assert answered(http.get("/buy", headers=headers))[::2] == (409, {"sold_out": True})
    assert answered(http.get("/gone", headers=headers))[::2] == (410, {"detail": "No longer here"})
    assert answered(http.get("/nowhere", headers=headers))[::2] == (404, {"detail": "Not Found"})


def test_a_stream_knows_its_user(http: TestClient, stackauth: LocalStackAuth) -> None:
    with http.stream("GET", "/stream", headers=stackauth.headers()) as response:
        assert list(response.iter_lines()) == [JANE["email"]] * 3


def test_a_background_task_knows_its_user(site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    assert http.post("/later", headers=stackauth.headers()).json() == "accepted"
    ((email, user),) = site.ran
    assert email == user.email == JANE["email"]


@pytest.mark.parametrize("order", ["cors outside", "cors inside"])
def test_a_browser_elsewhere_can_read_a_refusal(order: str, stackauth: LocalStackAuth) -> None:
    """Whichever was added first: outside it is FastAPI's to say so, inside ours, and never both."""
    app = FastAPI()
    cors: dict[str, Any] = {"allow_origins": [ORIGIN], "allow_headers": ["x-stack-access-token"]}
    if order == "cors inside":
        app.add_middleware(CORSMiddleware, **cors)
    app.add_middleware(StackAuthASGIMiddleware, config=cases.config(cors_origins=[ORIGIN]))
    if order == "cors outside":
        app.add_middleware(CORSMiddleware, **cors)

    @app.get("/me")
    async def me(user: CurrentUser) -> None: ...

    @app.get("/public/guarded")
    async def guarded(user: CurrentUser) -> None: ...

    http = TestClient(app, headers={"origin": ORIGIN})
    for path in ("/me", "/public/guarded"):
        refusal = answered(http.get(path))
        assert refusal.status == 401
        assert refusal.headers["access-control-allow-origin"] == ORIGIN
        assert "Origin" in refusal.headers["vary"]
    allowed = http.get("/me", headers=stackauth.headers())
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    asking = {"access-control-request-method": "GET", "access-control-request-headers": "x-stack-access-token"}
    preflight = http.options("/me", headers=asking)
    expected = 200 if order == "cors outside" else 204
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (expected, ORIGIN)
    assert "x-stack-access-token" in preflight.headers["access-control-allow-headers"].lower()


# -- WebSockets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/socket", "/optional/socket"])
def test_a_socket_gets_the_user(path: str, http: TestClient, stackauth: LocalStackAuth) -> None:
    with http.websocket_connect(path, headers=stackauth.headers()) as socket:
        assert socket.receive_json() == {**JANE, "profile": False}


def test_a_public_socket_is_anybodys(http: TestClient) -> None:
    with http.websocket_connect("/public/socket") as socket:
        assert socket.receive_json() is True


@pytest.mark.parametrize(("path", "form"), [("/socket", cases.Case.answer), ("/optional/socket", inside)])
def test_a_socket_is_refused_with_a_response(path: str, form: Any, site: Site, http: TestClient) -> None:
    """Starlette's test client offers the extension for it, as most servers do."""
    with pytest.raises(WebSocketDenialResponse) as caught, http.websocket_connect(path):
        raise AssertionError("let in")
    assert answered(caught.value) == form(cases.REFUSED["missing"])
    assert site.ran == []


@pytest.mark.parametrize(
    ("path", "trouble", "code"),
    [("/socket", False, 3000), ("/optional/socket", False, 3000), ("/optional/socket", True, 1013)],
)
def test_a_socket_is_refused_with_a_code_where_there_is_no_response(
    path: str, trouble: bool, code: int, site: Site, stackauth: LocalStackAuth
) -> None:
    async def without_extension(scope: Any, receive: Any, send: Any) -> None:
        scope.pop("extensions", None)
        await site.app(scope, receive, send)

    http = TestClient(without_extension)
    headers = stackauth.headers() if trouble else {}
    connecting = http.websocket_connect(path, headers=headers)
    with stackauth.down(cold=True), pytest.raises(WebSocketDisconnect) as caught, connecting:
        raise AssertionError("let in")
    assert caught.value.code == code
    assert site.ran == []


# -- dependency_overrides -----------------------------------------------------------------------------


def test_dependency_overrides_put_a_user_in(site: Site, http: TestClient, stackauth: LocalStackAuth) -> None:
    """For ``CurrentUser`` and ``Depends(current_user)`` alike; taken out again, the rules hold again."""
    http.get("/me", headers=stackauth.headers())
    somebody = site.ran.pop()
    site.app.dependency_overrides[current_user] = lambda: somebody
    assert http.get("/optional/guarded").status_code == 200
    assert http.get("/public/guarded").status_code == 200
    site.app.dependency_overrides[optional_user] = lambda: somebody
    assert http.get("/public/hello").json() == JANE["email"]
    site.app.dependency_overrides.clear()
    assert http.get("/public/guarded").status_code == 401


def test_the_names_of_the_core_are_the_same_dependencies() -> None:
    """So that an override by either name holds for both."""
    assert contrib.get_user is optional_user
    assert contrib.require_user is current_user


# -- the docs -----------------------------------------------------------------------------------------


def test_the_docs_have_a_button_that_works(stackauth: LocalStackAuth) -> None:
    """It sends the token as Swagger UI does with a bearer scheme, on the routes that say they take one."""
    docs = [Rule(path, "public") for path in ("/docs", "/openapi.json")]
    site = Site(rules=[*cases.RULES, *docs])
    http = TestClient(site.app)
    assert http.get("/docs").status_code == 200
    schema = http.get("/openapi.json").json()
    ((name, scheme),) = schema["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
    for path in ("/me", "/optional/hello", "/optional/guarded", "/optional/profile"):
        operation = schema["paths"][path]["get"]
        assert operation["security"] == [{name: []}]
        assert "parameters" not in operation
    headers = {"authorization": f"Bearer {stackauth.token()}"}
    assert http.get("/me", headers=headers).json()["email"] == JANE["email"]


def test_the_button_can_be_had_for_every_route(stackauth: LocalStackAuth) -> None:
    """For routes that the rules alone close; so that what is tried out in the docs is signed."""
    app = FastAPI(dependencies=[Depends(optional_user)])

    @app.get("/closed-by-a-rule")
    async def closed() -> None: ...

    assert app.openapi()["paths"]["/closed-by-a-rule"]["get"]["security"] == [{"StackAuth": []}]


# -- coming from the documented snippet ---------------------------------------------------------------


def test_the_documented_snippet_needs_another_import(stackauth: LocalStackAuth) -> None:
    """The route is the snippet's own but for the type of its user; the dependency is imported, not written."""
    from stackauth_middleware.contrib.fastapi import current_user as get_current_user

    app = FastAPI()
    app.add_middleware(StackAuthASGIMiddleware, project_id=cases.PROJECT, default_access="optional", warm_up=False)

    @app.get("/api/users/me")
    async def read_current_user(user: User = Depends(get_current_user)) -> dict[str, Any]:  # noqa: B008
        return {"user_id": user.user_id, "is_anonymous": user.is_anonymous}

    http = TestClient(app)
    answer = http.get("/api/users/me", headers={"X-Stack-Access-Token": stackauth.token()})
    assert (answer.status_code, answer.json()) == (200, {"user_id": JANE["id"], "is_anonymous": False})
    for headers, error in (
        ({}, "Access token required"),
        ({"X-Stack-Access-Token": "no.token.here"}, "Invalid or expired access token"),
    ):
        refusal = http.get("/api/users/me", headers=headers)
        assert refusal.status_code == 401
        assert error in refusal.text


def test_the_middleware_can_answer_in_the_same_form(stackauth: LocalStackAuth) -> None:
    site = Site(error_body=lambda code, info: {"detail": {"error": code.message, "code": code.value}})
    http = TestClient(site.app)
    by_middleware, by_dependency = answered(http.get("/me")), answered(http.get("/public/guarded"))
    assert by_middleware.body == by_dependency.body == inside(cases.REFUSED["missing"]).body


# -- Depends(get_user) --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["get_user", "require_user", "load_profile", "aload_profile"])
def test_the_functions_of_the_core_are_no_dependencies(name: str) -> None:
    """Building the app fails, and says what to import; a request would have been told 422."""
    app = FastAPI()
    function = getattr(stackauth_middleware, name)
    with pytest.raises(ConfigError, match=r"stackauth_middleware\.contrib\.fastapi"):

        @app.get("/")
        async def handler(user: Any = Depends(function)) -> None: ...  # noqa: B008


def test_the_same_names_from_here_are(site: Site, stackauth: LocalStackAuth) -> None:
    @site.app.get("/optional/by-name")
    def by_name(
        user: Annotated[User | None, Depends(contrib.get_user)], same: Annotated[User, Depends(contrib.require_user)]
    ) -> bool:
        return user is same

    http = TestClient(site.app)
    assert http.get("/optional/by-name", headers=stackauth.headers()).json() is True
    assert http.get("/optional/by-name").json()["detail"]["code"] == ErrorCode.MISSING_TOKEN.value


# -- a real server, and the example -------------------------------------------------------------------


EXAMPLE = "contrib_fastapi.py"


def test_the_example_with_the_test_client(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(example(EXAMPLE, monkeypatch).app) as http:
        headers = stackauth.headers()
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/me").json()["code"] == "missing_token"
        assert http.get("/me", headers=headers).json()["email"] == JANE["email"]
        assert http.get("/hello").json() == {"hello": "stranger"}
        assert http.get("/hello", headers=headers).json() == {"hello": "Jane Doe"}
        assert http.get("/docs").status_code == 200
        with http.websocket_connect("/socket", headers=headers) as socket:
            assert socket.receive_text() == "hello Jane Doe"


def test_the_example_behind_uvicorn(stackauth: LocalStackAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    with uvicorn_serving(example(EXAMPLE, monkeypatch).app) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        refusal = http.get("/me", headers={"origin": "http://localhost:3000"})
        assert (refusal.status_code, refusal.json()["code"]) == (401, "missing_token")
        assert refusal.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_behind_uvicorn(site: Site, stackauth: LocalStackAuth) -> None:
    case = cases.REFUSED_INSIDE["nobody"]
    with uvicorn_serving(site.app) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        assert http.get("/stream", headers=stackauth.headers()).text == f"{JANE['email']}\n" * 3
        refusal = answered(http.get(case.path))
        assert (refusal.status, refusal.body) == inside(case)[::2]
        assert refusal.headers.items() >= inside(case).headers.items()
    assert stackauth.requests.count("jwks") == 1
