"""Access rules: which policy a path and a method fall under, and whether a user meets it.

Frameworks route on other readings of a path than a middleware sees: some drop empty segments, some
cut the root path out of the middle, some decode once more. So a plain path is matched as it stands
and once more in its normal form, and the stricter policy holds; a doubtful path gets at least
``required``, no leave that the default does not give, and all that any rule demands which some
reading of it could reach.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import unquote

from ._user import User
from .errors import ConfigError, ErrorCode, RefusedError

Access: TypeAlias = Literal["required", "optional", "public"]
Check: TypeAlias = Callable[[User], bool]
_STRICTNESS: dict[Access, int] = {"public": 0, "optional": 1, "required": 2}


@dataclass(frozen=True, init=False, slots=True)
class Rule:
    """Give the requests of a path an access of their own. The first rule that matches wins.

    Args:
        path: ``"/a/b"`` exactly, ``"/a/*"`` one segment below, ``"/a/**"`` that and all below.
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
    as_written = list(zip((_pattern(rule.path) for rule in rules), rules, policies, strict=True))
    in_normal_form = list(zip((_pattern(_normal(rule.path)) for rule in rules), rules, policies, strict=True))
    at_any_depth = [
        (re.compile("(?:/[^/]+)*" + each.pattern, each.flags), rule, policy) for each, rule, policy in in_normal_form
    ]
    when_in_doubt = default._replace(access="required")

    def first(compiled: list[tuple[re.Pattern[str], Rule, Policy]], method: str, path: str) -> Policy:
        for pattern, rule, policy in compiled:
            if pattern.fullmatch(path) and _holds_for(rule, method):
                return policy
        return default

    def match(method: str, path: str, root_path: str) -> Policy:
        method, path = method.upper(), path or "/"
        inner = below(path, root_path)
        policy = first(as_written, method, inner).stricter(first(in_normal_form, method, _normal(inner)))
        if is_doubtful(path, root_path):
            policy = policy.stricter(when_in_doubt)
            reached = _reached(path, root_path)
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


def below(path: str, root_path: str) -> str:
    """Return `path` less `root_path`, where that stands at its start on a segment boundary."""
    root_path = root_path.rstrip("/")
    if root_path and (path == root_path or path.startswith(root_path + "/")):
        return path[len(root_path) :] or "/"
    return path


_LONG, _MANY = 1024, 64
"""Characters, and readings, above which a doubtful path is taken to reach every rule: strangers choose the work."""
_DOUBTFUL = re.compile(
    r"""
      \A(?!/)                             # does not start with a slash
    | //                                  # an empty segment, which some routers drop
    | /\.{1,2}(?:[/;]|\Z)                 # a dot segment, with or without parameters
    | [\\\0\ufffd]                        # another separator, a terminator, octets that are no UTF-8
    | %(?:25)*(?:2[eEfF]|5[cC])           # a separator or dot that is still encoded
    """,
    re.VERBOSE,
)


def is_doubtful(path: str, root_path: str) -> bool:
    """Say whether routers are known to read `path` differently from one another."""
    root_path = root_path.rstrip("/")
    return bool(_DOUBTFUL.search(path) or (root_path and root_path in below(path, root_path)))


def _normal(path: str) -> str:
    """Drop empty segments, the trailing slash, and a newline at the end, before which a route's ``$`` matches."""
    return "/" + "/".join(filter(None, path.removesuffix("\n").split("/")))


def _reached(path: str, root_path: str) -> set[str] | None:
    """Return the readings of `path`, or None for all that there could be, where they are too many to try."""
    readings = _readings(path, root_path)
    some = set(islice(readings, _MANY))
    return None if len(path) > _LONG or next(readings, None) else some


def _readings(path: str, root_path: str) -> Iterator[str]:
    """Yield the plain paths that some router could take a doubtful one for. Their ends are left to `at_any_depth`."""
    yield "/"
    root_path = root_path.rstrip("/")
    for text in _spellings(path):
        cuts = {text}
        if root_path:  # anywhere: Litestar goes on behind the first one, in the middle of a segment too
            cuts |= {*text.split(root_path), *text.split(root_path, 1)}
            cuts |= {text.replace(root_path, "", count) for count in (1, -1)}
        for cut in cuts:
            named = [each for each in cut.split("/") if each]
            undotted = [each for each in named if each.partition(";")[0] != "."]
            yield from ("/" + "/".join(segments) for segments in (named, undotted, _resolved(undotted)))


def _spellings(path: str) -> set[str]:
    """Return what `path` becomes decoded once or twice more, with other separators, or without what is no character."""
    texts = {path, unquote(path), unquote(unquote(path))}
    texts |= {re.sub(r"[\1-\x1f]", "", text) for text in texts}
    if not path.startswith("/"):
        texts |= {re.split("[?#;]", text)[0] for text in texts}  # Quart parses it as a URL
    texts |= {text.partition("\0")[0] for text in texts}
    texts |= {text.replace("\ufffd", "") for text in texts}  # Bottle decodes so
    texts |= {text.replace("\\", "/") for text in texts}
    texts |= {re.sub(r"[\0\ufffd]", "/", text) for text in texts}
    return texts


def _resolved(segments: list[str]) -> list[str]:
    resolved: list[str] = []
    for segment in segments:
        if segment.partition(";")[0] == "..":
            del resolved[-1:]
        else:
            resolved.append(segment)
    return resolved


def _policy(rule: Rule, default: Policy) -> Policy:
    anonymous = default.allow_anonymous if rule.allow_anonymous is None else rule.allow_anonymous
    restricted = default.allow_restricted if rule.allow_restricted is None else rule.allow_restricted
    checks = (rule.check,) if rule.check else ()
    return Policy(rule.access, rule.profile or default.profile, restricted, anonymous, checks)


def _holds_for(rule: Rule, method: str) -> bool:
    return rule.methods is None or method in rule.methods


def _pattern(path: str) -> re.Pattern[str]:
    segments = ["[^/]+" if each == "*" else re.escape(each) for each in path.removesuffix("/**").split("/")]
    return re.compile("/".join(segments) + ("(?:/.*)?" if path.endswith("/**") else ""), re.DOTALL)


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
