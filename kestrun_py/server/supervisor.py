"""Several processes on one port: the supervisor that keeps them.

The supervisor starts the first worker alone and the others when it listens, so a script that cannot start
says so once. Workers share a port through ``SO_REUSEPORT``; one that ends is started again, a little later
each time, unless its script has stopped the server: that stops them all. They run in sessions of their own, so
a Ctrl+C reaches the supervisor alone, which stops them together.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from typing import Final

from kestrun_py.logging import Logger, default_logger
from kestrun_py.server.worker import STOP, VARIABLE, Worker

__all__ = ["WorkerSupervisor"]

_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 5.0
_STEADY: Final = 10.0  # a worker that lived for so many seconds starts again after the first pause


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
        self._serving = asyncio.Event()
        self._folder = ""

    def run(self) -> int:
        """Serves until SIGINT, SIGTERM or until a worker's script stops its server, and returns the exit code.

        That is 0 after a stop that was asked for, else the code of the first worker, which could not start.
        """
        with tempfile.TemporaryDirectory(prefix="kestrun-") as self._folder:
            return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        keepers = [asyncio.create_task(self._keep(1))]
        await _any_of(self._serving.wait(), keepers[0])
        if self._serving.is_set() and not self._stopping.is_set():
            keepers += [asyncio.create_task(self._keep(number)) for number in range(2, self._count + 1)]
        return next((code for code in await asyncio.gather(*keepers) if code), 0)

    async def _keep(self, number: int) -> int:
        """Runs one worker again and again; when it is not to start again, no other is either."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            code, stops_all = await self._run_once(number)
            if self._stopping.is_set():
                break
            if stops_all or not self._serving.is_set():
                self._stopping.set()
                return code if code >= 0 else self._killed(number, -code)
            if time.monotonic() - started > _STEADY:
                pause = _FIRST_PAUSE
            self._logger.warning(
                "Worker {Number} of {Count} ended with code {Code}; it starts again in {Seconds} s",
                *(number, self._count, code, pause),
            )
            await _any_of(self._stopping.wait(), asyncio.sleep(pause))
            pause = min(pause * 2, _LAST_PAUSE)
        return 0

    def _killed(self, number: int, by: int) -> int:
        """Tells of a worker that could not tell itself, and returns the exit code that a shell gives it."""
        self._logger.error(
            "Worker {Number} of {Count} was ended by the signal {Signal}, and is not started again",
            *(number, self._count, by),
        )
        return 128 + by

    async def _run_once(self, number: int) -> tuple[int, bool]:
        """Runs one worker; returns its exit code, and whether its script has stopped the server."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            inode = os.fstat(theirs.fileno()).st_ino
            worker = Worker(number, self._count, os.getpid(), theirs.fileno(), self._folder, inode)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env={**os.environ, VARIABLE: json.dumps(asdict(worker))},
                    pass_fds=[theirs.fileno()],
                    stdin=DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:  # no memory is left for one, or the interpreter is just being replaced
                self._logger.error(
                    "Worker {Number} of {Count} could not be started: {Error}", number, self._count, error
                )
                return 1, False
            theirs.close()
            stops_all = asyncio.Event()
            hearing = asyncio.create_task(self._hear(ours, worker, process.pid, stops_all))
            ended = asyncio.create_task(process.wait())
            await _any_of(ended, self._stopping.wait())
            if not ended.done():
                await self._stop(process, ended)
            await asyncio.wait([hearing], timeout=1)
            hearing.cancel()
            return await ended, stops_all.is_set()

    async def _hear(self, channel: socket.socket, worker: Worker, pid: int, stops_all: asyncio.Event) -> None:
        while said := await asyncio.get_running_loop().sock_recv(channel, 1):
            if said == STOP:
                stops_all.set()
                continue
            self._logger.information("Worker {Number} of {Count} is process {Pid}", worker.number, worker.count, pid)
            self._serving.set()

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
