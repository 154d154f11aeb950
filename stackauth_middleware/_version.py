"""The version, told once: hatchling reads it here, and users/me is told it."""

__version__ = "0.1.0"
