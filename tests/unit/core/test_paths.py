"""Plain paths, folding, and the path and mount point of a request."""

from __future__ import annotations

import re
import string
import sys
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.paths import (
    checked_root_path,
    folded,
    has_only_special_characters,
    is_plain,
    of_environ,
    of_scope,
    routes_on_script_name,
    stated_root_path,
)
from stackauth_middleware.errors import ConfigError

from .helpers import as_id, bounded

# -- plain paths --------------------------------------------------------------------------------------

NOT_PLAIN = {
    "no slash in front": "admin",
    "absolute form": "http://host/admin",
    "an asterisk": "*",
    "two slashes in front": "//admin",
    "two slashes inside": "/a//admin",
    "two slashes at the end": "/admin//",
    "slashes alone": "//",
    "a dot segment": "/./admin",
    "a dot segment at the end": "/admin/.",
    "two dots": "/public/../admin",
    "two dots at the end": "/public/..",
    "a space in front": "/ admin",
    "a space behind": "/admin ",
    "a space behind, inside": "/admin /x",
    "a no-break space behind": "/admin\xa0",
    "a newline": "/admin\n",
    "a NUL": "/admin\0",
    "a control character": "/ad\x1fmin",
    "a C1 control character": "/ad\x85min",
    "a line separator": "/admin\u2028",
    "a backslash": "/public\\admin",
    "parameters": "/admin;x=1",
    "a fragment": "/admin#x",
    "a query": "/admin?x",
    "a percent sign": "/%61dmin",
    "no UTF-8": "/admin\ufffd",
    "a surrogate": "/admin\udcff",
    "no NFC": "/cafe\u0301",
    "a Kelvin sign": "/\u212a",
}
PLAIN = [
    "/",
    "/a",
    "/a/",
    "/a/..b/c../.well-known/file.tar.gz/...",
    "/a:b/@c,d=e",
    "/a b/c  d",
    "/\u00e9/\u65e5",
    "/a~$&'()*+!",
]


@pytest.mark.parametrize("path", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_ambiguous_path_is_not_plain(path: str) -> None:
    assert not is_plain(path)


@pytest.mark.parametrize("path", PLAIN)
def test_unambiguous_path_is_plain(path: str) -> None:
    assert is_plain(path)


@pytest.mark.parametrize(
    "path", ["/", "/a b", "/a;v=1", "/100%", "/a%20b", "/a#b?c", "/caf\u0301", "/..a", "/a.", "/ a"]
)
def test_special_characters_are_no_separators(path: str) -> None:
    assert has_only_special_characters(path)


SEPARATORS = [
    *("//a", "/a//b", "/./a", "/a/..", "/a/ .. /b", "/a/..;x/b", "/a/.?b", "/a/..#", "/a\\b", "/a\n", "/a\x85"),
    *("/a%2fb", "/a%2Fb", "/a%2e", "/a%2E%2E/b", "/a%5cb", "/a%5Cb", "/a%252Fb", "/a%25252eb", "/\ufffd", "/\ud800"),
]


@pytest.mark.parametrize("path", SEPARATORS, ids=ascii)
def test_ambiguous_separator_or_segment_is_more_than_a_special_character(path: str) -> None:
    """A router may split or resolve it in another way than the matcher."""
    assert not has_only_special_characters(path)


# -- folding ------------------------------------------------------------------------------------------


def test_folding_covers_what_case_insensitive_regexes_and_lookups_take_for_ascii() -> None:
    for letter in "abcdefghijklmnopqrstuvwxyz":
        same = re.compile(letter, re.IGNORECASE)
        for character in map(chr, range(0x80, 0x3000)):
            if same.fullmatch(character) or character.lower() == letter or character.upper() == letter.upper():
                assert not is_plain("/" + character) or folded(character) == letter, hex(ord(character))


def test_folding_treats_ascii_alike_in_ascii_and_other_paths() -> None:
    assert folded("/Ab/\u00fc").startswith(folded("/aB/"))


# -- root path that an app states ---------------------------------------------------------------------


class Wrapper:
    """A middleware that keeps the wrapped app as `app`."""

    def __init__(self, app: Any) -> None:
        self.app = app


class FastAPI:
    root_path = "/api"


@pytest.fixture
def fastapi(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """Replace the module `fastapi` by a fake, and return its app."""
    monkeypatch.setitem(sys.modules, "fastapi", sys.modules[__name__])
    return FastAPI()


def test_root_path_of_a_fastapi_app_is_found_below_middlewares(fastapi: FastAPI) -> None:
    assert [stated_root_path(app) for app in (fastapi, Wrapper(fastapi), Wrapper(Wrapper(fastapi)))] == ["/api"] * 3
    assert [stated_root_path(app) for app in (None, object(), Wrapper(None))] == [""] * 3


def test_fastapi_app_is_found_below_at_most_31_middlewares(fastapi: FastAPI) -> None:
    app: Any = fastapi
    for _ in range(31):
        app = Wrapper(app)
    assert [stated_root_path(app), stated_root_path(Wrapper(app))] == ["/api", ""]


def test_search_for_the_fastapi_app_ends_where_wrappers_form_a_cycle(fastapi: FastAPI) -> None:
    loop = Wrapper(None)
    loop.app = loop
    assert stated_root_path(loop) == ""


def test_no_app_states_a_root_path_before_fastapi_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastapi", raising=False)
    assert stated_root_path(FastAPI()) == ""


@pytest.mark.parametrize("setting", ["", "scope", "/api"])
def test_setting_that_agrees_with_the_app_is_accepted(fastapi: FastAPI, setting: str) -> None:
    assert checked_root_path(fastapi, setting) == "/api"
    assert checked_root_path(object(), setting) == ""


def test_setting_that_contradicts_the_app_is_a_config_error(fastapi: FastAPI) -> None:
    with pytest.raises(ConfigError, match="root_path is '/v2', but the app has root_path='/api'"):
        checked_root_path(fastapi, "/v2")


# -- path of a scope ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "setting", "found"),
    [
        ({"path": "/a"}, "", ("/a", "")),
        ({"path": ""}, "", ("/", "")),
        ({}, "", ("/", "")),
        ({"path": "/a", "root_path": "/r"}, "", ("/a", None)),
        ({"path": "/r/a", "root_path": "/r"}, "/r", ("/r/a", "/r")),
        ({"path": "/a", "root_path": "/other"}, "/r", ("/a", None)),
        ({"path": "/a"}, "/r", ("/a", None)),
        ({"path": "/r/a", "root_path": "/r"}, "scope", ("/r/a", "/r")),
        ({"path": "/r/a", "root_path": "/r/"}, "scope", ("/r/a", None)),
        ({"path": "/r/m/a", "root_path": "/r/m", "app_root_path": "/r"}, "/r", ("/r/m/a", "/r/m")),
        ({"path": "/m/a", "root_path": "/m", "app_root_path": ""}, "", ("/m/a", "/m")),
        ({"path": "/m/a", "root_path": "/m", "app_root_path": "/x"}, "/x", ("/m/a", None)),
        ({"path": "/m/a", "root_path": "/m", "app_root_path": "/m"}, "", ("/m/a", None)),
    ],
    ids=as_id,
)
def test_root_path_has_to_be_the_one_of_the_setting(
    scope: dict[str, Any], setting: str, found: tuple[str, str | None]
) -> None:
    """Daphne takes it from a request header. What Starlette's `Mount` adds comes from routing and is trusted."""
    assert of_scope(scope, setting, "") == found


@pytest.mark.parametrize(
    ("claimed", "setting", "root_path"),
    [("", "", "/api"), ("/api", "", "/api"), ("/x", "", None), ("/x", "scope", None), ("/api", "/api", "/api")],
)
def test_root_path_that_the_app_states_wins(
    fastapi: FastAPI, claimed: str, setting: str, root_path: str | None
) -> None:
    scope = {"path": "/api/a", "root_path": claimed}
    assert of_scope(scope, setting, "/api") == ("/api/a", root_path)
    assert of_scope({**scope, "app": fastapi}, setting, "") == ("/api/a", root_path)


@pytest.mark.parametrize(
    ("path", "raw_path", "is_trusted"),
    [
        ("/a", b"/a", True),
        ("/a", b"/a?b", True),
        ("/a b", b"/a%20b", True),
        ("/\xe9", b"/%C3%A9", True),
        ("/", b"", True),
        ("/a", None, True),
        ("/a", "/b", True),  # no bytes: a server that gives text gives nothing that can be compared
        ("/a", b"/b", False),
        ("/a", b"/a/", False),
        ("/a", b"/%61%62", False),
        ("/a%2f", b"/a%252f", True),  # and not plain
        ("/a%", b"/a%", False),
        ("/a%zz", b"/a%zz", False),
        ("/\ufffd", b"/%ff", True),  # and not plain
        ("/a/b", b"/a/b", True),
        ("/a/b", b"/a%2Fb", False),  # one segment for routers that match the raw path
        ("/a/b", b"/a%2fb", False),
        ("/a\\", b"/a%5c", False),
        ("/a", b"/%61", False),  # another path for them
    ],
    ids=as_id,
)
def test_raw_path_has_to_decode_to_the_path(path: str, raw_path: object, is_trusted: bool) -> None:
    assert of_scope({"path": path, "raw_path": raw_path}, "", "") == (path, "" if is_trusted else None)


@pytest.mark.parametrize("escape", ["%%%02x", "%%%02X"])
def test_escape_that_no_client_has_to_write_is_not_trusted(escape: str) -> None:
    """Every character that RFC 3986 section 2.3 leaves unescaped, the slash and the backslash; no other one."""
    untrusted = {
        chr(code)
        for code in range(128)
        if of_scope({"path": "/" + chr(code), "raw_path": b"/" + (escape % code).encode()}, "", "")[1] is None
    }
    assert untrusted == set(string.ascii_letters + string.digits + "-._~" + "/\\")


@bounded
@given(st.lists(st.sampled_from([b"%40", b"%c3%A9", b"%3F", b"\\", b"\\x", b"%", b"%4", b"%zz", b"a", b"\n", b"\xff"])))
def test_raw_path_is_decoded_as_urllib_does_but_for_incomplete_escapes(parts: list[bytes]) -> None:
    raw_path = b"/" + b"".join(parts)
    decoded = unquote_to_bytes(raw_path).decode("utf-8", "replace")
    is_complete = not re.search(rb"%(?![0-9a-fA-F]{2})", raw_path)
    assert of_scope({"path": decoded, "raw_path": raw_path}, "", "")[1] == ("" if is_complete else None)


@pytest.mark.parametrize(
    ("path", "raw_path", "found"),
    [
        ("/a", b"/a/", ("/a/", "")),
        ("/b", b"/mount/b", ("/mount/b", "")),
        ("", b"/mount/", ("/mount/", "")),
        ("/", b"/mount", ("/mount", "")),
        ("/c", b"/mount/b", ("/mount/b", None)),
        ("b", b"/mount/b", ("/mount/b", None)),
        ("/b", None, ("/b", None)),
    ],
    ids=as_id,
)
def test_path_that_litestar_shortened_is_restored_from_the_raw_path(
    path: str, raw_path: bytes | None, found: tuple[str, str | None]
) -> None:
    assert of_scope({"path": path, "raw_path": raw_path, "litestar_app": object()}, "", "") == found


@pytest.mark.parametrize("name", ["path", "root_path", "app_root_path"])
def test_path_of_another_type_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match="a path that is no text"):
        of_scope({"path": "/a", name: 3}, "", "")


# -- path of an environ -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script_name", "setting", "root_path"),
    [
        ("", "", ""),
        ("/api", "", ""),
        ("/api", "scope", ""),
        ("/api", "/api", ""),
        ("", "/api", None),
        ("/x", "/api", None),
        ("/api/", "/api", None),
    ],
)
def test_script_name_has_to_be_the_setting_where_one_is_given(
    script_name: str, setting: str, root_path: str | None
) -> None:
    assert of_environ(script_name, setting) == root_path
    strict = None if (script_name, setting) == ("/api", "") else root_path
    assert of_environ(script_name, setting, is_routed=True) == strict


@pytest.mark.parametrize(
    ("module", "routes"),
    [("cherrypy._cptree", True), ("cherrypy.lib.x", True), ("cherrypyx", False), ("flask.app", False)],
)
def test_only_cherrypy_routes_on_script_name(module: str, routes: bool) -> None:
    assert routes_on_script_name(type("App", (), {"__module__": module})()) is routes
