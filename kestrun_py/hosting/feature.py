"""What a host is made of."""

from __future__ import annotations

__all__ = ["Feature"]


class Feature:
    """A part of a host with a lifetime of its own: sessions, a cache, the key ring.

    A host calls `configure` once, when its configuration is closed; then, for each run, `check_workers`, `start` and
    `stop`. Features start in the order in which they were configured and stop in the reverse order. A feature that
    needs another one asks for it in its `configure` (``host.require(DataProtection)``), so that one starts first.

    A subclass can be made of a host alone; that gives it its defaults.
    """

    def configure(self) -> None:
        """Builds and registers the services of the feature."""

    def check_workers(self, count: int) -> None:
        """Refuses what `count` processes on one port cannot share.

        Raises:
            ServerStartError: The message says what, and what to use instead.
        """

    async def start(self) -> None:
        """Starts what runs or is open while the host serves; called on the event loop, before the first request."""

    async def stop(self) -> None:
        """Ends what `start` began; called on the event loop, after the last request."""
