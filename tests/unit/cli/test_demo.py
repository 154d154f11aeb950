"""``demo``: what it prints, ``--check`` over real sockets, and its end."""

from __future__ import annotations

import http.client
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import pytest

from stackauth_middleware import Verifier
from stackauth_middleware._cli import _demo
from stackauth_middleware._cli._demo_apps import Case, cases, with_variants
from tests.unit.cli.ask import Runs


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(2)
        assert not thread.is_alive()


NUMBER = len(cases(**with_variants(normal="a.b.c", restricted="d.e.f", anonymous="", expired="")))


def test_check_sends_all_requests_to_both_apps(run: Runs) -> None:
    ran = run("demo", "--check")
    assert (ran.status, ran.err) == (0, "")
    checks = [line for line in ran.out.splitlines() if line.endswith(" ok")]
    assert len(checks) == 2 * NUMBER
    assert sum(check.startswith("Starlette ") for check in checks) == sum(
        check.startswith("Bottle ") for check in checks
    )
    assert ran.out.splitlines()[-1] == f"{2 * NUMBER} of {2 * NUMBER} responses are as expected"


def test_check_reports_unexpected_responses(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:

    def wrong(**tokens: str) -> list[Case]:
        right = cases(**tokens)
        return [right[0]._replace(status=403, code="forbidden"), right[1]]

    monkeypatch.setattr(_demo, "cases", wrong)
    ran = run("demo", "--check")
    assert ran.status == 1
    (check,) = [line for line in ran.out.splitlines() if line.startswith("Bottle") and line.endswith("FAIL")]
    assert check.split() == ["Bottle", "a", "public", "page", "403", "forbidden", "200", "FAIL"]
    assert ran.out.splitlines()[-1] == "2 of 4 responses are as expected"


@pytest.mark.parametrize("failure", [ConnectionResetError(), http.client.BadStatusLine(""), ValueError()])
def test_check_reports_a_failed_request(run: Runs, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def broken(_self: http.client.HTTPConnection) -> None:
        raise failure

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", broken)
    ran = run("demo", "--check")
    assert (ran.status, ran.err) == (1, "")
    assert type(failure).__name__ in ran.out
    assert ran.out.splitlines()[-1] == f"0 of {2 * NUMBER} responses are as expected"


def variables(out: str) -> dict[str, str]:
    """Return the shell variables that the printed file sets."""
    (path,) = [line.removeprefix(". ") for line in out.splitlines() if line.startswith(". ")]
    (name,) = shlex.split(path)
    return dict(line.split("=", 1) for line in Path(name).read_text().splitlines())


def curl(line: str, tokens: dict[str, str]) -> list[tuple[int, str]]:
    """Send the requests of a ``curl`` command. Return status and code of each response."""
    words = [Template(word).substitute(tokens) for word in shlex.split(line)]
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


def commands(out: str) -> list[tuple[str, str]]:
    """Return the expected response above each ``curl`` command, and the command."""
    lines = out.splitlines()
    return [(lines[at - 1].rpartition(": ")[2], line) for at, line in enumerate(lines) if line.startswith("curl ")]


def test_printed_commands_get_the_printed_responses(
    run: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []

    def wait() -> None:
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= 200
        for expected, line in commands(out):
            answers = curl(line, variables(out))
            sent.append(expected)
            assert [f"{status} {code}".strip() for status, code in answers] == [expected, expected]

    monkeypatch.setattr(_demo, "_wait", wait)
    assert run("demo").status == 0
    assert len(sent) == NUMBER
    assert {"200", "401 missing_token", "401 expired_token", "403 forbidden"} <= set(sent)


def test_printed_settings_connect_another_app(
    run: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An app that starts with the printed environment accepts the tokens of the demo."""
    users: list[str | None] = []

    def wait() -> None:
        out = capsys.readouterr().out
        with monkeypatch.context() as patch:
            for line in out.splitlines():
                if line.startswith("export "):
                    patch.setenv(*line.removeprefix("export ").split("=", 1))
            with Verifier(mode="rest") as verifier:
                users.append(verifier.verify(variables(out)["normal"]).email)

    monkeypatch.setattr(_demo, "_wait", wait)
    assert run("demo").status == 0
    assert users == ["jane@example.com"]


def test_token_file_is_removed_at_the_end(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo, "_wait", lambda: None)
    out = run("demo").out
    with pytest.raises(FileNotFoundError):
        variables(out)


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "bottle"])
def test_missing_extra_is_named(run: Runs, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(_demo, "find_spec", lambda name: None if name == missing else object())
    ran = run("demo")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        f"stackauth-middleware: error: the demo needs {missing}: pip install 'stackauth-middleware[demo]'\n"
    )


def test_waits_until_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
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
def default_sigint() -> Iterator[None]:
    """Restore the default handler, which child processes inherit: shells disable it in background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_ctrl_c_ends_the_process_and_closes_its_ports(default_sigint: None) -> None:
    command = [sys.executable, "-u", "-m", "stackauth_middleware", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            out = ""
            for line in process.stdout:
                out += line
                if line.startswith("Press Ctrl-C"):
                    break
            expected, line = commands(out)[1]
            tokens = variables(out)
            assert curl(line, tokens) == [(200, ""), (200, "")]
            assert expected == "200"
            process.send_signal(signal.SIGINT)
            rest, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, rest, err) == (0, "", "")
    with pytest.raises(ConnectionError):
        curl(line, tokens)
