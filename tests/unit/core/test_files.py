"""Files with settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stackauth_middleware._core.files import read_text
from stackauth_middleware.errors import ConfigError


def test_text_has_no_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes("\ufeffgr\u00fcn".encode())
    assert read_text(str(file), "X", 100) == "gr\u00fcn"
    assert read_text(str(file), "X", 8) == "gr\u00fcn"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "; there is no such file"),
        ("folder", ", which is a directory"),
        (b"123456789", ", which is larger than 8 bytes"),
        (b"\xff", ", which is not UTF-8 text"),
    ],
    ids=["missing", "folder", "large", "binary"],
)
def test_file_that_cannot_be_used(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    file = tmp_path / "file"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.mkdir()
    with pytest.raises(ConfigError, match=re.escape(f"X names {str(file)!r}{message}")):
        read_text(str(file), "X", 8)


@pytest.mark.parametrize(("path", "reason"), [("a\0b", "null"), ("x" * 5000, "too long")], ids=["null", "long"])
def test_path_that_no_system_takes(path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"which cannot be read: .*{reason}"):
        read_text(path, "X", 8)


def test_directory_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, opening it is a PermissionError."""

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(ConfigError, match="which is a directory"):
        read_text(str(tmp_path), "X", 8)
    with pytest.raises(ConfigError, match="which cannot be read: Permission denied"):
        read_text(str(tmp_path / "file"), "X", 8)
