"""Access rules: matching, paths that are not plain, and policies."""

from __future__ import annotations

import functools
import re
import time
import timeit
import tracemalloc
from collections.abc import Callable
from functools import reduce
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackauth_middleware._core.paths import is_plain
from stackauth_middleware._core.policy import Permission, Policy
from stackauth_middleware._core.rules import Matcher, Rule, reject_hidden
from stackauth_middleware._core.users import User
from stackauth_middleware.errors import ConfigError

from .helpers import bounded
from .test_paths import NOT_PLAIN, PLAIN
from .test_policy import POLICIES, STRICTNESS, TEAM, always, is_at_least

REQUIRED = Policy("required", profile=False, allow_restricted=False, allow_anonymous=False)
PUBLIC = Policy("public", profile=False, allow_restricted=False, allow_anonymous=False)


def access(rules: list[Rule], path: str, method: str = "GET", root_path: str = "", default: Policy = REQUIRED) -> str:
    return Matcher(tuple(rules), default)(method, path, root_path).access


# -- matching -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("/", ["/", ""], ["/a", "//", "/index"]),
        ("/a", ["/a"], ["/", "/A", "/a/", "/ab", "/a/b", "/b/a", "/a;x", "/a.json", "/a ", "/a\n", "/%61", "a"]),
        ("/a/b", ["/a/b"], ["/a", "/b", "/a/b/c", "/a/bc", "/a/c"]),
        ("/a/*", ["/a/b", "/a/b.c", "/a/b c", "/a/*"], ["/a", "/a/", "/a/b/c", "/b/c", "/ab/c", "/a/b\n"]),
        ("/a/{id}", ["/a/b", "/a/{id}"], ["/a", "/a/", "/a/b/c"]),
        ("/*/b", ["/a/b", "/b/b"], ["/b", "/a/a/b", "/a/c"]),
        ("/*", ["/a"], ["/", "/a/b"]),
        ("/a/**", ["/a", "/a/", "/a/b", "/a/b/c"], ["/", "/ab", "/b/a", "/A/b", "/a/b\nc"]),
        ("/a/*/c/**", ["/a/b/c", "/a/b/c/d/e"], ["/a/c", "/a/b/d", "/a/b/b/c"]),
        ("/**", ["/", "", "/a", "/a/b"], ["/a\n/b", "//", "/a//b", "/a/.", "*"]),
        ("/a.b+c", ["/a.b+c"], ["/aXb+c", "/a.bbc"]),
        ("/caf\u00e9", ["/caf\u00e9"], ["/cafe", "/caf\u0065\u0301", "/CAF\u00c9"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_pattern_matches_whole_segments_in_its_own_case(pattern: str, matches: list[str], others: list[str]) -> None:
    rules = [Rule(pattern, "public")]
    assert [path for path in matches if access(rules, path) != "public"] == []
    assert [path for path in others if access(rules, path) != "required"] == []


def test_first_rule_that_matches_wins() -> None:
    rules = [Rule("/a/b", "public"), Rule("/a/**", "required"), Rule("/**", "optional")]
    found = [access(rules, path, default=PUBLIC) for path in ("/a/b", "/a/c", "/a", "/c")]
    assert found == ["public", "required", "required", "optional"]
    assert access(rules[::-1], "/a/b", default=PUBLIC) == "optional"


def test_default_holds_where_no_rule_matches() -> None:
    assert Matcher((), REQUIRED)("GET", "/x", "") == REQUIRED
    assert Matcher((Rule("/a", "public"),), PUBLIC)("GET", "/x", "") == PUBLIC


@pytest.mark.parametrize(
    ("methods", "asked", "matches"),
    [
        (None, ["GET", "post", "WEBSOCKET", "PURGE"], True),
        (["WEBSOCKET"], ["WEBSOCKET", "websocket", "GET"], False),
        (["GET"], ["GET", "HEAD"], True),
        (["GET"], ["get", "gEt", "head"], False),
        (["get"], ["GET"], True),
        (["GET"], ["POST", "OPTIONS", "WEBSOCKET", "GET ", ""], False),
        (["HEAD"], ["GET"], False),
        (["POST", "put"], ["POST", "PUT"], True),
        ({"DELETE"}, ["DELETE"], True),
    ],
    ids=str,
)
def test_rule_opens_its_methods_in_upper_case_and_get_includes_head(
    methods: list[str] | None, asked: list[str], matches: bool
) -> None:
    rules = [Rule("/a", "public", methods=methods)]
    assert {access(rules, "/a", method) == "public" for method in asked} == {matches}


@pytest.mark.parametrize("method", ["GET", "get", "Get", "head"])
def test_rule_closes_its_methods_in_any_case(method: str) -> None:
    """Flask and Bottle route ``get`` as GET."""
    match = Matcher([Rule("/a", methods=["GET"], check=always)], PUBLIC)
    assert match(method, "/a", "").checks == (always,)
    assert match(method, "/a", "").access == match(method, "/a//", "").access == "required"
    assert match(method, "/a//", "").every_rule


def test_rule_asks_for_a_permission_in_the_team_that_the_path_names() -> None:
    match = Matcher([Rule("/a/{id}/**", permission="read", team="id"), Rule("/b", permission="$write")], PUBLIC)
    assert match("GET", f"/A/{TEAM.upper()}/x/", "").permissions == (Permission("read", TEAM),)
    assert match("GET", f"/r/a/{TEAM}", "/r").permissions == (Permission("read", TEAM),)
    assert match("GET", "/b", "").permissions == (Permission("$write"),)
    without_team = Permission("read", segment=1)
    assert match("GET", "/a/7/x", "").permissions == match("GET", "/a/7/", "").permissions == (without_team,)
    assert set(match("GET", f"//a/{TEAM}", "").permissions) == {without_team, Permission("$write")}


def test_path_accepts_the_api_keys_that_each_of_its_policies_accepts() -> None:
    default = REQUIRED._replace(api_keys=frozenset({"user"}))
    rules = [Rule("/a", api_keys=["user", "team"]), Rule("/A", api_keys=["team"]), Rule("/b", api_keys=())]
    match = Matcher(rules, default)
    found = {path: set(match("GET", path, "").api_keys) for path in ("/a", "/A", "/b", "/c", "//a")}
    assert found == {"/a": {"user", "team"}, "/A": {"team"}, "/b": set(), "/c": {"user"}, "//a": set()}


def test_rule_for_other_methods_is_skipped() -> None:
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
def test_flag_of_none_is_filled_in_by_the_default(
    rule: Rule, default: tuple[bool, bool], held: tuple[bool, bool]
) -> None:
    policy = Matcher((rule,), Policy("required", False, *default))("GET", "/a", "")
    assert (policy.allow_restricted, policy.allow_anonymous) == held


def test_policy_holds_the_demands_of_its_rule() -> None:
    policy = Matcher((Rule("/a", "optional", profile=True, check=always),), REQUIRED)("GET", "/a", "")
    assert policy == Policy("optional", True, False, False, (always,))


# -- trailing slashes ---------------------------------------------------------------------------------


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
def test_stricter_of_a_path_with_and_without_trailing_slash_holds(
    rules: list[Rule], default: Policy, path: str, held: str
) -> None:
    """Some routers drop a trailing slash and some require it, so a rule closes both spellings."""
    assert access(rules, path, default=default) == held


# -- root paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "root_path", "below"),
    [
        ("/r/a", "/r", "/a"),
        ("/r", "/r", "/"),
        ("/r/r/a", "/r", None),
        ("/a", "/r", "/a"),
        ("/r/s/a", "/r/s", "/a"),
        ("/r/v1/r-docs", "/r", "/v1/r-docs"),
        ("/ra", "/r", None),
        ("/a/r/b", "/r", None),
        ("/r/a", None, None),
    ],
)
def test_root_path_is_removed_once_at_the_start_on_a_segment_boundary(
    path: str, root_path: str | None, below: str | None
) -> None:
    """Litestar cuts the path at a root path anywhere in it, and BlackSheep removes a repeated one twice."""
    match = Matcher([Rule(below or "/**", "public")], REQUIRED)
    assert match("GET", path, root_path).access == ("public" if below else "required")


# -- plain paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_path_that_is_not_plain_has_to_meet_every_rule(path: str) -> None:
    rules = [
        Rule("/**", "public"),
        Rule("/x", "optional", check=always),
        Rule("/y", allow_anonymous=False, profile=True),
    ]
    lenient = Policy("public", False, True, True)
    assert Matcher(rules, lenient)("GET", path, "") == Policy("required", True, True, False, (always,), every_rule=True)


@pytest.mark.parametrize("path", PLAIN)
def test_plain_path_falls_under_the_rule_that_matches(path: str) -> None:
    assert Matcher([Rule("/**", "public"), Rule("/x")], REQUIRED)("GET", path, "") == PUBLIC


@pytest.mark.parametrize("path", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_any_path_passes_where_no_rule_of_its_method_closes_anything(path: str) -> None:
    rules = [Rule("/x", methods=["POST"]), Rule("/y", methods=["WEBSOCKET"])]
    match = Matcher(rules, PUBLIC)
    assert match("GET", path, "").access == "public"
    assert match("PURGE", path, "").access == "public"
    assert match("POST", path, "").access == "required"
    assert match("", path, "", websocket=True).access == "required"


@pytest.mark.parametrize("path", ["/ADMIN", "/Admin/", "/admin/", "/adm\u0131n", "/adm\u0130n", "/ADM\u0130N/"])
def test_rule_closes_in_any_case_and_with_a_trailing_slash(path: str) -> None:
    assert Matcher([Rule("/admin", check=always)], PUBLIC)("GET", path, "").checks == (always,)
    assert access([Rule("/admin", "public")], path) == "required"


@pytest.mark.parametrize(("pattern", "path"), [("/users/*", "/users/"), ("/users/{id}", "/USERS/"), ("/*", "/")])
def test_star_closes_an_empty_last_segment(pattern: str, path: str) -> None:
    """Falcon routes ``/users/`` to ``/users/{name}`` with an empty name."""
    rules = [Rule(pattern, check=always)]
    assert Matcher(rules, PUBLIC)("GET", path, "").checks == (always,)
    assert access([Rule(pattern, "public")], path) == "required"
    assert access([Rule(path, "public"), *rules], path) == "public"


def test_websocket_entry_matches_no_http_method() -> None:
    match = Matcher([Rule("/feed", "public", methods=["WebSocket"])], REQUIRED)
    assert match("WEBSOCKET", "/feed", "").access == "required"
    assert match("anything", "/feed", "", websocket=True).access == "public"
    assert match("GET", "/feed", "").access == "required"
    match = Matcher([Rule("/feed", methods=["WEBSOCKET"])], PUBLIC)
    assert match("WEBSOCKET", "/feed", "").access == "public"
    assert match("WEBSOCKET", "//feed", "").access == "public"


SEGMENTS = st.sampled_from(
    ["a", "A", "b", "admin", "x", "", ".", "..", ";x", "a;x", "%2e", "a\\b", "x\ufffd", " a", "\xe9", TEAM]
)
PATHS = st.builds(
    lambda start, segments, end: start + "/".join(segments) + end,
    st.sampled_from(["/", "/", "/", "//", ""]),
    st.lists(SEGMENTS, max_size=4),
    st.sampled_from(["", "/", "\n"]),
)
PATTERNS = st.sampled_from(
    [
        "/",
        "/**",
        "/*",
        "/a",
        "/a/",
        "/A",
        "/a/**",
        "/a/*",
        "/a/{id}",
        "/admin",
        "/admin/**",
        "/*/admin",
        "/b/**",
        "/a/b",
        "/b/*/admin",
        "/*/b/*",
        "/b/a/",
        "/{id}/**",
        "/b/{id}/x",
    ]
)


def _check_number(number: int) -> Callable[[User], bool]:
    return functools.partial(lambda number, user: bool(number), number)


CHECKS = [_check_number(number) for number in range(3)]


@st.composite
def rule_lists(draw: st.DrawFn) -> list[Rule]:
    rules = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(list(STRICTNESS)))
        flags = st.none() if kind == "public" else st.none() | st.booleans()
        path = draw(PATTERNS)
        permission = draw(st.sampled_from([None, "read", "write"])) if kind == "required" else None
        rules.append(
            Rule(
                path,
                kind,
                methods=draw(st.sampled_from([None, ["GET"], ["POST"]])),
                profile=kind != "public" and draw(st.booleans()),
                allow_restricted=draw(flags),
                allow_anonymous=draw(flags),
                check=None if kind == "public" else draw(st.sampled_from([None, *CHECKS])),
                special_characters=path in ("/**", "/a/**") and draw(st.booleans()),
                api_keys=None if kind == "public" else draw(st.sampled_from([None, (), ["user"], ["user", "team"]])),
                permission=permission,
                team="id" if permission and "{id}" in path and draw(st.booleans()) else None,
            )
        )
    return rules


DEFAULTS = POLICIES.map(lambda each: each._replace(profile=False, checks=(), permissions=()))
METHOD_NAMES = st.sampled_from(["GET", "HEAD", "post", "PURGE"])


def _demanded(rule: Rule, default: Policy) -> Policy:
    restricted = default.allow_restricted if rule.allow_restricted is None else rule.allow_restricted
    anonymous = default.allow_anonymous if rule.allow_anonymous is None else rule.allow_anonymous
    at = rule.path.split("/")[1:].index("{id}") if rule.team else None
    return Policy(
        rule.access,
        rule.profile,
        restricted,
        anonymous,
        (rule.check,) if rule.check else (),
        (Permission(rule.permission, segment=at),) if rule.permission else (),
        default.api_keys if rule.api_keys is None else frozenset(rule.api_keys),
    )


def in_path(permission: Permission, path: str) -> tuple[str, str | None]:
    """Return the id of a permission and its team, None for the project and ``"?"`` for no team."""
    if permission.segment is None:
        return permission.id, permission.team_id
    segment = path.split("/")[permission.segment + 1]
    try:
        return permission.id, str(UUID(segment)) if str(UUID(segment)) == segment.lower() else "?"
    except ValueError:
        return permission.id, "?"


def first_by_regex(rules: list[Rule], default: Policy, method: str, path: str, *, fold: bool, empty: bool) -> Policy:
    """Return the policy of the first rule that matches, by regular expressions: the product compares segments.

    Args:
        fold: whether the rule's case and trailing slash are ignored.
        empty: whether ``*`` matches an empty segment; the trailing slash counts then.
    """
    for rule in rules:
        want = rule.path.lower() if fold else rule.path
        if fold and not empty and want != "/":
            want = want.removesuffix("/")
        pattern = re.sub(r"/\\\*\\\*\Z", "(?:/.*)?", re.escape(want))
        pattern = re.sub(r"\\\*(?!\))|\\\{id\\\}", "[^/]*" if empty else "[^/]+", pattern)
        wanted = rule.methods is None or ("GET" if method == "HEAD" else method) in rule.methods
        if wanted and re.fullmatch(pattern, path):
            return _demanded(rule, default)
    return default


@bounded
@given(
    rule_lists(),
    DEFAULTS,
    st.lists(st.sampled_from(["a", "A", "b", "admin", "x", TEAM, TEAM.upper()]), max_size=4),
    st.booleans(),
    METHOD_NAMES,
)
def test_plain_path_falls_under_the_stricter_of_exact_and_folded_match(
    rules: list[Rule], default: Policy, segments: list[str], slash: bool, method: str
) -> None:
    path = "/" + "/".join(segments) + ("/" if slash and segments else "")
    without_slash = path.lower().removesuffix("/") or "/"
    readings = []
    for each in {method.upper(), method}:  # no rule names a method that is not in upper case
        readings.append(first_by_regex(rules, default, each, path, fold=False, empty=False))
        readings.append(first_by_regex(rules, default, each, without_slash, fold=True, empty=False))
        if path.endswith("/"):
            readings.append(first_by_regex(rules, default, each, path.lower(), fold=True, empty=True))
    expected = reduce(Policy.stricter, readings)
    found = Matcher(rules, default)(method, path, "")
    assert found[:4] == expected[:4]
    assert set(found.checks) == set(expected.checks)
    assert {in_path(each, path) for each in found.permissions} == {in_path(each, path) for each in expected.permissions}
    assert found.api_keys == frozenset.intersection(*(each.api_keys for each in readings))


@settings(bounded, max_examples=400)
@given(rule_lists(), DEFAULTS, PATHS, METHOD_NAMES)
@example([Rule("/admin", check=always)], PUBLIC, "/a/../admin", "GET")
def test_path_that_is_not_plain_is_at_least_as_closed_as_any_plain_one(
    rules: list[Rule], default: Policy, path: str, method: str
) -> None:
    """So it does not matter which plain path a router takes it for."""
    if is_plain(path or "/") or any(rule.special_characters for rule in rules):
        return
    match = Matcher(rules, default)
    policy = match(method, path, "")
    for other in (*("/", "/a", "/A", "/a/", "/a/b", "/a/x", "/admin", "/x/admin", "/b/a"), *("/x", f"/b/{TEAM}/x")):
        assert is_at_least(policy, match(method, other, "")), other


# -- special characters -------------------------------------------------------------------------------


FILES = Rule("/files/**", "public", special_characters=True)


@pytest.mark.parametrize(
    "path", ["/files/a;b", "/files/a#1?", "/files/100%/ a ", "/files/cafe\u0301/", "/files/x/..y;z"]
)
def test_rule_with_special_characters_matches_file_names(path: str) -> None:
    assert access([FILES], path) == "public"
    assert access([Rule("/files/**", "public")], path) == "required"


@pytest.mark.parametrize(
    "path",
    [
        "/files;x",
        "/files;x/a",
        "/x;y/files/a",
        "/files//a",
        "/files/a//",
        "/files/../admin;x",
        "/files/..;/admin",
        "/files/.. /admin",
        "/files/ ../admin",
        "/files/..#/admin",
        "/files/a;b\\c",
        "/files/a;b\n",
        "/files/a;\ufffd",
        "/files/a%2fb",
        "/files/a%252Fb",
        "/files/%2e%2e/a",
        "/files/a%5Cb",
    ],
)
def test_special_characters_open_nothing_else(path: str) -> None:
    policy = Matcher([FILES, Rule("/admin", check=always)], REQUIRED)("GET", path, "")
    assert policy == REQUIRED._replace(checks=(always,), every_rule=True)


def test_prefix_of_a_rule_with_special_characters_is_matched_exactly() -> None:
    rules = [FILES, Rule("/admin", check=always)]
    assert Matcher(rules, REQUIRED)("GET", "/files", "") == PUBLIC
    for path in ("/FILES/a;b", "/Files/a;b", "/files;/a;b"):
        assert Matcher(rules, REQUIRED)("GET", path, "").checks == (always,)
        assert access(rules, path) == "required"


def test_special_characters_in_the_root_path_are_not_opened() -> None:
    match = Matcher([FILES], REQUIRED)
    assert match("GET", "/r/files/a;b", "/r") == PUBLIC
    assert match("GET", "/r;x/files/a;b", "/r;x") == REQUIRED._replace(every_rule=True)


def test_path_with_special_characters_has_to_meet_every_earlier_rule() -> None:
    """A router that strips ``;x`` would reach the path of the other rule."""
    rules = [
        Rule("/files/private/**", check=always),
        Rule("/*/secret", check=bool),
        FILES,
        Rule("/later", check=len),
    ]
    for path in ("/files/private;x/a", "/files/a;b", "/files/private/a;b"):
        assert Matcher(rules, REQUIRED)("GET", path, "").checks == (always, bool)


def test_special_characters_need_a_path_that_ends_in_two_stars() -> None:
    for path in ("/files", "/files/*", "/{id}/**", "/*/x/**"):
        with pytest.raises(ConfigError, match="special_characters"):
            Rule(path, special_characters=True)


# -- cost ---------------------------------------------------------------------------------------------


def test_policy_cache_is_bounded_in_entries_and_bytes() -> None:
    match = Matcher([Rule("/a/**", "public", methods=["GET"])], REQUIRED)
    tracemalloc.start()
    try:
        for number in range(3000):
            match(f"X{number}" + "M" * 10_000, "/a", "")
            match("GET", f"/{number}" + "x" * 10_000, "")
            match("GET", "/a", f"/{number}" + "x" * 10_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000
    assert match("GET", "/a/x", "") is match("GET", "/a/x", "")


@pytest.mark.parametrize("unit", ["/", ";", "a/", "../", "\\", "%25", " ", "/ ", "/.", "%2", "A", "\u0130"])
def test_cost_of_a_path_is_linear_in_its_length(unit: str) -> None:
    """16 times the length takes 16 times the work; quadratic work would take 256 times."""
    rules = [Rule("/*/*/*/x"), Rule("/%s/**" % ("a/" * 20 + "b")), Rule("/f/**", "public", special_characters=True)]
    match = Matcher(rules, PUBLIC)

    def cost(length: int) -> float:
        path = "/f/" + unit * (length // len(unit))
        return min(timeit.repeat(lambda: match("GET", path, ""), number=1, repeat=15, timer=time.process_time))

    assert cost(64_000) < 128 * max(cost(4_000), 2e-5)


# -- parameters and hidden rules ----------------------------------------------------------------------


def test_parameters_of_a_rule_are_the_indexes_of_named_segments() -> None:
    assert Rule("/teams/{team_id}/*/{user}/**").parameters == {"team_id": 1, "user": 3}
    assert Rule("/a/*").parameters == {}


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Rule("/a"), Rule("/a", "public")),
        (Rule("/a/*"), Rule("/a/b")),
        (Rule("/a/{x}"), Rule("/a/{y}")),
        (Rule("/a/{x}"), Rule("/a/*")),
        (Rule("/a/**"), Rule("/a")),
        (Rule("/a/**"), Rule("/a/")),
        (Rule("/a/**"), Rule("/a/b/*")),
        (Rule("/a/**"), Rule("/a/b/**")),
        (Rule("/**"), Rule("/")),
        (Rule("/**"), Rule("/**", methods=["GET"])),
        (Rule("/a", methods=["GET", "POST"]), Rule("/a", methods=["HEAD"])),
    ],
    ids=lambda rule: f"{rule.path} {sorted(rule.methods or ())}",
)
def test_hidden_rule_is_a_config_error(earlier: Rule, later: Rule) -> None:
    with pytest.raises(ConfigError, match="can never decide: the earlier Rule"):
        reject_hidden([Rule("/first"), earlier, Rule("/between", "public"), later])


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Rule("/a"), Rule("/A")),
        (Rule("/a"), Rule("/a/")),
        (Rule("/a/b"), Rule("/a/*")),
        (Rule("/a/*"), Rule("/a/**")),
        (Rule("/a/*"), Rule("/a/")),
        (Rule("/a/*"), Rule("/a/b/c")),
        (Rule("/*/b"), Rule("/a/*")),
        (Rule("/a/b/**"), Rule("/a/**")),
        (Rule("/a", methods=["GET"]), Rule("/a")),
        (Rule("/a", methods=["GET"]), Rule("/a", methods=["GET", "POST"])),
        (Rule("/a/**", "public"), Rule("/a/**", "public", special_characters=True)),
    ],
    ids=lambda rule: f"{rule.path} {sorted(rule.methods or ())}",
)
def test_rule_that_can_still_match_first_is_accepted(earlier: Rule, later: Rule) -> None:
    reject_hidden([earlier, later])


@bounded
@given(rule_lists(), st.lists(st.sampled_from(["a", "A", "b", "admin", "x", ""]), min_size=1, max_size=4), METHOD_NAMES)
def test_hidden_rule_never_matches_first(rules: list[Rule], segments: list[str], method: str) -> None:
    try:
        reject_hidden(rules)
    except ConfigError:
        without = list(rules)
        for at in range(len(rules) - 1, 0, -1):
            try:
                reject_hidden(rules[: at + 1])
            except ConfigError:
                try:
                    reject_hidden(rules[:at])
                except ConfigError:
                    continue
                del without[at]
                break
        path = "/" + "/".join(segments)
        one, other = (first_by_regex(each, PUBLIC, method, path, fold=False, empty=False) for each in (rules, without))
        assert one == other


# -- wrong rules --------------------------------------------------------------------------------------


async def coroutine_check(_: User) -> bool:
    return True


class CoroutineCheck:
    async def __call__(self, _: User) -> bool:
        return True


ACCESS = "; it must be one of 'required', 'optional', 'public'"
FLAG = "; it must be True or False"
FLAG_OR_NONE = "; it must be True, False or None"
NO_USER = " looks at no user, so profile, allow_*, check and api_keys cannot hold; use access 'optional' or 'required'"
KEY_TYPES = "; it must be a list with 'user', 'team' or both, or empty"
DOLLAR = "with a '$' before those that Stack Auth defines"
PLAIN_FUNCTION = "; it must be a plain function, which WSGI can call as well"

WRONG: dict[str, tuple[Callable[[], object], str, str]] = {
    "no path": (lambda: Rule("a"), "path of a Rule is 'a'", "control characters and \\ ; # ? %"),
    "an unregistered method": (
        lambda: Rule("/a", methods=["GTE"]),
        "methods of a Rule is ['GTE']",
        "or 'WEBSOCKET'",
    ),
    "another access": (lambda: Rule("/a", "private"), "access of a Rule is 'private'", ACCESS),
    "no access": (lambda: Rule("/a", None), "access of a Rule is None", ACCESS),
    "a list as access": (lambda: Rule("/a", ["public"]), "access of a Rule is ['public']", ACCESS),
    "a text as flag": (lambda: Rule("/a", allow_anonymous="no"), "allow_anonymous of a Rule is 'no'", FLAG_OR_NONE),
    "a number as flag": (lambda: Rule("/a", allow_restricted=1), "allow_restricted of a Rule is 1", FLAG_OR_NONE),
    "a text as profile": (lambda: Rule("/a", profile="no"), "profile of a Rule is 'no'", FLAG),
    "none as profile": (lambda: Rule("/a", profile=None), "profile of a Rule is None", FLAG),
    "a check that is none": (lambda: Rule("/a", check=True), "check of a Rule is True", "; it must be a function"),
    "a coroutine check": (
        lambda: Rule("/a", check=coroutine_check),
        "check of a Rule is the coroutine function <",
        PLAIN_FUNCTION,
    ),
    "a coroutine check, bound": (
        lambda: Rule("/a", check=functools.partial(coroutine_check)),
        "check of a Rule is the coroutine function functools.partial(",
        PLAIN_FUNCTION,
    ),
    "an object with a coroutine": (
        lambda: Rule("/a", check=CoroutineCheck()),
        "check of a Rule is the coroutine function <",
        PLAIN_FUNCTION,
    ),
    "public with a check": (lambda: Rule("/a", "public", check=always), "Rule('/a', 'public')", NO_USER),
    "public with a profile": (lambda: Rule("/a", "public", profile=True), "Rule('/a', 'public')", NO_USER),
    "public and anonymous": (lambda: Rule("/a", "public", allow_anonymous=True), "Rule('/a', 'public')", NO_USER),
    "public and API keys": (lambda: Rule("/a", "public", api_keys=["user"]), "Rule('/a', 'public')", NO_USER),
    "a text as types of keys": (lambda: Rule("/a", api_keys="user"), "api_keys of a Rule is 'user'", KEY_TYPES),
    "an unknown type of keys": (lambda: Rule("/a", api_keys=["x"]), "api_keys of a Rule is ['x']", KEY_TYPES),
    "no id of a permission": (lambda: Rule("/a", permission="Not Good"), "permission of a Rule is 'Not Good'", DOLLAR),
    "an empty permission": (lambda: Rule("/a", permission=""), "permission of a Rule is ''", DOLLAR),
    "an optional permission": (
        lambda: Rule("/a", "optional", permission="read"),
        "Rule('/a', 'optional') has a permission",
        "; use access 'required'",
    ),
    "a team that is no name": (
        lambda: Rule("/{id}", permission="read", team="{id}"),
        "team of a Rule is '{id}'",
        "as in '/teams/{team_id}'",
    ),
    "a team that the path does not name": (
        lambda: Rule("/{id}/*", permission="read", team="team_id"),
        "Rule('/{id}/*') has the team 'team_id'",
        "and {team_id} as a segment of its path",
    ),
    "a team without a permission": (lambda: Rule("/{id}", team="id"), "Rule('/{id}') has the team 'id'", "of its path"),
    "public and restricted": (lambda: Rule("/a", "public", allow_restricted=True), "Rule('/a', 'public')", NO_USER),
}


@pytest.mark.parametrize(("make", "begins", "ends"), WRONG.values(), ids=WRONG)
def test_wrong_argument_is_a_config_error_that_names_it(make: Callable[[], object], begins: str, ends: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(begins)
    assert str(caught.value).endswith(ends)


def test_rules_are_shown_and_compared_by_value() -> None:
    rule = Rule("/a/*", "optional", methods=["get"])
    assert rule == Rule("/a/*", "optional", methods=("HEAD", "GET"))
    assert rule != Rule("/a/*", "optional")
    assert "path='/a/*', access='optional'" in repr(rule)
    with pytest.raises(AttributeError):
        rule.access = "public"
