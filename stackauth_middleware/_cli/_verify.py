"""``verify``: checks a token step by step, and then with the verifier.

Neither the token nor what was sent along with it is printed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping

from .._adapters import request_from_headers
from .._core.config import StackAuthConfig
from .._core.credentials import HEADERS, TOKEN_SOURCES, extract
from .._verifiers import Verifier
from ..errors import AuthServerError, ErrorCode, RefusedError
from ._examine import STEPS, examine
from ._report import CommandError, Finding, add_settings, config_from, fails, holds, skipped

SUMMARY = "check an access token step by step"
DESCRIPTION = (
    "Check an access token step by step. Neither the token nor a refresh token next to it is printed. "
    "Exit status 0: the middleware would accept this token."
)

_HEADER_LINE = re.compile(r"(?:>\s*)?([A-Za-z0-9-]+):[ \t]*(.*)")
_PREFIXES = ("stackauth_", "hexclave_")
_MAX_INPUT = 64 * 1024
"""Characters of standard input that are read."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "token",
        nargs="*",
        metavar="TOKEN",
        help="a token, or text with one: header lines, 'Bearer ...', the JSON of x-stack-auth or of a token "
        "response; without it, or with '-', standard input is read, which keeps the token out of the shell history",
    )
    add_settings(parser)
    parser.add_argument("--allow-restricted", action="store_true", help="accept restricted users")
    parser.add_argument("--allow-anonymous", action="store_true", help="accept anonymous users")


def run(options: argparse.Namespace) -> int:
    """Print the findings on the given token. Return 0 if the verifier accepts it, else 1.

    Raises:
        ConfigError: a setting is missing or wrong.
        CommandError: the input cannot be read.
    """
    config = config_from(options, allow_restricted=options.allow_restricted, allow_anonymous=options.allow_anonymous)
    return 0 if report(config, read_input(" ".join(options.token))) else 1


def read_input(argument: str) -> str:
    """Return `argument`, or standard input if it is empty or ``-``.

    Raises:
        CommandError: standard input is not text.
    """
    return _from_stdin() if argument in ("", "-") else argument


def report(config: StackAuthConfig, text: str) -> bool:
    """Print the findings on the token in `text`. Return whether the verifier accepts it.

    Raises:
        CommandError: the steps and the verifier disagree, which is a bug.
    """
    source, token = _token_source(config, _headers(text))
    print(source)
    if token is None:
        for step in STEPS:
            print(skipped(step, "there is no token"))
        return False
    all_hold = True
    for finding in examine(config, token):
        print(finding, flush=True)
        all_hold = all_hold and finding.holds is True
    return _outcome(config, token, all_hold=all_hold)


def _from_stdin() -> str:
    if sys.stdin.isatty():
        sys.stderr.write("paste a token, header lines or the JSON of x-stack-auth, then end the input\n")
    try:
        return sys.stdin.read(_MAX_INPUT)
    except UnicodeDecodeError:
        raise CommandError("standard input is not text") from None


def _headers(text: str) -> Mapping[str, str]:
    """Return the request headers that pasted text stands for, as an adapter builds them."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return request_from_headers(_pairs(text)).headers


def _pairs(text: str) -> list[tuple[str, str]]:
    if text.startswith("{"):
        return _from_json(text) or [("x-stack-auth", text)]
    if re.match(r"bearer\s", text, re.IGNORECASE):
        return [("authorization", text)]
    if text.startswith(_PREFIXES):
        return [("authorization", f"Bearer {text}")]
    lines = [match for line in text.splitlines() if (match := _HEADER_LINE.fullmatch(line.strip()))]
    pairs = [(line[1], line[2]) for line in lines]
    return [pair for pair in pairs if pair[0].lower() in HEADERS] or pairs or [("x-stack-access-token", text)]


def _from_json(text: str) -> list[tuple[str, str]]:
    """Return the headers in a JSON object such as that of ``getAuthHeaders()``, or the token in a token response."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(value.get("access_token"), str):  # response of a sign-in or refresh endpoint of the API
        return [("x-stack-access-token", value["access_token"])]
    return [(name, header) for name, header in value.items() if name.lower() in HEADERS and isinstance(header, str)]


def _token_source(config: StackAuthConfig, headers: Mapping[str, str]) -> tuple[Finding, str | None]:
    """Return the finding on the token source, and its token."""
    names = ", ".join(sorted(headers)) if any(headers.values()) else "an empty input"
    try:
        token = extract(headers, config.token_sources)
        if token is not None:
            return holds("source", names), token
        token = extract(headers, TOKEN_SOURCES)
    except RefusedError as error:
        return fails("source", f"{error.code.status} {error}"), None
    if token is None:
        return fails("source", f"no token in {names}; cookies and other schemes are not read"), None
    return holds("source", f"{names}, which is read only if the setting token_sources names it"), token


def _outcome(config: StackAuthConfig, token: str, *, all_hold: bool) -> bool:
    """Print the outcome of the verifier. Return whether it accepts `token`.

    Args:
        config: the settings.
        token: the access token.
        all_hold: whether every step passed; the verifier must agree.

    Raises:
        CommandError: the steps and the verifier disagree.
    """
    try:
        with Verifier(config) as verifier:
            user = verifier.verify(token)
    except (RefusedError, AuthServerError) as error:
        print(fails("outcome", f"refused: {error.code.status} {error}"))
        accepted, agrees = False, not all_hold or error.code not in (ErrorCode.INVALID_TOKEN, ErrorCode.EXPIRED_TOKEN)
    else:
        print(holds("outcome", f"accepted: user {user.user_id}"))
        accepted, agrees = True, all_hold
    if not agrees:
        raise CommandError("the steps and the verifier disagree about this token; please report it")
    return accepted
