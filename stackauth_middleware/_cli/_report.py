"""What the commands share: settings from options, findings, and how both are shown."""

from __future__ import annotations

import argparse
import math
import re
from typing import NamedTuple

from .._core.config import StackAuthConfig


class CommandError(Exception):
    """The command cannot be carried out. The text is the one line that is shown."""


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        subject: what.
        holds: whether it is as it should be; None where it could not be looked at.
        text: how it is. Escaped: it may quote what an attacker wrote.
    """

    subject: str
    holds: bool | None
    text: str

    def __str__(self) -> str:
        mark = "--" if self.holds is None else "ok" if self.holds else "FAIL"
        return f"{mark:<5} {self.subject:<11} {self.text}"


def holds(subject: str, text: str) -> Finding:
    """Return the finding that `subject` is as it should be."""
    return Finding(subject, holds=True, text=text)


def fails(subject: str, text: str) -> Finding:
    """Return the finding that `subject` is not as it should be."""
    return Finding(subject, holds=False, text=text)


def unseen(subject: str, text: str) -> Finding:
    """Return the finding that `subject` could not be looked at."""
    return Finding(subject, holds=None, text=text)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options for the settings that decide which tokens are accepted."""
    group = parser.add_argument_group("settings", "What is not given is read from the environment, as always.")
    group.add_argument("--project-id", metavar="ID", default="", help="the project (env STACK_PROJECT_ID)")
    group.add_argument("--api-url", metavar="URL", default="", help="base URL of the API (env STACK_API_URL)")
    group.add_argument(
        "--issuer-url",
        metavar="URL",
        action="append",
        default=[],
        help="base URL of the tokens' issuers where it is another; can be given several times",
    )
    group.add_argument("--allow-http", action="store_true", help="plain http to a host that is not this machine")


def config_from(
    options: argparse.Namespace, *, allow_restricted: bool = False, allow_anonymous: bool = False
) -> StackAuthConfig:
    """Return the config that the options of `add_settings` ask for.

    Raises:
        ConfigError: a setting is missing or wrong.
    """
    return StackAuthConfig(
        project_id=options.project_id,
        api_url=options.api_url,
        issuer_url=options.issuer_url,
        allow_http=options.allow_http,
        allow_restricted=allow_restricted,
        allow_anonymous=allow_anonymous,
    )


def shown(value: object, most: int = 160) -> str:
    """Return `value` as Python would write it, in at most about `most` ASCII characters without a control."""
    try:
        text = ascii(value)
    except RecursionError:
        return "(nested too deeply)"
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def bare(name: str) -> str:
    """Return a name such as a key id without quotes, where it needs none."""
    return name if _PLAIN.fullmatch(name) else shown(name, 40)


_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,40}")


def span(seconds: float) -> str:
    """Return a length of time in words, in its two largest units."""
    if not math.isfinite(seconds):
        return "for ever"
    left, parts = round(seconds), []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"
