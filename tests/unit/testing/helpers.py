"""A way to ask a local Stack Auth, and what its answers are read with."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import pytest

from stackauth_middleware import AuthServerError, ErrorCode, RefusedError, Verifier
from stackauth_middleware.testing import LocalStackAuth

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
OTHER_PROJECT = "11111111-2222-4333-8444-555555555555"
USER_ID = "44444444-4444-4444-8444-444444444444"
SECRET = "ssk_" + "s" * 45
PUBLISHABLE = "pck_" + "p" * 45
JWKS = f"/api/v1/projects/{PROJECT}/.well-known/jwks.json"
ME = "/api/v1/users/me"
REFRESH = "/api/v1/auth/sessions/current/refresh"
OAUTH = "/api/v1/auth/oauth/token"
SIGN_OUT = "/api/v1/auth/sessions/current"
SERVER = {
    "x-stack-project-id": PROJECT,
    "x-stack-access-type": "server",
    "x-stack-secret-server-key": SECRET,
}
CLIENT = {
    "x-stack-project-id": PROJECT,
    "x-stack-access-type": "client",
    "x-stack-publishable-client-key": PUBLISHABLE,
}


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.headers.get("x-stack-known-error")


def ask(
    local: LocalStackAuth,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes = b"",
) -> Got:
    """Ask through the WSGI face, which meets faults and is counted."""
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)) if body else "",
    }
    for name, value in (headers or {}).items():
        environ["CONTENT_TYPE" if name == "content-type" else "HTTP_" + name.upper().replace("-", "_")] = value
    started: list[Any] = []
    chunks = local.wsgi(environ, lambda status, pairs: started.extend((status, pairs)))
    got = Got(int(started[0].split()[0]), dict(started[1]), b"".join(chunks))
    assert got.headers["content-length"] == str(len(got.body))
    assert len(got.headers) == len(started[1])
    return got


def send(local: LocalStackAuth, headers: dict[str, str], method: str, path: str, body: Any = None) -> Got:
    """Send a JSON body."""
    sent = {"content-type": "application/json", **headers}
    return ask(local, f"/api/v1{path}", sent, method=method, body=json.dumps(body or {}).encode())


def me(
    local: LocalStackAuth, base: dict[str, str] | None = None, /, *, token: str | None = None, **changes: str
) -> Got:
    """Ask for users/me: `changes` are headers by their short names, an empty one for none."""
    named = {f"x-stack-{name.replace('_', '-')}": value for name, value in changes.items()}
    headers = {
        **(SERVER if base is None else base),
        "x-stack-access-token": local.token() if token is None else token,
        **named,
    }
    return ask(local, ME, {name: value for name, value in headers.items() if value})


def two_projects() -> LocalStackAuth:
    """Return a local Stack Auth with two projects, of which the first accepts only its own keys."""
    local = LocalStackAuth(PROJECT, any_project=False)
    local.add_project(
        PROJECT,
        secret_server_key=SECRET,
        publishable_client_key=PUBLISHABLE,
        super_secret_admin_key="sak_right",
    )
    local.add_project(OTHER_PROJECT)
    return local


def verifier(**settings: Any) -> Verifier:
    """Return a verifier of `PROJECT`."""
    return Verifier(project_id=PROJECT, **settings)


def code_of(refused: Verifier, token: str) -> ErrorCode:
    """Return the code of the error that `refused` raises for `token`."""
    with pytest.raises((RefusedError, AuthServerError)) as caught:
        refused.verify(token)
    assert isinstance(caught.value, RefusedError | AuthServerError)
    return caught.value.code


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def header_of(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(unb64url(token.split(".", maxsplit=1)[0]))
    return header


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(unb64url(token.split(".")[1]))
    return claims
