"""Runners and HTTP clients: perform the I/O that the core asks for."""
