"""Objects by name, and the errors that tell a missing module from one that raises."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from stackauth_middleware._core.import_string import import_string, nearest
from stackauth_middleware.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_attribute_may_be_dotted() -> None:
    assert import_string("math:pi", "x") is math.pi
    assert import_string("os:path.join", "x") is __import__("os").path.join


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it must be in the form 'package.module:name'"),
        ("math", "it must be in the form 'package.module:name'"),
        (":pi", "it must be in the form 'package.module:name'"),
        ("math:", "it must be in the form 'package.module:name'"),
        ("math:pi()", "it must be in the form 'package.module:name'"),
        ("../math:pi", "it must be in the form 'package.module:name'"),
        (".math:pi", "it must be in the form 'package.module:name'"),
        ("no_such_module:app", "there is no module 'no_such_module' to import"),
        ("math.pi:x", "there is no module 'math.pi' to import"),
        ("os:pth", "os has no 'pth'; did you mean 'path'?"),
        ("os:path.qqqqqqqqq", "os.path has no 'qqqqqqqqq'"),
    ],
)
def test_wrong_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x is {re.escape(repr(text))}; .*{re.escape(message)}$") as caught:
        import_string(text, "x")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import no_such_dependency", ModuleNotFoundError),
        ("from math import no_such_name", ImportError),
        ("raise AttributeError('theirs')", AttributeError),
        ("1 / 0", ZeroDivisionError),
    ],
)
def test_exception_of_the_module_is_the_cause(folder: Path, code: str, error: type[Exception]) -> None:
    (folder / "raises_on_import.py").write_text(code)
    with pytest.raises(ConfigError, match=f"importing raises_on_import raised {error.__name__}: ") as caught:
        import_string("raises_on_import:app", "x")
    assert type(caught.value.__cause__) is error


def test_nearest_name() -> None:
    assert nearest("leway", ["leeway", "realm"]) == "leeway"
    assert nearest("qqq", ["leeway", "realm"]) == ""
