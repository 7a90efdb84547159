import asyncio
import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from key_ring_support import Log

from kestrun_py.data_protection import (
    FileXmlRepository,
    MemoryXmlRepository,
    StoredElement,
    XmlRepository,
    default_key_folder,
    key_folder,
    open_default_repository,
)
from kestrun_py.data_protection.repositories import MAX_ELEMENT_BYTES
from kestrun_py.errors import KeyRingError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.xml"))


async def texts(repository: XmlRepository) -> list[str]:
    return [element.xml for element in await repository.read_all()]


@pytest.fixture(params=[MemoryXmlRepository, FileXmlRepository])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> XmlRepository:
    return FileXmlRepository(tmp_path / "keys") if request.param is FileXmlRepository else MemoryXmlRepository()


@pytest.fixture
def write_fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every new file fail as on a read-only file system (as root, permissions would not do)."""
    really_open = os.open

    def open_existing(path: str | os.PathLike[str], flags: int, *args: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return really_open(path, flags, *args)

    return lambda: monkeypatch.setattr(os, "open", open_existing)


async def test_append_and_read(repository: XmlRepository) -> None:
    assert await texts(repository) == []
    assert await repository.append("<a>é</a>", "a", 0)
    assert await repository.append("<b/>", "b", 1)
    assert sorted(await texts(repository)) == ["<a>é</a>", "<b/>"]


async def test_append_only_to_what_was_read(repository: XmlRepository) -> None:
    assert await repository.append("<a/>", "a", 0)
    assert not await repository.append("<b/>", "b", 0)
    assert not await repository.append("<b/>", "b", 2)
    assert await texts(repository) == ["<a/>"]


async def test_one_of_many_appends_wins(repository: XmlRepository) -> None:
    answers = await asyncio.gather(*(repository.append(f"<x{i}/>", f"x{i}", 0) for i in range(20)))
    assert answers.count(True) == 1
    assert await texts(repository) == [f"<x{answers.index(True)}/>"]


async def test_a_memory_repository_gives_away_no_list_of_its_own() -> None:
    repository = MemoryXmlRepository()
    (await repository.read_all()).append(StoredElement("a", "<a/>"))
    assert await texts(repository) == []


async def test_files_and_folders_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "keys"
    previous = os.umask(0)
    try:
        await FileXmlRepository(folder).append("<a/>", "key-1", 0)
    finally:
        os.umask(previous)
    assert mode(folder) == 0o700
    assert {path.name: mode(path) for path in folder.iterdir()} == {
        "key-1.xml": 0o600,
        ".key-ring.lock": 0o600,
    }


async def test_reads_every_xml_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "any name.xml").write_bytes(b"\xef\xbb\xbf<a/>")
    (tmp_path / "draft.tmp").write_text("<b/>")
    (tmp_path / "notes.txt").write_text("<c/>")
    assert await texts(FileXmlRepository(tmp_path)) == ["<a/>"]


@pytest.mark.parametrize("name", ["../key", "a b", "", "é", "a/b", "key\n"])
async def test_a_name_that_is_no_file_name_is_replaced(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    await FileXmlRepository(folder).append("<a/>", name, 0)
    (file,) = names(folder)
    assert uuid.UUID(file.removesuffix(".xml")).version == 4
    assert names(tmp_path) == []


async def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<a/>")
    (tmp_path / "empty.xml").write_bytes(b"")
    (tmp_path / "folder.xml").mkdir()
    (tmp_path / "gone.xml").symlink_to(tmp_path / "nothing")
    (tmp_path / "large.xml").write_bytes(b"x" * 3_000_000)
    os.mkfifo(tmp_path / "pipe.xml")
    (tmp_path / "wide.xml").write_bytes("<a/>".encode("utf-16"))
    elements = {element.name.rpartition("/")[2]: element for element in await FileXmlRepository(tmp_path).read_all()}
    assert elements["a.xml"] == StoredElement(f"the file {tmp_path}/a.xml", "<a/>")
    assert elements["empty.xml"].xml == elements["empty.xml"].fault == ""
    assert len(elements["large.xml"].xml) == MAX_ELEMENT_BYTES + 1
    assert elements.keys() == {"a.xml", "empty.xml", "large.xml", "wide.xml"}, "the others are no files"
    assert {name: element.fault for name, element in elements.items() if element.fault} == {
        "wide.xml": "cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
    }
    assert await FileXmlRepository(tmp_path).append("<b/>", "b", len(elements))


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xml")
    assert key_folder._read(str(tmp_path / "pipe.xml")).fault == "cannot be read: it is not a regular file"


@pytest.mark.parametrize("permissions", [0o700, 0o755, 0o500])
def test_a_folder_that_others_cannot_write_to(permissions: int, tmp_path: Path) -> None:
    tmp_path.chmod(permissions)
    assert FileXmlRepository(tmp_path).weakness() is None
    assert FileXmlRepository(tmp_path / "missing").weakness() is None


@pytest.mark.parametrize("permissions", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_to(permissions: int, tmp_path: Path) -> None:
    tmp_path.chmod(permissions)
    assert FileXmlRepository(tmp_path).weakness() == f"its mode is {permissions:04o}"


def test_a_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.stat_result((0o40700, 0, 0, 1, 4711, 0, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda path: status)
    assert FileXmlRepository(tmp_path).weakness() == "it belongs to the user with the id 4711"


async def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("")
    with pytest.raises(KeyRingError, match=f"{path} cannot be read"):
        await FileXmlRepository(path).read_all()
    with pytest.raises(KeyRingError, match=f"{path}.*Make it writable"):
        await FileXmlRepository(path).append("<a/>", "a", 0)


async def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    repository = FileXmlRepository(tmp_path)
    with pytest.raises(KeyRingError, match="No space left"):
        await repository.append("<a/>", "a", 0)
    assert os.listdir(tmp_path) == [".key-ring.lock"]


async def test_a_lock_that_is_never_released_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_folder, "_LOCK_TIMEOUT_SECONDS", 0.05)
    with (tmp_path / ".key-ring.lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(KeyRingError, match="Another process holds the lock"):
            await FileXmlRepository(tmp_path).append("<a/>", "a", 0)
    assert await FileXmlRepository(tmp_path).append("<a/>", "a", 0)


async def test_waiting_for_the_lock_does_not_stop_the_loop(tmp_path: Path) -> None:
    with (tmp_path / ".key-ring.lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        append = asyncio.create_task(FileXmlRepository(tmp_path).append("<a/>", "a", 0))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not append.done()
    assert await append


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_key_folder() == Path("/data/kestrun/DataProtection-Keys")
    for nothing in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", nothing)
        assert default_key_folder() == tmp_path / ".local/share/kestrun/DataProtection-Keys"


async def test_the_default_repository_is_in_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    repository = open_default_repository(log)
    assert isinstance(repository, FileXmlRepository)
    assert repository.folder == default_key_folder()
    assert list(repository.folder.iterdir()) == []
    assert mode(repository.folder) == 0o700
    assert log.lines == []


@pytest.mark.parametrize("home", ["missing", "", "relative"])
def test_without_a_home_the_keys_are_in_memory(
    home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log
) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "missing") if home == "missing" else home)
    assert isinstance(open_default_repository(log), MemoryXmlRepository)
    (line,) = log.texts("warning")
    assert "in memory" in line
    assert "no home directory" in line
    assert len(log.lines) == 1
    assert not (tmp_path / "missing").exists()


def test_with_a_home_that_cannot_be_written_the_keys_are_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log, write_fails: Callable[[], None]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    write_fails()
    assert isinstance(open_default_repository(log), MemoryXmlRepository)
    (line,) = log.texts("warning")
    assert "Read-only file system" in line


def test_with_a_home_where_no_folder_can_be_made_the_keys_are_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert isinstance(open_default_repository(log), MemoryXmlRepository)
    assert len(log.texts("warning")) == 1


async def test_a_read_only_folder_with_keys_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log, write_fails: Callable[[], None]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    await open_default_repository(log).append("<a/>", "a", 0)
    write_fails()
    assert await texts(open_default_repository(log)) == ["<a/>"]
    assert log.lines == []
