"""The values of a session: types, limits, and what counts as a change."""

from __future__ import annotations

import asyncio
import sys
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from kestrun_py.errors import (
    ArgumentError,
    SessionClosedError,
    SessionNotLoadedError,
    SessionReadOnlyError,
    SessionTooLargeError,
)
from kestrun_py.sessions import Session, blob
from kestrun_py.sessions.outcome import Origin
from kestrun_py.sessions.session import SessionState

HUNDRED = bytes(100)


class Source:
    """Loads what it is told to."""

    def __init__(self, load: Callable[[], Coroutine[Any, Any, SessionState]], *, max_size: int = 100) -> None:
        self._load = load
        self.max_size = max_size
        self.given_back: list[SessionState] = []

    def load_at_once(self, headers: CIMultiDictProxy[str]) -> SessionState | None:
        return None

    async def load(self, headers: CIMultiDictProxy[str], *, client: str, read_only: bool) -> SessionState:
        return await self._load()

    def give_back(self, state: SessionState) -> None:
        self.given_back.append(state)


NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


def loaded(
    values: dict[str, bytes] | None = None,
    *,
    origin: Origin = Origin.KNOWN,
    available: bool = True,
    read_only: bool = False,
    max_size: int = 1 << 20,
) -> Session:
    """A session that has been loaded."""

    async def load() -> SessionState:
        state = SessionState(origin, "k" * 36, available=available)
        if values:
            stored = blob.encode(bytes(16), values)
            state.session_id, state.values = blob.decode(stored)
            state.size = len(stored)
        return state

    session = Session(Source(load, max_size=max_size), NO_HEADERS)
    session.read_only = read_only
    asyncio.run(session.load())
    return session


# Types


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0, "00000000"),
        (1, "00000001"),
        (-1, "ffffffff"),
        (42, "0000002a"),
        (2**31 - 1, "7fffffff"),
        (-(2**31), "80000000"),
    ],
)
def test_int32_is_four_bytes_big_endian(value: int, stored: str) -> None:
    session = loaded()
    session.set_int32("n", value)
    assert session.get("n") == bytes.fromhex(stored)
    assert session.get_int32("n") == value


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 10**30, True, 1.0, "1", None])
def test_a_value_that_is_not_an_int32_is_refused(value: Any) -> None:
    session = loaded({"n": b"\x00\x00\x00\x07"})
    with pytest.raises(ArgumentError, match="from -2147483648 to 2147483647"):
        session.set_int32("n", value)
    assert session.get_int32("n") == 7
    assert not session.changed


@pytest.mark.parametrize(("stored", "value"), [(b"", None), (b"\0\0\0", None), (b"\0\0\0\x05more", 5)])
def test_int32_of_other_lengths(stored: bytes, value: int | None) -> None:
    assert loaded({"n": stored}).get_int32("n") == value


@pytest.mark.parametrize("text", ["", " ", "abc", "über 🚲", "a\0b\r\n"])
def test_text_is_utf8(text: str) -> None:
    session = loaded()
    session.set_string("t", text)
    assert session.get("t") == text.encode()
    assert session.get_string("t") == text


def test_text_that_is_not_unicode() -> None:
    session = loaded({"bad": b"a\xffb"})
    assert session.get_string("bad") == "a\ufffdb"
    session.set_string("half", "\ud83d and \udeb2")
    assert session.get_string("half") == "\ufffd and \ufffd"


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=30))
def test_any_text_round_trips(text: str) -> None:
    session = loaded()
    session.set_string(text, text)
    expected = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    assert session.get_string(text) == session.get_string(expected) == expected
    assert session.keys == [expected]


@pytest.mark.parametrize("value", [b"", b"\x00\xff", bytearray(b"ab"), memoryview(b"cd")])
def test_bytes(value: Any) -> None:
    session = loaded()
    session.set("b", value)
    assert session.get("b") == bytes(value)
    assert type(session.get("b")) is bytes


def test_a_value_is_copied() -> None:
    session = loaded()
    value = bytearray(b"one")
    session.set("b", value)  # type: ignore[arg-type]
    value[:] = b"two"
    assert session.get("b") == b"one"


@pytest.mark.parametrize("value", [None, "text", 7, [1, 2], object()])
def test_a_value_that_is_not_bytes_is_refused(value: Any) -> None:
    session = loaded()
    with pytest.raises(ArgumentError, match=f"not {type(value).__name__}"):
        session.set("b", value)
    assert not session.changed


@pytest.mark.parametrize("value", [None, b"x", 7])
def test_a_value_that_is_not_text_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="set_string takes text"):
        loaded().set_string("t", value)


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "ü", [1, "a"], {"a": {"b": [None]}}])
def test_json(value: Any) -> None:
    session = loaded()
    session.set_json("j", value)
    assert session.get_json("j") == value


def test_json_that_is_none() -> None:
    session = loaded({"t": b"not json"})
    assert session.get_json("missing") is None
    with pytest.raises(ArgumentError, match="'t' is not JSON"):
        session.get_json("t")
    with pytest.raises(ArgumentError, match="JSON cannot express the value for 'j'"):
        session.set_json("j", object())
    assert not session.changed


def test_what_is_missing_is_none() -> None:
    session = loaded()
    assert (session.get("a"), session.get_string("a"), session.get_int32("a"), session.get_json("a")) == (None,) * 4
    assert session.keys == []


# Keys


def test_keys_are_case_sensitive() -> None:
    session = loaded()
    session.set_string("key", "a")
    session.set_string("KEY", "b")
    assert session.get_string("key") == "a"
    assert session.get_string("KEY") == "b"
    assert session.keys == ["key", "KEY"]


def test_the_empty_key_is_a_key() -> None:
    session = loaded()
    session.set("", b"")
    assert session.get("") == b""
    assert session.keys == [""]


@pytest.mark.parametrize("key", ["k" * 65535, "é" * 32767])
def test_the_longest_keys(key: str) -> None:
    session = loaded()
    session.set(key, b"1")
    assert session.get(key) == b"1"
    session.remove(key)
    assert session.keys == []


@pytest.mark.parametrize("key", ["k" * 65536, "é" * 32768, "\ud800" * 21846])
@pytest.mark.parametrize("use", [lambda s, k: s.set(k, b""), Session.get, Session.remove])
def test_longer_keys_are_refused(key: str, use: Callable[[Session, str], object]) -> None:
    with pytest.raises(ArgumentError, match="at most 65535 bytes when encoded as UTF-8; this one has"):
        use(loaded(), key)


@pytest.mark.parametrize("key", [None, 1, b"k"])
def test_a_key_is_text(key: Any) -> None:
    with pytest.raises(ArgumentError, match="must be text"):
        loaded().get(key)


def test_keys_that_are_no_utf8_show_as_replaced() -> None:
    session = loaded({"a\udcff": b"1"})
    assert session.keys == ["a\ufffd"]
    assert session.get("a\ufffd") is None


# What counts as a change


def test_reading_changes_nothing() -> None:
    session = loaded({"a": b"1"})
    assert session.get("a") == b"1"
    session.remove("missing")
    assert not session.changed
    assert not session.emptied


def test_setting_an_equal_value_is_a_change() -> None:
    session = loaded({"a": b"1"})
    session.set("a", b"1")
    assert session.changed


def test_removing_one_of_two() -> None:
    session = loaded({"a": b"1", "b": b"2"})
    session.remove("a")
    assert (session.changed, session.emptied, session.keys) == (True, False, ["b"])


@pytest.mark.parametrize("end", [lambda s: s.remove("a"), Session.clear, Session.abandon])
def test_a_session_that_ends_has_another_id(end: Callable[[Session], None]) -> None:
    session = loaded({"a": b"1"})
    old = session.id
    end(session)
    assert (session.changed, session.emptied, session.keys) == (True, True, [])
    assert session.id != old
    session.set("a", b"2")
    assert session.emptied


def test_the_id_is_the_guid_in_the_blob() -> None:
    session = loaded()
    assert session.state is not None
    assert session.id == str(uuid.UUID(bytes_le=session.state.session_id))
    renewed = session.id
    session.renew()
    assert (session.id, session.renewed) == (renewed, True)


# Limits


def test_the_size_limit_counts_the_stored_bytes() -> None:
    room = 200 - blob.HEADER_SIZE - 6 - 1
    session = loaded(max_size=200)
    session.set("a", bytes(room))
    with pytest.raises(
        SessionTooLargeError, match=r"would have 207 bytes with 'b'; the limit \(max_size\) is 200 bytes"
    ):
        session.set("b", b"")
    with pytest.raises(SessionTooLargeError, match="would have 201 bytes"):
        session.set("a", bytes(room + 1))
    assert session.get("a") == bytes(room)
    assert session.keys == ["a"]


def test_what_is_removed_makes_room() -> None:
    session = loaded(max_size=150)
    for _ in range(3):
        session.set("a", HUNDRED)
        session.set("a", HUNDRED)
        session.remove("a")
        session.set("b", HUNDRED)
        session.clear()
    session.set("ü", bytes(150 - blob.HEADER_SIZE - 6 - 2))


def test_a_stored_session_beyond_the_limit_can_shrink() -> None:
    session = loaded({"a": HUNDRED, "b": HUNDRED}, max_size=150)
    with pytest.raises(SessionTooLargeError):
        session.set("c", b"")
    session.remove("a")
    session.set("c", b"")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from("abcü"), st.binary(max_size=60)),
            st.tuples(st.just("remove"), st.sampled_from("abcü"), st.just(b"")),
            st.tuples(st.just("clear"), st.just(""), st.just(b"")),
        ),
        max_size=25,
    )
)
def test_the_size_is_always_that_of_the_blob(steps: list[tuple[str, str, bytes]]) -> None:
    session = loaded({"a": b"x"}, max_size=160)
    assert session.state is not None
    for name, key, value in steps:
        if name == "set":
            after = blob.encode(bytes(16), {**session.state.values, key: value})
            try:
                session.set(key, value)
            except SessionTooLargeError:
                assert len(after) > 160
            else:
                assert blob.encode(bytes(16), session.state.values) == after
                assert len(after) <= 160
        elif name == "remove":
            session.remove(key)
        else:
            session.clear()


# Access


WRITES: dict[str, Callable[[Session], None]] = {
    "set": lambda session: session.set("a", b"2"),
    "set_string": lambda session: session.set_string("a", "2"),
    "set_int32": lambda session: session.set_int32("a", 2),
    "set_json": lambda session: session.set_json("a", 2),
    "remove": lambda session: session.remove("a"),
    "clear": Session.clear,
    "renew": Session.renew,
    "abandon": Session.abandon,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_read_only_session(write: Callable[[Session], None]) -> None:
    session = loaded({"a": b"1"}, read_only=True)
    with pytest.raises(SessionReadOnlyError, match="session_access"):
        write(session)
    assert session.get("a") == b"1"
    assert not any((session.changed, session.emptied, session.renewed, session.abandoned))


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_session_that_was_stored(write: Callable[[Session], None]) -> None:
    session = loaded({"a": b"1"})
    session.close()
    with pytest.raises(SessionClosedError, match="stored when the response started"):
        write(session)
    assert session.get("a") == b"1"
    assert not any((session.changed, session.emptied, session.renewed, session.abandoned))


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_unavailable_session_drops_writes(write: Callable[[Session], None]) -> None:
    session = loaded(available=False, origin=Origin.NONE)
    write(session)
    assert (session.is_available, session.id, session.keys, session.get("a")) == (False, "", [], None)


def test_first_access_outside_a_script() -> None:
    calls = []

    async def load() -> SessionState:
        calls.append(1)
        return SessionState(Origin.NONE)

    session = Session(Source(load), NO_HEADERS)
    with pytest.raises(SessionNotLoadedError, match=r"await context\.session\.load\(\)"):
        session.get("a")
    assert not calls
    session.close()
    with pytest.raises(SessionClosedError, match="request has ended"):
        session.get("a")
    with pytest.raises(SessionClosedError, match="request has ended"):
        asyncio.run(session.load())
    assert not calls


async def test_many_loads_at_once_load_once() -> None:
    calls = []

    async def load() -> SessionState:
        calls.append(1)
        await asyncio.sleep(0.01)
        return SessionState(Origin.NONE)

    session = Session(Source(load), NO_HEADERS)
    await asyncio.gather(*(session.load() for _ in range(10)))
    assert calls == [1]
    assert session.state is not None


async def test_a_load_that_fails_or_is_cancelled_is_tried_again() -> None:
    calls = []

    async def load() -> SessionState:
        calls.append(1)
        await asyncio.sleep(0)
        if len(calls) == 1:
            raise ValueError
        if len(calls) == 2:
            await asyncio.Event().wait()
        return SessionState(Origin.NONE)

    session = Session(Source(load), NO_HEADERS)
    first, second, third = (asyncio.create_task(session.load()) for _ in range(3))
    with pytest.raises(ValueError):  # noqa: PT011
        await first
    await asyncio.sleep(0.01)
    second.cancel()
    third.cancel()
    await asyncio.gather(second, third, return_exceptions=True)
    await session.load()
    assert len(calls) == 3


# Threads


def test_threads_write_at_once() -> None:
    limit = 1 << 20
    session = loaded(max_size=limit)

    def work(number: int) -> None:
        for step in range(200):
            session.set_int32(f"{number}.{step}", step)
            assert session.get_int32(f"{number}.{step}") == step
            if step % 2:
                session.remove(f"{number}.{step}")

    run_in_threads(work, 4)
    assert session.state is not None
    assert len(session.state.values) == 400
    room = limit - len(blob.encode(bytes(16), session.state.values))
    session.set("rest", bytes(room - blob.entry_size("rest", b"")))
    with pytest.raises(SessionTooLargeError):
        session.set("", b"")


def test_keys_are_listed_while_threads_write() -> None:
    session = loaded({str(number): b"" for number in range(2000)})

    def work(number: int) -> None:
        for step in range(100):
            if number == 0:
                assert len(session.keys) >= 2000
            else:
                session.set(f"{number}.{step}", b"")

    run_in_threads(work, 4)


@pytest.fixture
def _busy_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_busy_threads")
def test_a_write_is_stored_or_refused() -> None:
    for _ in range(200):
        session = loaded()
        refused: list[int] = []
        began = threading.Barrier(2)

        def work(session: Session = session, refused: list[int] = refused, began: Any = began) -> None:
            began.wait()
            for step in range(100):
                try:
                    session.set_int32(str(step), step)
                except SessionClosedError:
                    refused.append(step)

        thread = threading.Thread(target=work)
        thread.start()
        began.wait()
        state = session.close()
        assert state is not None
        stored = dict(state.values)
        thread.join()
        assert state.values == stored
        assert len(stored) + len(refused) == 100


def test_closing_waits_for_a_write_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    session = loaded()
    entry_size = blob.entry_size
    inside, go_on = threading.Event(), threading.Event()

    def slow_entry_size(key: str, value: bytes) -> int:
        inside.set()
        assert go_on.wait(30)
        return entry_size(key, value)

    monkeypatch.setattr(blob, "entry_size", slow_entry_size)
    writer = threading.Thread(target=session.set, args=("a", b"1"))
    closer = threading.Thread(target=session.close)
    writer.start()
    assert inside.wait(30)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    go_on.set()
    writer.join()
    closer.join()
    assert session.get("a") == b"1"


def run_in_threads(work: Callable[[int], None], count: int) -> None:
    """Runs `work` with each number below `count` in threads, and raises what one of them raised."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
