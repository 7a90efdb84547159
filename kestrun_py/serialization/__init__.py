"""The text forms of values."""

__all__: list[str] = []
