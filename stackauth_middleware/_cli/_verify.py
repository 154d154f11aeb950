"""``verify``: says step by step what holds of a token, and what the verifier itself says.

Neither the token nor anything carried beside it is ever printed.
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
from ._examine import STEPS, examined
from ._report import CommandError, Finding, add_settings, config_from, fails, holds, unseen

SUMMARY = "say what holds of a token and what does not"
DESCRIPTION = (
    "Say step by step what holds of an access token and what does not. Neither the token nor a refresh token "
    "beside it is printed. Exit status 0: the middleware would let this user in."
)

_HEADER_LINE = re.compile(r"(?:>\s*)?([A-Za-z0-9-]+):[ \t]*(.*)")
_PREFIXES = ("stackauth_", "hexclave_")
_MOST_INPUT = 64 * 1024


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "token",
        nargs="*",
        metavar="TOKEN",
        help="a token, or what carries one: header lines, 'Bearer ...', the JSON of x-stack-auth; without it, or "
        "with '-', standard input is read, which keeps it out of the shell's history",
    )
    add_settings(parser)
    parser.add_argument("--allow-restricted", action="store_true", help="let restricted users in")
    parser.add_argument("--allow-anonymous", action="store_true", help="let anonymous users in")


def run(options: argparse.Namespace) -> int:
    """Print the findings on the given token, and return 0 where the verifier accepts it.

    Raises:
        ConfigError: a setting is missing or wrong.
        CommandError: the input cannot be read.
    """
    config = config_from(options, allow_restricted=options.allow_restricted, allow_anonymous=options.allow_anonymous)
    given = " ".join(options.token)
    token_source, token = _carrier(config, _headers(_from_stdin() if given in ("", "-") else given))
    print(token_source)
    if token is None:
        for step in STEPS:
            print(unseen(step, "there is no token to look at"))
        return 1
    all_hold = True
    for finding in examined(config, token):
        print(finding, flush=True)
        all_hold = all_hold and finding.holds is True
    accepted = _verdict(config, token, all_hold=all_hold)
    return 0 if accepted else 1


def _from_stdin() -> str:
    if sys.stdin.isatty():
        sys.stderr.write("paste a token, header lines or the JSON of x-stack-auth, then end the input\n")
    try:
        return sys.stdin.read(_MOST_INPUT)
    except UnicodeDecodeError:
        raise CommandError("standard input is not text") from None


def _headers(text: str) -> Mapping[str, str]:
    """Return the request headers that a paste stands for, in the form in which a door hands them over."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return request_from_headers(_pairs(text)).headers


def _pairs(text: str) -> list[tuple[str, str]]:
    if text.startswith("{"):
        return _named_in(text) or [("x-stack-auth", text)]
    if re.match(r"bearer\s", text, re.IGNORECASE):
        return [("authorization", text)]
    if text.startswith(_PREFIXES):
        return [("authorization", f"Bearer {text}")]
    lines = [match for line in text.splitlines() if (match := _HEADER_LINE.fullmatch(line.strip()))]
    pairs = [(line[1], line[2]) for line in lines]
    return [pair for pair in pairs if pair[0].lower() in HEADERS] or pairs or [("x-stack-access-token", text)]


def _named_in(text: str) -> list[tuple[str, str]]:
    """Return the header in a JSON object of headers, which is what ``getAuthHeaders()`` gives."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [(name, carried) for name, carried in value.items() if name.lower() in HEADERS and isinstance(carried, str)]


def _carrier(config: StackAuthConfig, headers: Mapping[str, str]) -> tuple[Finding, str | None]:
    """Return the finding on the carrier, and the token in it."""
    names = ", ".join(sorted(headers)) if any(headers.values()) else "an empty input"
    try:
        token = extract(headers, config.token_sources)
        if token is not None:
            return holds("token_source", names), token
        token = extract(headers, TOKEN_SOURCES)
    except RefusedError as error:
        return fails("token_source", f"{error.code.status} {error}"), None
    if token is None:
        return fails("token_source", f"no token in {names}; cookies and other schemes are not read"), None
    return holds("token_source", f"{names}, which is read only where the setting `carriers` names it"), token


def _verdict(config: StackAuthConfig, token: str, *, all_hold: bool) -> bool:
    """Print what the verifier itself says of `token`, and return whether it accepts it.

    Args:
        config: of the verifier.
        token: the token as text.
        all_hold: whether every step held; the verifier has to agree.
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
