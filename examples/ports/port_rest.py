"""Flask, with the user as Stack Auth knows it at most five minutes ago, also restrictions and deletion."""

from flask import Flask

from stackauth_middleware import StackAuthConfig, StackAuthWSGIMiddleware, User
from stackauth_middleware.contrib.flask import require_auth

app = Flask(__name__)
auth = StackAuthConfig(mode="rest", profile_ttl=300)
app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=auth)  # type: ignore[method-assign]


@app.get("/me")
@require_auth
def me(user: User) -> dict[str, str | None]:
    return {"id": user.id, "name": user.display_name}
