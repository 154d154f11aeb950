"""The matrix of servers and frameworks: ``python -m tests.servers.matrix`` runs it and writes docs/reference/matrix.md.

Not the full product: every framework on one server that its users choose, and every server and bridge with an app of no
framework and with Starlette or Flask.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stackauth_middleware.testing import LocalStackAuth

from . import wire
from .processes import ROOT, served_stack_auth, serving, settings_for
from .scenarios import ANYWHERE, LIMITS, OVER_SOCKETS, WORKS, Served, Site

PAGE = ROOT / "docs" / "reference" / "matrix.md"
NOT_APPLICABLE = ""
COLUMNS = (*ANYWHERE, *OVER_SOCKETS)
HTTP2 = ("hypercorn-asyncio", "hypercorn-trio", "granian")
NO_WEBSOCKETS = ("django-asgi",)

Row = Mapping[str, str]
"""The outcome of each scenario."""


class Cell(NamedTuple):
    """A server process of the matrix.

    Attributes:
        server: a key of `processes.COMMANDS`.
        sites: what it serves, by the names in `sites`.
        target: the attribute of the module `guarded`, or a target of its own.
    """

    server: str
    sites: tuple[str, ...]
    target: str

    @property
    def title(self) -> str:
        bridge = {"wsgi_by_a2wsgi": "a2wsgi", "asgi_by_a2wsgi": "a2wsgi", "wsgi_by_asgiref": "asgiref"}.get(self.target)
        return f"{self.server}, {bridge}" if bridge else self.server

    def scenarios(self, site: str) -> dict[str, Callable[[Any], str]]:
        """Return the scenarios that apply."""
        sockets = self.target in ("asgi", "factory") and site not in NO_WEBSOCKETS
        skipped = set() if sockets else {"WebSocket", "refused WebSocket"}
        if self.server not in HTTP2:
            skipped.add("HTTP/2")
        return {name: ask for name, ask in {**ANYWHERE, **OVER_SOCKETS}.items() if name not in skipped}


_ASGI = ("asgi", "starlette")
_WSGI = ("wsgi", "flask")
CELLS = (
    *(Cell(server, _ASGI, "asgi") for server in ("uvicorn-h11", "uvicorn-httptools", "uvicorn-websockets")),
    *(Cell(server, _ASGI, "asgi") for server in ("hypercorn-asyncio", "hypercorn-trio", "granian", "daphne")),
    *(Cell(server, _ASGI, "asgi") for server in ("gunicorn-uvicorn", "gunicorn-asgi")),
    Cell("uvicorn-factory", ("asgi",), "factory"),
    *(Cell(server, _WSGI, "wsgi") for server in ("gunicorn", "gunicorn-threads", "gunicorn-gevent")),
    Cell("gunicorn-preload", ("wsgi",), "wsgi"),
    *(Cell(server, _WSGI, "wsgi") for server in ("waitress", "uwsgi", "cheroot", "granian-wsgi")),
    Cell("uvicorn-httptools", ("wsgi",), "wsgi_by_a2wsgi"),
    Cell("uvicorn-httptools", ("wsgi",), "wsgi_by_asgiref"),
    Cell("gunicorn-threads", ("asgi",), "asgi_by_a2wsgi"),
    *(
        Cell("uvicorn-httptools", (name,), "asgi")
        for name in ("fastapi", "litestar", "falcon-asgi", "sanic", "blacksheep")
    ),
    Cell("hypercorn-asyncio", ("quart",), "asgi"),
    Cell("daphne", ("django-asgi",), "asgi"),
    *(Cell("gunicorn-threads", (name,), "wsgi") for name in ("django-wsgi", "falcon-wsgi")),
    *(Cell("waitress", (name,), "wsgi") for name in ("bottle", "pyramid")),
    Cell("cheroot", ("cherrypy",), "wsgi"),
)


def run(cell: Cell, local: LocalStackAuth) -> dict[str, Row]:
    """Run all scenarios on the sites of a cell, and return a row for each; an exception says where it comes from."""
    environ = settings_for(local) | {"MATRIX_SITES": ",".join(cell.sites)}
    rows: dict[str, Row] = {}
    with serving(cell.server, f"tests.servers.guarded:{cell.target}", environ) as served:
        for name in cell.sites:
            at = Served(local, served.port, name)
            rows[f"{cell.title} | {name}"] = {
                title: _outcome(f"{cell.title}, {name}, {title}", ask, at, served.log)
                for title, ask in cell.scenarios(name).items()
            }
        assert "Traceback" not in served.log(), served.log()
        assert local.token().partition(".")[0] not in served.log()
    return rows


def _outcome(where: str, ask: Callable[[Any], str], at: Site, log: Callable[[], str]) -> str:
    try:
        outcome = ask(at)
    except Exception as error:
        raise AssertionError(f"{where}: {error!r}\n{log()[-2000:]}") from error
    assert outcome == WORKS or outcome in LIMITS, f"{where}: {outcome}"
    return outcome


# -- events of functions ------------------------------------------------------------------------------


class Events(NamedTuple):
    """A site that gets events of AWS API Gateway, in this process."""

    local: LocalStackAuth
    call: Callable[[dict[str, Any]], dict[str, Any]]

    def ask(
        self, target: str, headers: Iterable[wire.Header] = (), *, method: str = "GET", body: bytes = b""
    ) -> wire.Answer:
        import base64

        sent = {"host": "testserver", "content-length": str(len(body)), **{k: str(v) for k, v in headers}}
        event = {
            "version": "1.0",
            "resource": "/",
            "path": target,
            "httpMethod": method,
            "headers": sent,
            "multiValueHeaders": {name: [value] for name, value in sent.items()},
            "queryStringParameters": None,
            "multiValueQueryStringParameters": None,
            "requestContext": {"stage": "", "path": target, "identity": {"sourceIp": "127.0.0.1"}},
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }
        response = self.call(event)
        text = response.get("body") or ""
        content = base64.b64decode(text) if response.get("isBase64Encoded") else text.encode()
        multiple = {name: ", ".join(values) for name, values in (response.get("multiValueHeaders") or {}).items()}
        pairs = {**multiple, **(response.get("headers") or {})}
        return wire.Answer(
            int(response["statusCode"]), {name.lower(): str(value) for name, value in pairs.items()}, content
        )


@contextmanager
def _events(library: str, local: LocalStackAuth) -> Iterator[Events]:
    import os
    from importlib import import_module
    from unittest.mock import patch

    names = {"mangum": "asgi", "serverless-wsgi": "wsgi"}
    with patch.dict(os.environ, {**settings_for(local), "MATRIX_SITES": "asgi,wsgi"}):
        sys.modules.pop("tests.servers.guarded", None)
        guarded = import_module("tests.servers.guarded")
    app = getattr(guarded, names[library])
    if library == "mangum":
        from mangum import Mangum

        handler = Mangum(app, lifespan="off")
        yield Events(local, lambda event: handler(event, None))
    else:
        import serverless_wsgi

        yield Events(local, lambda event: serverless_wsgi.handle_request(app, event, {}))


def run_events(library: str, local: LocalStackAuth) -> dict[str, Row]:
    """Run the scenarios that need no socket on events as AWS Lambda hands them out."""
    name = {"mangum": "asgi", "serverless-wsgi": "wsgi"}[library]
    with _events(library, local) as site:
        row = {
            title: _outcome(f"{library}, {title}", lambda at, ask=ask: ask(_On(at, name)), site, str)
            for title, ask in ANYWHERE.items()
        }
    return {f"{library} | {name}": row}


class _On(NamedTuple):
    """The site of that name, of all that get the events."""

    events: Events
    name: str

    @property
    def local(self) -> LocalStackAuth:
        return self.events.local

    def ask(self, target: str, headers: Iterable[wire.Header] = (), **more: Any) -> wire.Answer:
        return self.events.ask(target, [("X-Site", self.name), *headers], **more)


LIBRARIES = ("mangum", "serverless-wsgi")


# -- the table ----------------------------------------------------------------------------------------


def table(rows: Mapping[str, Row]) -> str:
    """Return the page of the documentation."""
    numbers = {key: at for at, key in enumerate(LIMITS, 1)}
    head = ("server", "app", *COLUMNS)
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for title, row in rows.items():
        cells = [_shown(row.get(column, NOT_APPLICABLE), numbers) for column in COLUMNS]
        lines.append(" | ".join([title, *cells]))
    outcomes = [outcome for row in rows.values() for outcome in row.values()]
    works = outcomes.count(WORKS)
    return _PAGE.format(
        table="\n".join(f"| {line} |" for line in lines),
        limits="\n".join(f"{numbers[key]}. {text}" for key, text in LIMITS.items()),
        cells=len(outcomes),
        works=works,
        limited=len(outcomes) - works,
        rows=len(rows),
    )


def _shown(outcome: str, numbers: Mapping[str, int]) -> str:
    return str(numbers[outcome]) if outcome in numbers else outcome


def committed() -> dict[str, Row]:
    """Return the rows of the page."""
    keys = list(LIMITS)
    rows: dict[str, Row] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        server, _, rest = line.removeprefix("| ").partition(" | ")
        app, _, cells = rest.partition(" | ")
        outcomes = [cell.strip() for cell in cells.removesuffix("|").split("|")]
        if not line.startswith("| ") or len(outcomes) != len(COLUMNS) or server == "server" or set(server) == {"-"}:
            continue
        named = [keys[int(each) - 1] if each.isdigit() else each for each in outcomes]
        rows[f"{server} | {app}"] = {name: each for name, each in zip(COLUMNS, named, strict=True) if each}
    return rows


_PAGE = """\
# Servers and frameworks

Each line is a server (or bridge) and an app that it serves behind the middleware; each column is a scenario of
`tests/servers/scenarios.py`, run over a real socket, or by events where the library takes those. This page is written
by `python -m tests.servers.matrix`, and the session `servers` compares it with what it sees. {cells} cells in {rows}
lines: {works} work, {limited} have a documented limit. An empty cell does not apply.

{table}

The limits:

{limits}

The columns: a user arrives by each header; every refusal with status, code, headers and body; a streamed response; a
request body arrives intact; HEAD; preflights; a mount under a prefix; a refused upload of 20 MB, with its length and
chunked, from a client that sends everything before it reads; the same connection used again after a refusal; a
WebSocket; a refused WebSocket; requests beside a refusal on one HTTP/2 connection.

`asgi` and `wsgi` are apps without a framework. `uvicorn-h11` is uvicorn with h11 and wsproto, `uvicorn-httptools` with
httptools, uvloop and websockets' sans-I/O protocol, `uvicorn-websockets` with the older one of websockets.
"""


def main() -> None:
    rows: dict[str, Row] = {}
    with served_stack_auth() as local, ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda cell: run(cell, local), CELLS):
            rows.update(got)
        for library in LIBRARIES:
            rows.update(run_events(library, local))
    Path(PAGE).write_text(table(rows), "utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}: {sum(map(len, rows.values()))} cells")


if __name__ == "__main__":
    main()
