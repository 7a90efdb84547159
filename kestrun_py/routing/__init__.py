"""How the route of a request is found."""

__all__: list[str] = []
