"""Types of `contrib` for Bottle, which has no types of its own. Type-checked, not run."""

from __future__ import annotations

from bottle import Bottle
from typing_extensions import assert_type

from stackauth_middleware import StackAuthWSGIMiddleware, User
from stackauth_middleware.contrib.bottle import refuse, require_auth, require_permission

app = Bottle()
application = StackAuthWSGIMiddleware(app)


@require_auth
def me(user: User) -> dict[str, str | None]:
    return {"email": user.email}


@require_auth(profile=True)
def item(user: User, number: int) -> str:
    return f"{user.user_id} {number}"


@require_auth
async def in_a_loop(user: User, name: str) -> str:
    return name


@require_auth(profile=True)
async def profile_in_a_loop(user: User) -> str:
    return user.user_id


app.route("/me", callback=me)
app.route("/items/<number:int>", callback=item)
app.route("/async/<name>", callback=in_a_loop)

app.install(refuse)
assert_type(refuse(item)(5), str)
assert_type(me(), dict[str, str | None])
assert_type(item(5), str)
assert_type(item(number=5), str)
assert_type(in_a_loop("name"), str)
assert_type(profile_in_a_loop(), str)


def no_user(name: str) -> str:
    return name


require_auth(no_user)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
item("five")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@require_permission("read", team="team_id")
def in_team(user: User, team_id: str) -> str:
    return user.user_id


assert_type(in_team("x"), str)
