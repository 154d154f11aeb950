"""The apps that servers import, bare and wrapped; which keys they fetch stands in the environment."""

from __future__ import annotations

import os

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
