"""Routing: what is below a root path, which are doubtful, and what a doubtful one could be taken for."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from stackauth_middleware import _routing
from stackauth_middleware._routing import below, is_doubtful, normal, readings

# -- root paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "root_path", "inner"),
    [
        ("/r/a", "/r", "/a"),
        ("/r", "/r", "/"),
        ("/r/", "/r", "/"),
        ("/ra", "/r", "/ra"),
        ("/a/r/b", "/r", "/a/r/b"),
        ("/r/r/a", "/r", "/r/a"),
        ("/a", "", "/a"),
        ("/a", "/", "/a"),
        ("/r/a", "/r/", "/a"),
        ("/r/s/a", "/r/s", "/a"),
        ("/R/a", "/r", "/R/a"),
        ("/X/a", "/X", "/a"),
    ],
)
def test_the_root_path_is_taken_off_at_the_start_on_a_segment_boundary(path: str, root_path: str, inner: str) -> None:
    assert below(path, root_path) == inner


# -- the normal form ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "form"),
    [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("//a///b//", "/a/b"), ("a", "/a"), ("/ /A\n", "/ /A\n")],
)
def test_the_normal_form_has_no_empty_segments_and_no_slash_at_the_end(path: str, form: str) -> None:
    assert normal(path) == form


# -- doubtful paths -----------------------------------------------------------------------------------

DOUBTFUL = {
    "no slash in front": ("admin", ""),
    "absolute form": ("http://host/admin", ""),
    "an asterisk": ("*", ""),
    "two slashes in front": ("//admin", ""),
    "two slashes inside": ("/a//admin", ""),
    "two slashes at the end": ("/admin//", ""),
    "a dot segment": ("/./admin", ""),
    "a dot segment at the end": ("/admin/.", ""),
    "two dots": ("/public/../admin", ""),
    "two dots at the end": ("/public/..", ""),
    "two dots and parameters": ("/public/..;/admin", ""),
    "two dots and parameters with a value": ("/public/..;a=b/admin", ""),
    "a dot and parameters": ("/.;/admin", ""),
    "a backslash": ("/public\\admin", ""),
    "two dots and a backslash": ("/public/..\\admin", ""),
    "a nul": ("/admin\0.html", ""),
    "octets that are no utf-8": ("/adm\ufffdin", ""),
    "an encoded slash": ("/public%2fadmin", ""),
    "an encoded slash in upper case": ("/public%2Fadmin", ""),
    "an encoded backslash": ("/public%5cadmin", ""),
    "an encoded dot": ("/%2e%2e/admin", ""),
    "an encoded dot in upper case": ("/%2E./admin", ""),
    "an encoded slash, twice": ("/public%252fadmin", ""),
    "an encoded slash, three times": ("/public%25252Fadmin", ""),
    "the root path inside": ("/public/r/admin", "/r"),
    "the root path twice": ("/r/r/admin", "/r"),
    "the root path as a prefix of a segment": ("/rx/admin", "/r"),
    "the root path inside a segment": ("/public/rest", "/r"),
    "the root path behind two slashes": ("//r/admin", "/r"),
    "another root path inside": ("/public/X", "/X"),
}
PLAIN = {
    "the root": ("/", ""),
    "nothing": ("/", ""),
    "dots in a name": ("/a/..b/c../.well-known/file.tar.gz/...", ""),
    "a percent sign": ("/100%/%zz/%41/%2", ""),
    "a colon, an at, a semicolon": ("/a:b/@c;d=e", ""),
    "a trailing slash": ("/a/", ""),
    "white space": ("/a b\t\n", ""),
    "beyond ascii": ("/\u00e9/\u65e5", ""),
    "the root path at the start": ("/r/a", "/r"),
    "the root path alone": ("/r", "/r"),
    "an empty root path": ("/a/b", "/"),
}


@pytest.mark.parametrize(("path", "root_path"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_path_that_routers_read_differently_is_doubtful(path: str, root_path: str) -> None:
    assert is_doubtful(path, root_path)
    assert is_doubtful(path, root_path + "/")


@pytest.mark.parametrize(("path", "root_path"), PLAIN.values(), ids=PLAIN)
def test_a_plain_path_is_not_doubtful(path: str, root_path: str) -> None:
    assert not is_doubtful(path, root_path)


# -- readings -----------------------------------------------------------------------------------------

WAYS_TO_ADMIN = [
    ("//admin", ""),
    ("/public//admin", ""),
    ("/public/../admin", ""),
    ("/public/x/../../admin", ""),
    ("/public/..;/admin", ""),
    ("/public/..;a=b/admin/", ""),
    ("/./admin", ""),
    ("admin", ""),
    ("//evil.example/admin", ""),
    ("http://evil.example/admin", ""),
    ("http://evil.example/admin?x", ""),
    ("http://evil.example/admin;x", ""),
    ("h:/ad\nmin#x", ""),
    ("h:admin", ""),
    ("a+b.c-1:admin;x", ""),
    (" admin", ""),
    ("\0 h:admin?x\ny", ""),
    ("/public//admin\n", ""),
    ("/public\\admin", ""),
    ("/public/..\\admin", ""),
    ("/public\0/admin", ""),
    ("/admin\0", ""),
    ("/admin\ufffd", ""),
    ("/adm\ufffdin", ""),
    ("/adm\ufffd\ufffdin/\ufffd", ""),
    ("/admin\0.html", ""),
    ("//" + "x/" * 2000, ""),
    ("/public/%2e%2e/admin", ""),
    ("/public%2f..%2fadmin", ""),
    ("/public%252f..%252fadmin", ""),
    ("/public%5cadmin", ""),
    ("/public/r/admin", "/r"),
    ("/r/public/r/admin", "/r"),
    ("/public/api/admin", "/api"),
    ("/rx/../admin", "/r"),
    ("/r//admin", "/r"),
    ("/ad/rmin", "/r"),
]
"""Paths, and root paths, each of which some router could take for ``/admin``, perhaps below another path."""

ODD_WAYS = {
    "decoded once, then resolved": ("/users%2fx/a%252fb/..", "", "/users/x"),
    "cut behind the first root path, in a segment": ("/x/r1users/r1/edit", "/r1", "/users/*/edit"),
    "a root path that ends in a slash": ("/x/r1users/r1/edit", "/r1/", "/users/*/edit"),
    "less the first root path alone": ("/x/r1/users/r1/r1/edit", "/r1", "/x/users/*/r1/edit"),
    "cut, and the dot a parameter": ("/x/r1users/./edit", "/r1", "/users/*/edit"),
    "resolved, and the dot a parameter": ("/x/..;/users/./edit", "", "/users/*/edit"),
    "a dot with parameters, itself a parameter": ("//users/.;/edit", "", "/users/*/edit"),
    "a dot with parameters, dropped": ("/users/.;/edit", "", "/users/edit"),
    "parameters, resolved": ("/users/;x/../edit", "", "/users/edit"),
    "parameters, themselves a parameter": ("//users/;x/edit", "", "/users/*/edit"),
    "a backslash that separates, and a NUL that does not": ("/users\\\0/edit", "", "/users/*/edit"),
    "an empty segment, itself a parameter": ("/users//edit", "", "/users/*/edit"),
    "an empty segment at the end, itself a parameter": ("//users/", "", "/users/*"),
}
"""Paths, root paths, and the pattern of a route that the path gets to."""


def gets_to(pattern: str, path: str, root_path: str) -> bool:
    """Say whether a route of `pattern`, mounted anywhere, is among what `path` could be taken for."""
    route = re.compile(".*" + pattern.replace("*", "[^/]*"), re.DOTALL)
    found = readings(path, root_path)
    return found is None or any(route.fullmatch(reading) for reading in found)


@pytest.mark.parametrize(("path", "root_path"), WAYS_TO_ADMIN)
def test_a_way_to_a_route_is_among_the_readings(path: str, root_path: str) -> None:
    assert gets_to("/admin", path, root_path)
    assert not gets_to("/other", path, root_path) or len(path) > 1024


@pytest.mark.parametrize(("path", "root_path", "pattern"), ODD_WAYS.values(), ids=ODD_WAYS)
def test_an_odd_way_to_a_route_is_among_the_readings(path: str, root_path: str, pattern: str) -> None:
    assert gets_to(pattern, path, root_path)


@pytest.mark.parametrize(
    ("path", "root_path", "more"),
    [
        ("//a", "", {"///a", "/a"}),
        ("/a/./b", "", {"//a/./b", "/a/./b", "/a/b"}),
        ("/a/../b", "", {"//a/../b", "/a/../b", "/b"}),
        ("/../..;x/b;y/", "", {"//../..;x/b;y/", "/../..;x/b;y", "/b;y"}),
        ("/a%2fb", "", {"//a%2fb", "/a%2fb", "/a/b"}),
        ("/a%25252fb", "", {"//a%25252fb", "/a%25252fb", "/a%252fb", "/a%2fb"}),
        ("/a\\b", "", {"//a\\b", "/a\\b", "/a/b"}),
        ("//a\1\x1f b", "", {"///a\1\x1f b", "/a\1\x1f b", "/a b"}),
        ("/a\0b", "", {"//a\0b", "/a\0b", "/a", "/a/b"}),
        ("/a\0b\0c", "", {"//a\0b\0c", "/a\0b\0c", "/a", "/a/b/c"}),
        ("/a\ufffdb", "", {"//a\ufffdb", "/a\ufffdb", "/ab", "/a/b"}),
        ("//a?b#c;d:e", "", {"///a?b#c;d:e", "/a?b#c;d:e"}),
        ("a1.+-:b", "", {"/a1.+-:b", "/b"}),
        ("1:b", "", {"/1:b"}),
        ("a:b//c", "", {"/a:b//c", "/a:b/c", "/b/c"}),
        ("a b:c", "", {"/a b:c"}),
        (" a:b", "", {"/ a:b", "/b"}),
        ("a?b?c", "", {"/a?b?c", "/a"}),
        ("a#b#c", "", {"/a#b#c", "/a"}),
        ("a;b/c;d;e", "", {"/a;b/c;d;e", "/a;b/c"}),
        ("a;b\nc", "", {"/a;b\nc", "/a;bc", "/a"}),
        ("/a/rb/rc", "/r", {"//a/rb/rc", "/a/rb/rc", "/a", "/b", "/c", "/b/rc", "/ab/rc", "/abc"}),
        ("/a/Xb", "/X", {"//a/Xb", "/a/Xb", "/a", "/b", "/ab"}),
        ("/a/rb/rc", "/r/", {"//a/rb/rc", "/a/rb/rc", "/a", "/b", "/c", "/b/rc", "/ab/rc", "/abc"}),
    ],
)
def test_the_readings_and_no_more(path: str, root_path: str, more: set[str]) -> None:
    """Each reading too many makes the door ask for what no router needs."""
    assert readings(path, root_path) == {"/", *more}


@pytest.mark.parametrize(
    ("path", "some"),
    [
        ("//" + "a" * 1022, True),
        ("//" + "a" * 1023, False),
        ("//ra%252f\0\\\ufffd\1" * 100, False),
        ("h/;a%2f\0\\\ufffd\1/.." * 80, False),
        ("//" + "a/" * 600, False),
    ],
    ids=["as long as is read", "longer", "two root paths", "a URL", "long, and the same everywhere"],
)
def test_no_more_readings_are_made_than_are_tried(path: str, some: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The readings multiply; what a stranger makes us do does not."""
    made: list[str] = []
    every = _routing._readings

    def counting(path: str, root_path: str) -> Iterator[str]:
        for reading in every(path, root_path):
            made.append(reading)
            yield reading

    monkeypatch.setattr(_routing, "_readings", counting)
    assert (readings(path, "/r") is not None) == some
    assert len(made) <= 65


@pytest.mark.parametrize(("count", "some"), [(63, True), (64, True), (65, False)])
def test_as_many_readings_as_are_tried_are_tried(count: int, some: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [f"/{number}" for number in range(count)]
    monkeypatch.setattr(_routing, "_readings", lambda path, root_path: iter(made))
    assert readings("//", "") == (set(made) if some else None)
