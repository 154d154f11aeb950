"""Environment variables. No other module of the core reads them."""

from __future__ import annotations

import os


def from_environment(setting: str) -> str:
    """Return the value of `setting` in the environment, or "". A secret is not read from public variables."""
    name = setting.upper()
    prefixes = ["STACK_", "HEXCLAVE_"]
    if setting != "secret_server_key":
        prefixes += ["NEXT_PUBLIC_STACK_", "NEXT_PUBLIC_HEXCLAVE_"]
    return next((os.environ[prefix + name] for prefix in prefixes if os.environ.get(prefix + name)), "")
