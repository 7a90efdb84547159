"""Middleware that is one module each, and the host's verbs for it."""

__all__: list[str] = []
