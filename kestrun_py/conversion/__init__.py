"""Text to the values that it stands for."""

__all__: list[str] = []
