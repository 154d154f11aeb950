"""The version. hatchling reads it from here, and calls to Stack Auth send it as ``x-stack-client-version``."""

__version__ = "0.1.0"
