"""``check``: says whether the settings are right, Stack Auth answers, and the two clocks agree."""

from __future__ import annotations

import argparse
import re
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from .._core import key_sets
from .._core.config import StackAuthConfig
from .._core.key_sets import Document
from .._core.records import Clocks
from .._core.upstream import Answer, Failure, Reply, fetch
from .._core.users import UserType
from .._io.network import clocks
from .._io.sync_runner import SyncRunner
from ..errors import ErrorCode
from ._report import Finding, add_settings, bare, config_from, fails, holds, span, unseen

SUMMARY = "say whether the settings are right and Stack Auth answers"
DESCRIPTION = (
    "Show the settings, fetch the three key sets, and compare this machine's clock with Stack Auth's. "
    "Exit status 0: tokens of all three user types can be verified here."
)


class _Asked(NamedTuple):
    """A key set that was asked for, with the clocks before and after."""

    answer: Answer
    before: Clocks
    after: Clocks


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the findings, and return 0 where all hold.

    Raises:
        ConfigError: a setting is missing or wrong.
    """
    config = config_from(options)
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
        clock = _clock(asked, config.leeway)
        print(clock)
        return 0 if all_hold and clock.holds is not False else 1
    finally:
        runner.close()


def _settings(config: StackAuthConfig) -> list[tuple[str, str]]:
    """Return what was settled, without the keys."""
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
    """Return the finding on one key set, and the whole document that was read.

    Args:
        user_type: whose keys are looked for.
        asked: what came of the call for the document that holds them.
        smaller: the document that holds the keys of the types before.
    """
    name = user_type.value
    if user_type is UserType.RESTRICTED and key_sets.is_unsupported(asked.answer):
        return holds(name, "not known to this older server: it has no restricted users"), None
    document = key_sets.read(asked.answer, asked.after)
    own = document if isinstance(document, Failure) else document.less(smaller)
    if isinstance(own, Failure):
        return fails(name, f"{own.detail}{_advice(own)}"), None
    if not own.keys({}):
        return fails(name, "no key of their own is published for these users"), None
    kids = ", ".join(bare(kid) for kid in own.keys({}))
    age = _age(asked.answer)
    cached = f", from a cache that held it for {span(age)}" if age else ""
    took = (asked.after.mono - asked.before.mono) * 1000
    text = f"key ids {kids}; fresh for {span(own.fresh_for)}{cached}; answered in {took:.0f} ms"
    return holds(name, text), document if isinstance(document, Document) else None


def _advice(failure: Failure) -> str:
    if failure.code is ErrorCode.MISCONFIGURED:
        return ": is project_id right, and api_url that of its server?"
    return ""


def _age(answer: Answer) -> int:
    """Return the seconds for which a cache in between has held the answer (RFC 9111 section 5.1)."""
    age = answer.headers.get("age", "") if isinstance(answer, Reply) else ""
    return int(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0


def _date(answer: Answer) -> float:
    """Return the time, in seconds since the epoch, that Stack Auth's clock showed at the answer."""
    headers = answer.headers if isinstance(answer, Reply) else {}
    return parsedate_to_datetime(headers["date"]).timestamp() + _age(answer)


def _clock(asked: list[_Asked], leeway: float) -> Finding:
    """Compare the clocks by the ``Date`` of the answers, which is cut to whole seconds.

    Each answer bounds the difference from both sides; what all of them allow is told.
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
        return unseen("clock", "no answer had a Date to compare with")
    ahead = max(ahead_least, min(0.0, ahead_most))
    if abs(ahead) <= leeway:
        return holds("clock", f"agrees with Stack Auth's within {max(1, round(abs(ahead)))} s")
    where = "ahead of" if ahead > 0 else "behind"
    text = f"{span(abs(ahead))} {where} Stack Auth's, and leeway grants {leeway} s: set it right, or tokens "
    return fails("clock", text + ("expire early here" if ahead > 0 else "live on here after they expired"))
