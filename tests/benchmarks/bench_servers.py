"""Benchmarks e and k: requests per second through real servers, under wrk; and what more workers or threads give."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from stackauth_middleware import Verifier

from .drive import HEADER
from .material import Site, site
from .timing import Benchmark, Contender, Figure, Pace, interleaved, ratio
from .upstream import ROOT

CONNECTIONS = 16
APPS = {"bare app": "bare", "wrapped": "ours", "documented snippet": "theirs"}
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def throughput(pace: Pace) -> Benchmark:
    benchmark = Benchmark("e", "Requests per second through a server, one worker")
    if shutil.which("wrk") is None:
        benchmark.notes.append("Skipped: wrk is not here (Debian and Ubuntu have it as the package wrk).")
        return benchmark
    rounds, seconds = (1, 1) if pace.quick else (5, 2)
    with site() as stack:
        servers = _servers(benchmark.notes)
        if pace.quick:
            servers = {case: servers[case] for case in servers if "uvloop" not in case}
        for case, command in servers.items():
            benchmark.figures += _under_load(stack, case, command, rounds, seconds)
    for case in sorted({each.case for each in benchmark.figures if each.unit == "req/s" and "uvicorn" in each.case}):
        bare, ours, theirs = (benchmark.figure(case, name) for name in APPS)
        share = 0.93 if "FastAPI" in case else 0.80
        benchmark.at_least(f"at least {share:.2f} of the bare app, {case}", ratio(ours, bare), share, "x")
        benchmark.at_least(f"at least 8x the snippet, {case}", ratio(ours, theirs), 8, "x")
    benchmark.notes.append(f"wrk, one thread, {CONNECTIONS} connections, on the same machine; a cached token.")
    return benchmark


def scaling(pace: Pace) -> Benchmark:
    benchmark = Benchmark("k", "More threads, more workers")
    with site() as stack:
        verifier, token = Verifier(stack.config()), stack.token()
        verifier.verify(token)
        contenders = [
            Contender(f"Verifier.verify, {n} threads", threads(verifier.verify, token, n), True) for n in (1, 2, 4)
        ]
        longer = Pace(pace.quick, 5 if pace.quick else 15, 0.1)  # many turns of the global lock, which are 5 ms each
        benchmark.figures += interleaved("cached token, wall time per call", contenders, longer)
        if pace.quick:
            benchmark.notes.append("Workers are skipped in a quick run.")
        elif shutil.which("wrk") is None or not find_spec("gunicorn"):
            benchmark.notes.append("Workers are skipped: wrk or gunicorn is not here.")
        else:
            for workers in (1, 2):
                command = _gunicorn("--workers", str(workers), "--worker-class", "gthread", "--threads", "4")
                benchmark.figures += _under_load(stack, f"gunicorn, {workers} workers", command, 3, 2)
    locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    benchmark.notes.append(f"This interpreter runs {'with' if locked else 'without'} the global lock.")
    free = next((name for name in ("python3.14t", "python3.13t") if shutil.which(name)), None)
    if locked:
        benchmark.notes.append(
            f"{free} is here: run this with it too." if free else "No free-threaded Python here: skipped."
        )
    benchmark.notes.append(f"{os.cpu_count()} cores, shared with wrk where workers are measured.")
    return benchmark


def _servers(notes: list[str]) -> dict[str, list[str]]:
    """Return the command for each kind of server, with the app to be put last."""
    found: dict[str, list[str]] = {}
    if find_spec("uvicorn"):
        found["uvicorn (h11, asyncio)"] = _uvicorn("h11", "asyncio")
        if find_spec("httptools") and find_spec("uvloop"):
            found["uvicorn (httptools, uvloop)"] = raw = _uvicorn("httptools", "uvloop")
            if find_spec("fastapi"):
                found["uvicorn (httptools, uvloop), FastAPI"] = [*raw[:-1], "APP_fastapi"]
        else:
            notes.append("httptools and uvloop are not installed here, and left out.")
    if find_spec("gunicorn"):
        found["gunicorn (gthread, 4 threads)"] = _gunicorn(
            "--workers", "1", "--worker-class", "gthread", "--threads", "4"
        )
    return found


def _uvicorn(http: str, loop: str) -> list[str]:
    quiet = ["--no-access-log", "--log-level", "error"]
    return [sys.executable, "-m", "uvicorn", "--http", http, "--loop", loop, *quiet, "--port", "PORT", "APP_asgi"]


def _gunicorn(*options: str) -> list[str]:
    quiet = ["--log-level", "error", "--keep-alive", "60"]
    return [sys.executable, "-m", "gunicorn", *options, *quiet, "--bind", "127.0.0.1:PORT", "APP_wsgi"]


def _under_load(stack: Site, case: str, command: Sequence[str], rounds: int, seconds: int) -> list[Figure]:
    """Serve the three apps side by side and put each under load in turns."""
    token, bad = stack.token(), "garbage"
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in APPS}
    with ExitStack() as running:
        ports = {name: running.enter_context(_serving(stack, command, app)) for name, app in APPS.items()}
        for name, port in ports.items():
            refused = 200 if name == "bare app" else 401
            assert (_status(port, token), _status(port, bad)) == (200, refused), f"{case}, {name}"
            _wrk(port, token, 1)
        for _ in range(rounds):
            for name, port in ports.items():
                samples[name].append(_wrk(port, token, seconds))
    figures = []
    for name, taken in samples.items():
        for unit, key in (("req/s", "rate"), ("ms", "p50"), ("ms", "p99")):
            shown = case if key == "rate" else f"{case}, {key}"
            figures.append(Figure(shown, name, unit, [each[key] for each in taken], name == "wrapped"))
    return figures


@contextmanager
def _serving(stack: Site, command: Sequence[str], app: str) -> Iterator[int]:
    port = _free_port()
    target = f"tests.benchmarks.serving:{app}"
    arguments = [each.replace("PORT", str(port)).replace("APP", target) for each in command]
    environment = {**os.environ, "BENCH_API_URL": stack.upstream.url}
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment)
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wrk(port: int, token: str, seconds: int) -> dict[str, float]:
    """Put the server under load; return requests per second, and milliseconds at two quantiles."""
    load = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-H", f"{HEADER}: {token}"]
    output = subprocess.run(
        [*load, f"http://127.0.0.1:{port}/items/42"], check=True, capture_output=True, text=True, timeout=60 + seconds
    ).stdout
    assert "Non-2xx" not in output, output
    found = {key: re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", output) for key, share in (("p50", 50), ("p99", 99))}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate, output
    assert all(found.values()), output
    return {"rate": float(rate[1]), **{key: float(m[1]) * _UNITS[m[2]] for key, m in found.items() if m}}


def threads(verify: Callable[[str], Any], token: str, count: int) -> Callable[[int], float]:
    """Return a run whose loops are shared among so many threads. Wall time, since threads are the subject."""

    def work(loops: int) -> None:
        for _ in range(loops):
            verify(token)

    def run(loops: int) -> float:
        threads = [threading.Thread(target=work, args=(max(1, loops // count),)) for _ in range(count)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    return run


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server does not start")


def _status(port: int, token: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/items/42", headers={HEADER: token})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


BENCHMARKS: dict[str, Callable[[Pace], Benchmark]] = {"e": throughput, "k": scaling}
