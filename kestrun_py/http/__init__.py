"""One request: what was asked, what is answered, and how it is sent."""

__all__: list[str] = []
