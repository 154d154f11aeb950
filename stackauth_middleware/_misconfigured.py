"""Responses of a middleware with wrong settings that a framework constructs only when the server first calls the app.

`add_middleware` of Starlette and FastAPI keeps the arguments, and constructs the middleware in the first call, which is
the lifespan. If that call raises, uvicorn assumes that the app does not support lifespans, and serves it.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, NoReturn

from ._core.rate_limited_log import RateLimitedLog
from ._core.responses import close_code_of, default_body
from ._io.network import clocks
from .errors import ConfigError, ErrorCode, RefusalInfo

_CODE = ErrorCode.MISCONFIGURED
_log = RateLimitedLog(logging.ERROR)


def within_asgi_call() -> bool:
    """Return whether an ASGI call is under way in this thread: a coroutine with a variable ``scope`` is being run.

    It walks the stack, so call it only after an error.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_flags & inspect.CO_COROUTINE:
            scope = frame.f_locals.get("scope")
            if isinstance(scope, Mapping) and "type" in scope:
                return True
        frame = frame.f_back
    return False


async def fail(error: ConfigError, scope: Any, receive: Any, send: Any) -> NoReturn:
    """Answer an ASGI call with the failure, and raise it, so that it is in the server's log and fails a test.

    A lifespan fails, and with it the start of the server. A request is answered with 500; the body does not contain the
    message, which is for the operator. The message is also logged, since Daphne drops exceptions after a response.

    Raises:
        ConfigError: always.
    """
    kind = scope["type"]
    if kind != "lifespan":
        _log(clocks(), f"requests are answered with 500, since the settings of the middleware are wrong: {error}")
    if kind == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"ConfigError: {error}"})
    elif kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": close_code_of(_CODE.status)})
    elif kind == "http":
        body = json.dumps(default_body(_CODE, RefusalInfo("", ""))).encode("ascii")
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": _CODE.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope.get("method") == "HEAD" else body})
    raise ConfigError(str(error))  # a new exception: tasks that raise the same one would share its traceback
