"""Route scripts: what a route runs, and the threads for ``def`` scripts."""

__all__: list[str] = []
