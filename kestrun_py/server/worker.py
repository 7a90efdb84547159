"""What a process knows of being one of several workers on one port."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["READY", "STOP", "VARIABLE", "Worker", "current_worker", "shared_between_workers"]

VARIABLE: Final = "KESTRUN_WORKER"
"""The environment variable in which a worker finds what its supervisor tells it."""

READY: Final = b"+"
"""What a supervisor hears from a worker that listens."""

STOP: Final = b"."
"""What it hears from a worker whose script stops the server."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker process was told by its supervisor.

    Attributes:
        number: Its number, from 1.
        count: How many workers there are.
        supervisor: The supervisor's process id.
        channel: The descriptor of a socket to the supervisor, which hears on it that the worker listens, and
            that its script has stopped the server.
        folder: A private folder of this group of workers.
        inode: What the socket is known by, whatever else has its descriptor in another process.
    """

    number: int
    count: int
    supervisor: int
    channel: int
    folder: str
    inode: int = 0

    def listening(self) -> None:
        """Tells the supervisor that this worker accepts connections."""
        self._tell(READY)

    def stop_all(self) -> None:
        """Tells the supervisor that the script stops the server: no worker starts again, and the others stop, too."""
        self._tell(STOP)

    def stop_with_supervisor(self) -> None:
        """Sees to it that this process gets a SIGTERM when its supervisor has died."""
        threading.Thread(target=self._await_end, name="supervisor-watch", daemon=True).start()

    def holds_channel(self) -> bool:
        """Whether this process was given the worker's socket."""
        try:
            return os.fstat(self.channel).st_ino == self.inode
        except OSError:
            return False

    def _tell(self, what: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, and `stop_with_supervisor` sees that, too
            os.write(self.channel, what)

    def _await_end(self) -> None:
        with contextlib.suppress(OSError):  # a supervisor that was killed may leave a connection reset
            os.read(self.channel, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def share(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Returns what `make` returned in the first worker of this group that asked for `name`."""
        path = Path(self.folder, name)
        if not path.exists():
            draft = Path(self.folder, f"{name}.{os.getpid()}")
            draft.write_bytes(make())
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(draft)  # unlike a rename, never over what another worker has already read
            draft.unlink()
        return path.read_bytes()

    @contextlib.contextmanager
    def one_at_a_time(self, name: str) -> Iterator[bool]:
        """Lets one worker of this group after the other run a block; tells whether none has come through it so far."""
        with Path(self.folder, name).open("ab") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX)
            yield os.fstat(mark.fileno()).st_size == 0
            mark.write(b"+")


@functools.cache
def current_worker() -> Worker | None:
    """Returns what this process was told as a worker, or None if it is not one.

    A process that a worker starts inherits the variable, but not the part: its parent is not the supervisor, and it
    has no channel. A worker whose supervisor has died meanwhile is still one, so that it does not serve for ever.
    """
    text = os.environ.get(VARIABLE)
    worker = Worker(**json.loads(text)) if text else None
    if worker is None or not (worker.supervisor == os.getppid() or worker.holds_channel()):
        return None
    os.set_inheritable(worker.channel, False)
    return worker


def shared_between_workers(name: str, make: Callable[[], bytes]) -> bytes:
    """Returns `make()`, made once for all workers of a group (a development certificate, for instance)."""
    worker = current_worker()
    return make() if worker is None else worker.share(name, make)
