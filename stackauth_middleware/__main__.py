"""Runs the command line as ``python -m stackauth_middleware``."""

from __future__ import annotations

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
