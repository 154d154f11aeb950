"""Keys and tokens appear in no log record, exception, repr, or traceback with local variables."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import logging
import pprint
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import pytest

import stackauth_middleware
from stackauth_middleware import (
    AsyncVerifier,
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthError,
    StackAuthWSGIMiddleware,
    Verifier,
    aload_profile,
    get_user,
    load_profile,
)
from stackauth_middleware._core import flow as flow_module
from stackauth_middleware._core import profiles
from stackauth_middleware._core.flow import Flow
from stackauth_middleware._core.outcome import Authenticated
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.upstream import Call, Reply
from stackauth_middleware._io import network
from stackauth_middleware._io.async_runner import AsyncRunner
from stackauth_middleware._io.sync_runner import SyncRunner
from tests.unit.io.loopback import BACKENDS, Backend, Exchange

from .sites import Answer, Kind, Site, both_middlewares, every_runner
from .upstream import SECRET, Upstream

OURS = str(Path(stackauth_middleware.__file__).parent)
TESTS = str(Path(__file__).parents[1])
REFRESH = "refresh-canary-0123456789abcdefghijklmnopqrst"


class Canaries:
    """Secrets, and a search for them."""

    def __init__(self) -> None:
        self.secrets = {SECRET, REFRESH}

    def token(self, token: str) -> str:
        """Add `token`: whole, in its parts, and decoded. Its claims are no secret."""
        signature = token.rpartition(".")[2]
        octets = base64.urlsafe_b64decode(signature + "==")
        self.secrets |= {token, signature, signature[:30], signature[-30:], repr(octets)[2:40], octets.hex()}
        return token

    def both(self, token: str) -> dict[str, str]:
        """Return the token source with the refresh token too."""
        text = json.dumps({"accessToken": self.token(token), "refreshToken": REFRESH})
        self.secrets.add(base64.b64encode(text.encode()).decode())
        return {"x_stack_auth": text}

    def absent(self, text: object, where: str = "") -> None:
        text = str(text)
        found = [text.index(each) for each in self.secrets if each in text]
        assert not found, f"{where}: {text[max(0, found[0] - 1000) : found[0] + 20]}"

    def absent_from_error(self, error: BaseException) -> None:
        """Search an exception and all that it refers to, except the variables of the tests.

        Nor for a scope or environ: it is the server's, and stands in frames further out with the client's headers.
        """
        for each in _chain(error):
            self.absent(each, "str")
            self.absent(repr(each), "repr")
            self.absent(vars(each), "attributes")
            rendered = traceback.TracebackException(type(each), each, _less(each.__traceback__), capture_locals=True)
            for frame in rendered.stack:
                for name, value in (frame.locals or {}).items():
                    if name not in ("scope", "environ", "obj"):
                        self.absent(value, f"{name} in {frame.name} of {frame.filename}")


def _chain(error: BaseException) -> list[BaseException]:
    """Return `error` with every cause and context, suppressed ones too, and the members of groups."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in chain:
            chain.append(each)
            waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return chain


def _less(tb: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames of the tests, whose variables hold secrets."""
    if tb is None:
        return None
    inner = _less(tb.tb_next)
    if tb.tb_frame.f_code.co_filename.startswith(TESTS):
        return inner
    return TracebackType(inner, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)


@pytest.fixture
def canaries(caplog: pytest.LogCaptureFixture) -> Iterator[Canaries]:
    """Capture the records of all loggers at DEBUG, with exceptions, and search them at the end."""
    planted = Canaries()
    caplog.set_level(logging.DEBUG)
    names = ("urllib3", "httpx", "httpcore", "asyncio", "stackauth_middleware", "requests", "hpack", "anyio")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield planted
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
    records = caplog.get_records("call")
    assert records
    said = [f"{record.getMessage()} { ({**vars(record), 'exc_info': None}) }" for record in records]
    planted.absent("\n".join(dict.fromkeys(said)), "log")
    for record in records:
        if record.exc_info and record.exc_info[1]:
            planted.absent_from_error(record.exc_info[1])


def tokens_of_every_kind(up: Upstream, canaries: Canaries) -> list[str]:
    """Return a valid token, and tokens that are refused, each by another check."""
    user = up.local.users.create()
    deleted = up.local.users.create()
    made = [
        up.token(user),
        up.token(deleted),
        up.token(user, key="foreign"),
        up.token(user, kid="unknown"),
        up.token(user, expires_in=-60),
        up.token(user, project_id="11111111-2222-4333-8444-555555555555"),
        up.token(user, branch_id="dev"),
        up.token(user, is_restricted=True),
        up.token(user, user_type="anonymous"),
        up.token(user, user_type="restricted"),
        up.token(user, header={"alg": "none"}),
        up.token(user, header={"crit": ["x"]}),
        up.token(user) + "AA",
        "x" + up.token(user),
    ]
    up.local.users.delete(deleted.id)
    return [canaries.token(token) for token in made]


def malformed(canaries: Canaries, token: str) -> list[dict[str, str]]:
    """Return headers with a malformed token source, and the secrets in them."""
    good = canaries.both(token)["x_stack_auth"]
    return [
        {"x_stack_auth": good[:-1]},
        {"x_stack_auth": good + good},
        {"x_stack_auth": good.replace("accessToken", "refreshToken")},
        {"x_stack_auth": f'["{token}", "{REFRESH}"]'},
        {"x_stack_auth": good.replace(f'"{token}"', "1")},
        {"authorization": "Bearer stackauth_" + base64.b64encode(good.encode()).decode()[:-3]},
        {"authorization": f"Bearer {token}, Bearer {token}"},
        {"x_stack_access_token": f"{token},{token}"},
        {"x_stack_access_token": token, "x_hexclave_access_token": token},
        {"x_stack_access_token": REFRESH},
        {"x_stack_access_token": SECRET},
        {"x_stack_access_token": token + "é"},
        {"x_stack_access_token": token * 20},
    ]


def no_http(exchange: Exchange) -> None:
    exchange.send("SSH-2.0-OpenSSH\r\n\r\n")
    exchange.close()


def echo_with_a_code(exchange: Exchange) -> None:
    exchange.reply({**exchange.headers, "code": exchange.headers["x-stack-access-token"]}, 401)


TROUBLES: dict[str, Callable[[Exchange], None]] = {
    "none": lambda exchange: None,
    "500": lambda exchange: exchange.reply(exchange.headers["x-stack-access-token"].encode(), 500),
    "reset": lambda exchange: exchange.reset(),
    "no HTTP": no_http,
    "an echo": lambda exchange: exchange.reply(exchange.headers),
    "an echo with a code": echo_with_a_code,
    "our key": lambda exchange: exchange.reply({"code": "INVALID_SECRET_SERVER_KEY", "error": SECRET}, 401),
}


@every_runner
@pytest.mark.parametrize("trouble", TROUBLES)
def test_secrets_do_not_leak_from_the_middleware(trouble: str, kind: Kind, up: Upstream, canaries: Canaries) -> None:
    """Every outcome and every failure, also if Stack Auth repeats what it was sent."""
    if trouble != "none":
        up.me = TROUBLES[trouble]
    tokens = tokens_of_every_kind(up, canaries)
    answers: list[Answer] = []
    with Site(kind, up.config(observers=[lambda event: canaries.absent(repr(event), "event")])) as site:
        for token in tokens:
            answers += [site.ask(token), site.ask(**canaries.both(token)), site.ask(token, "/fresh")]
        answers += [site.ask(**headers) for headers in malformed(canaries, tokens[0])]
    for answer in answers:
        canaries.absent(answer, "answer")


@pytest.mark.parametrize("trouble", ["none", "500", "our key"])
def test_secrets_do_not_leak_from_a_verifier(trouble: str, up: Upstream, canaries: Canaries) -> None:
    """Exceptions pass through the caller's code, which may print the variables of every frame."""
    if trouble != "none":
        up.me = TROUBLES[trouble]
    tokens = tokens_of_every_kind(up, canaries)
    raised = 0
    with Verifier(up.config()) as verifier:
        for ask in (verifier.verify, verifier.profile):
            for token in [*tokens, *tokens]:
                try:
                    canaries.absent(repr(ask(token)), "result")
                except StackAuthError as error:
                    canaries.absent_from_error(error)
                    raised += 1
        for headers in malformed(canaries, tokens[0]):
            try:
                verifier.authenticate({name.replace("_", "-"): value for name, value in headers.items()})
            except StackAuthError as error:
                canaries.absent_from_error(error)
                raised += 1
    assert raised > 50


@pytest.mark.parametrize("backend", BACKENDS)
def test_secrets_do_not_leak_from_an_async_verifier(backend: Backend, up: Upstream, canaries: Canaries) -> None:
    tokens = tokens_of_every_kind(up, canaries)
    raised = 0

    async def main() -> None:
        nonlocal raised
        async with AsyncVerifier(up.config()) as verifier:
            for ask in (verifier.verify, verifier.profile):
                for token in [*tokens, *tokens]:
                    try:
                        canaries.absent(repr(await ask(token)), "result")
                    except StackAuthError as error:
                        canaries.absent_from_error(error)
                        raised += 1
            for headers in malformed(canaries, tokens[0]):
                try:
                    await verifier.authenticate({name.replace("_", "-"): value for name, value in headers.items()})
                except StackAuthError as error:
                    canaries.absent_from_error(error)
                    raised += 1

    anyio.run(main, backend=backend)
    assert raised > 50


def failing_with(up: Upstream, trouble: str) -> None:
    if trouble == "deleted":
        up.me = lambda exchange: exchange.reply({"code": "CANNOT_GET_OWN_USER_WITHOUT_USER", "error": "words"}, 400)
    else:
        up.me = TROUBLES[trouble]


@pytest.mark.parametrize("trouble", ["500", "reset", "our key", "deleted"])
def test_secrets_do_not_leak_from_an_exception_of_the_handler(trouble: str, up: Upstream, canaries: Canaries) -> None:
    """The exception of `load_profile` passes the app and the middleware to the server, which may render it."""
    failing_with(up, trouble)
    token = canaries.token(up.token())
    config = up.config(mode="jwt")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        load_profile(environ)
        return []

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_STACK_ACCESS_TOKEN": token}
    with Verifier(config), pytest.raises(StackAuthError) as raised:
        StackAuthWSGIMiddleware(app, config=config)(environ, lambda *_: None)
    canaries.absent_from_error(raised.value)

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        await aload_profile(scope)

    async def main() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-stack-access-token", token.encode())]}
        with pytest.raises(StackAuthError) as raised:
            await StackAuthASGIMiddleware(asgi_app, config=config)(scope, lambda: asyncio.sleep(0), asyncio.sleep)
        canaries.absent_from_error(raised.value)
        await AsyncVerifier(config).aclose()

    asyncio.run(main())


class Tracker(logging.Handler):
    """Records the variables of every frame in which an error is logged, as error trackers do.

    Attributes:
        ours: what it found in the frames of the package.
        records: what hangs on each `Call` and `Reply` among it.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.ours: list[str] = []
        self.records: dict[type, list[str]] = {Call: [], Reply: []}

    def emit(self, record: logging.LogRecord) -> None:
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.startswith(OURS):
                self.ours.append(self._written(dict(frame.f_locals)))
            frame = frame.f_back

    def _written(self, value: object, depth: int = 0) -> str:
        if depth > 5 or isinstance(value, str | bytes):
            text = repr(value)
        elif isinstance(value, Mapping):
            text = str([(self._written(k, depth + 1), self._written(v, depth + 1)) for k, v in value.items()])
        elif isinstance(value, Sequence):
            text = str([self._written(each, depth + 1) for each in value])
        else:
            text = repr(value)
        if isinstance(value, Call | Reply):
            self.records[type(value)].append(text)
        return text


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    tracker = Tracker()
    logger = logging.getLogger("stackauth_middleware")
    logger.addHandler(tracker)
    yield tracker
    logger.removeHandler(tracker)


@every_runner
def test_secrets_do_not_leak_to_an_error_tracker(
    kind: Kind, up: Upstream, canaries: Canaries, tracker: Tracker
) -> None:
    """The call and its reply hold key and token, and are local variables where an error is logged."""
    up.me = lambda exchange: exchange.reply({**exchange.headers, "code": "INVALID_SECRET_SERVER_KEY"}, 401)
    token = canaries.token(up.token())
    with Site(kind, up.config()) as site:
        assert site.ask(token).status == 500
    assert len(up.calls) == 1
    for tracker_type, written in tracker.records.items():
        assert written, tracker_type
        canaries.absent(written, tracker_type.__name__)
    assert SECRET not in "".join(tracker.ours)
    canaries.absent("".join(tracker.ours), "frames of the package")


@every_runner
@pytest.mark.parametrize("mode", ["jwt", "rest"])
def test_secrets_do_not_leak_to_an_error_tracker_in_hooks(
    mode: str, kind: Kind, up: Upstream, canaries: Canaries, tracker: Tracker
) -> None:
    """A check that logs an error, and an event hook that raises, are called from frames of the package."""

    def check(user: Any) -> bool:
        logging.getLogger("stackauth_middleware").error("an error that a check logs")
        return True

    def raising(event: Any) -> Any:
        raise ZeroDivisionError("an observer")

    token = up.token()
    settings: dict[str, Any] = {"mode": mode, "rules": [Rule("/**", check=check)], "observers": [raising]}
    with Site(kind, up.config(**settings)) as site:
        assert site.ask(**canaries.both(token)).status == 200
        assert site.ask(**canaries.both(token)).status == 200
    assert len(tracker.ours) > 10
    canaries.absent("".join(tracker.ours), "frames of the package")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("where", ["before the answer", "in the answer"])
def test_secrets_do_not_leak_from_a_cancelled_handler(
    where: str, backend: Backend, up: Upstream, canaries: Canaries
) -> None:
    """A cancellation passes through the HTTP client, whose frames hold the headers."""
    token = canaries.token(up.token())

    def me(exchange: Exchange) -> None:
        if where == "in the answer":
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        exchange.hold()

    caught: list[BaseException] = []

    async def main() -> None:
        async with AsyncVerifier(up.config()) as verifier:
            await verifier.prefetch_keys()
            up.me = me
            with anyio.move_on_after(0.05):
                try:
                    await verifier.profile(token)
                except BaseException as error:
                    caught.append(error)
                    raise

    anyio.run(main, backend=backend)
    (error,) = caught
    assert any(OURS in each.filename for each in traceback.extract_tb(error.__traceback__))
    canaries.absent_from_error(error)


def test_secrets_do_not_leak_from_interrupted_threads(
    up: Upstream, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gunicorn does with a slow worker, and gevent with a timeout: an exception at any point."""
    token = canaries.token(up.token())
    with Verifier(up.config()) as verifier:
        verifier.verify(token)

        def stopped(*args: Any, **kwargs: Any) -> Any:
            raise SystemExit(1)

        monkeypatch.setattr("http.client.HTTPConnection.getresponse", stopped)
        with pytest.raises(SystemExit) as raised:
            verifier.profile(token, fresh=True)
    assert any(OURS in each.filename for each in traceback.extract_tb(raised.value.__traceback__))
    canaries.absent_from_error(raised.value)


@both_middlewares
@pytest.mark.parametrize("name", ["parse", "check_signature", "user_of", "extract", "enforce"])
def test_secrets_do_not_leak_from_an_internal_error(
    name: str, kind: Kind, up: Upstream, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged with its traceback, and the request is refused as a server error."""
    tokens = [canaries.token(token) for token in up.tokens(2)]

    def fails(*args: Any, **kwargs: Any) -> Any:
        held = args  # noqa: F841 - a variable with a token in it
        raise ZeroDivisionError("an error of our own")

    monkeypatch.setattr(flow_module, name, fails)
    with Site(kind, up.config()) as site:
        for token in tokens:
            assert site.ask(token).status == 503
            assert site.ask(**canaries.both(token)).status == 503


@both_middlewares
def test_secrets_do_not_leak_from_an_internal_error_in_the_call(
    kind: Kind, up: Upstream, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(config: StackAuthConfig, token: str, version: str) -> Any:
        headers = {"x": config.secret_server_key, "y": token}  # noqa: F841 - a variable with a secret in it
        raise ZeroDivisionError("an error of our own")

    monkeypatch.setattr(profiles, "call", fails)
    with Site(kind, up.config()) as site:
        assert site.ask(canaries.token(up.token())).status == 503


@both_middlewares
def test_hooks_that_raise(kind: Kind, up: Upstream, canaries: Canaries) -> None:
    def raising(*args: Any) -> Any:
        raise ZeroDivisionError("a hook")

    token = canaries.token(up.token())
    rules = [Rule("/check", check=raising)]
    with Site(kind, up.config(rules=rules, observers=[raising], error_body=raising)) as site:
        assert site.ask(token).status == 200
        assert site.ask(token, "/check").status == 403
        assert site.ask(canaries.token(up.token(key="foreign"))).status == 401


# -- what can be shown --------------------------------------------------------------------------------


def test_reprs(up: Upstream, canaries: Canaries) -> None:
    """Of all objects that a debugger, a log line or an error page may show."""
    token = canaries.token(up.token())
    config = up.config(publishable_client_key="pck_canary", secret_server_key=SECRET)
    canaries.secrets.add("pck_canary")
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(dict(environ))
        return []

    middleware = StackAuthWSGIMiddleware(app, config=config)
    with Verifier(config) as verifier:
        middleware({"REQUEST_METHOD": "GET", "HTTP_X_STACK_ACCESS_TOKEN": token}, lambda *_: None)
        (environ,) = seen
        del environ["HTTP_X_STACK_ACCESS_TOKEN"]
        user = get_user(environ)
        assert user is not None
        flow, runners = (
            config.get_or_create(Flow),
            (config.get_or_create(SyncRunner), config.get_or_create(AsyncRunner)),
        )
        request = RequestRecord("GET", "/", "", {"x-stack-access-token": token})
        authenticated = flow.authorize(request, network.clocks(), defer_refresh=True, in_event_loop=True)
        call = profiles.call(config, token)
        assert isinstance(call, Call)
        things = [
            config,
            middleware,
            verifier,
            flow,
            *runners,
            user,
            user.profile,
            environ,
            request,
            authenticated,
            call,
        ]
        for thing in [*things, vars(flow), vars(middleware), vars(verifier), *environ.values(), up.local.sign_in()]:
            canaries.absent(repr(thing), "repr")
            canaries.absent(str(thing), "str")
            canaries.absent(f"{thing}", "format")
            canaries.absent(pprint.pformat(thing), "pprint")
        assert isinstance(environ["stackauth.user"], type(user))
        canaries.absent(dataclasses.asdict(user), "asdict")
        canaries.absent(json.dumps(user.to_dict()), "JSON")
        assert not isinstance(authenticated, Authenticated)  # in rest mode it is a script until it is driven
        authenticated.close()


def test_the_names_of_threads_and_tasks(up: Upstream, canaries: Canaries) -> None:
    """Debuggers and log formats show them."""
    token = canaries.token(up.token())
    names: list[str] = []

    def me(exchange: Exchange) -> None:
        names.extend(each.name for each in threading.enumerate())
        exchange.reply(b"", 500)

    up.me = me
    with Verifier(up.config()) as verifier, pytest.raises(StackAuthError):
        verifier.profile(token)
    canaries.absent(names)
