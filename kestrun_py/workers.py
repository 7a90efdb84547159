"""Several processes on one port: the supervisor that keeps them, and what a process knows of being one.

The supervisor starts the first worker alone and the others when it listens, so a script that cannot start
says so once. Workers share a port through ``SO_REUSEPORT``; one that dies is started again, a little later
each time. They run in sessions of their own, so a Ctrl+C reaches the supervisor alone, which stops them
together.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import tempfile
import threading
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from kestrun_py.logging import Logger, default_logger

__all__ = ["Worker", "WorkerSupervisor", "current_worker", "shared_between_workers"]

_VARIABLE: Final = "KESTRUN_WORKER"
_READY: Final = b"+"

_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 5.0
_STEADY: Final = 10.0  # a worker that lived for so many seconds starts again after the first pause


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker process was told by its supervisor.

    Attributes:
        number: Its number, from 1.
        count: How many workers there are.
        supervisor: The supervisor's process id.
        channel: The descriptor of a socket to the supervisor, which hears on it that the worker listens.
        folder: A private folder of this group of workers.
    """

    number: int
    count: int
    supervisor: int
    channel: int
    folder: str

    def listening(self) -> None:
        """Tells the supervisor that this worker accepts connections."""
        os.write(self.channel, _READY)

    def stop_with_supervisor(self) -> None:
        """Sees to it that this process gets a SIGTERM when its supervisor has died."""
        threading.Thread(target=self._await_end, name="supervisor-watch", daemon=True).start()

    def _await_end(self) -> None:
        if not os.read(self.channel, 1):
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


@functools.cache
def current_worker() -> Worker | None:
    """Returns what this process was told as a worker, or None if it is not one.

    A process that a worker starts inherits the variable, but not the part: its parent is not the supervisor.
    """
    text = os.environ.get(_VARIABLE)
    worker = Worker(**json.loads(text)) if text else None
    if worker is None or worker.supervisor != os.getppid():
        return None
    os.set_inheritable(worker.channel, False)
    return worker


def shared_between_workers(name: str, make: Callable[[], bytes]) -> bytes:
    """Returns `make()`, made once for all workers of a group (a development certificate, for instance)."""
    worker = current_worker()
    return make() if worker is None else worker.share(name, make)


class WorkerSupervisor:
    """Runs a command as several worker processes until it is told to stop.

    Args:
        command: The program and its arguments, the same for each worker.
        count: How many workers to run; at least 1.
        logger: Where the ends and new starts of workers are written.
        stop_timeout: Seconds that workers get to finish, before they are killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        logger: Logger = default_logger,
        stop_timeout: float = 10.0,
    ) -> None:
        self._command = command
        self._count = count
        self._logger = logger
        self._stop_timeout = stop_timeout
        self._stopping = asyncio.Event()
        self._folder = ""

    def run(self) -> int:
        """Serves until SIGINT, SIGTERM or until a worker ends by itself, and returns the exit code.

        That is 0 after a stop that was asked for, else the code of the worker that could not start.
        """
        with tempfile.TemporaryDirectory(prefix="kestrun-") as self._folder:
            return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        first_listens = asyncio.Event()
        keepers = [asyncio.create_task(self._keep(1, first_listens))]
        await _any_of(first_listens.wait(), keepers[0])
        if first_listens.is_set() and not self._stopping.is_set():
            others = range(2, self._count + 1)
            keepers += [asyncio.create_task(self._keep(number, asyncio.Event())) for number in others]
        return next((code for code in await asyncio.gather(*keepers) if code), 0)

    async def _keep(self, number: int, listens: asyncio.Event) -> int:
        """Runs one worker again and again; when it is not to start again, no other is either."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(number, listens)
            if self._stopping.is_set():
                break
            if code == 0 or not listens.is_set():
                self._stopping.set()
                return code
            if time.monotonic() - started > _STEADY:
                pause = _FIRST_PAUSE
            self._logger.warning(
                "Worker {Number} of {Count} ended with code {Code}; it starts again in {Seconds} s",
                *(number, self._count, code, pause),
            )
            await _any_of(self._stopping.wait(), asyncio.sleep(pause))
            pause = min(pause * 2, _LAST_PAUSE)
        return 0

    async def _run_once(self, number: int, listens: asyncio.Event) -> int:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            worker = Worker(number, self._count, os.getpid(), theirs.fileno(), self._folder)
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, _VARIABLE: json.dumps(asdict(worker))},
                pass_fds=[theirs.fileno()],
                stdin=DEVNULL,
                start_new_session=True,
            )
            theirs.close()
            hearing = asyncio.create_task(self._hear(ours, worker, process.pid, listens))
            ended = asyncio.create_task(process.wait())
            await _any_of(ended, self._stopping.wait())
            if not ended.done():
                await self._stop(process, ended)
            await asyncio.wait([hearing], timeout=1)
            hearing.cancel()
            return await ended

    async def _hear(self, channel: socket.socket, worker: Worker, pid: int, listens: asyncio.Event) -> None:
        if await asyncio.get_running_loop().sock_recv(channel, 1) == _READY:
            self._logger.information("Worker {Number} of {Count} is process {Pid}", worker.number, worker.count, pid)
            listens.set()

    async def _stop(self, process: Process, ended: asyncio.Task[int]) -> None:
        process.terminate()
        await asyncio.wait([ended], timeout=self._stop_timeout)
        if not ended.done():
            self._logger.warning("Process {Pid} did not stop in time and is killed", process.pid)
            process.kill()


async def _any_of(*awaitables: Awaitable[object]) -> None:
    """Waits until one of them is done; those that are coroutines end with it, tasks go on."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, awaitable in zip(tasks, awaitables, strict=True):
        if task is not awaitable:
            task.cancel()
