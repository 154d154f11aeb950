"""Sentry: what the real SDK would send of a failed request holds no credential."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import sentry_sdk
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware
from sentry_sdk.transport import Transport

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware
from stackauth_middleware.contrib.sentry import FILTERED, scrub
from stackauth_middleware.testing import LocalStackAuth

from .cases import PROJECT

REFRESH = "zygczc5kh5q3wyjvas99g99719t2zwfh2esvtv1ng9wk0"
KEY = "ssk_0123456789abcdefghjkmnpqrstvwxyz"


class Kept(Transport):
    """Keeps envelopes in the form in which they would be sent."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.sent: list[str] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.sent.append(envelope.serialize().decode())


@pytest.fixture
def sentry(request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Start the SDK with all that an event can hold, and the hooks of the test's parameter."""
    transport = Kept()
    logs = LoggingIntegration(level=logging.DEBUG, event_level=logging.WARNING)
    sentry_sdk.init(
        dsn="http://key@localhost/1",
        transport=transport,
        send_default_pii=True,
        attach_stacktrace=True,
        traces_sample_rate=1.0,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[logs],
        max_value_length=100_000,
        **request.param,
    )
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


HOOKS = {"before_send": scrub, "before_send_transaction": scrub, "before_breadcrumb": scrub}


def failing(headers: Any) -> None:
    token = headers.get("x-stack-access-token")
    logging.getLogger("app").warning("about to fail with %s and %s", token, KEY)
    raise LookupError(f"nothing for {token}")


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    failing({name.decode(): value.decode() for name, value in scope["headers"]})


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    failing({name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name[:5] == "HTTP_"})
    return []


def asgi(config: StackAuthConfig, headers: dict[str, str]) -> None:
    import anyio

    app: Any = SentryAsgiMiddleware(StackAuthASGIMiddleware(asgi_app, config))

    async def request() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            await client.get("/", headers=headers)

    anyio.run(request)


def wsgi(config: StackAuthConfig, headers: dict[str, str]) -> None:
    app: Any = SentryWsgiMiddleware(StackAuthWSGIMiddleware(wsgi_app, config))
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://test") as client:
        client.get("/", headers=headers)


@pytest.mark.filterwarnings("ignore:The send_default_pii option is deprecated")
@pytest.mark.parametrize("ask", [asgi, wsgi])
@pytest.mark.parametrize(
    ("sentry", "clean"), [(HOOKS, True), ({}, False)], indirect=["sentry"], ids=["scrubbed", "plain"]
)
def test_sent_events_hold_no_credential(
    ask: Callable[..., None], sentry: Kept, clean: bool, stackauth: LocalStackAuth
) -> None:
    config = StackAuthConfig(project_id=PROJECT)
    token = stackauth.token()
    both = json.dumps({"accessToken": token, "refreshToken": REFRESH})
    headers = {
        "x-stack-access-token": token,
        "x-stack-auth": both,
        "authorization": f"Bearer stackauth_{base64.b64encode(both.encode()).decode()}",
        "cookie": f"stack-refresh={REFRESH}; other=1",
        "x-request-id": "request-7",
    }
    with pytest.raises(LookupError):
        ask(config, headers)
    sentry_sdk.flush()
    sent = "".join(sentry.sent)
    assert all(kept in sent for kept in ("LookupError", "about to fail with", "request-7", "transaction"))
    secrets = [*token.split(".")[1:], REFRESH, KEY, base64.b64encode(both.encode()).decode()]
    assert [secret for secret in secrets if secret in sent] == ([] if clean else secrets)


HIDDEN: list[Any] = [
    {"HTTP_X_STACK_ACCESS_TOKEN": "a"},
    {"X-Hexclave-Auth": "a"},
    {"headers": [["b'x-stack-secret-server-key'", "b'a'"]]},
    {"cookies": {"a": "a"}},
    {"accessToken": "a"},
    {"refresh_token": "a"},
    {"STACK_SECRET_SERVER_KEY": "a"},
    (["Cookie", "a"],),
]
SHOWN: list[Any] = [
    {"x-stack-project-id": "a", "refresh_token_id": "a", "task_id": "pk_id", "n": 1, "none": None},
    {"authorization": "", "hash": "0" * 40, "sha256": "0" * 64},
    ["authorization"],
    [["a", "b"], [1, 2], ["authorization", "b", "c"]],
    "eyJhbGci",
]


@pytest.mark.parametrize("event", HIDDEN, ids=str)
def test_values_are_removed_by_name(event: Any) -> None:
    again = str(scrub(event))
    assert FILTERED in again
    assert "'a'" not in again.replace("{'a'", "")


@pytest.mark.parametrize("event", SHOWN, ids=str)
def test_other_values_stay(event: Any) -> None:
    assert scrub(event, {}) == event
