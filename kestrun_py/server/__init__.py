"""Where a host listens, and the processes that serve."""

__all__: list[str] = []
