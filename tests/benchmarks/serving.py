"""The apps that servers import, bare and wrapped; which keys they fetch stands in the environment."""

from __future__ import annotations

import os
from importlib.util import find_spec

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware

from .bench_middleware import snippet_asgi, snippet_wsgi
from .contenders import Snippet
from .drive import asgi_app, wsgi_app
from .material import PROJECT

_url = os.environ["BENCH_API_URL"]
_config = StackAuthConfig(project_id=PROJECT, api_url=_url)
_snippet = Snippet(f"{_url}/api/v1/projects/{PROJECT}/.well-known/jwks.json")

bare_asgi, bare_wsgi = asgi_app, wsgi_app
ours_asgi = StackAuthASGIMiddleware(asgi_app, _config)
ours_wsgi = StackAuthWSGIMiddleware(wsgi_app, _config)
theirs_asgi = snippet_asgi(asgi_app, _snippet)
theirs_wsgi = snippet_wsgi(wsgi_app, _snippet)

if find_spec("fastapi"):
    from fastapi import FastAPI

    from stackauth_middleware.contrib.fastapi import CurrentUser

    bare_fastapi, ours_fastapi = FastAPI(), FastAPI()
    theirs_fastapi = snippet_asgi(bare_fastapi, _snippet)
    ours_fastapi.add_middleware(StackAuthASGIMiddleware, config=_config)

    @bare_fastapi.get("/items/{item}")
    async def _without_user(item: int) -> dict[str, str]:
        return {"id": "42"}

    async def _with_user(item: int, user: CurrentUser) -> dict[str, str]:
        return {"id": user.user_id}

    ours_fastapi.get("/items/{item}")(_with_user)
