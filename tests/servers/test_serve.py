"""Apps that are not edited, in a folder with nothing else: `serve`, the command ``run`` and an ini file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stackauth_middleware.testing import LocalStackAuth

from .processes import clean_environ, serving_by, settings_for
from .wire import ask

SHOP = """
async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
        return
    user = scope["stackauth.user"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
    await send({"type": "http.response.body", "body": user.id.encode() if user else b"no user"})

def wsgi(environ, start_response):
    user = environ["stackauth.user"]
    start_response("200 OK", [("x-app", "1")])
    return [user.id.encode() if user else b"no user"]

def make_wsgi():
    return wsgi

def paste_app(global_conf):
    return wsgi
"""
FILES = {
    "shop.py": SHOP,
    "raises.py": "import no_such_dependency",
    "auth.toml": '[[rules]]\npath = "/healthz"\naccess = "public"',
    "app.ini": """
[app:shop]
paste.app_factory = shop:paste_app

[filter:auth]
use = egg:stackauth-middleware
config = %(here)s/auth.toml

[pipeline:main]
pipeline = auth shop

[server:main]
use = egg:gunicorn
""",
}
USER = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("app", "command"),
    [
        ("", "stackauth_middleware run shop:asgi --config auth.toml -- --fd {fd}"),
        ("", "stackauth_middleware run shop:make_wsgi -- --bind fd://{fd}"),
        ("shop:asgi", "uvicorn --fd {fd} stackauth_middleware.serve:app"),
        ("shop:asgi", "uvicorn --factory --fd {fd} stackauth_middleware.serve:create_app"),
        ("shop:asgi", "hypercorn --bind fd://{fd} stackauth_middleware.serve:create_app()"),
        ("shop:asgi", "granian --interface asgi --host 127.0.0.1 --port {port} stackauth_middleware.serve:app"),
        ("shop:wsgi", "gunicorn --bind fd://{fd} stackauth_middleware.serve:application"),
        ("shop:make_wsgi()", "gunicorn --preload --bind fd://{fd} stackauth_middleware.serve:create_application()"),
        ("", "gunicorn --bind fd://{fd} --paste app.ini"),
    ],
    ids=lambda value: value.partition(" --")[0],
)
def test_app_is_served_behind_the_middleware(local: LocalStackAuth, folder: Path, app: str, command: str) -> None:
    environ = settings_for(local) | {"STACKAUTH_CONFIG": "auth.toml", **({"STACKAUTH_APP": app} if app else {})}
    with serving_by(command.split(), environ, folder) as served:
        assert (ask(served.port, "/healthz").body, ask(served.port, "/healthz").reached_the_app) == (b"no user", True)
        refused = ask(served.port, "/me")
        assert (refused.status, refused.code, refused.reached_the_app) == (401, "missing_token", False)
        token = local.token(sub=USER)
        assert ask(served.port, "/me", [("x-stack-access-token", token)]).body.decode() == USER


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("shop:nothing", "STACKAUTH_APP is 'shop:nothing'; shop has no 'nothing'"),
        ("shop:{other}", "and not a{kind} app; serve stackauth_middleware.serve:{right}"),
        ("raises:app", "No module named 'no_such_dependency'"),
        ("shop:{own}", "leeway (STACKAUTH_LEEWAY) is 400.0; it must be from 0 to 300 seconds"),
    ],
    ids=["missing", "other kind", "raises", "setting"],
)
@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_server_does_not_start_and_its_log_says_why(folder: Path, server: str, app: str, message: str) -> None:
    own, other, attribute, right = (
        ("asgi", "wsgi", "app", "application") if server == "uvicorn" else ("wsgi", "asgi", "application", "app")
    )
    kind = "n ASGI" if server == "uvicorn" else " WSGI"
    environ = {"STACK_PROJECT_ID": "internal", "STACKAUTH_APP": app.format(own=own, other=other)}
    if "{own}" in app:
        environ["STACKAUTH_LEEWAY"] = "400"
    options = ["--port", "0"] if server == "uvicorn" else ["--bind", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-m", server, *options, f"stackauth_middleware.serve:{attribute}"],
        cwd=folder,
        env=clean_environ() | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode not in (0, None)
    assert message.format(kind=kind, right=right) in done.stderr
    assert ('raises.py", line 1' in done.stderr) == (app == "raises:app")
