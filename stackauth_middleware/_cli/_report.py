"""What the commands share: options for settings, findings, and their text form."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, NamedTuple

from .._core.config import StackAuthConfig


class CommandError(Exception):
    """The command cannot run. The text is the error line."""


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        subject: what was checked.
        holds: whether the check passed; None if it was not made.
        text: details. Escaped, since it may quote a token.
    """

    subject: str
    holds: bool | None
    text: str

    def __str__(self) -> str:
        mark = "--" if self.holds is None else "ok" if self.holds else "FAIL"
        return f"{mark:<5} {self.subject:<11} {self.text}"


def holds(subject: str, text: str) -> Finding:
    """Return the finding that the check of `subject` passed."""
    return Finding(subject, holds=True, text=text)


def fails(subject: str, text: str) -> Finding:
    """Return the finding that the check of `subject` failed."""
    return Finding(subject, holds=False, text=text)


def skipped(subject: str, text: str) -> Finding:
    """Return the finding that `subject` was not checked."""
    return Finding(subject, holds=None, text=text)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options for the settings that decide which tokens are accepted."""
    group = parser.add_argument_group("settings", "Settings that are not given are read from the environment.")
    group.add_argument("--project-id", metavar="ID", default="", help="the project (env STACK_PROJECT_ID)")
    group.add_argument("--api-url", metavar="URL", default="", help="base URL of the API (env STACK_API_URL)")
    group.add_argument(
        "--issuer-url",
        metavar="URL",
        action="append",
        default=[],
        help="base URL of the tokens' issuer, instead of that of the API; can be repeated",
    )
    group.add_argument("--allow-http", action="store_true", help="allow http:// for hosts other than this machine")


def config_from(
    options: argparse.Namespace, *, allow_restricted: bool = False, allow_anonymous: bool = False
) -> StackAuthConfig:
    """Return the config for the options of `add_settings`.

    Raises:
        ConfigError: a setting is missing or wrong.
    """
    flags = {"allow_restricted": allow_restricted, "allow_anonymous": allow_anonymous}
    texts = {"project_id": options.project_id, "api_url": options.api_url, "issuer_url": options.issuer_url}
    given: Any = {name: value for name, value in {**texts, **flags, "allow_http": options.allow_http}.items() if value}
    return StackAuthConfig(**given)


def shown(value: object, most: int = 160) -> str:
    """Return the ``ascii()`` form of `value`, cut to about `most` characters. It has no control characters."""
    try:
        text = ascii(value)
    except RecursionError:
        return "(nested too deeply)"
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def bare(name: str) -> str:
    """Return a name such as a key id, quoted only if it has unusual characters."""
    return name if _PLAIN.fullmatch(name) else shown(name, 40)


_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,40}")


def span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if not math.isfinite(seconds):
        return "for ever"
    left, parts = round(seconds), []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"
