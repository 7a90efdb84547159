"""The key ring as a part of a host."""

from __future__ import annotations

from pathlib import Path

import pytest
from recording_log import Log

from kestrun_py import KestrunHost
from kestrun_py.logging import LogLevel


@pytest.mark.parametrize(("permissions", "warnings"), [(0o700, 0), (0o770, 1)])
def test_a_key_folder_that_others_can_write_to_is_a_warning(permissions: int, warnings: int, tmp_path: Path) -> None:
    tmp_path.chmod(permissions)
    log = Log()
    host = KestrunHost("keys", logger=log.logger)
    host.add_data_protection(folder=tmp_path).add_session().enable_configuration()
    found = [text for text in log.texts(LogLevel.WARNING) if f"Others can write to the key folder {tmp_path}" in text]
    assert len(found) == warnings
