"""Access rules: which policy a path and a method fall under, and whether a user meets it.

Frameworks route on other readings of a path than a middleware sees. A *plain* path leaves no room for that:
the stricter of the rules for the path as written and for its folded form holds. Any other path has to meet
the default and every rule at once, so there is nothing to gain from how it is read. docs/rules.md states all of it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from ..errors import ConfigError, ErrorCode, RefusedError
from .paths import NO_TEXT, folded, is_plain
from .users import User

Access: TypeAlias = Literal["required", "optional", "public"]
Check: TypeAlias = Callable[[User], bool]
_STRICTNESS: dict[Access, int] = {"public": 0, "optional": 1, "required": 2}

WEBSOCKET = "WEBSOCKET"
"""Stands in ``methods`` for a WebSocket. No HTTP method matches it, not even one of this name."""
_METHOD = re.compile(
    "ACL|BASELINE-CONTROL|BIND|CHECKIN|CHECKOUT|CONNECT|COPY|DELETE|GET|HEAD|LABEL|LINK|LOCK|MERGE|MKACTIVITY|MKCALENDAR|"
    "MKCOL|MKREDIRECTREF|MKWORKSPACE|MOVE|OPTIONS|ORDERPATCH|PATCH|POST|PRI|PROPFIND|PROPPATCH|PUT|QUERY|REBIND|REPORT|"
    "SEARCH|TRACE|UNBIND|UNCHECKOUT|UNLINK|UNLOCK|UPDATE|UPDATEREDIRECTREF|VERSION-CONTROL|WEBSOCKET"
)
"""The IANA HTTP Method Registry, and WEBSOCKET."""

_NOT_SPECIAL = re.compile(rf"{NO_TEXT}|/(?:/|\s*\.{{1,2}}\s*(?:[/;#?%]|\Z))|%(?:25)*(?:2[eEfF]|5[cC])")
"""What no path may hold, not even under a rule with ``special_characters``."""
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CACHED_LENGTH, _CACHED_PATHS = 256, 1024
"""Characters and entries: with four bytes each, the paths of the policy cache hold 1 MiB at most."""


@dataclass(frozen=True, init=False, slots=True)
class Rule:
    """Give the requests of a path an access of their own. The first rule that matches wins.

    Args:
        path: ``"/a/b"`` exactly, ``"/a/*"`` one segment below, ``"/a/{name}"`` the same with a name,
            ``"/a/**"`` ``/a`` and all below. Relative to the mount point of the app, percent-decoded.
            What it opens is matched exactly; what it closes holds in any case and with a trailing slash too.
        access: ``"required"`` lets nobody in without a good token, ``"optional"`` lets requests
            without a token through as nobody and still refuses a bad one, ``"public"`` looks at no
            token at all.
        methods: the methods it holds for, in any case; GET covers HEAD, a WebSocket is
            ``"WEBSOCKET"``. None for all.
        profile: load the whole profile before the handler runs.
        allow_restricted: let restricted users in; None as the settings say.
        allow_anonymous: let anonymous, and so restricted, users in; None as the settings say.
        check: called with the user; only True lets them in, all else is 403 ``forbidden``.
            A plain function, called on every request: it must not block.
        special_characters: also match where the part of the path that ``**`` stands for holds ``;``, ``#``,
            ``?``, ``%``, spaces at the ends of segments or text that is not NFC, as file names do. Such a
            path has to meet every earlier rule too: put it first.

    Raises:
        ConfigError: a path, access, method or check that cannot work.
    """

    path: str
    access: Access
    methods: frozenset[str] | None
    profile: bool
    allow_restricted: bool | None
    allow_anonymous: bool | None
    check: Check | None
    special_characters: bool

    def __init__(
        self,
        path: str,
        access: Access = "required",
        *,
        methods: Collection[str] | None = None,
        profile: bool = False,
        allow_restricted: bool | None = None,
        allow_anonymous: bool | None = None,
        check: Check | None = None,
        special_characters: bool = False,
    ) -> None:
        settings = {
            "path": _valid_path(path),
            "access": _valid_access("access of a Rule", access),
            "methods": _valid_methods(methods),
            "profile": _valid_flag("profile", profile, (True, False)),
            "allow_restricted": _valid_flag("allow_restricted", allow_restricted, (True, False, None)),
            "allow_anonymous": _valid_flag("allow_anonymous", allow_anonymous, (True, False, None)),
            "check": plain_function("check of a Rule", check) if check is not None else None,
            "special_characters": _valid_flag("special_characters", special_characters, (True, False)),
        }
        if access == "public" and (profile or allow_restricted or allow_anonymous or check):
            raise ConfigError(
                f"Rule({path!r}, 'public') looks at no user, so profile, allow_* and check cannot hold; "
                "use access 'optional' or 'required'"
            )
        if special_characters and not re.fullmatch("[^*{]*/\\*\\*", path):
            raise ConfigError(f"path of a Rule is {path!r}; with special_characters it must be as in '/files/**'")
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    @property
    def parameters(self) -> Mapping[str, int]:
        """The names of the path, each with the number of its segment, counted from 0."""
        named = ((_PARAMETER.fullmatch(each), at) for at, each in enumerate(self.path.split("/")[1:]))
        return {match[1]: at for match, at in named if match}


class Policy(NamedTuple):
    """What a request must meet: the outcome of the rules for one path and method."""

    access: Access
    profile: bool
    allow_restricted: bool
    allow_anonymous: bool
    checks: tuple[Check, ...] = ()
    every_rule: bool = False
    """Whether this is what a path that is not plain has to meet."""

    def stricter(self, other: Policy) -> Policy:
        """Return the policy that demands what both demand."""
        return Policy(
            max(self.access, other.access, key=_STRICTNESS.__getitem__),
            self.profile or other.profile,
            self.allow_restricted and other.allow_restricted,
            self.allow_anonymous and other.allow_anonymous,
            (*self.checks, *(check for check in other.checks if check not in self.checks)),
        )


class Matcher:
    """Finds the policy that a request falls under.

    Args:
        rules: in the order in which they are tried.
        default: where no rule matches. Its flags fill in what a rule leaves open.
    """

    def __init__(self, rules: Sequence[Rule], default: Policy) -> None:
        methods = frozenset[str]().union(*(rule.methods or () for rule in rules)) - {WEBSOCKET}
        tables = {method: _Table(_holding(rules, method), default) for method in (*methods, WEBSOCKET, None)}
        self._tables: Mapping[str | None, _Table] = tables
        self._cached = lru_cache(_CACHED_PATHS)(lambda key, path, root_path: tables[key].policy(path, root_path))

    def __call__(self, method: str, path: str, root_path: str | None, *, websocket: bool = False) -> Policy:
        """Return the policy of a request.

        Args:
            method: the HTTP method, in any case.
            path: the decoded path, with or without `root_path` before it.
            root_path: the mount point; None where the path cannot be trusted.
            websocket: whether this is a WebSocket; `method` does not count then.
        """
        key: str | None = method.upper()
        if websocket:
            key = WEBSOCKET
        elif key == WEBSOCKET or key not in self._tables:
            key = None  # what no rule names shares a key, or strangers would choose the size of the cache
        if root_path is None:
            return self._tables[key].every_rule
        if len(path) + len(root_path) > _CACHED_LENGTH:
            return self._tables[key].policy(path, root_path)
        return self._cached(key, path or "/", root_path)


class _Table:
    """The rules that hold for one method."""

    def __init__(self, rules: Sequence[Rule], default: Policy) -> None:
        policies = [_policy(rule, default) for rule in rules]

        def first(pattern_of: Callable[[str], str]) -> Callable[[str], Policy]:
            patterns = [re.compile(pattern_of(rule.path)).fullmatch for rule in rules]
            rows = list(zip(patterns, policies, strict=True))
            return lambda path: next((policy for matches, policy in rows if matches(path)), default)

        self._as_written = first(_pattern)
        self._folded = first(lambda path: _pattern(_without_slash(folded(path))))
        self._with_empty_value = first(lambda path: _pattern(folded(path), "[^/]*"))
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
            if below == root_path or below.startswith(root_path + "/"):  # BlackSheep takes it off twice
                return self.every_rule
        elif root_path and root_path in path:  # behind which Litestar goes on
            return self.every_rule
        if is_plain(path):
            lenient = folded(below)
            policy = self._as_written(below).stricter(self._folded(_without_slash(lenient)))
            # behind a trailing slash Falcon sees an empty value
            return policy.stricter(self._with_empty_value(lenient)) if below.endswith("/") else policy
        for prefix, policy in self._special:
            if below.startswith(prefix) and is_plain(root_path or "/") and not _NOT_SPECIAL.search(below):
                return policy
        return self.every_rule


def enforce(user: User, policy: Policy) -> None:
    """Let `user` in where `policy` says so.

    Raises:
        RefusedError: ANONYMOUS_NOT_ALLOWED, RESTRICTED_NOT_ALLOWED or FORBIDDEN. A check that
            raises refuses: its exception is the cause of the error.
    """
    if user.is_anonymous and not policy.allow_anonymous:
        raise RefusedError(ErrorCode.ANONYMOUS_NOT_ALLOWED, "an anonymous user")
    if user.is_restricted and not (policy.allow_restricted or policy.allow_anonymous):
        raise RefusedError(
            ErrorCode.RESTRICTED_NOT_ALLOWED, "a restricted user", restricted_reason=user.restricted_reason
        )
    for check in policy.checks:
        try:
            allowed = check(user)
        except Exception as error:
            raise RefusedError(ErrorCode.FORBIDDEN, "the check of a rule raised") from error
        if allowed is not True:
            raise RefusedError(ErrorCode.FORBIDDEN, "the check of a rule did not return True")


def _policy(rule: Rule, default: Policy) -> Policy:
    anonymous = default.allow_anonymous if rule.allow_anonymous is None else rule.allow_anonymous
    restricted = default.allow_restricted if rule.allow_restricted is None else rule.allow_restricted
    checks = (rule.check,) if rule.check else ()
    return Policy(rule.access, rule.profile or default.profile, restricted, anonymous, checks)


def _holding(rules: Sequence[Rule], method: str | None) -> list[Rule]:
    return [rule for rule in rules if rule.methods is None or method in rule.methods]


def _covers(earlier: Rule, later: Rule) -> bool:
    """Say whether `earlier` matches all that `later` does."""
    if earlier.methods is not None and (later.methods is None or not later.methods <= earlier.methods):
        return False
    if later.special_characters and not earlier.special_characters:
        return False
    one, other = (_PARAMETER.sub("*", rule.path).split("/") for rule in (earlier, later))
    if one[-1] == "**":
        one, other = one[:-1], other[: len(one) - 1]
    return len(one) == len(other) and all(
        this == that or (this == "*" and that not in ("", "**")) for this, that in zip(one, other, strict=True)
    )


def reject_hidden(rules: Sequence[Rule]) -> None:
    """Refuse a rule that can never be the first to match.

    Raises:
        ConfigError: an earlier rule matches all that a later one does.
    """
    for at, later in enumerate(rules):
        for earlier in rules[:at]:
            if _covers(earlier, later):
                raise ConfigError(
                    f"Rule({later.path!r}) can never decide: the earlier Rule({earlier.path!r}) matches all that it "
                    "does; put the narrower rule first, or delete it"
                )


def _without_slash(path: str) -> str:
    return path.removesuffix("/") or "/"


def _pattern(path: str, value: str = "[^/]+") -> str:
    """Return the regex of a rule's path, with `value` for each segment that stands for any."""
    segments = path.removesuffix("/**").split("/")
    any_or_exact = [value if each == "*" or _PARAMETER.fullmatch(each) else re.escape(each) for each in segments]
    return "/".join(any_or_exact) + ("(?:/.*)?" if path.endswith("/**") else "")


def _valid_path(path: str) -> str:
    if not isinstance(path, str) or not is_plain(path):
        raise ConfigError(
            f"path of a Rule is {path!r}; it must start with '/' and be decoded NFC text without empty or dot "
            "segments, spaces at the ends of segments, control characters and \\ ; # ? %"
        )
    segments = path.removesuffix("/**").split("/")
    if any("**" in each for each in segments):
        raise ConfigError(f"path of a Rule is {path!r}; '**' may only be its last segment, as in '/users/**'")
    if any("*" in each and each != "*" for each in segments):
        raise ConfigError(f"path of a Rule is {path!r}; '*' stands for one whole segment, as in '/users/*'")
    names = [match[1] for match in map(_PARAMETER.fullmatch, segments) if match]
    others = (each for each in segments if not _PARAMETER.fullmatch(each))
    if any(re.search(r"\A:|[<>{}]", each) for each in others) or len(set(names)) < len(names):
        raise ConfigError(
            f"path of a Rule is {path!r}; a parameter is one whole segment with its own name, as in '/users/{{id}}'"
        )
    return path


def _valid_access(name: str, access: Access) -> Access:
    if access not in get_args(Access):
        raise ConfigError(f"{name} is {access!r}; it must be 'required', 'optional' or 'public'")
    return access


def _valid_flag(name: str, value: object, choices: tuple[object, ...]) -> object:
    if not any(value is each for each in choices):
        raise ConfigError(f"{name} of a Rule is {value!r}; it must be {' or '.join(map(repr, choices))}")
    return value


def _valid_methods(methods: Collection[str] | None) -> frozenset[str] | None:
    if methods is None:
        return None
    some = isinstance(methods, Collection) and not isinstance(methods, str) and bool(methods)
    if not some or not all(isinstance(method, str) and _METHOD.fullmatch(method.upper()) for method in methods):
        raise ConfigError(
            f"methods of a Rule is {methods!r}; it must be a list of registered methods such as ['GET', 'POST'], "
            "or 'WEBSOCKET'"
        )
    upper = {method.upper() for method in methods}
    return frozenset(upper | {"HEAD"} if "GET" in upper else upper)


def plain_function(name: str, value: object) -> Any:
    """Return `value`, which must be callable and no coroutine function: both doors call it."""
    if not callable(value):
        raise ConfigError(f"{name} is {value!r}; it must be a function")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        raise ConfigError(
            f"{name} is the coroutine function {value!r}; it must be a plain function, which both doors can call"
        )
    return value
