"""Ports of 127.0.0.1 for the servers of the tests."""

from __future__ import annotations

import os
import random
import socket
from typing import Final

__all__ = ["free_port", "listens"]

# Below the range of outgoing connections, so that none of those takes a port meanwhile, and even with 10,000 added,
# which is the second port of a Redis cluster's node.
_PORTS: Final = range(10_000, 22_000)

_given: set[int] = set()


def free_port(*offsets: int) -> int:
    """Returns a port that is free, as are the ports at these offsets from it; no other call gets one of them.

    Processes of one pytest-xdist run draw from separate ports.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = random.randrange(_PORTS.start + worker, _PORTS.stop, workers)
        wanted = {port, *(port + offset for offset in offsets)}
        if not wanted & _given and all(map(_is_free, wanted)):
            _given.update(wanted)
            return port


def listens(port: int) -> bool:
    """Tells whether something listens on a port of 127.0.0.1, or of ::1."""
    return _connects(socket.AF_INET, "127.0.0.1", port) or _connects(socket.AF_INET6, "::1", port)


def _connects(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            return probe.connect_ex((address, port)) == 0
    except OSError:  # a system without IPv6
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
