"""Settings and rules in a TOML file, and errors with file and line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware import ErrorCode, Rule
from stackauth_middleware._core.config import typed_settings
from stackauth_middleware._core.config_file import from_file
from stackauth_middleware.errors import ConfigError

SETTINGS = typed_settings()

WHOLE = '''
# of every kind
mode = "rest"
  leeway = 7   # indented
"allow_http" = true
state_key = "none"
realm = """
a
leeway = 9"""
cors_origins = [
  "https://a.example",  # why
]
observers = ["math:sqrt"]
error_body.missing_token = { error = "sign in" }

[[ rules ]]
path = "/healthz"
access = "public"
methods = ["GET"]

[[rules]]
path = "/admin/**"
check = "math:sqrt"
allow_restricted = false
'''


def read(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "auth.toml"
    path.write_bytes(text.encode())
    return {
        name: (each.value, each.source.removeprefix(str(folder) + "/"))
        for name, each in from_file(str(path), SETTINGS, "X").items()
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_settings_and_rules_with_their_lines(tmp_path: Path, newline: str) -> None:
    found = read(tmp_path, WHOLE.replace("\n", newline))
    assert found == {
        "mode": ("rest", "auth.toml, line 3"),
        "leeway": (7, "auth.toml, line 4"),
        "allow_http": (True, "auth.toml, line 5"),
        "state_key": (None, "auth.toml, line 6"),
        "realm": ("a\nleeway = 9", "auth.toml, line 7"),
        "cors_origins": (["https://a.example"], "auth.toml, line 10"),
        "observers": ([math.sqrt], "auth.toml, line 13"),
        "error_body": ({ErrorCode.MISSING_TOKEN: {"error": "sign in"}}, "auth.toml, line 14"),
        "rules": (
            [
                Rule("/healthz", "public", methods=["GET"]),
                Rule("/admin/**", check=math.sqrt, allow_restricted=False),
            ],
            "auth.toml, line 16",
        ),
    }


def test_none_in_a_rule_is_an_id_and_not_the_lack_of_one(tmp_path: Path) -> None:
    found = read(tmp_path, "rules = [{ path = '/a', permission = 'none' }]")
    assert found["rules"][0] == [Rule("/a", permission="none")]


def test_rules_may_be_inline_and_the_file_empty(tmp_path: Path) -> None:
    assert read(tmp_path, 'rules = [{ path = "/a" }]')["rules"][0] == [Rule("/a")]
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nleway = 1", "line 2: 'leway' is no setting; did you mean 'leeway'?"),
        ("[tool.auth]\nleeway = 1", "line 1: 'tool' is no setting"),
        ("audiences = {}", "line 1: 'audiences' is no setting"),
        ("observers = ['math:sqr']", "observers (auth.toml, line 1) is 'math:sqr'; math has no 'sqr'"),
        ("rules = ['/a']", "line 1: rules has '/a'; each must be a table, as in [[rules]]"),
        (
            "[[rules]]\npath = '/'\n[[rules]]\nacces = 1",
            "line 4: 'acces' is no setting of a Rule; did you mean 'access'",
        ),
        ("[[rules]]\naccess = 'open'", "access of a Rule (auth.toml, line 2) is 'open'; it must be one of"),
        ("rules = [{path = '/a'},\n {path = 'b'}]", "path of a Rule (auth.toml, line 1) is 'b'; it must"),
        ("[[rules]]\naccess = 'public'", "line 1: missing 1 required positional argument: 'path'"),
        ("\n[[rules]]\npath = '/a'\naccess = 'public'\nprofile = true", "line 2: Rule('/a', 'public') looks at no"),
        *(
            (f"[[rules]]\npath = '/a'\n{name} = {value}", f"{name} of a Rule (auth.toml, line 3) is {shown}; it must")
            for name, value, shown in [
                ("api_keys", "'none'", "'none'"),
                ("allow_anonymous", "'none'", "'none'"),
                ("check", "'none'", "'none'"),
                ("api_keys", "{ user = false }", "{'user': False}"),
                ("methods", "{ GET = false }", "{'GET': False}"),
            ]
        ),
        ("[[rules]]\npath = '/a'\ncheck = 'no:x'", "check of a Rule (auth.toml, line 3) is 'no:x'; there is no module"),
    ],
)
def test_wrong_file_is_an_error_with_file_key_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    found = str(caught.value).replace(str(tmp_path) + "/", "")
    assert found.removeprefix("auth.toml, ").startswith(message)


@pytest.mark.parametrize("text", ["\nmode = rest", "mode = 'jwt'\nmode = 'rest'", "\nmode = ["])
def test_text_that_is_no_toml(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"auth\.toml is not TOML: .*(line 2|end of document)"):
        read(tmp_path, text)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"X names .*auth\.toml'; there is no such file"):
        from_file(str(tmp_path / "auth.toml"), SETTINGS, "X")
