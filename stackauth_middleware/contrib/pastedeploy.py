"""PasteDeploy: the middleware as a filter of an ini file, for Pyramid's ``pserve`` and any WSGI app.

The entry point ``main`` is a ``paste.filter_factory``, and ``filter_app`` a ``paste.filter_app_factory``::

    [filter:auth]
    use = egg:stackauth-middleware
    mode = rest
    cors_origins =
        https://app.example.com
        https://admin.example.com

Values are written as in environment variables. The key ``config`` names a TOML file, for rules; a path such as
``%(here)s/auth.toml`` is relative to the ini file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._core.config import StackAuthConfig, typed_settings
from .._core.import_string import nearest
from .._core.readers import from_text
from .._core.settings import Given
from ..errors import ConfigError
from ..wsgi import StackAuthWSGIMiddleware

__all__ = ["filter_app_factory", "filter_factory"]

_CONFIG = "config"


def filter_factory(
    global_conf: Mapping[str, str] | None, **local_conf: str
) -> Callable[[Callable[..., Iterable[bytes]]], StackAuthWSGIMiddleware]:
    """Return a function that wraps a WSGI app in the middleware. The apps of one filter share its caches.

    Args:
        global_conf: the section ``[DEFAULT]``. Only the name of the ini file is read from it.
        local_conf: settings as text. What is not given is read from the environment and the TOML file.

    Raises:
        ConfigError: a setting is unknown, missing or wrong.

    Example::

        auth = filter_factory({}, config="auth.toml")
        application = auth(app)
    """
    config = _config((global_conf or {}).get("__file__", "ini file"), local_conf)
    return lambda app: StackAuthWSGIMiddleware(app, config)


def filter_app_factory(
    app: Callable[..., Iterable[bytes]], global_conf: Mapping[str, str] | None, **local_conf: str
) -> StackAuthWSGIMiddleware:
    """Return a WSGI app behind the middleware. Arguments and errors are those of `filter_factory`.

    Example::

        application = filter_app_factory(app, {}, config="auth.toml")
    """
    return filter_factory(global_conf, **local_conf)(app)


def _config(file: str, texts: Mapping[str, str]) -> StackAuthConfig:
    settings = typed_settings()
    given: dict[str, Any] = {}
    for name, text in texts.items():
        if name == _CONFIG:
            continue
        if name not in settings or not settings[name].variables:
            known = [each.field.name for each in settings.values() if each.variables]
            similar = nearest(name, [*known, _CONFIG])
            hint = f"write it into a TOML file and name that in {_CONFIG}" if name in settings else ""
            hint = hint or (f"did you mean {similar!r}?" if similar else "")
            raise ConfigError(f"{file}: {name!r} is no setting of an ini file" + (f"; {hint}" if hint else ""))
        given[name] = Given(from_text(settings[name].hint, text, f"{name} ({file})"), file)
    if _CONFIG in texts:
        return StackAuthConfig.from_file(texts[_CONFIG], **given)
    return StackAuthConfig(**given)
