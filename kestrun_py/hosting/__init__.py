"""The host: its verbs, its services, its lifetime."""

__all__: list[str] = []
