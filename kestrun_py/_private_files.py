"""Files for this user alone, written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["write_new_private", "write_private"]


def write_private(path: Path, data: bytes) -> None:
    """Puts a file with mode 0600 in place, and replaces one that is there.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    draft = path.with_name(f"{uuid.uuid4()}.tmp")
    try:
        write_new_private(draft, data)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_new_private(path: Path, data: bytes) -> None:
    """Writes a file with mode 0600 that is not there yet, down to the disk.

    Raises:
        OSError: It cannot be written, or is there.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
