"""A Bottle service for programs: each API key leads to the row of its owner."""

import sqlite3
from typing import Any

from bottle import Bottle, request

from stackauth_middleware import StackAuthConfig, StackAuthWSGIMiddleware, User, per_user, require_user

database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
database.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, stack_user_id TEXT UNIQUE)")
app = Bottle()
application = StackAuthWSGIMiddleware(app, config=StackAuthConfig(api_keys=["user"]))


@per_user(ttl=3600)
def account_id(user: User) -> int:
    database.execute("INSERT INTO accounts (stack_user_id) VALUES (?) ON CONFLICT DO NOTHING", (user.id,))
    (found,) = database.execute("SELECT id FROM accounts WHERE stack_user_id = ?", (user.id,)).fetchone()
    return int(found)


@app.get("/usage")  # type: ignore[untyped-decorator]
def usage() -> dict[str, Any]:
    return {"account": account_id(require_user(request))}
