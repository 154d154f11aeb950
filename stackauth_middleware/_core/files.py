"""Files with settings. No other module of the core opens one."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError


def read_text(path: str, label: str, most: int) -> str:
    """Return the text of a file, without a byte order mark.

    Args:
        path: where the file is.
        label: the setting or variable that names it, for messages.
        most: maximum size of the file, in bytes.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise ConfigError(f"{label} names {path!r}; there is no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, IsADirectoryError) or (isinstance(error, PermissionError) and Path(path).is_dir()):
            raise ConfigError(f"{label} names {path!r}, which is a directory") from None
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{label} names {path!r}, which cannot be read: {reason}") from None
    if len(data) > most:
        raise ConfigError(f"{label} names {path!r}, which is larger than {most} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{label} names {path!r}, which is not UTF-8 text") from None
