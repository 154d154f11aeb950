"""Access rules: which policy a path and a method fall under, and whether a user meets it.

Frameworks route on other readings of a path than a middleware sees. So a plain path is matched as it
stands, in its normal form, and as those read its end to whom a newline is nothing or nothing is a value;
the strictest policy holds. A doubtful path gets at least ``required``, no leave that the default does
not give, and all that any rule demands which some reading of it could reach.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from ._routing import below, is_doubtful, normal, readings
from ._user import User
from .errors import ConfigError, ErrorCode, RefusedError

Access: TypeAlias = Literal["required", "optional", "public"]
Check: TypeAlias = Callable[[User], bool]
_STRICTNESS: dict[Access, int] = {"public": 0, "optional": 1, "required": 2}


@dataclass(frozen=True, init=False, slots=True)
class Rule:
    """Give the requests of a path an access of their own. The first rule that matches wins.

    Args:
        path: ``"/a/b"`` exactly, ``"/a/*"`` one segment below, also an empty one where that
            is stricter, ``"/a/**"`` that and all below.
            Relative to the mount point of the app, case-sensitive, percent-decoded.
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
    ) -> None:
        settings = {
            "path": _valid_path(path),
            "access": _valid_access("access of a Rule", access),
            "methods": _valid_methods(methods),
            "profile": _valid_flag("profile", profile, (True, False)),
            "allow_restricted": _valid_flag("allow_restricted", allow_restricted, (True, False, None)),
            "allow_anonymous": _valid_flag("allow_anonymous", allow_anonymous, (True, False, None)),
            "check": plain_function("check of a Rule", check) if check is not None else None,
        }
        if access == "public" and (profile or allow_restricted or allow_anonymous or check):
            raise ConfigError(
                f"Rule({path!r}, 'public') looks at no user, so profile, allow_* and check cannot hold; "
                "use access 'optional' or 'required'"
            )
        for name, value in settings.items():
            object.__setattr__(self, name, value)


class Policy(NamedTuple):
    """What a request must meet: the outcome of the rules for one path and method."""

    access: Access
    profile: bool
    allow_restricted: bool
    allow_anonymous: bool
    checks: tuple[Check, ...] = ()

    def stricter(self, other: Policy) -> Policy:
        """Return the policy that demands what both demand."""
        return Policy(
            max(self.access, other.access, key=_STRICTNESS.__getitem__),
            self.profile or other.profile,
            self.allow_restricted and other.allow_restricted,
            self.allow_anonymous and other.allow_anonymous,
            (*self.checks, *(check for check in other.checks if check not in self.checks)),
        )


Matcher: TypeAlias = Callable[[str, str, str], Policy]


def matcher(rules: tuple[Rule, ...], default: Policy) -> Matcher:
    """Return the function from method, path and root path to the policy that holds there.

    Args:
        rules: in the order in which they are tried.
        default: where no rule matches. Its flags fill in what a rule leaves open.
    """
    policies = [_policy(rule, default) for rule in rules]

    def table(pattern_of: Callable[[str], str]) -> list[tuple[re.Pattern[str], Rule, Policy]]:
        patterns = [re.compile(pattern_of(rule.path), re.DOTALL) for rule in rules]
        return list(zip(patterns, rules, policies, strict=True))

    as_written = table(_pattern)
    in_normal_form = table(lambda path: _pattern(normal(path)))
    with_empty_values = table(lambda path: _pattern(path, value="[^/]*"))
    at_any_depth = table(lambda path: "(?:/[^/]*)*" + _pattern(normal(path), value="[^/]*"))
    when_in_doubt = default._replace(access="required")

    def first(rows: list[tuple[re.Pattern[str], Rule, Policy]], method: str, path: str) -> Policy:
        for pattern, rule, policy in rows:
            if pattern.fullmatch(path) and _holds_for(rule, method):
                return policy
        return default

    def match(method: str, path: str, root_path: str) -> Policy:
        method, path = method.upper(), path or "/"
        inner = below(path, root_path)
        before_newline = inner.removesuffix("\n")
        policy = first(as_written, method, inner).stricter(first(in_normal_form, method, normal(before_newline)))
        if before_newline != inner:  # where the ``$`` of a route's regex matches too
            policy = policy.stricter(first(as_written, method, before_newline))
        if inner.endswith("/"):  # behind which Falcon sees an empty value
            policy = policy.stricter(first(with_empty_values, method, inner))
        if is_doubtful(path, root_path):
            policy = policy.stricter(when_in_doubt)
            reached = readings(path, root_path)
            for pattern, rule, candidate in at_any_depth:
                if _holds_for(rule, method) and (reached is None or any(map(pattern.fullmatch, reached))):
                    policy = policy.stricter(candidate)
        return policy

    remembered = lru_cache(maxsize=1024)(match)

    def lookup(method: str, path: str, root_path: str) -> Policy:
        return (remembered if len(path) <= 256 else match)(method, path, root_path)

    return lookup


def admit(user: User, policy: Policy) -> None:
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


def _holds_for(rule: Rule, method: str) -> bool:
    return rule.methods is None or method in rule.methods


def _pattern(path: str, value: str = "[^/]+") -> str:
    """Return the regex of a rule's path, with `value` for each star."""
    segments = [value if each == "*" else re.escape(each) for each in path.removesuffix("/**").split("/")]
    return "/".join(segments) + ("(?:/.*)?" if path.endswith("/**") else "")


def _valid_path(path: str) -> str:
    if not isinstance(path, str) or is_doubtful(path, "") or "**" in path.removesuffix("/**"):
        raise ConfigError(
            f"path of a Rule is {path!r}; it must start with '/', hold no empty or dot segment, no '\\' "
            "and no percent-encoded separator, and '**' may only be its last segment"
        )
    if any("*" in each and each != "*" for each in path.removesuffix("/**").split("/")):
        raise ConfigError(f"path of a Rule is {path!r}; '*' stands for one whole segment, as in '/users/*'")
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
    if not some or not all(isinstance(method, str) and method.isalpha() for method in methods):
        raise ConfigError(f"methods of a Rule is {methods!r}; it must be a list such as ['GET', 'POST']")
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
