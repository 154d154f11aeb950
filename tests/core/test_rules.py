"""Access rules: what matches, what is doubtful, and who is let in."""

from __future__ import annotations

import functools
import inspect
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackauth_middleware._routing import is_doubtful
from stackauth_middleware._rules import (
    Access,
    Policy,
    Rule,
    admit,
    matcher,
    plain_function,
)
from stackauth_middleware._user import User
from stackauth_middleware.errors import ConfigError, ErrorCode, RefusedError

from .helpers import ANONYMOUS, NORMAL, RESTRICTED, as_id, bounded
from .test_routing import DOUBTFUL, ODD_WAYS, PLAIN, WAYS_TO_ADMIN
from .test_user import user

STRICTNESS: dict[Access, int] = {"public": 0, "optional": 1, "required": 2}
REQUIRED = Policy("required", profile=False, allow_restricted=False, allow_anonymous=False)
PUBLIC = Policy("public", profile=False, allow_restricted=False, allow_anonymous=False)


def always(_: User) -> bool:
    return True


def access(rules: list[Rule], path: str, method: str = "GET", root_path: str = "", default: Policy = REQUIRED) -> str:
    return matcher(tuple(rules), default)(method, path, root_path).access


# -- matching -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("/", ["/", ""], ["/a", "//", "/index"]),
        ("/a", ["/a"], ["/", "/A", "/ab", "/a/b", "/b/a", "/a;x", "/a.json", "/a ", "/a\n", "/%61", "a"]),
        ("/a/b", ["/a/b"], ["/a", "/b", "/a/b/c", "/a/bc", "/a/c"]),
        ("/a/*", ["/a/b", "/a/b.c", "/a/ ", "/a/b\n", "/a/*"], ["/a", "/a/", "/a/b/c", "/b/c", "/ab/c"]),
        ("/*/b", ["/a/b", "/b/b"], ["/b", "/a/a/b", "/a/c"]),
        ("/*", ["/a"], ["/", "/a/b"]),
        ("/a/**", ["/a", "/a/b", "/a/b/c", "/a/b\nc"], ["/", "/ab", "/b/a", "/A/b"]),
        ("/a/*/c/**", ["/a/b/c", "/a/b/c/d/e"], ["/a/c", "/a/b/d", "/a/b/b/c"]),
        ("/**", ["/", "", "/a", "/a/b", "/a\n/b"], []),
        ("/a.b+c", ["/a.b+c"], ["/aXb+c", "/a.bbc"]),
        ("/caf\u00e9", ["/caf\u00e9"], ["/cafe", "/caf\u0065\u0301", "/CAF\u00c9"]),
        ("/a;v=1", ["/a;v=1"], ["/a"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_a_pattern_matches(pattern: str, matches: list[str], others: list[str]) -> None:
    """Case-sensitive, whole segments, every character but ``*`` for itself."""
    rules = [Rule(pattern, "public")]
    assert [path for path in matches if access(rules, path) != "public"] == []
    assert [path for path in others if access(rules, path) != "required"] == []


def test_the_first_rule_that_matches_wins() -> None:
    rules = [Rule("/a/b", "public"), Rule("/a/**", "required"), Rule("/**", "optional")]
    found = [access(rules, path, default=PUBLIC) for path in ("/a/b", "/a/c", "/a", "/c")]
    assert found == ["public", "required", "required", "optional"]
    assert access(rules[::-1], "/a/b", default=PUBLIC) == "optional"


def test_the_default_holds_where_no_rule_does() -> None:
    assert matcher((), REQUIRED)("GET", "/x", "") == REQUIRED
    assert matcher((Rule("/a", "public"),), PUBLIC)("GET", "/x", "") == PUBLIC


@pytest.mark.parametrize(
    ("methods", "asked", "matches"),
    [
        (None, ["GET", "post", "WEBSOCKET", "PURGE"], True),
        (["GET"], ["GET", "get", "HEAD", "head"], True),
        (["get"], ["GET"], True),
        (["GET"], ["POST", "OPTIONS", "WEBSOCKET", "GET ", ""], False),
        (["HEAD"], ["GET"], False),
        (["POST", "put"], ["post", "PUT"], True),
        (["WebSocket"], ["WEBSOCKET"], True),
        (["WEBSOCKET"], ["GET"], False),
        ({"DELETE"}, ["DELETE"], True),
    ],
    ids=str,
)
def test_methods_compare_in_upper_case_and_get_covers_head(
    methods: list[str] | None, asked: list[str], matches: bool
) -> None:
    rules = [Rule("/a", "public", methods=methods)]
    assert {access(rules, "/a", method) == "public" for method in asked} == {matches}


def test_a_rule_for_other_methods_lets_the_next_one_decide() -> None:
    rules = [Rule("/a", "public", methods=["GET"]), Rule("/a", "optional")]
    assert [access(rules, "/a", method) for method in ("GET", "POST")] == ["public", "optional"]


@pytest.mark.parametrize(
    ("rule", "default", "held"),
    [
        (Rule("/a"), (False, False), (False, False)),
        (Rule("/a"), (True, True), (True, True)),
        (Rule("/a", allow_restricted=True), (False, False), (True, False)),
        (Rule("/a", allow_anonymous=True), (False, False), (False, True)),
        (Rule("/a", allow_restricted=False, allow_anonymous=False), (True, True), (False, False)),
        (Rule("/a", allow_anonymous=False), (True, True), (True, False)),
    ],
)
def test_a_rule_leaves_open_what_the_settings_say(
    rule: Rule, default: tuple[bool, bool], held: tuple[bool, bool]
) -> None:
    policy = matcher((rule,), Policy("required", False, *default))("GET", "/a", "")
    assert (policy.allow_restricted, policy.allow_anonymous) == held


def test_a_policy_has_what_its_rule_asks_for() -> None:
    policy = matcher((Rule("/a", "optional", profile=True, check=always),), REQUIRED)("GET", "/a", "")
    assert policy == Policy("optional", True, False, False, (always,))


# -- the normal form ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "default", "path", "held"),
    [
        ([Rule("/a", "public")], REQUIRED, "/a/", "required"),
        ([Rule("/a", "required")], PUBLIC, "/a/", "required"),
        ([Rule("/a/", "public")], REQUIRED, "/a/", "public"),
        ([Rule("/a/", "public")], REQUIRED, "/a", "required"),
        ([Rule("/a/", "required")], PUBLIC, "/a/", "required"),
        ([Rule("/a/", "required")], PUBLIC, "/a", "required"),
        ([Rule("/a/*/", "required")], PUBLIC, "/a/b", "required"),
        ([Rule("/a/*", "required")], PUBLIC, "/a/b/", "required"),
        ([Rule("/a/**", "public")], REQUIRED, "/a/", "public"),
        ([Rule("/a/**", "public")], REQUIRED, "/a/b/", "public"),
        ([Rule("/a", "public"), Rule("/a/**", "required")], PUBLIC, "/a/", "required"),
        ([Rule("/a/", "public"), Rule("/a", "required")], PUBLIC, "/a/", "public"),
        ([Rule("/a/", "public"), Rule("/a", "optional")], REQUIRED, "/a", "optional"),
    ],
    ids=lambda value: " ".join(f"{rule.path}={rule.access}" for rule in value) if isinstance(value, list) else None,
)
def test_the_stricter_of_a_path_and_its_normal_form_holds(
    rules: list[Rule], default: Policy, path: str, held: str
) -> None:
    """Some routers drop a trailing slash, some demand it: a rule holds for both spellings unless it is looser."""
    assert access(rules, path, default=default) == held


def test_the_stricter_policy_demands_what_both_demand() -> None:
    loose = Policy("public", False, True, True, (always,))
    other: Callable[[User], bool] = bool
    strict = Policy("optional", True, False, True, (other, always))
    both = Policy("optional", True, False, True, (always, other))
    assert loose.stricter(strict) == both
    assert loose.stricter(loose) == loose
    assert strict.stricter(loose).checks == (other, always)


POLICIES = st.builds(
    Policy,
    st.sampled_from(list(STRICTNESS)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from([always, bool, callable]), unique=True, max_size=3).map(tuple),
)


def is_at_least(policy: Policy, other: Policy) -> bool:
    """Say whether `policy` lets nobody through whom `other` does not."""
    return (
        STRICTNESS[policy.access] >= STRICTNESS[other.access]
        and policy.profile >= other.profile
        and policy.allow_restricted <= other.allow_restricted
        and policy.allow_anonymous <= other.allow_anonymous
        and set(other.checks) <= set(policy.checks)
    )


@bounded
@given(POLICIES, POLICIES)
def test_the_stricter_of_two_is_no_looser_than_either(one: Policy, other: Policy) -> None:
    both = one.stricter(other)
    assert is_at_least(both, one)
    assert is_at_least(both, other)
    assert is_at_least(one, both) or is_at_least(other, both) or both not in (one, other)


# -- root paths ---------------------------------------------------------------------------------------


def test_rules_are_relative_to_the_mount_point() -> None:
    rules = [Rule("/a", "public")]
    assert access(rules, "/r/a", root_path="/r") == "public"
    assert access(rules, "/a", root_path="/r") == "public"
    assert access([Rule("/r/a", "public")], "/r/a", root_path="/r") == "required"
    assert access([Rule("/", "public")], "/r", root_path="/r") == "public"


# -- doubtful paths -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "root_path"), DOUBTFUL.values(), ids=DOUBTFUL)
@pytest.mark.parametrize("default", ["public", "optional"])
def test_a_doubtful_path_needs_a_user_whatever_the_rules_say(path: str, root_path: str, default: Access) -> None:
    policy = matcher((Rule("/**", default),), Policy(default, False, False, False))("GET", path, root_path)
    assert policy == REQUIRED


@pytest.mark.parametrize(("path", "root_path"), PLAIN.values(), ids=PLAIN)
def test_a_plain_path_is_what_the_rules_say(path: str, root_path: str) -> None:
    assert access([Rule("/**", "public")], path, root_path=root_path) == "public"


@pytest.mark.parametrize(("path", "root_path"), WAYS_TO_ADMIN)
@pytest.mark.parametrize("pattern", ["/admin", "/admin/", "/admin/**", "/*", "/**"])
def test_the_check_of_every_rule_that_some_reading_reaches_must_pass(path: str, root_path: str, pattern: str) -> None:
    """A first rule that is public must not hide the check of the rule that the router will come to."""
    rules = (Rule("/public/**", "public"), Rule(pattern, check=always), Rule("/**", "public"))
    policy = matcher(rules, PUBLIC)("GET", path, root_path)
    assert policy.access == "required"
    assert policy.checks == (always,)


@pytest.mark.parametrize("pattern", ["/admin", "/*", "/**"])
def test_a_newline_at_the_end_is_no_way_around_a_rule(pattern: str) -> None:
    """The ``$`` of a route's regex matches before it: Starlette takes ``/admin%0A`` for ``/admin``."""
    policy = matcher((Rule(pattern, check=always),), PUBLIC)("GET", "/admin\n", "")
    assert policy.access == "required"
    assert policy.checks == (always,)
    assert access([Rule("/admin", "public")], "/admin\n") == "required"


@pytest.mark.parametrize("slash", ["", "/"], ids=["a route without a slash", "a route with one"])
def test_a_newline_at_the_end_makes_no_other_rule_the_first(slash: str) -> None:
    """Where two rules tell the spellings apart, the one for the route's own holds as it does without the newline."""
    rules = (Rule("/a" if slash else "/a/", "public"), Rule("/a" + slash, check=always))
    for path in ("/a" + slash, "/a" + slash + "\n"):
        assert matcher(rules, PUBLIC)("GET", path, "").checks == (always,)


@pytest.mark.parametrize(
    ("pattern", "path", "root_path"),
    [("/users/*", "/users/", ""), ("/*", "/", ""), ("/*", "/r", "/r"), ("/*/*", "/users/", "")],
)
def test_an_empty_value_is_no_way_around_a_rule(pattern: str, path: str, root_path: str) -> None:
    """Falcon takes ``/users/`` for ``/users/{name}`` with no name: a star holds there too unless it is looser."""
    rules = (Rule(pattern, check=always),)
    assert matcher(rules, PUBLIC)("GET", path, root_path).checks == (always,)
    assert access([Rule(pattern, "public")], path, root_path=root_path) == "required"
    assert access([Rule(path, "public"), *rules], path) == "public"


def test_checks_of_other_methods_and_other_paths_are_not_asked_for() -> None:
    rules = (Rule("/admin", check=always, methods=["POST"]), Rule("/other/**", check=bool))
    match = matcher(rules, PUBLIC)
    assert match("GET", "//admin", "").checks == ()
    assert match("POST", "//admin", "").checks == (always,)


def test_a_doubtful_path_is_no_way_around_a_rule_that_keeps_restricted_users_out() -> None:
    """All flags count, not the access and the checks alone: a router that resolves dots gets to the handler."""
    keeps_out = Rule("/admin/**", allow_restricted=False, allow_anonymous=False)
    lenient = Policy("required", False, True, True)
    policy = matcher((keeps_out,), lenient)("GET", "/public/../admin/x", "")
    assert (policy.allow_restricted, policy.allow_anonymous) == (False, False)


def test_a_doubtful_path_is_no_way_out_of_a_rule_that_lets_anonymous_users_in() -> None:
    lets_in = Rule("/guests/**", allow_anonymous=True, allow_restricted=True)
    policy = matcher((lets_in,), REQUIRED)("GET", "/guests/../account", "")
    assert (policy.allow_restricted, policy.allow_anonymous) == (False, False)


def test_a_doubtful_path_is_no_way_around_a_profile() -> None:
    """In jwt mode the profile is what a freshly restricted user is told by."""
    policy = matcher((Rule("/admin/**", profile=True),), REQUIRED)("GET", "/public/../admin/x", "")
    assert policy.profile


SEGMENTS = st.sampled_from(
    [
        "a",
        "b",
        "admin",
        "r",
        "",
        ".",
        "..",
        "..;",
        "..;x=1",
        "%2e%2e",
        "a%2fb",
        "a%252fadmin",
        "a\\b",
        "\0",
        "x\ufffd",
        "rb",
        "aadmin",
        ".;",
        ";x",
        "%252e%252e",
    ]
)
PATHS = st.builds(
    lambda start, segments, end: start + "/".join(segments) + end,
    st.sampled_from(["/", "//", ""]),
    st.lists(SEGMENTS, max_size=6),
    st.sampled_from(["", "/"]),
)
PATTERNS = st.sampled_from(
    [
        "/",
        "/**",
        "/*",
        "/a",
        "/a/",
        "/a/**",
        "/a/*",
        "/admin",
        "/admin/**",
        "/*/admin",
        "/b/**",
        "/a/b",
        "/b/*/admin",
        "/a/b/admin",
        "/*/b/*",
        "/b/a/",
    ]
)


def _check_number(number: int) -> Callable[[User], bool]:
    return functools.partial(lambda number, user: bool(number), number)


CHECKS = [_check_number(number) for number in range(3)]


@st.composite
def rule_lists(draw: st.DrawFn) -> tuple[Rule, ...]:
    rules = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(list(STRICTNESS)))
        flags = st.none() if kind == "public" else st.none() | st.booleans()
        rules.append(
            Rule(
                draw(PATTERNS),
                kind,
                methods=draw(st.sampled_from([None, ["GET"], ["POST"]])),
                profile=kind != "public" and draw(st.booleans()),
                allow_restricted=draw(flags),
                allow_anonymous=draw(flags),
                check=None if kind == "public" else draw(st.sampled_from([None, *CHECKS])),
            )
        )
    return tuple(rules)


def readings(path: str, root_path: str) -> Iterator[str]:
    """Yield, by the simplest of means, the plain paths that routers are known to take a path for."""
    texts = {path, unquote(path), unquote(unquote(path))}
    if root_path:
        for text in list(texts):
            texts |= {text.replace(root_path, ""), text.replace(root_path, "", 1), text.split(root_path, 1)[-1]}
            texts |= {text.rsplit(root_path, 1)[-1], text.removeprefix(root_path)}
    for text in texts:
        for split in (
            text,
            text.replace("\\", "/"),
            text.partition("\0")[0],
            text.replace("\ufffd", ""),
            text.replace("\0", "/").replace("\ufffd", "/"),
        ):
            segments = [each for each in split.split("/") if each]
            yield "/" + "/".join(segments)  # to a route's parameter a dot is a value like others
            without_dots = [each for each in segments if each.partition(";")[0] != "."]
            resolved: list[str] = []
            for each in without_dots:
                if each.partition(";")[0] != "..":
                    resolved.append(each)
                elif resolved:
                    resolved.pop()
            for chain in (without_dots, resolved):
                yield "/" + "/".join(chain)
                yield "/" + "/".join(chain[1:])


def as_written(path: str) -> list[str]:
    return path.split("/")[1:]


def in_normal_form(path: str) -> list[str]:
    return [each for each in path.split("/") if each] or [""]


def first_by_segments(
    rules: tuple[Rule, ...],
    default: Policy,
    method: str,
    path: str,
    split: Callable[[str], list[str]],
    empty: bool = False,
) -> Policy:
    """Return what the first rule that matches says, by segments one by one, without a regular expression.

    A star stands for an `empty` segment too where that is said.
    """
    got = split(path)
    for rule in rules:
        want = split(rule.path)
        deep = want[-1:] == ["**"]
        fixed = want[:-1] if deep else want
        fits = len(got) >= len(fixed) if deep else len(got) == len(fixed)
        same = all(
            this in ("*", that) and (this != "*" or that or empty) for this, that in zip(fixed, got, strict=False)
        )
        wanted = rule.methods is None or ("GET" if method == "HEAD" else method.upper()) in rule.methods
        if fits and same and wanted:
            restricted = default.allow_restricted if rule.allow_restricted is None else rule.allow_restricted
            anonymous = default.allow_anonymous if rule.allow_anonymous is None else rule.allow_anonymous
            return Policy(rule.access, rule.profile, restricted, anonymous, (rule.check,) if rule.check else ())
    return default


def test_the_readings_find_what_they_should() -> None:
    """The property below is only as good as these."""
    assert "/admin" in set(readings("/a/..;/admin", ""))
    assert "/admin" in set(readings("/a%252f..%252fadmin", ""))
    assert "/admin" in set(readings("//host/admin", ""))
    assert "/admin" in set(readings("/a/r/admin", "/r"))


@settings(bounded, max_examples=400)
@given(
    rules=rule_lists(),
    default=POLICIES.map(lambda each: Policy(each.access, False, each.allow_restricted, each.allow_anonymous)),
    path=PATHS,
    root_path=st.sampled_from(["", "/r", "/a"]),
    method=st.sampled_from(["GET", "post"]),
)
@example(rules=(Rule("/admin", check=always),), default=PUBLIC, path="/a/../admin", root_path="", method="GET")
def test_a_doubtful_path_is_never_treated_more_loosely_than_any_reading_of_it(
    rules: tuple[Rule, ...], default: Policy, path: str, root_path: str, method: str
) -> None:
    """Whatever a router makes of the path, whoever comes through could have come through on the plain one."""
    if not path or not is_doubtful(path, root_path):
        return
    match = matcher(rules, default)
    policy = match(method, path, root_path)
    assert policy.access == "required"
    for reading in set(readings(path, root_path)):
        plain = first_by_segments(rules, default, method, reading, in_normal_form)
        assert is_at_least(policy, plain._replace(access="required")), (reading, plain, policy)


@pytest.mark.parametrize(("path", "root_path", "pattern"), ODD_WAYS.values(), ids=ODD_WAYS)
def test_ways_to_a_route_that_no_first_rule_shows(path: str, root_path: str, pattern: str) -> None:
    """Each is a router's reading, or two in a row; Litestar behind ``--root-path`` takes those with ``r1`` so."""
    rules = (Rule("/x/**"), Rule(pattern, check=always))
    assert matcher(rules, REQUIRED)("GET", path, root_path).checks == (always,)


def list_of(policy: Policy) -> list[Any]:
    return [getattr(policy, name) for name in inspect.signature(Policy).parameters]


@bounded
@given(
    rules=rule_lists(),
    segments=st.lists(st.sampled_from(["a", "b", "admin", "x"]), max_size=4),
    slash=st.booleans(),
    method=st.sampled_from(["GET", "HEAD", "post"]),
)
def test_a_plain_path_falls_under_the_first_rule_by_segments(
    rules: tuple[Rule, ...], segments: list[str], slash: bool, method: str
) -> None:
    path = "/" + "/".join(segments) + ("/" if slash and segments else "")
    found = matcher(rules, REQUIRED)(method, path, "")
    both = first_by_segments(rules, REQUIRED, method, path, as_written).stricter(
        first_by_segments(rules, REQUIRED, method, path, in_normal_form)
    )
    both = both.stricter(first_by_segments(rules, REQUIRED, method, path, as_written, empty=True))
    assert list_of(found)[:-1] == list_of(both)[:-1]
    assert set(found.checks) == set(both.checks)


@pytest.mark.parametrize(
    "path",
    [
        "//" + "a/" * 16_000,
        "/" + "../" * 16_000,
        "//" + "/r" * 16_000,
        "\\" * 32_000,
        "/%2f" + "%25" * 10_000,
        "/" * 32_000,
    ],
    ids=["segments", "dots", "root paths", "backslashes", "percent signs", "slashes"],
)
def test_a_doubtful_path_of_32_kilobytes_costs_memory_in_proportion(path: str) -> None:
    """A stranger chooses the path, and no token was looked at yet. Memory is counted, since time is no measure here."""
    match = matcher((Rule("/admin/*/x/**", check=always), Rule("/a/b", "public")), PUBLIC)
    tracemalloc.start()
    try:
        policy = match("GET", path, "/r")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert policy.access == "required"
    assert peak < 16_000_000


def test_a_path_with_more_readings_than_are_tried_reaches_every_rule() -> None:
    rules = (Rule("/nowhere/near", check=always), Rule("/far", check=bool, methods=["POST"]))
    policy = matcher(rules, PUBLIC)("GET", "//" + "a/" * 600, "/r")
    assert policy.access == "required"
    assert policy.checks == (always,)


def test_long_paths_are_matched_and_not_remembered() -> None:
    """A memory of paths that strangers choose must be small."""
    match = matcher((Rule("/a/**", "public"),), REQUIRED)
    assert match("GET", "/a/" + "x" * 300, "").access == "public"
    assert match("GET", "/b/" + "x" * 300, "").access == "required"
    assert match("GET", "/a/x", "") is match("GET", "/a/x", "")


# -- admission ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "restricted", "anonymous", "row"),
    [
        (NORMAL, False, False, None),
        (NORMAL, True, True, None),
        (RESTRICTED, False, False, ErrorCode.RESTRICTED_NOT_ALLOWED),
        (RESTRICTED, True, False, None),
        (RESTRICTED, False, True, None),
        (ANONYMOUS, False, False, ErrorCode.ANONYMOUS_NOT_ALLOWED),
        (ANONYMOUS, True, False, ErrorCode.ANONYMOUS_NOT_ALLOWED),
        (ANONYMOUS, False, True, None),
        (ANONYMOUS, True, True, None),
    ],
    ids=str,
)
def test_who_is_let_in(kind: Any, restricted: bool, anonymous: bool, row: ErrorCode | None) -> None:
    """Leave for anonymous users implies leave for restricted ones, and not the other way round."""
    policy = Policy("required", False, restricted, anonymous)
    if row is None:
        admit(user(kind), policy)
        return
    with pytest.raises(RefusedError) as caught:
        admit(user(kind), policy)
    assert caught.value.code is row
    told = {
        ErrorCode.ANONYMOUS_NOT_ALLOWED: ("an anonymous user", None),
        ErrorCode.RESTRICTED_NOT_ALLOWED: ("a restricted user", "email_not_verified"),
    }
    assert (caught.value.detail, caught.value.restricted_reason) == told[row]


@pytest.mark.parametrize("answer", [False, None, 0, 1, "yes", [], object()], ids=as_id)
def test_only_true_lets_in(answer: Any) -> None:
    """A check that forgot its return, or returned a match object, must not let everybody in."""
    with pytest.raises(RefusedError) as caught:
        admit(user(), Policy("required", False, False, False, (lambda _: answer,)))
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert caught.value.detail == "the check of a rule did not return True"


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(), RefusedError(ErrorCode.INVALID_TOKEN)], ids=repr)
def test_a_check_that_raises_refuses(error: Exception) -> None:
    def check(_: User) -> bool:
        raise error

    with pytest.raises(RefusedError) as caught:
        admit(user(), Policy("required", False, False, False, (check,)))
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert caught.value.detail == "the check of a rule raised"
    assert caught.value.__cause__ is error


def test_every_check_is_called_with_the_user_until_one_refuses() -> None:
    asked: list[tuple[str, User]] = []

    def ask(name: str, answer: bool) -> Callable[[User], bool]:
        def check(who: User) -> bool:
            asked.append((name, who))
            return answer

        return check

    who = user()
    with pytest.raises(RefusedError):
        admit(who, Policy("required", False, False, False, (ask("a", True), ask("b", False), ask("c", True))))
    assert asked == [("a", who), ("b", who)]


def test_a_user_who_is_not_let_in_is_shown_to_no_check() -> None:
    def check(_: User) -> bool:
        raise AssertionError

    with pytest.raises(RefusedError) as caught:
        admit(user(RESTRICTED), Policy("required", False, False, False, (check,)))
    assert caught.value.code is ErrorCode.RESTRICTED_NOT_ALLOWED


# -- wrong rules --------------------------------------------------------------------------------------


async def coroutine_check(_: User) -> bool:
    return True


class CoroutineCheck:
    async def __call__(self, _: User) -> bool:
        return True


SHAPE = (
    "; it must start with '/', hold no empty or dot segment, no '\\' and no percent-encoded separator, "
    "and '**' may only be its last segment"
)
STAR = "; '*' stands for one whole segment, as in '/users/*'"
ACCESS = "; it must be 'required', 'optional' or 'public'"
METHODS = "; it must be a list such as ['GET', 'POST']"
FLAG = "; it must be True or False"
NO_USER = " looks at no user, so profile, allow_* and check cannot hold; use access 'optional' or 'required'"
PLAIN_FUNCTION = "; it must be a plain function, which both doors can call"

WRONG: dict[str, tuple[Callable[[], object], str, str]] = {
    "no slash": (lambda: Rule("a"), "path of a Rule is 'a'", SHAPE),
    "empty": (lambda: Rule(""), "path of a Rule is ''", SHAPE),
    "a url": (lambda: Rule("https://x/a"), "path of a Rule is 'https://x/a'", SHAPE),
    "an empty segment": (lambda: Rule("/a//b"), "path of a Rule is '/a//b'", SHAPE),
    "a dot segment": (lambda: Rule("/a/../b"), "path of a Rule is '/a/../b'", SHAPE),
    "a backslash": (lambda: Rule("/a\\b"), r"path of a Rule is '/a\\b'", SHAPE),
    "an encoded slash": (lambda: Rule("/a%2Fb"), "path of a Rule is '/a%2Fb'", SHAPE),
    "stars in the middle": (lambda: Rule("/a/**/b"), "path of a Rule is '/a/**/b'", SHAPE),
    "stars twice": (lambda: Rule("/a/**/**"), "path of a Rule is '/a/**/**'", SHAPE),
    "stars and a slash": (lambda: Rule("/a/**/"), "path of a Rule is '/a/**/'", SHAPE),
    "three stars": (lambda: Rule("/a/***"), "path of a Rule is '/a/***'", SHAPE),
    "stars without a slash": (lambda: Rule("/a**"), "path of a Rule is '/a**'", SHAPE),
    "a star in a segment": (lambda: Rule("/a*"), "path of a Rule is '/a*'", STAR),
    "a star behind text": (lambda: Rule("/a/x*/b"), "path of a Rule is '/a/x*/b'", STAR),
    "a star behind text, and stars": (lambda: Rule("/x*/**"), "path of a Rule is '/x*/**'", STAR),
    "no text": (lambda: Rule(None), "path of a Rule is None", SHAPE),  # type: ignore[arg-type]
    "octets": (lambda: Rule(b"/a"), "path of a Rule is b'/a'", SHAPE),  # type: ignore[arg-type]
    "another access": (lambda: Rule("/a", "private"), "access of a Rule is 'private'", ACCESS),  # type: ignore[arg-type]
    "no access": (lambda: Rule("/a", None), "access of a Rule is None", ACCESS),  # type: ignore[arg-type]
    "a list as access": (lambda: Rule("/a", ["public"]), "access of a Rule is ['public']", ACCESS),  # type: ignore[arg-type]
    "methods as text": (lambda: Rule("/a", methods="GET"), "methods of a Rule is 'GET'", METHODS),
    "no methods": (lambda: Rule("/a", methods=[]), "methods of a Rule is []", METHODS),
    "methods that are none": (lambda: Rule("/a", methods=["GET "]), "methods of a Rule is ['GET ']", METHODS),
    "methods of another type": (lambda: Rule("/a", methods=[None]), "methods of a Rule is [None]", METHODS),  # type: ignore[list-item]
    "a number as methods": (lambda: Rule("/a", methods=5), "methods of a Rule is 5", METHODS),  # type: ignore[arg-type]
    "methods used up by reading": (lambda: Rule("/a", methods=iter(["GET"])), "methods of a Rule is <", METHODS),  # type: ignore[arg-type]
    "a text as flag": (
        lambda: Rule("/a", allow_anonymous="no"),
        "allow_anonymous of a Rule is 'no'",
        f"{FLAG} or None",
    ),  # type: ignore[arg-type]
    "a number as flag": (lambda: Rule("/a", allow_restricted=1), "allow_restricted of a Rule is 1", f"{FLAG} or None"),  # type: ignore[arg-type]
    "a text as profile": (lambda: Rule("/a", profile="no"), "profile of a Rule is 'no'", FLAG),  # type: ignore[arg-type]
    "none as profile": (lambda: Rule("/a", profile=None), "profile of a Rule is None", FLAG),  # type: ignore[arg-type]
    "a check that is none": (lambda: Rule("/a", check=True), "check of a Rule is True", "; it must be a function"),  # type: ignore[arg-type]
    "a coroutine check": (
        lambda: Rule("/a", check=coroutine_check),  # type: ignore[arg-type]
        "check of a Rule is the coroutine function <",
        PLAIN_FUNCTION,
    ),
    "a coroutine check, bound": (
        lambda: Rule("/a", check=functools.partial(coroutine_check)),  # type: ignore[arg-type]
        "check of a Rule is the coroutine function functools.partial(",
        PLAIN_FUNCTION,
    ),
    "an object with a coroutine": (
        lambda: Rule("/a", check=CoroutineCheck()),  # type: ignore[arg-type]
        "check of a Rule is the coroutine function <",
        PLAIN_FUNCTION,
    ),
    "public with a check": (lambda: Rule("/a", "public", check=always), "Rule('/a', 'public')", NO_USER),
    "public with a profile": (lambda: Rule("/a", "public", profile=True), "Rule('/a', 'public')", NO_USER),
    "public and anonymous": (lambda: Rule("/a", "public", allow_anonymous=True), "Rule('/a', 'public')", NO_USER),
    "public and restricted": (lambda: Rule("/a", "public", allow_restricted=True), "Rule('/a', 'public')", NO_USER),
}


@pytest.mark.parametrize(("make", "begins", "ends"), WRONG.values(), ids=WRONG)
def test_a_wrong_rule_is_refused_where_it_is_written(make: Callable[[], object], begins: str, ends: str) -> None:
    """The complaint names the setting, what it was, and what would be right."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(begins)
    assert str(caught.value).endswith(ends)


def test_a_rule_shows_what_it_is_and_compares_by_value() -> None:
    rule = Rule("/a/*", "optional", methods=["get"])
    assert rule == Rule("/a/*", "optional", methods=("HEAD", "GET"))
    assert rule != Rule("/a/*", "optional")
    assert "path='/a/*', access='optional'" in repr(rule)
    with pytest.raises(AttributeError):
        rule.access = "public"  # type: ignore[misc]


@pytest.mark.parametrize("good", [always, bool, functools.partial(always), User, lambda _: True], ids=as_id)
def test_a_plain_function_is_anything_that_both_doors_can_call(good: Any) -> None:
    assert plain_function("x", good) is good


@pytest.mark.parametrize("path", ["/.well-known/**", "/a/", "/**", "/", "/*", "/a b", "/a;b", "/..a", "/%41"])
def test_a_path_that_is_unusual_but_right(path: str) -> None:
    assert Rule(path).path == path
