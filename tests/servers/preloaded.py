"""For ``gunicorn --preload``: the master fetches keys and verifies a token before it forks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from typing import Any

from stackauth_middleware import StackAuthConfig, StackAuthWSGIMiddleware, Verifier, require_user

auth = StackAuthConfig(allow_restricted=True)
master = os.getpid()
first = Verifier(auth).verify(os.environ["FIRST_TOKEN"])


def _app(environ: Any, start_response: Any) -> Iterable[bytes]:
    time.sleep(0.05)  # the other workers are to get something too
    told = {"id": require_user(environ).id, "pid": os.getpid(), "master": master, "first": first.id}
    body = json.dumps(told).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


application = StackAuthWSGIMiddleware(_app, auth)
