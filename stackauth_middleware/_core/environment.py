"""The one place where the core reads environment variables."""

from __future__ import annotations

import os


def from_environment(setting: str) -> str:
    """Return what the environment says of `setting`, or "". A secret has no public form."""
    name = setting.upper()
    prefixes = ["STACK_", "HEXCLAVE_"]
    if setting != "secret_server_key":
        prefixes += ["NEXT_PUBLIC_STACK_", "NEXT_PUBLIC_HEXCLAVE_"]
    return next((os.environ[prefix + name] for prefix in prefixes if os.environ.get(prefix + name)), "")
