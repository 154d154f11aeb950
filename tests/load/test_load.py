"""What a soak measures and fails on, and a soak of three seconds over one server with every fault once or so."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections import Counter
from dataclasses import replace

import pytest

from . import broken
from .driver import MalformedAnswer, Tally, read
from .faults import FAULTS, Pace
from .model import MISSING
from .report import Report, Snapshot
from .settings import PROJECT
from .soak import Soak
from .upstream import serving
from .watch import Held, held_by

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what processes hold from /proc")


@pytest.mark.parametrize(
    "bent", [{"www-authenticate": "Bearer"}, {"cache-control": "no-cache"}, {"retry-after": "1"}, {"content-type": ""}]
)
def test_a_refusal_has_the_promised_headers(bent: dict[str, str]) -> None:
    headers = {
        "x-pid": "1",
        "content-type": "application/json",
        "cache-control": "no-store",
        "www-authenticate": 'Bearer realm="stack-auth"',
    }
    body = b'{"error": "Access token required", "code": "missing_token"}'
    assert read(0.0, 1.0, 401, headers, body).outcome == MISSING
    with pytest.raises(MalformedAnswer):
        read(0.0, 1.0, 401, headers | bent, body)


def test_wrong_outcome_or_lost_request_fails_the_run() -> None:
    report = Report(1.0, Tally(), Counter(), Counter(), snapshots={"start": {}, "end": {}})
    assert report.failures() == []
    report.tally.wrong.append("x")
    report.tally.lost.append("y")
    report.tally.sent = 1
    report.forbidden_sent = 1
    report.logs["asgi"] = "Traceback"
    assert len(report.failures()) == 4


def report_of(start: Held, end: Held, **more: int) -> Report:
    """Return the report of a run over one gunicorn worker."""
    snapshots = [Snapshot(1, held, 0, 1, 100, []) for held in (start, end)]
    snapshots[1] = replace(snapshots[1], **more)
    return Report(
        1.0,
        Tally(),
        Counter(),
        Counter(),
        snapshots={"start": {"wsgi 0": snapshots[0]}, "end": {"wsgi 0": snapshots[1]}},
    )


START = Held(60_000, 12, 3, Counter({"ESTABLISHED": 2}), Counter())


@pytest.mark.parametrize(
    ("end", "more", "failures"),
    [
        (START, {}, []),
        (START._replace(fds=18, pooled=Counter({"ESTABLISHED": 2, "RESET": 6})), {}, []),
        (START._replace(fds=19, pooled=Counter({"RESET": 9})), {}, ["idle connections to Stack Auth by 1 too many"]),
        (START._replace(fds=13), {}, ["file descriptors by 1 too many"]),
        (
            START._replace(fds=13, stray=Counter({"RESET": 1})),
            {},
            ["sockets that are in no pool by 1 too many", "file descriptors by 1 too many"],
        ),
        (START, {"threads": 2}, ["threads by 1 too many"]),
        (START, {"tasks": 1}, ["tasks by 1 too many"]),
        (START, {"pid": 2}, ["wsgi 0 is not the process that it was"]),
    ],
)
def test_leak_in_a_worker_fails_the_run(end: Held, more: dict[str, int], failures: list[str]) -> None:
    assert [each.removeprefix("wsgi 0: ") for each in report_of(START, end, **more).failures()] == failures


def test_every_way_to_break_the_package_replaces_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = []

    def replace(owner: object, name: str, new: object) -> None:
        replaced.append(name)
        monkeypatch.setattr(owner, name, new)

    monkeypatch.setattr(broken, "_replace", replace)
    for break_package in broken.BROKEN.values():
        before = len(replaced)
        break_package()
        assert len(replaced) > before


def test_more_calls_upstream_than_there_may_be_fail_the_run() -> None:
    report = report_of(START, START)
    report.upstream.update({"jwks 200": 3, "users/me 200": 5, "users/me reset": 2})
    report.may_call(jwks=3, users_me=5)
    assert report.failures() == []
    report.upstream.update({"jwks 502": 1, "users/me 401": 1})
    assert report.failures() == ["4 calls of jwks where 3 are the most", "8 calls of users/me where 7 are the most"]


@LINUX
def test_reset_open_and_pooled_sockets_are_distinguished() -> None:
    before = held_by(os.getpid(), ()).stray
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as mine:
        there = server.accept()[0]
        assert held_by(os.getpid(), ()).stray - before == Counter({"ESTABLISHED": 2})
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        assert held_by(os.getpid(), ()).stray - before == Counter({"RESET": 1})
        held = held_by(os.getpid(), {os.fstat(mine.fileno()).st_ino})
        assert (held.pooled, held.stray) == (Counter({"RESET": 1}), before)
    assert held_by(os.getpid(), ()).stray == before


@LINUX
def test_only_connections_that_have_delivered_their_answer_are_dropped() -> None:
    async def dropping() -> tuple[int, int]:
        async with serving(PROJECT) as upstream:
            reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
            while not upstream._idle:
                await asyncio.sleep(0.001)
            size = 16 * 1024 * 1024
            next(iter(upstream._idle)).write(bytes(size))
            early = upstream.drop()
            await reader.readexactly(size)
            for _ in range(1000):
                if late := upstream.drop():
                    break
                await asyncio.sleep(0.01)
            writer.close()
            return early, late

    assert asyncio.run(dropping()) == (0, 1)


@LINUX
def test_a_soak_of_three_seconds() -> None:
    pace = Pace(fault=(0.08, 0.12), quiet=0.02, sudden=0.1, rotation=0.5)
    soak = Soak(["asgi"], 3.0, calm=0.5, pace=pace, rate=100, connections=6)
    report = asyncio.run(soak.run())
    assert report.failures() == []
    assert report.tally.answered > 10
    assert set(report.injected) & set(FAULTS)
