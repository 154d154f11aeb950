"""A Quart app behind Stack Auth.

Run: STACK_PROJECT_ID=<your project's id> hypercorn quart_app:app
"""

from quart import Quart, request

from stackauth_middleware import Rule, StackAuthASGIMiddleware, get_user, require_user

app = Quart(__name__)
app.asgi_app = StackAuthASGIMiddleware(  # type: ignore[method-assign]
    app.asgi_app, rules=[Rule("/healthz", "public"), Rule("/hello", "optional")]
)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/me")
async def me() -> dict[str, str | None]:
    user = require_user(request)
    return {"id": user.id, "email": user.email}


@app.get("/hello")
async def hello() -> dict[str, str | None]:
    user = get_user(request)
    return {"hello": user.display_name if user else "stranger"}
