"""What the real server sent: recordings of its routes, and key sets with the tokens that they verify.

Recorded from stack-auth/stack-auth 2f719903 on a machine of our own, for projects that existed there alone. No one
can sign in anywhere with these tokens, and the keys that signed them are not here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load_recorded(name: str) -> Any:
    """Return the JSON of ``name.json``."""
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text("utf-8"))


def load_endpoints(name: str) -> list[dict[str, Any]]:
    """Return the recordings of ``name`` in ``endpoints.json``: a selection of each file, less the headers of CORS."""
    document = load_recorded("endpoints")
    recordings: list[dict[str, Any]] = document["recordings"][name]
    for each in recordings:
        headers = each["response"]["headers"]
        if "*" in headers:
            del headers["*"]
            headers.update(document["headers"])
    return recordings
