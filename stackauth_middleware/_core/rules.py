"""Access rules: which policy a path and a method fall under.

A router may read a path in another way than the middleware. All routers read a *plain* path in the same way, up to
case and a trailing slash, so it has to meet the stricter of two policies: for the path as written, and for its folded
form. Any other path has to meet the default and every rule at once. docs/rules.md is the specification.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import lru_cache, reduce
from typing import get_args

from ..errors import ConfigError
from . import rule_checks
from .paths import folded, has_only_special_characters, is_plain
from .policy import Access, Check, KeyType, Permission, Policy
from .rule_checks import PARAMETER
from .settings import flag, flag_or_none, one_of, setting

WEBSOCKET = "WEBSOCKET"
"""Entry of `Rule.methods` for WebSockets. No HTTP method matches it, not even one of this name."""
CACHED_LENGTH, CACHED_PATHS = 256, 1024
"""Maximum length of a path and number of entries in a policy cache: 1 MiB of paths, at 4 bytes a character."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Access of the requests that match a path. The first rule that matches wins.

    Raises:
        ConfigError: a path, access, method or check that cannot work.

    Example::

        config = StackAuthConfig(
            rules=[
                Rule("/health", "public"),
                Rule("/posts/**", "optional", methods={"GET"}),
                Rule("/staff/**", check=lambda user: user.email_verified),
            ]
        )
    """

    path: str = field(metadata={"check": rule_checks.path})
    """Percent-decoded, relative to the mount point of the app. ``"/a/b"`` matches this path, ``"/a/*"`` one segment
    below ``/a``, ``"/a/{name}"`` the same and names it, ``"/a/**"`` ``/a`` and everything below. What a rule allows, it
    allows for exact matches only; what it demands, it demands also in other case and with a trailing slash."""
    access: Access = setting(one_of(*get_args(Access)), default="required")
    """``"required"`` refuses requests without a valid token. ``"optional"`` passes requests without a token,
    unauthenticated, and still refuses an invalid one. ``"public"`` does not look at tokens."""
    _: KW_ONLY
    methods: Collection[str] | None = setting(rule_checks.methods, default=None)
    """The methods that it matches; None for all. GET includes HEAD; a WebSocket is ``"WEBSOCKET"``."""
    profile: bool = setting(flag, default=False)
    """Load the profile before the handler runs."""
    allow_restricted: bool | None = setting(flag_or_none, default=None)
    """Accept restricted users; None for the setting of the config."""
    allow_anonymous: bool | None = setting(flag_or_none, default=None)
    """Accept anonymous users, and with them restricted ones; None for the setting of the config."""
    check: Check | None = setting(rule_checks.function_or_none, default=None)
    """Function of the user that returns True to accept; anything else is a 403 ``forbidden``. It is called on every
    request, so it must not block."""
    api_keys: Collection[KeyType] | None = setting(rule_checks.key_types_or_none, default=None)
    """Also accept API keys of these types: ``("user", "team")``, one of them, or ``()`` for none; None for the
    setting of the config. With the key of a team there is no user."""
    permission: str | None = setting(rule_checks.permission_or_none, default=None)
    """Id of a permission that the user must hold in the project or, with `team`, in a team. API keys of
    teams hold none."""
    team: str | None = setting(rule_checks.name_or_none, default=None)
    """Name of the segment of `path` that is the id of the team for `permission`."""
    special_characters: bool = setting(flag, default=False)
    """Also match where the part of the path below ``**`` holds ``;``, ``#``, ``?``, ``%``, spaces at the ends of
    segments or text that is not NFC, as file names do. Such a path has to meet every earlier rule too: put this one
    first."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = each.metadata["check"](f"{each.name} of a Rule", getattr(self, each.name))
            object.__setattr__(self, each.name, value)
        if self.access == "public" and any(
            (self.profile, self.allow_restricted, self.allow_anonymous, self.check, self.api_keys)
        ):
            raise ConfigError(
                f"Rule({self.path!r}, 'public') looks at no user, so profile, allow_*, check and api_keys cannot hold; "
                "use access 'optional' or 'required'"
            )
        self._check_permission()
        if self.special_characters and not re.fullmatch("[^*{]*/\\*\\*", self.path):
            raise ConfigError(f"path of a Rule is {self.path!r}; with special_characters it must be as in '/files/**'")

    def _check_permission(self) -> None:
        if self.permission is not None and self.access != "required":
            raise ConfigError(
                f"Rule({self.path!r}, {self.access!r}) has a permission, and a request without a token would pass "
                "without it; use access 'required'"
            )
        if self.team is not None and (self.permission is None or self.team not in self.parameters):
            raise ConfigError(
                f"Rule({self.path!r}) has the team {self.team!r}; it must have a permission, and {{{self.team}}} as a "
                "segment of its path"
            )

    @property
    def parameters(self) -> Mapping[str, int]:
        """The names of the path, each with the index of its segment."""
        segments = enumerate(map(PARAMETER.fullmatch, self.path.split("/")[1:]))
        return {match[1]: at for at, match in segments if match}


class Matcher:
    """Finds the policy of a request.

    Args:
        rules: in the order in which they are tried.
        default: the policy where no rule matches. Its flags replace those that are None in a rule.
    """

    def __init__(self, rules: Sequence[Rule], default: Policy) -> None:
        def table(method: str | None) -> _Table:
            return _Table([rule for rule in rules if rule.methods is None or method in rule.methods], default)

        named = frozenset[str]().union(*(rule.methods or () for rule in rules)) - {WEBSOCKET}
        self._by_method: Mapping[str, _Table] = {method: table(method) for method in named}
        self._other_methods, self._websocket = table(None), table(WEBSOCKET)
        self._cached = lru_cache(CACHED_PATHS)(_Table.policy)

    def __call__(self, method: str, path: str, root_path: str | None, *, websocket: bool = False) -> Policy:
        """Return the policy of a request.

        Args:
            method: the HTTP method. For one that is not in upper case, the stricter of two policies holds: that of the
                method in upper case, and that of a method which no rule names.
            path: the decoded path, with or without `root_path` before it.
            root_path: the mount point; None where the path cannot be trusted.
            websocket: whether this is a WebSocket; `method` is ignored then.
        """
        upper = method.upper()
        table = self._websocket if websocket else self._by_method.get(upper, self._other_methods)
        policy = self._policy_in(table, path, root_path)
        if method != upper and table is not self._websocket:  # routers differ in whether ``get`` is GET
            other = self._policy_in(self._other_methods, path, root_path)
            return policy.stricter(other)._replace(every_rule=policy.every_rule)
        return policy

    def _policy_in(self, table: _Table, path: str, root_path: str | None) -> Policy:
        if root_path is None:
            return table.every_rule
        if len(path) + len(root_path) > CACHED_LENGTH:
            return table.policy(path, root_path)
        return self._cached(table, path or "/", root_path)


class _Patterns:
    """The paths of rules, as written or folded, each with its policy.

    They are grouped by the paths that they can match: by their number of segments and their first segment, so that
    the cost of a new path does not grow with the number of rules for other areas of the app.
    """

    def __init__(self, paths: Iterable[str], policies: Iterable[Policy], default: Policy) -> None:
        self._default = default
        patterns = [(_segments(path), path.endswith("/**"), each) for path, each in zip(paths, policies, strict=True)]
        longest = max((len(segments) for segments, _, _ in patterns), default=0)
        self._by_length = [
            _by_first_segment(
                [
                    (segments, policy)
                    for segments, is_prefix, policy in patterns
                    if len(segments) == length or (is_prefix and len(segments) < length)
                ]
            )
            for length in range(longest + 2)  # the last is for all paths that are longer than every pattern
        ]

    def first(self, path: str, *, match_empty: bool = False) -> Policy:
        """Return the policy of the first pattern that matches `path`, else the default.

        Args:
            path: a plain path.
            match_empty: whether ``*`` also matches an empty segment.
        """
        segments = path.split("/")[1:]
        by_first = self._by_length[min(len(segments), len(self._by_length) - 1)]
        for pattern, policy in by_first.get(segments[0], by_first["*"]):
            for want, segment in zip(pattern, segments, strict=False):
                if want != segment and (want != "*" or not (segment or match_empty)):
                    break
            else:
                return policy
        return self._default


def _by_first_segment(patterns: Sequence[tuple[list[str], Policy]]) -> Mapping[str, list[tuple[list[str], Policy]]]:
    """Return the patterns, in order, by the first segment of the paths that they match; ``"*"`` is for all others."""
    by_first: dict[str, list[tuple[list[str], Policy]]] = {"*": []}
    for each in patterns:
        first = each[0][0] if each[0] else "*"
        if first == "*":
            for found in by_first.values():
                found.append(each)
        else:
            by_first.setdefault(first, [*by_first["*"]]).append(each)
    return by_first


class _Table:
    """The rules that match one method."""

    def __init__(self, rules: Sequence[Rule], default: Policy) -> None:
        policies = [_policy_of(rule, default) for rule in rules]
        paths = [rule.path for rule in rules]
        self._as_written = _Patterns(paths, policies, default)
        self._folded = _Patterns(map(folded, paths), policies, default)
        self._folded_without_slash = _Patterns((_without_slash(folded(path)) for path in paths), policies, default)
        self._special = [
            (rule.path.removesuffix("**"), reduce(Policy.stricter, policies[: at + 1]))
            for at, rule in enumerate(rules)
            if rule.special_characters
        ]
        self.every_rule = reduce(Policy.stricter, policies, default)._replace(every_rule=True)

    def policy(self, path: str, root_path: str) -> Policy:
        """Return the policy of a path below `root_path`."""
        below = path
        if root_path and (path == root_path or path.startswith(root_path + "/")):
            below = path[len(root_path) :] or "/"
            if below == root_path or below.startswith(root_path + "/"):  # BlackSheep removes it twice
                return self.every_rule
        elif root_path and root_path in path:  # Litestar routes on what follows it, wherever it is
            return self.every_rule
        if is_plain(path):
            lenient = folded(below)
            policy = self._as_written.first(below)
            policy = policy.stricter(self._folded_without_slash.first(_without_slash(lenient)))
            if below.endswith("/"):  # Falcon matches a parameter with the empty last segment
                policy = policy.stricter(self._folded.first(lenient, match_empty=True))
            return policy.in_path(below)
        for prefix, policy in self._special:
            if below.startswith(prefix) and is_plain(root_path or "/") and has_only_special_characters(below):
                return policy
        return self.every_rule


def _policy_of(rule: Rule, default: Policy) -> Policy:
    """Return the policy of `rule`; `default` fills in the flags that it leaves at None."""
    return Policy(
        rule.access,
        rule.profile or default.profile,
        default.allow_restricted if rule.allow_restricted is None else rule.allow_restricted,
        default.allow_anonymous if rule.allow_anonymous is None else rule.allow_anonymous,
        (rule.check,) if rule.check else (),
        (Permission(rule.permission, segment=rule.parameters[rule.team] if rule.team else None),)
        if rule.permission
        else (),
        default.api_keys if rule.api_keys is None else frozenset(rule.api_keys),
    )


def reject_hidden(rules: Sequence[Rule]) -> None:
    """Reject a rule that can never be the first to match.

    Raises:
        ConfigError: an earlier rule matches everything that a later one does.
    """
    for at, later in enumerate(rules):
        for earlier in rules[:at]:
            if _covers(earlier, later):
                raise ConfigError(
                    f"Rule({later.path!r}) can never decide: the earlier Rule({earlier.path!r}) matches all that it "
                    "does; put the narrower rule first, or delete it"
                )


def _covers(earlier: Rule, later: Rule) -> bool:
    """Return whether `earlier` matches everything that `later` does."""
    if earlier.methods is not None and (later.methods is None or not set(later.methods) <= set(earlier.methods)):
        return False
    if later.special_characters and not earlier.special_characters:
        return False
    one, other = (PARAMETER.sub("*", rule.path).split("/") for rule in (earlier, later))
    if one[-1] == "**":
        one, other = one[:-1], other[: len(one) - 1]
    return len(one) == len(other) and all(
        this == that or (this == "*" and that not in ("", "**")) for this, that in zip(one, other, strict=True)
    )


def _without_slash(path: str) -> str:
    return path.removesuffix("/") or "/"


def _segments(path: str) -> list[str]:
    """Return the segments of a rule's path without ``/**``; ``*`` stands for each parameter."""
    return ["*" if PARAMETER.fullmatch(each) else each for each in path.removesuffix("/**").split("/")[1:]]
