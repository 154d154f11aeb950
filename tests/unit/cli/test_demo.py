"""``demo``: it shows what holds, checks itself over real sockets, and leaves nothing running."""

from __future__ import annotations

import http.client
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from stackauth_middleware._cli import _demo
from stackauth_middleware._cli._demo_apps import Case, cases
from tests.unit.cli.ask import Runs


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(2)
        assert not thread.is_alive()


NUMBER = len(cases("a.b.c", "d.e.f", "", ""))


def test_check(run: Runs) -> None:
    """Every request is sent to both apps and answered as expected."""
    ran = run("demo", "--check")
    assert (ran.status, ran.err) == (0, "")
    rows = [line for line in ran.out.splitlines() if line.endswith(" ok")]
    assert len(rows) == 2 * NUMBER
    assert sum(row.startswith("Starlette ") for row in rows) == sum(row.startswith("Bottle ") for row in rows)
    assert ran.out.splitlines()[-1] == f"{2 * NUMBER} of {2 * NUMBER} answers are as expected"


def test_check_sees_what_is_wrong(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is not as expected is shown beside what was expected, and the status is 1."""

    def wrong(**tokens: str) -> list[Case]:
        right = cases(**tokens)
        return [right[0]._replace(status=403, code="forbidden"), right[1]]

    monkeypatch.setattr(_demo, "cases", wrong)
    ran = run("demo", "--check")
    assert ran.status == 1
    (row,) = [line for line in ran.out.splitlines() if line.startswith("Bottle") and line.endswith("FAIL")]
    assert row.split() == ["Bottle", "a", "public", "page", "403", "forbidden", "200", "FAIL"]
    assert ran.out.splitlines()[-1] == "2 of 4 answers are as expected"


@pytest.mark.parametrize("failure", [ConnectionResetError(), http.client.BadStatusLine(""), ValueError()])
def test_check_survives_a_broken_answer(run: Runs, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def broken(_self: http.client.HTTPConnection) -> None:
        raise failure

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", broken)
    ran = run("demo", "--check")
    assert (ran.status, ran.err) == (1, "")
    assert type(failure).__name__ in ran.out
    assert ran.out.splitlines()[-1] == f"0 of {2 * NUMBER} answers are as expected"


def curl(line: str) -> list[tuple[int, str]]:
    """Send what a ``curl`` line says, and return the statuses and codes of the answers."""
    words = shlex.split(line)
    assert words[:2] == ["curl", "-i"]
    headers = [words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H"]
    urls = [urlsplit(word) for word in words if word.startswith("http://127.0.0.1:")]
    assert len(words) == 2 + 2 * len(headers) + len(urls)
    answers = []
    for url in urls:
        connection = http.client.HTTPConnection(url.netloc, timeout=30)
        connection.putrequest("GET", url.path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        answers.append((response.status, json.loads(response.read()).get("code", "")))
        connection.close()
    return answers


def lines_to_paste(out: str) -> list[tuple[str, str]]:
    """Return the expectation above each ``curl`` line, and the line."""
    lines = out.splitlines()
    return [(lines[at - 1].rpartition(": ")[2], line) for at, line in enumerate(lines) if line.startswith("curl ")]


def test_lines_to_paste_do_what_they_say(
    run: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the demo waits, each line brings from both apps what stands above it."""
    sent = []

    def wait() -> None:
        for expected, line in lines_to_paste(capsys.readouterr().out):
            answers = curl(line)
            sent.append(expected)
            assert [f"{status} {code}".strip() for status, code in answers] == [expected, expected]

    monkeypatch.setattr(_demo, "_wait", wait)
    assert run("demo").status == 0
    assert len(sent) == NUMBER
    assert {"200", "401 missing_token", "401 expired_token", "403 forbidden"} <= set(sent)


def test_tokens_and_addresses_are_shown(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo, "_wait", lambda: None)
    out = run("demo").out
    for name in ("Stack Auth", "Starlette", "Bottle", "normal", "restricted", "anonymous", "expired"):
        assert f"\n{name}" in f"\n{out}"
    assert len([line for line in out.splitlines() if line.startswith("eyJ") and line.count(".") == 2]) == 4


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "bottle"])
def test_missing_extra(run: Runs, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(_demo, "find_spec", lambda name: None if name == missing else object())
    ran = run("demo")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        f"stackauth-middleware: error: the demo needs {missing}: pip install 'stackauth-middleware[demo]'\n"
    )


def test_waits_for_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """It wakes up now and then, goes on waiting, and takes Ctrl-C for the end and not for an error."""
    waits = iter([False, False])

    class Never:
        def wait(self, _seconds: float) -> bool:
            try:
                return next(waits)
            except StopIteration:
                raise KeyboardInterrupt from None

    monkeypatch.setattr("threading.Event", Never)
    _demo._wait()
    assert next(waits, None) is None


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """Heed it here, and so in what is started: a shell has its jobs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_as_a_process_until_ctrl_c(heeding_ctrl_c: None) -> None:
    """Ctrl-C ends the process with status 0, and its ports are closed."""
    command = [sys.executable, "-u", "-m", "stackauth_middleware", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            out = ""
            for line in process.stdout:
                out += line
                if line.startswith("Ctrl-C"):
                    break
            expected, line = lines_to_paste(out)[1]
            assert curl(line) == [(200, ""), (200, "")]
            assert expected == "200"
            process.send_signal(signal.SIGINT)
            rest, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, rest, err) == (0, "", "")
    with pytest.raises(ConnectionError):
        curl(line)
