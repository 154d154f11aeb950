"""``check``: checks the settings, the key sets, the clock, the secret key, and a token if one is given."""

from __future__ import annotations

import argparse
import json
import re
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from .._core import key_sets
from .._core.config import StackAuthConfig
from .._core.key_sets import Document
from .._core.records import Clocks
from .._core.upstream import Answer, Call, Failure, Reply, fetch
from .._core.users import UserType
from .._io.network import clocks
from .._io.sync_runner import SyncRunner
from . import _verify
from ._report import Finding, add_settings, bare, config_from, fails, holds, skipped, span

SUMMARY = "check the settings and the connection to Stack Auth"
DESCRIPTION = (
    "Print the settings, fetch the three key sets, compare the clock of this machine with that of Stack Auth, and "
    "try the secret key, if one is set. With --token, verify a token too: only a token shows whether the issuer is "
    "right. Exit status 0: every check passed."
)


class _Asked(NamedTuple):
    """The answer to a call for a key set, and the clocks before and after."""

    answer: Answer
    before: Clocks
    after: Clocks


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_settings(parser)
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        default="",
        help="an access token of the app, in any form that `verify` reads; '-' reads standard input",
    )


def run(options: argparse.Namespace) -> int:
    """Print the findings. Return 0 if no check failed, else 1.

    Raises:
        ConfigError: a setting is missing or wrong.
        CommandError: the token cannot be read.
    """
    # The settings are checked here, not the user: a token of any user type will do.
    config = config_from(options, allow_restricted=True, allow_anonymous=True)
    text = _verify.read_input(options.token) if options.token else ""
    for name, value in _settings(config):
        print(f"{name:<17} {value}")
    runner = config.get_or_create(SyncRunner)
    try:
        all_hold = True
        smaller, asked = Document({}), []
        for user_type in UserType:
            asked.append(_asked(runner, config, user_type))
            finding, document = _key_set(user_type, asked[-1], smaller)
            smaller = document or smaller
            print(finding, flush=True)
            all_hold = all_hold and finding.holds is True
        for finding in (_clock(asked, config.leeway), _secret_key(runner, config)):
            print(finding, flush=True)
            all_hold = all_hold and finding.holds is not False
        if text:
            all_hold = _verify.report(config, text) and all_hold
        else:
            print(skipped("token", "only a token shows whether the issuer is right: add --token - and paste one"))
        return 0 if all_hold else 1
    finally:
        runner.close()


def _settings(config: StackAuthConfig) -> list[tuple[str, str]]:
    """Return the effective settings, without the keys."""
    issuers = [url for url, user_type in config.issuers.items() if user_type is UserType.NORMAL]
    return [
        ("project id", config.project_id),
        ("api url", config.api_url),
        ("key sets", config.key_set_url),
        ("accepted issuers", ", ".join(issuers)),
        ("secret key", "set" if config.secret_server_key else "not set"),
        ("publishable key", "set" if config.publishable_client_key else "not set"),
    ]


def _asked(runner: SyncRunner, config: StackAuthConfig, user_type: UserType) -> _Asked:
    before = clocks()
    resume = runner.run(fetch(key_sets.call(config.key_set_url, user_type, past_caches=True)))
    return _Asked(resume.answer, before, resume.clocks)


def _key_set(user_type: UserType, asked: _Asked, smaller: Document) -> tuple[Finding, Document | None]:
    """Return the finding on one key set, and the document that was read; None if it cannot be used.

    Args:
        user_type: the user type whose keys are needed.
        asked: the answer to the call for the document with these keys.
        smaller: the previous document, which lacks the keys of `user_type`.
    """
    name = user_type.value
    if user_type is UserType.RESTRICTED and key_sets.is_unsupported(asked.answer):
        return holds(name, "not supported by this older server, which has no restricted users"), None
    document = key_sets.read(asked.answer, asked.after)
    own = document if isinstance(document, Failure) else document.less(smaller)
    if isinstance(own, Failure):
        return fails(name, own.detail), None
    if not own.keys({}):
        return fails(name, "no keys are published for these users"), None
    kids = ", ".join(bare(kid) for kid in own.keys({}))
    age = _age(asked.answer)
    cached = f", cached for {span(age)}" if age else ""
    took = (asked.after.mono - asked.before.mono) * 1000
    text = f"key ids {kids}; fresh for {span(own.fresh_for)}{cached}; answered in {took:.0f} ms"
    return holds(name, text), document if isinstance(document, Document) else None


def _age(answer: Answer) -> int:
    """Return the ``Age`` of the answer in seconds: how long a cache has held it (RFC 9111 section 5.1)."""
    age = answer.headers.get("age", "") if isinstance(answer, Reply) else ""
    return int(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0


def _date(answer: Answer) -> float:
    """Return the time on Stack Auth's clock when it answered, in seconds since the epoch.

    Raises:
        KeyError: there is no ``Date``.
        ValueError: it is not a date.
        OverflowError: it is a date that cannot be represented.
    """
    headers = answer.headers if isinstance(answer, Reply) else {}
    return parsedate_to_datetime(headers["date"]).timestamp() + _age(answer)


def _clock(asked: list[_Asked], leeway: float) -> Finding:
    """Compare the clocks by the ``Date`` of the answers, which has whole seconds.

    Each answer gives a lower and an upper bound of the difference; the finding combines them.
    """
    ahead_most, ahead_least = float("inf"), float("-inf")
    for each in asked:
        try:
            date = _date(each.answer)
        except (KeyError, ValueError, OverflowError):
            continue
        ahead_most = min(ahead_most, each.after.wall - date)
        ahead_least = max(ahead_least, each.before.wall - date - 1)
    if ahead_most == float("inf"):
        return skipped("clock", "no answer had a Date header")
    ahead = max(ahead_least, min(0.0, ahead_most))
    if abs(ahead) <= leeway:
        return holds("clock", f"within {max(1, round(abs(ahead)))} s of Stack Auth's")
    where = "ahead of" if ahead > 0 else "behind"
    effect = "tokens expire too early" if ahead > 0 else "expired tokens are accepted"
    return fails("clock", f"{span(abs(ahead))} {where} Stack Auth's, and leeway is {leeway} s: {effect}; set the clock")


def _secret_key(runner: SyncRunner, config: StackAuthConfig) -> Finding:
    """Try the secret key with a call of users/me without a token: the missing user is reported only for a valid key."""
    if not config.secret_server_key:
        return skipped("secret-key", "not set; mode jwt needs none")
    headers = {
        "accept": "application/json",
        "x-stack-project-id": config.project_id,
        "x-stack-access-type": "server",
        "x-stack-secret-server-key": config.secret_server_key,
    }
    answer = runner.run(fetch(Call("GET", config.users_me_url, headers))).answer
    if not isinstance(answer, Reply):
        return fails("secret-key", f"not checked: {answer}")
    code = _error_code(answer.body)
    if code == "CANNOT_GET_OWN_USER_WITHOUT_USER":
        return holds("secret-key", "accepted by Stack Auth")
    if code == "INVALID_SECRET_SERVER_KEY":
        return fails("secret-key", "refused by Stack Auth: it is not a key of this project (check secret_server_key)")
    return fails("secret-key", f"not checked: status {answer.meant_status}, code {bare(code) if code else 'none'}")


def _error_code(body: bytes) -> str:
    """Return the ``code`` of an error body; "" if it has none."""
    try:
        code = json.loads(body)["code"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return code if isinstance(code, str) else ""
