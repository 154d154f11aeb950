"""Benchmark f: cold start, each time in a fresh interpreter: imports, creating a middleware, the first request."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from .material import PROJECT, site
from .timing import Benchmark, Figure, Pace, ratio
from .upstream import ROOT

_CLOCK = "import sys, time; sys.modules['click'] = None; t = time.process_time()\n"
"""httpx imports its command line where click and rich are installed, as other benchmarks need them, and that takes
longer than the rest of httpx."""
_RESTART = "\nt = time.process_time()\n"
_SAY = "\nprint(time.process_time() - t)"
_STACK = "import jwt, jwt.algorithms; jwt.get_algorithm_by_name('ES256')"
_OURS = "import stackauth_middleware"
_WSGI = """
import sys; url, token = sys.argv[1:]
from stackauth_middleware import StackAuthWSGIMiddleware
app = StackAuthWSGIMiddleware(lambda e, s: s("200 OK", []) or [], project_id=PROJECT, api_url=url)
statuses = []
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_STACK_ACCESS_TOKEN": token}
app(environ, lambda s, h, *_: statuses.append(s))
assert statuses == ["200 OK"], statuses
"""
_ASGI = """
import sys; url, token = sys.argv[1:]
from stackauth_middleware import StackAuthASGIMiddleware
import asyncio
statuses = []
async def inner(scope, receive, send): await send({"type": "http.response.start", "status": 200})
async def send(message): statuses.append(message["status"])
app = StackAuthASGIMiddleware(inner, project_id=PROJECT, api_url=url)
scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-stack-access-token", token.encode())]}
asyncio.run(app(scope, None, send))
assert statuses == [200], statuses
"""
_SNIPPET = """
import sys; url, token = sys.argv[1:]
import jwt
key = jwt.PyJWKClient(f"{url}/api/v1/projects/{PROJECT}/.well-known/jwks.json").get_signing_key_from_jwt(token)
jwt.decode(token, key.key, algorithms=["ES256"], audience=PROJECT)
"""

OVER = "import stackauth_middleware, over import jwt"
IMPORTS = {
    "import jwt, with its cryptography": _STACK,
    "import stackauth_middleware": _OURS,
    OVER: f"{_STACK}{_RESTART}{_OURS}",
    "both middlewares": (
        f"{_OURS} as s; s.StackAuthASGIMiddleware, s.StackAuthWSGIMiddleware, s.Verifier, s.AsyncVerifier"
    ),
    "an ASGI middleware created": (
        f"{_OURS} as s\nasync def app(a, b, c): ...\ns.StackAuthASGIMiddleware(app, project_id={PROJECT!r})"
    ),
    "a WSGI middleware created": f"{_OURS} as s\ns.StackAuthWSGIMiddleware(lambda e, s: [], project_id={PROJECT!r})",
}
FIRST = {"WSGI middleware": _WSGI, "ASGI middleware": _ASGI, "documented snippet, no app": _SNIPPET}


def cold_start(pace: Pace) -> Benchmark:
    benchmark = Benchmark("f", "Cold start")
    rounds = 3 if pace.quick else 15
    with site() as stack:
        arguments = (stack.upstream.url, stack.token())
        cases: dict[tuple[str, str], tuple[str, Any]] = {}
        cases |= {("import", name): (f"{_CLOCK}{code}{_SAY}", ()) for name, code in IMPORTS.items()}
        for name, code in FIRST.items():
            body = code.replace("PROJECT", repr(PROJECT)).replace(f"{{{PROJECT!r}}}", PROJECT)
            cases["start to first answer", name] = (f"{_CLOCK}{body}{_SAY}", arguments)
        samples: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
        for number in range(rounds + 1):
            for case, (code, given) in cases.items():
                seconds = _fresh(code, given)
                if number:  # the first round writes bytecode
                    samples[case].append(seconds * 1e3)
    for (case, name), taken in samples.items():
        benchmark.figures.append(Figure(case, name, "ms", taken, ours="middleware" in name or "stackauth" in name))
    benchmark.at_most(
        "import at most 12 ms over PyJWT + cryptography", benchmark.figure("import", OVER).median, 12, "ms"
    )
    *ours, snippet = (benchmark.figure("start to first answer", name) for name in FIRST)
    for figure, limit in zip(ours, (1.4, 1.7), strict=True):
        text = f"first answer at most {limit}x the snippet, {figure.name}"
        benchmark.at_most(text, ratio(figure, snippet), limit, "x")
    benchmark.notes.append(
        "Processor time in fresh interpreters. The first answer includes imports and the fetch of the keys. "
        "Without click, so that httpx does not import its command line."
    )
    return benchmark


def _fresh(code: str, arguments: tuple[str, ...]) -> float:
    """Return the seconds that `code` prints, run in an interpreter of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled files
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=os.sep,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return float(done.stdout)


BENCHMARKS: dict[str, Callable[[Pace], Benchmark]] = {"f": cold_start}
