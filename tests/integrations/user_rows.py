"""Run a recipe of examples/rows against its database, and print what it did: ``python -m ... MODULE``."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from wsgiref.util import setup_testing_defaults

import httpx

from stackauth_middleware import User, Verifier
from stackauth_middleware.testing import LocalStackAuth

ROWS = Path(__file__).parents[2] / "examples" / "rows"
AT_ONCE = 16


class Asgi:
    """Calls an ASGI recipe."""

    def __init__(self, module: ModuleType) -> None:
        self.app: Any = module.app

    async def get(self, headers: list[dict[str, str]]) -> list[tuple[int, Any]]:
        """Return status and body of ``GET /me`` for each of `headers`, sent at the same time."""
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1") as client:
            found = await asyncio.gather(*(client.get("/me", headers=each) for each in headers))
        return [(response.status_code, response.json()) for response in found]

    def lifespan(self) -> Any:
        return self.app.router.lifespan_context(self.app)


class Wsgi:
    """Calls a WSGI recipe, in threads."""

    def __init__(self, module: ModuleType) -> None:
        self.app: Any = module.wsgi

    async def get(self, headers: list[dict[str, str]]) -> list[tuple[int, Any]]:
        """Same as `Asgi.get`."""
        return await asyncio.to_thread(lambda: in_threads(self._get, headers))

    def _get(self, headers: dict[str, str]) -> tuple[int, Any]:
        return call_wsgi(self.app, "/me", headers)

    def lifespan(self) -> Any:
        return asyncio.Lock()  # a context manager that does nothing


def call_wsgi(app: Any, path: str, headers: dict[str, str], method: str = "GET") -> tuple[int, Any]:
    """Return status and body of one request."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO()}
    environ.update({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()})
    setup_testing_defaults(environ)
    statuses: list[str] = []
    body = app(environ, lambda status, *_: statuses.append(status))
    return int(statuses[0].split()[0]), json.loads(b"".join(body))


def in_threads(call: Any, arguments: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(call, arguments))


async def at_once(function: Any, user: User) -> list[int]:
    """Call the function below the decorator, as `AT_ONCE` processes would."""
    if inspect.iscoroutinefunction(function):
        return list(await asyncio.gather(*(function(user) for _ in range(AT_ONCE))))
    return await asyncio.to_thread(lambda: in_threads(function, [user] * AT_ONCE))


async def drive(module: ModuleType, local: LocalStackAuth) -> dict[str, Any]:
    caller = Asgi(module) if hasattr(module, "app") else Wsgi(module)
    ada = local.users.create(primary_email="ada@example.com", primary_email_verified=True, display_name="Ada")
    bob = local.users.create(primary_email="ada@example.com", primary_email_verified=True)
    eve = local.users.create(primary_email="ada@example.com", primary_email_verified=False)
    verifier = Verifier()
    write = module.account_id.__wrapped__
    async with caller.lifespan():
        first = await caller.get([local.headers(ada.id)] * AT_ONCE)
        processes = await at_once(write, verifier.verify(local.token(eve.id)))
        taken = await caller.get([local.headers(bob.id)] * 2)
        renamed = local.users.update(ada.id, display_name="Ada L.", primary_email="lovelace@example.com")
        await at_once(write, verifier.verify(local.token(renamed.id)))
        return {
            "first": first,
            "processes": sorted(set(processes)),
            "taken": taken,
            "renamed": await caller.get([local.headers(ada.id)]),
            "after": await caller.get([local.headers(bob.id), local.headers(eve.id)]),
        }


def main(name: str) -> None:
    sys.path.insert(0, str(ROWS))
    module = importlib.import_module(name)
    with LocalStackAuth().in_process() as local:
        print(json.dumps(asyncio.run(drive(module, local))))


if __name__ == "__main__":
    main(sys.argv[1])
