"""Run the apps of examples/ports against the local Stack Auth, and print their answers: ``python -m ...``."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import httpx

from stackauth_middleware.testing import Account, LocalStackAuth

from .user_rows import call_wsgi

PORTS = Path(__file__).parents[2] / "examples" / "ports"
TEAM = "11111111-1111-4111-8111-111111111111"


class Port:
    """A port, with the answers to the requests so far, as status and either the error code or the body."""

    def __init__(self, name: str) -> None:
        module: Any = importlib.import_module(name)
        self.asgi: Any = getattr(module, "app", None)
        self.wsgi: Any = getattr(module, "wsgi", None) or getattr(module, "application", None)
        if name == "port_rest":
            self.asgi, self.wsgi = None, module.app
        self.answers: list[Any] = []

    def __call__(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        status, body = (self._wsgi if self.wsgi else self._asgi)(method, path, headers or {}, **more)
        refused = isinstance(body, dict) and "code" in body
        self.answers.append([status, body["code"] if refused else body])

    def _asgi(self, method: str, path: str, headers: dict[str, str], **more: Any) -> tuple[int, Any]:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.asgi)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, headers=headers, **more)

        response = asyncio.run(send())
        return response.status_code, response.json() if response.content else None

    def _wsgi(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        return call_wsgi(self.wsgi, path, headers, method)


def profile(call: Port, local: LocalStackAuth, jane: Account) -> None:
    call("GET", "/me")
    call("GET", "/me", local.headers(jane.id))
    local.users.update(jane.id, client_read_only_metadata={"plan": "pro"})
    call("GET", "/plan", local.headers(jane.id))


def websocket(call: Port, local: LocalStackAuth, jane: Account) -> None:
    call("GET", "/pro/report", local.headers(jane.id))
    pro = local.users.create(client_read_only_metadata={"plan": "pro"})
    call("GET", "/pro/report", local.headers(pro.id))
    call.answers.append(asyncio.run(_messages(call.asgi, ["stackauth", local.token(pro.id)])))
    call.answers.append(asyncio.run(_messages(call.asgi, [])))


async def _messages(app: Any, subprotocols: list[str]) -> list[Any]:
    """Return what a WebSocket of a browser gets."""
    sent: list[Any] = []
    scope = {
        "type": "websocket",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"",
        "subprotocols": subprotocols,
    }
    scope["headers"] = [(b"sec-websocket-protocol", ", ".join(subprotocols).encode())] if subprotocols else []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return [[each["type"], json.loads(each["text"]) if "text" in each else each.get("code")] for each in sent]


def admin(call: Port, local: LocalStackAuth, jane: Account) -> None:
    boss = local.users.create(server_metadata={"is_admin": True})
    call("DELETE", f"/admin/users/{jane.id}", local.headers(jane.id))
    for _ in range(2):
        call("DELETE", f"/admin/users/{jane.id}", local.headers(boss.id))


def rest(call: Port, local: LocalStackAuth, jane: Account) -> None:
    for _ in range(2):
        call("GET", "/me", local.headers(jane.id))
    call.answers.append(local.requests.count("users/me"))


def users(call: Port, local: LocalStackAuth, jane: Account) -> None:
    headers = local.headers(jane.id)
    call("GET", "/me", headers)
    call("PATCH", "/me?name=Janet", headers)
    call.answers[-1][1] = call.answers[-1][1]["display_name"]
    call("DELETE", "/me", headers)
    call.answers.append(any(account.id == jane.id for account in local.users))


def teams_and_keys(call: Port, local: LocalStackAuth, jane: Account) -> None:
    team = local.team(members=[jane.id], team_id=TEAM)
    path, key = f"/teams/{TEAM}/posts", {"x-api-key": local.api_key(jane.id)}
    call("POST", path, local.headers(jane.id))
    local.reset()
    local.grant("write_posts", jane.id, team=team)
    call("POST", path, local.headers(jane.id))
    call("POST", path, key)
    call("POST", path, {"x-api-key": local.api_key(team=team)})


def team_page(call: Port, local: LocalStackAuth, jane: Account) -> None:
    team = local.team(team_id=TEAM)
    call("GET", f"/teams/{TEAM}", local.headers(jane.id))
    local.reset()
    local.grant("$read_members", jane.id, team=team)
    call("GET", f"/teams/{TEAM}", local.headers(jane.id))


def metadata(call: Port, local: LocalStackAuth, jane: Account) -> None:
    call("POST", "/paid", json={"user_id": jane.id, "plan": "pro"})
    call("GET", "/plan", local.headers(jane.id))


def anonymous(call: Port, local: LocalStackAuth, jane: Account) -> None:
    guest = local.headers(user_type="anonymous", sub=TEAM)
    call("GET", "/draft", guest)
    call("POST", "/publish", guest)
    call("POST", "/publish", local.headers(jane.id))


def key_account(call: Port, local: LocalStackAuth, jane: Account) -> None:
    key = local.api_key(jane.id)
    call("GET", "/usage", {"x-api-key": key})
    call("GET", "/usage", local.headers(jane.id))
    call("GET", "/usage", {"x-api-key": key[:-1] + "!"})


CHECKS = (profile, websocket, admin, rest, users, teams_and_keys, team_page, metadata, anonymous, key_account)


def main() -> None:
    sys.path.insert(0, str(PORTS))
    answers = {}
    for check in CHECKS:
        with LocalStackAuth().in_process() as local:
            jane = local.users.create(
                "22222222-2222-4222-8222-222222222222", primary_email="jane@example.com", display_name="Jane"
            )
            call = Port(f"port_{check.__name__}")
            check(call, local, jane)
            answers[check.__name__] = call.answers
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
