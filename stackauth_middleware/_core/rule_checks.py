"""Checks of the arguments of a `Rule`. See `Check` for their form."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConfigError
from .paths import is_plain
from .policy import PERMISSION_ID
from .settings import is_list, plain_function

PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A segment of a rule's path that matches any segment and names it."""
_OTHER_PARAMETER = re.compile(r"\A:|[<>{}]")
"""Parameters in the syntax of Express, Flask and others."""
_REGISTRY = """
    ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR
    MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PRI PROPFIND PROPPATCH PUT QUERY REBIND REPORT
    SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL WEBSOCKET
"""
"""The IANA HTTP Method Registry, and WEBSOCKET."""
_METHODS = frozenset(_REGISTRY.split())


def path(name: str, value: Any) -> str:
    """Check that a plain path can match the pattern `value`, and that its parameters are in our syntax."""
    if not isinstance(value, str) or not is_plain(value):
        raise ConfigError(
            f"{name} is {value!r}; it must start with '/' and be decoded NFC text without empty or dot "
            "segments, spaces at the ends of segments, control characters and \\ ; # ? %"
        )
    segments = value.removesuffix("/**").split("/")
    if any("**" in each for each in segments):
        raise ConfigError(f"{name} is {value!r}; '**' may only be its last segment, as in '/users/**'")
    if any("*" in each and each != "*" for each in segments):
        raise ConfigError(f"{name} is {value!r}; '*' stands for one whole segment, as in '/users/*'")
    parameters = [each for each in segments if PARAMETER.fullmatch(each)]
    others = (each for each in segments if each not in parameters)
    if any(map(_OTHER_PARAMETER.search, others)) or len(set(parameters)) < len(parameters):
        raise ConfigError(
            f"{name} is {value!r}; a parameter is one whole segment with its own name, as in '/users/{{id}}'"
        )
    return value


def methods(name: str, value: Any) -> frozenset[str] | None:
    """Check that `value` names registered methods. The final form is in upper case, and has HEAD if it has GET."""
    if value is None:
        return None
    named = is_list(value) and all(isinstance(each, str) and each.upper() in _METHODS for each in value)
    if not named or not value:
        raise ConfigError(
            f"{name} is {value!r}; it must be a list of registered methods such as ['GET', 'POST'], or 'WEBSOCKET'"
        )
    upper = {each.upper() for each in value}
    return frozenset(upper | {"HEAD"} if "GET" in upper else upper)


def function_or_none(name: str, value: Any) -> Any:
    """Check that `value` is a plain function or None."""
    return None if value is None else plain_function(name, value)


def permission_or_none(name: str, value: Any) -> str | None:
    """Check that `value` is the id of a permission or None."""
    return None if value is None else permission_id(name, value)


def permission_id(name: str, value: Any) -> str:
    """Check that `value` has the form of the id of a permission."""
    if not isinstance(value, str) or not PERMISSION_ID.fullmatch(value):
        raise ConfigError(
            f"{name} is {value!r}; it must be the id of a permission: lower-case letters, digits, ':' and '_', with a "
            "'$' before those that Stack Auth defines"
        )
    return value


def name_or_none(name: str, value: Any) -> str | None:
    """Check that `value` is the name of a segment or None."""
    if value is None or (isinstance(value, str) and PARAMETER.fullmatch(f"{{{value}}}")):
        return value
    raise ConfigError(f"{name} is {value!r}; it must be the name of a segment of its path, as in '/teams/{{team_id}}'")


def key_types_or_none(name: str, value: Any) -> frozenset[str] | None:
    """Check that `value` is a collection of types of API keys or None."""
    return None if value is None else key_types(name, value)


def key_types(name: str, value: Any) -> frozenset[str]:
    """Check that `value` is a collection of types of API keys. The final form is a frozenset."""
    if not is_list(value) or not all(each in ("user", "team") for each in value):
        raise ConfigError(f"{name} is {value!r}; it must be a list with 'user', 'team' or both, or empty")
    return frozenset(value)
