"""Threats E8, E9 and E11: one target and one set of rules give one outcome in both middlewares, for any user."""

from __future__ import annotations

from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackauth_middleware import ConfigError, Rule, StackAuthConfig, User
from stackauth_middleware._core.rules import reject_hidden
from tests.unit.core.helpers import ANONYMOUS, PROJECT, RESTRICTED, SIGNERS, bounded
from tests.unit.drive import asgi, environ_of, http_scope, wsgi

from .corpus import signed
from .issuer import CountingIssuer

NAME = "x-stack-access-token"


def is_admin(user: User) -> bool:
    return user.display_name == "admin"


WHO: dict[str, dict[str, str]] = {
    "no user": {},
    "garbage": {NAME: "garbage"},
    "member": {NAME: signed(name="member")},
    "admin": {NAME: signed(name="admin")},
    "restricted": {NAME: signed(RESTRICTED, signer=SIGNERS[RESTRICTED][0])},
    "anonymous": {NAME: signed(ANONYMOUS, signer=SIGNERS[ANONYMOUS][0])},
}

ENCODED = """
    %2e %2E%2e %2f %2F %252f %252e %5c %00 %0a %0d %09 %20 %3f %23 %25
""".split()
OCTETS = ["%ff", "%c3%a9", "%c0%ae", "%ef%bf%bd", "%ed%a0%80", "%41", "%61dmin", "adm%69n"]
WORDS = ["admin", "public", "ADMIN", "PUBLIC", "r/", "//", "..", ";x", "..;", ".;"]
PIECES = st.sampled_from([*"//////abr.;*~:@%A\\", *WORDS, *ENCODED, *OCTETS])
TARGETS = st.lists(PIECES, min_size=1, max_size=9).map(
    lambda pieces: ("" if pieces[0].startswith("/") else "/") + "".join(pieces)
) | st.sampled_from(["*", "admin", "http://h/admin", "", "/" + "a/" * 700 + "..", "//" + "%2f" * 600])
EXACT = ["/", "/*", "/a", "/a/", "/a/*", "/admin", "/public", "/*/admin", "/b/a", "/A", "/\xe9"]
PATTERNS = st.sampled_from([*EXACT, "/**", "/a/**", "/admin/**", "/public/**", "/r/**"])
FLAG = st.sampled_from([None, None, True, False])


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    access = draw(st.sampled_from(["public", "optional", "required"]))
    methods = draw(st.sampled_from([None, None, ["GET"], ["POST"]]))
    if access == "public":
        return Rule(draw(PATTERNS), "public", methods=methods)
    return Rule(
        draw(PATTERNS),
        "optional" if access == "optional" else "required",
        methods=methods,
        allow_restricted=draw(FLAG),
        allow_anonymous=draw(FLAG),
        check=draw(st.sampled_from([None, is_admin])),
    )


def configs(*root_paths: str) -> st.SearchStrategy[StackAuthConfig]:
    return st.builds(
        lambda rules, access, root_path: StackAuthConfig(
            project_id=PROJECT, rules=rules, default_access=access, root_path=root_path
        ),
        st.lists(rules(), max_size=4).filter(_none_is_hidden),
        st.sampled_from(["required", "optional", "public"]),
        st.sampled_from(root_paths),
    )


def _none_is_hidden(rules: list[Rule]) -> bool:
    try:
        reject_hidden(rules)
    except ConfigError:
        return False
    return True


CONFIGS = configs("", "", "/r", "scope")
METHODS = st.sampled_from(["GET", "HEAD", "POST", "post", "OPTIONS"])


def through_both(
    config: StackAuthConfig, target: str, method: str, who: str, root_path: str = ""
) -> tuple[tuple[int, str], tuple[int, str]]:
    """Return status and code of both middlewares for a raw `target` below `root_path`, as servers decode it.

    The ASGI path holds the root path, and data that are no UTF-8 are replaced; WSGI's PATH_INFO is
    data as latin-1 and does not.
    """
    headers = [(name.encode(), value.encode()) for name, value in WHO[who].items()]
    path = root_path + unquote(target)
    one = asgi(http_scope(path, headers, method=method, root_path=root_path), config=config)
    raw = unquote_to_bytes(target).decode("latin-1")
    other = wsgi(environ_of(raw, WHO[who], REQUEST_METHOD=method, SCRIPT_NAME=root_path), config=config)
    if one.reached and other.reached and not root_path:
        assert one.reached[0]["stackauth.user"] == other.reached[0]["stackauth.user"]
    return (one.status, one.headers.get("www-authenticate", "")), (
        other.status,
        other.headers.get("www-authenticate", ""),
    )


@settings(bounded, max_examples=250)
@given(CONFIGS, TARGETS, METHODS, st.sampled_from(sorted(WHO)))
def test_e8_asgi_and_wsgi_apply_the_same_policy(
    issuer: CountingIssuer, config: StackAuthConfig, target: str, method: str, who: str
) -> None:
    """For any target, rules, method, setting ``root_path`` and user."""
    by_asgi, by_wsgi = through_both(config, target, method, who)
    assert by_asgi == by_wsgi
    assert by_asgi[0] in (200, 401, 403)


@settings(bounded, max_examples=150)
@given(configs("/r", "scope"), TARGETS, st.sampled_from(sorted(WHO)))
def test_e9_asgi_and_wsgi_apply_the_same_policy_below_a_mount_point(
    issuer: CountingIssuer, config: StackAuthConfig, target: str, who: str
) -> None:
    """The server separates SCRIPT_NAME from PATH_INFO; ASGI's path contains the root path.

    A target without a slash in front is not below it, so ASGI may see a path of another app: of two not plain ones.
    """
    by_asgi, by_wsgi = through_both(config, target, "GET", who, "/r")
    if target.startswith("/"):
        assert by_asgi == by_wsgi
    else:
        assert by_asgi[0] != 200 or by_wsgi[0] == 200 or not target


@settings(bounded, max_examples=300)
@given(CONFIGS, TARGETS, METHODS)
@example(StackAuthConfig(project_id=PROJECT, rules=[Rule("/admin", check=is_admin)]), "/%c0%ae/admin", "GET")
def test_e8_policy_depends_on_the_decoded_path(config: StackAuthConfig, target: str, method: str) -> None:
    """Both middlewares decode a target to one path, so to one policy; HEAD has the policy of GET."""
    by_asgi = unquote(target) or "/"
    by_wsgi = unquote_to_bytes(target).decode("utf-8", "replace") or "/"
    assert by_asgi == by_wsgi
    lower = config.policy(method.lower(), by_asgi, "")
    assert lower.stricter(config.policy(method, by_asgi, ""))[:4] == lower[:4]
    get, head = (config.policy(each, by_asgi, "") for each in ("GET", "HEAD"))
    assert get == head


CLOSED = {"no user": 401, "garbage": 401, "member": 403, "admin": 200, "restricted": 403, "anonymous": 401}
ANSWERS: dict[str, dict[str, int]] = {
    "/public": dict.fromkeys(WHO, 200),
    "/x": {**CLOSED, "member": 200},
    "/admin": CLOSED,
    "/admin%0a": CLOSED,
    "//admin": CLOSED,
    "/public/..%2fadmin": CLOSED,
    "/public%252f..%252fadmin": CLOSED,
}


@pytest.mark.parametrize("target", ANSWERS)
def test_e8_the_answers_themselves(target: str, issuer: CountingIssuer) -> None:
    """Both middlewares could agree on a wrong outcome."""
    config = StackAuthConfig(project_id=PROJECT, rules=[Rule("/public/**", "public"), Rule("/admin", check=is_admin)])
    for who, status in ANSWERS[target].items():
        by_asgi, by_wsgi = through_both(config, target, "GET", who)
        assert by_asgi[0] == by_wsgi[0] == status, who
