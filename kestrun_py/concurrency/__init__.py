"""Waiting without `await`, and work that is done together."""

__all__: list[str] = []
