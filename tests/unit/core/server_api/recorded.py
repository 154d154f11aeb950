"""What the real server answered to calls with server access, and a way to send requests to it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stackauth_middleware import StackAuthConfig
from stackauth_middleware._core.api import MISCONFIGURED
from stackauth_middleware._core.server_api.errors import ApiError
from stackauth_middleware._core.server_api.perform import perform
from stackauth_middleware._core.server_api.request import Request, Steps
from stackauth_middleware._core.upstream import Answer, Call, Reply
from tests.data import load_recorded
from tests.unit.core.helpers import PROJECT, Clock, FakeRunner, reply

RECORDED: dict[str, Any] = {each["name"]: each for each in load_recorded("server-api")}
MISCONFIGURED_NAMES = {
    name
    for name, each in RECORDED.items()
    if isinstance(each["response"]["body"], dict) and each["response"]["body"].get("code") in MISCONFIGURED
}
KEY = "ssk_canary"
JSON = {"content_type": "application/json; charset=utf-8", "x_stack_request_id": "1"}
TEXT = {"content_type": "text/plain; charset=utf-8", "x_stack_request_id": "1"}


def reply_to(name: str) -> Reply:
    """Return the recorded reply of this name."""
    response = RECORDED[name]["response"]
    body = response["body"]
    data = body.encode() if isinstance(body, str) else json.dumps(body, indent=2).encode()
    return Reply(response["status"], response["headers"], data)


def known(code: str, status: int, error: object = "words", **headers: str) -> Reply:
    """Return an error with a code, as Stack Auth sends it (docs/stack-auth.md section 6)."""
    return reply({"code": code, "error": error}, status, **JSON, **headers)


def sent_of(call: Call) -> tuple[str, str, list[tuple[str, str]], Any]:
    """Return method, path, query and JSON body of a call, to be compared with `recorded_request`."""
    return _split(call.method, call.url, json.loads(call.body) if call.body else None)


def recorded_request(name: str) -> tuple[str, str, list[tuple[str, str]], Any]:
    """Return method, path, query and JSON body of a recorded request."""
    request = RECORDED[name]["request"]
    return _split(request["method"], request["path"], request["body"])


def _split(method: str, url: str, body: Any) -> tuple[str, str, list[tuple[str, str]], Any]:
    parts = urlsplit(url)
    return method, parts.path, sorted(parse_qsl(parts.query, keep_blank_values=True)), body


class Server:
    """Answers requests, and keeps the calls that were sent.

    Args:
        answers: one after the other; the last one again and again.
    """

    def __init__(self, *answers: Answer | Callable[[Call], Answer]) -> None:
        self.config = StackAuthConfig(project_id=PROJECT, secret_server_key=KEY)
        self.clock = Clock()
        self.calls: list[Call] = []
        self._answers = list(answers)
        self.runner = FakeRunner(self.clock, self._answer)

    def _answer(self, call: Call) -> Answer:
        self.calls.append(call)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer(call) if callable(answer) else answer

    def send(self, request: Request[Any]) -> Any:
        """Return the result of a request, or raise what `perform` raises."""
        return self.runner(perform(self.config, request, self.clock.now))

    def send_all(self, steps: Steps[Any]) -> Any:
        """Return the result of several requests."""
        try:
            request = next(steps)
            while True:
                try:
                    result = self.send(request)
                except ApiError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(result)
        except StopIteration as stop:
            return stop.value

    @property
    def sent(self) -> list[tuple[str, str, list[tuple[str, str]], Any]]:
        return [sent_of(call) for call in self.calls]
