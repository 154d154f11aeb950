"""Flask: mounting, the user, and `contrib`. Type-checked, not run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from typing_extensions import assert_type

from stackauth_middleware import (
    AuthServerError,
    RefusedError,
    Rule,
    StackAuthWSGIMiddleware,
    User,
    get_user,
    require_user,
)
from stackauth_middleware.contrib.flask import refuse, require_auth, require_permission

app = Flask(__name__)
app.wsgi_app = StackAuthWSGIMiddleware(  # type: ignore[method-assign]
    app.wsgi_app, project_id="internal", rules=[Rule("/me")], error_body="problem"
)
app.register_error_handler(RefusedError, refuse)
app.register_error_handler(AuthServerError, refuse)


@app.get("/me")
@require_auth
def me(user: User) -> dict[str, str | None]:
    return {"email": user.email}


@app.get("/hello")
def hello() -> Response:
    assert_type(get_user(request), User | None)
    return jsonify(require_user(request))


@app.get("/items/<int:number>")
@require_auth(profile=True)
def item(user: User, number: int) -> ResponseReturnValue:
    return [user.user_id, number]


@app.get("/async/<name>")
@require_auth
async def in_a_loop(user: User, name: str) -> Response:
    return Response(name)


@app.get("/async/profile")
@require_auth(profile=True)
async def profile_in_a_loop(user: User) -> str:
    return user.user_id


def guarded(user: User, name: str, *, loud: bool = False) -> int:
    return len(name)


async def aguarded(user: User) -> str:
    return user.user_id


assert_type(require_auth(guarded)("name", loud=True), int)
assert_type(require_auth(profile=True)(guarded)("name"), int)
in_the_end: Callable[[], Coroutine[Any, Any, str]] = require_auth(aguarded)


def no_user(name: str) -> str:
    return name


require_auth(no_user)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
require_auth(guarded)(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@app.get("/teams/<team_id>")
@require_permission("read", team="team_id")
def in_team(user: User, team_id: str) -> str:
    return user.user_id


@app.get("/async/teams/<team_id>")
@require_permission("read", team="team_id")
async def in_team_in_a_loop(user: User, team_id: str) -> str:
    return user.user_id


assert_type(in_team("x"), str)
