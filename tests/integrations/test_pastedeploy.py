"""PasteDeploy: the filter in ini files, for Pyramid and for a bare WSGI app."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from paste.deploy import loadapp

from stackauth_middleware import ConfigError, StackAuthWSGIMiddleware, require_user
from stackauth_middleware.contrib.pastedeploy import filter_app_factory, filter_factory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports modules that are deprecated
    from pyramid.config import Configurator
    from pyramid.request import Request

PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
USER = "22222222-2222-4222-8222-222222222222"
HERE = __name__

FILTER = f"""
use = egg:stackauth-middleware{{entry}}
project_id = {PROJECT}
leeway = 2.5
cors_origins =
    https://a.example
    https://b.example
config = %(here)s/auth.toml
"""
PIPELINE = f"""
[app:shop]
paste.app_factory = {HERE}:{{app}}

[filter:auth]
{FILTER.format(entry="")}
[pipeline:main]
pipeline = auth shop
"""
FILTER_APP = f"""
[app:shop]
paste.app_factory = {HERE}:{{app}}

[filter-app:main]
next = shop
{FILTER.format(entry="#filter_app")}
"""


def bare(_global_conf: Any) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        public = environ["PATH_INFO"] == "/healthz"
        return [json.dumps({"user": None if public else require_user(environ).id}).encode()]

    return app


def pyramid(_global_conf: Any) -> Any:
    def view(request: Request) -> dict[str, Any]:
        return {"user": None if request.path == "/healthz" else require_user(request.environ).id}

    config = Configurator()
    config.add_route("any", "/*path")
    config.add_view(view, route_name="any", renderer="json")
    return config.make_wsgi_app()


def ask(app: Any, path: str, headers: dict[str, str]) -> tuple[int, Any]:
    environ: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    environ.update({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()})
    statuses: list[str] = []
    body = b"".join(app(environ, lambda status, _headers, _error=None: statuses.append(status)))
    return int(statuses[0][:3]), json.loads(body)


@pytest.mark.parametrize("app", ["bare", "pyramid"])
@pytest.mark.parametrize("text", [PIPELINE, FILTER_APP], ids=["pipeline", "filter-app"])
def test_app_is_behind_the_filter_of_an_ini_file(tmp_path: Path, stackauth: Any, text: str, app: str) -> None:
    (tmp_path / "auth.toml").write_text('leeway = 9\n[[rules]]\npath = "/healthz"\naccess = "public"')
    (tmp_path / "app.ini").write_text(text.format(app=app))
    loaded = loadapp(f"config:{tmp_path / 'app.ini'}")
    assert type(loaded) is StackAuthWSGIMiddleware
    assert (loaded._config.leeway, loaded._config.cors_origins) == (2.5, ("https://a.example", "https://b.example"))
    assert ask(loaded, "/healthz", {}) == (200, {"user": None})
    status, body = ask(loaded, "/me", {})
    assert (status, body["code"]) == (401, "missing_token")
    assert ask(loaded, "/me", stackauth.headers(sub=USER)) == (200, {"user": USER})


def test_apps_of_one_filter_share_their_config() -> None:
    wrap = filter_factory(None, project_id=PROJECT)
    assert wrap(bare({}))._config is wrap(bare({}))._config


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"leeway": "soon"}, "leeway (/srv/app.ini) is 'soon'; it must be a number"),
        ({"leeway": "400"}, "leeway (/srv/app.ini) is 400.0; it must be from 0 to 300 seconds"),
        ({"allow_http": ""}, "allow_http (/srv/app.ini) is ''; it must be true or false"),
        ({"leway": "1"}, "/srv/app.ini: 'leway' is no setting of an ini file; did you mean 'leeway'?"),
        ({"rules": "/a"}, "/srv/app.ini: 'rules' is no setting of an ini file; write it into a TOML file"),
        ({"qqqqqqqqqq": ""}, "/srv/app.ini: 'qqqqqqqqqq' is no setting of an ini file"),
        ({"config": "/no/such/file"}, "from_file names '/no/such/file'; there is no such file"),
    ],
    ids=str,
)
def test_wrong_text_is_an_error_with_the_name_of_the_file(texts: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        filter_app_factory(bare({}), {"__file__": "/srv/app.ini"}, **{"project_id": PROJECT, **texts})
    assert str(caught.value).startswith(message)
