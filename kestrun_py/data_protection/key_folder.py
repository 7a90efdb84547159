"""A key ring in a folder, as ASP.NET's ``FileSystemXmlRepository`` keeps it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kestrun_py._private_files import write_new_private, write_private
from kestrun_py.data_protection.repositories import (
    MAX_ELEMENT_BYTES,
    MemoryXmlRepository,
    StoredElement,
    XmlRepository,
)
from kestrun_py.errors import KeyRingError
from kestrun_py.logging import Logger, default_logger

__all__ = ["FileXmlRepository", "default_key_folder", "open_default_repository"]

_LOCK_FILE: Final = ".key-ring.lock"
_LOCK_TIMEOUT_SECONDS: Final = 5.0
_LOCK_RETRY_SECONDS: Final = 0.01
_PORTABLE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


class FileXmlRepository(XmlRepository):
    """Keeps each element in a file of its own, as ASP.NET's ``FileSystemXmlRepository`` does.

    A folder that is made has mode 0700, a file 0600. Every file in the folder that ends with ``.xml`` is read,
    whatever its name; a folder or a pipe of such a name is no file.

    Args:
        folder: The folder; it is made when the first element is stored.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __str__(self) -> str:
        return f"the folder {self.folder}"

    def weakness(self) -> str | None:
        """Tells who else can write to the folder, and so add a key of his own; None if nobody can."""
        try:
            status = self.folder.stat()
        except OSError:
            return None
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"its mode is {stat.S_IMODE(status.st_mode):04o}"
        if status.st_uid not in (0, os.geteuid()):
            return f"it belongs to the user with the id {status.st_uid}"
        return None

    async def read_all(self) -> list[StoredElement]:
        return await asyncio.to_thread(self._read_all)

    async def append(self, xml: str, friendly_name: str, expected: int) -> bool:
        return await asyncio.to_thread(self._append, xml, friendly_name, expected)

    def _read_all(self) -> list[StoredElement]:
        return [_read(path) for path in self._paths()]

    def _paths(self) -> list[str]:
        try:
            with os.scandir(self.folder) as entries:
                return sorted(entry.path for entry in entries if entry.name.endswith(".xml") and entry.is_file())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KeyRingError(f"The key folder {self.folder} cannot be read: {error.strerror}.") from error

    def _append(self, xml: str, friendly_name: str, expected: int) -> bool:
        name = friendly_name if _PORTABLE_NAME.fullmatch(friendly_name) else str(uuid.uuid4())
        try:
            _make_private_folder(self.folder)
            with _locked(self.folder / _LOCK_FILE):
                if len(self._paths()) != expected:
                    return False
                write_private(self.folder / f"{name}.xml", xml.encode())
                return True
        except OSError as error:
            raise KeyRingError(
                f"A key cannot be stored in the folder {self.folder}: {error.strerror}. Make it writable for "
                "the user that runs this process, or keep the keys elsewhere."
            ) from error


def default_key_folder() -> Path | None:
    """Returns the folder of the user's data that holds the keys, or None for a user without a home.

    ``$XDG_DATA_HOME/kestrun/DataProtection-Keys``, else ``~/.local/share/kestrun/DataProtection-Keys``. The
    folder need not exist; the home must, since a home that is missing is missing on purpose (service
    accounts).
    """
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():
        home = Path(os.environ.get("HOME", os.path.expanduser("~")))
        if not home.is_absolute() or not home.is_dir():
            return None
        data = home / ".local" / "share"
    return data / "kestrun" / "DataProtection-Keys"


def open_default_repository(logger: Logger = default_logger) -> XmlRepository:
    """Returns the repository in the user's data folder, or one in memory where no file can be written.

    Whether files can be written is found out by writing one, so this belongs to the start of a process. A
    folder that is read-only but holds keys is used as it is.
    """
    folder = default_key_folder()
    reason = "the user has no home directory"
    if folder is not None:
        try:
            _make_private_folder(folder)
            _probe(folder)
            return FileXmlRepository(folder)
        except OSError as error:
            reason = f"{folder} cannot be written: {error.strerror}"
        with contextlib.suppress(OSError):
            if any(folder.glob("*.xml")):
                return FileXmlRepository(folder)
    logger.warning(
        "The data protection keys are kept in memory, because {Reason}. Cookies will not be understood after "
        "a restart or by another process; name a folder with add_data_protection (add_kr_data_protection): folder=...",
        reason,
    )
    return MemoryXmlRepository()


def _read(path: str) -> StoredElement:
    name = f"the file {path}"
    try:
        return StoredElement(name, _read_regular(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return StoredElement(name, "", f"cannot be read: {error}")
    except OSError as error:
        return StoredElement(name, "", f"cannot be read: {error.strerror}")


def _read_regular(path: str) -> bytes:
    # Without O_NONBLOCK, opening a FIFO waits until another process writes to it.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(MAX_ELEMENT_BYTES + 1)


def _make_private_folder(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _probe(folder: Path) -> None:
    # os.access would answer for the permissions alone: not for a full disk, a read-only mount or root.
    path = folder / f"{uuid.uuid4()}.tmp"
    try:
        write_new_private(path, b"probe")
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock between processes, and between the threads of one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _flock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int, path: Path) -> None:
    # Asking again instead of waiting: a holder that was stopped must not hang this thread for ever.
    deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise KeyRingError(f"Another process holds the lock {path} for too long.") from None
        time.sleep(_LOCK_RETRY_SECONDS)
