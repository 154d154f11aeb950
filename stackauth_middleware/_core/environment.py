"""Settings in environment variables. No other module of the core reads them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from ..errors import ConfigError
from .files import read_text
from .import_string import nearest
from .readers import can_be_text, from_text
from .settings import OWN, PRIVATE, Given

logger = logging.getLogger("stackauth_middleware")

CONFIG = "STACKAUTH_CONFIG"
"""Variable that names the TOML file."""
APP = "STACKAUTH_APP"
"""Variable that names the app which `stackauth_middleware.serve` wraps."""

_MAX_SECRET = 8192
"""Maximum size of a file with a secret, in bytes."""
_SERVICE_LINK = re.compile(r"\w*(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes and Docker set for a service with the name ``stackauth`` or ``stackauth-...``."""
_OF_THE_PROVIDER = re.compile(r"(STACK|HEXCLAVE)_(API_URL_(SERVER|BROWSER)|SUPER_SECRET_ADMIN_KEY|SERVER_SECRET)")
"""Variables of the provider's SDKs and servers that resemble a setting of ours."""
_CUTOFF = 0.82
"""Similarity, 0 to 1, from which a variable is taken for a mistyped one. Many tools have variables in STACK_*."""


class TypedSetting(NamedTuple):
    """A setting, with what is needed to read it from text or TOML.

    Attributes:
        field: the field of the config.
        hint: its type.
        variables: the environment variables that it is read from, in order of precedence; none if text cannot express
            it. A secret can also be in a file, which a variable that ends with ``_FILE`` names.
    """

    field: Field[Any]
    hint: Any
    variables: tuple[str, ...]


TypedSettings: TypeAlias = Mapping[str, TypedSetting]
"""Settings by name."""


def typed(setting: Field[Any], hint: Any) -> TypedSetting:
    """Return a setting with its type and its variables."""
    names = tuple(prefix + setting.name.upper() for prefix in setting.metadata["prefixes"])
    if not can_be_text(hint):
        names = ()
    elif setting.metadata["secret"]:
        public = re.compile("NEXT_PUBLIC_.*_FILE")
        names = tuple(form for name in names for form in (name, f"{name}_FILE") if not public.fullmatch(form))
    return TypedSetting(setting, hint, names)


def from_environment(settings: TypedSettings) -> dict[str, Given]:
    """Return those of `settings` that the environment has. An empty variable counts as not set.

    Raises:
        ConfigError: a variable is not of the setting's type, or the file that it names cannot be read.
    """
    found = {}
    for name, each in settings.items():
        text, variable = next(_set(each.variables), ("", ""))
        label = f"{name} ({variable})"
        if variable.endswith("_FILE") and each.field.metadata["secret"]:
            text = read_text(text, label, _MAX_SECRET).strip()
            if not text:
                raise ConfigError(f"{label} names a file that is empty")
        if variable:
            found[name] = Given(from_text(each.hint, text, label), variable)
    return found


def _set(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield value and name of the variables that are set.

    Raises:
        ConfigError: a secret is given by value and by file.
    """
    for name in names:
        text = os.environ.get(name)
        if text and f"{name}_FILE" in names and os.environ.get(f"{name}_FILE"):
            raise ConfigError(f"{name} and {name}_FILE are both set; unset one")
        if text:
            yield text, name


def config_path() -> str:
    """Return the path of the TOML file that the environment names, or ""."""
    return os.environ.get(CONFIG, "")


def app_spec() -> str:
    """Return the app that the environment names, as ``module:attribute``, or ""."""
    return os.environ.get(APP, "")


def reject_unknown(settings: TypedSettings, given: Collection[str]) -> None:
    """Check the names of the variables in the environment.

    An unknown ``STACKAUTH_*`` variable is an error. An unknown ``STACK_*`` or ``HEXCLAVE_*`` variable is a warning
    in the log, once, and only where it resembles the variable of a setting that is not in `given`: the provider
    and other tools have variables with these prefixes.

    Raises:
        ConfigError: a variable that begins with ``STACKAUTH_`` is unknown.
    """
    known = {variable for each in settings.values() for variable in each.variables} | {CONFIG, APP}
    for variable in sorted(name for name in os.environ if name.upper().startswith((*OWN, *PRIVATE))):
        upper = variable.upper()
        if variable in known or _SERVICE_LINK.fullmatch(upper):
            continue
        if upper.startswith(OWN):
            raise ConfigError(_unknown(variable, settings, known))
        if not _OF_THE_PROVIDER.fullmatch(upper):
            wanted = {each for name, setting in settings.items() if name not in given for each in setting.variables}
            similar = nearest(upper, wanted, _CUTOFF)
            if similar:
                _warn(variable, similar)


def _unknown(variable: str, settings: TypedSettings, known: Collection[str]) -> str:
    name = variable.upper().removeprefix(OWN[0]).lower()
    own = settings[name].variables if name in settings else None
    if own == ():
        return f"{variable} is set, but {name} cannot be set by a variable; write it into the file that {CONFIG} names"
    similar = own[0] if own else nearest(variable.upper(), known)
    return f"{variable} is set, but is no variable of a setting" + (f"; did you mean {similar}?" if similar else "")


@lru_cache
def _warn(variable: str, similar: str) -> None:
    """Log the warning, once for each variable."""
    logger.warning("the variable %s is set, but is not read; did you mean %s?", variable, similar)
