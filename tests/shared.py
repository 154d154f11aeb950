"""The folder of shared data beside the checkout: real tokens, recordings, vectors. It is no part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared"
_root: Path | None = None


def settle(option: str | None) -> None:
    """Settle where the folder is: ``--shared-root``, else ``TESTS_SHARED``, else beside the checkout.

    Raises:
        pytest.UsageError: a place was named and there is no folder.
    """
    global _root  # noqa: PLW0603 - settled once, before any test is collected
    named = option or os.environ.get("TESTS_SHARED")
    if named and not Path(named).is_dir():
        raise pytest.UsageError(f"the shared folder was said to be {named}, where there is none")
    _root = Path(named).resolve() if named else _BESIDE


def shared_path(*parts: str) -> Path:
    """Return the path of a shared file; skip the test, or the module that asks, where it is not there."""
    path = (_root or _BESIDE).joinpath(*parts)
    if not path.exists():
        pytest.skip(
            f"{'/'.join(parts)} of the shared folder is not here; --shared-root or TESTS_SHARED tells where",
            allow_module_level=True,
        )
    return path
