"""The session cmdlets: Add-KrSession, Get- and Set-KrSessionString and their kin."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cmdlets import (
    abandon_kr_session,
    add_kr_data_protection,
    add_kr_map_route,
    add_kr_session,
    clear_kr_session,
    get_kr_context,
    get_kr_session_byte,
    get_kr_session_id,
    get_kr_session_int32,
    get_kr_session_json,
    get_kr_session_string,
    new_kr_cookie_builder,
    remove_kr_session,
    renew_kr_session,
    set_kr_session_byte,
    set_kr_session_int32,
    set_kr_session_json,
    set_kr_session_string,
)
from kestrun_py import (
    CacheFailurePolicy,
    DistributedCache,
    KestrunHost,
    MemoryCache,
    SessionAccess,
    SessionLock,
    SessionOptions,
)
from kestrun_py.errors import ArgumentError, ContextError, InvalidOperationError
from kestrun_py.sessions import SessionAccessText

if TYPE_CHECKING:
    from cmdlet_support import Client
    from recording_log import Log

Serve = Callable[[], Awaitable["Client"]]
AsScript = Callable[[Callable[[], Any]], Callable[[], Any]]


class Steps:
    """A session over several requests; each runs one function as a route script, in either kind."""

    def __init__(self, client: Client, log: Log, as_script: AsScript) -> None:
        self.client = client
        self._log = log
        self._as_script = as_script
        self._count = 0

    async def __call__(self, work: Callable[[], Any], *, access: SessionAccessText = "read_write") -> Any:
        """What `work` returned; if it failed, the error's line."""
        found: list[Any] = []
        self._count += 1
        path = f"/step{self._count}"
        add_kr_map_route(path, script_block=self._as_script(lambda: found.append(work())), session_access=access)
        response = await self.client.get(path)
        return found[0] if response.status == 200 else self._log.last_exception

    @property
    def cookie(self) -> str | None:
        """The session cookie in the client's jar, which keeps an expired one for a while as an empty one."""
        cookies = {cookie.key: cookie.value for cookie in self.client.session.cookie_jar}
        return cookies.get(".AspNetCore.Session") or None


@pytest.fixture
async def steps(host: KestrunHost, serve: Serve, log: Log, as_script: AsScript) -> Steps:
    add_kr_session()
    return Steps(await serve(), log, as_script)


class TestValues:
    @pytest.mark.parametrize(
        ("write", "read", "value"),
        [
            (set_kr_session_string, get_kr_session_string, "Grüße"),
            (set_kr_session_int32, get_kr_session_int32, -5),
            (set_kr_session_int32, get_kr_session_int32, 2**31 - 1),
            (set_kr_session_byte, get_kr_session_byte, b"\x00\xff"),
            (set_kr_session_byte, get_kr_session_byte, b""),
            (set_kr_session_json, get_kr_session_json, {"a": [1, None, "é"]}),
        ],
    )
    async def test_what_is_set_is_got_in_a_later_request(
        self, write: Callable[..., None], read: Callable[[str], Any], value: Any, steps: Steps
    ) -> None:
        assert await steps(lambda: read("key")) is None
        assert steps.cookie is None
        assert await steps(lambda: write("key", value)) is None
        assert await steps(lambda: read("key")) == value
        assert await steps(lambda: read("KEY")) is None

    async def test_by_parameter_names(self, steps: Steps) -> None:
        await steps(lambda: set_kr_session_int32(key="counter", value=1))
        assert await steps(lambda: get_kr_session_int32(key="counter")) == 1

    async def test_remove_and_clear(self, steps: Steps) -> None:
        def fill() -> None:
            for name in "abc":
                set_kr_session_string(name, name)

        def all_values() -> list[str | None]:
            return [get_kr_session_string(name) for name in "abc"]

        await steps(fill)
        await steps(lambda: remove_kr_session("b"))
        await steps(lambda: remove_kr_session("never there"))
        assert await steps(all_values) == ["a", None, "c"]
        assert await steps(clear_kr_session) is None
        assert steps.cookie is None
        assert await steps(all_values) == [None] * 3

    async def test_an_empty_text_is_a_value(self, steps: Steps) -> None:
        await steps(lambda: set_kr_session_string("key", ""))
        assert await steps(lambda: get_kr_session_string("key")) == ""
        await steps(lambda: set_kr_session_byte("key", b""))
        assert await steps(lambda: get_kr_session_byte("key") == b"") is True

    @pytest.mark.parametrize(
        ("work", "text"),
        [
            (lambda: set_kr_session_string("key", 5), "value must be text, not int"),  # type: ignore[arg-type]
            (lambda: set_kr_session_string("", "x"), "parameter 'key' because it is an empty string"),
            (lambda: set_kr_session_int32("key", 2**31), "set_int32 takes an integer from -2147483648 to 2147483647"),
            (lambda: set_kr_session_int32("key", "5"), "set_int32 takes an integer"),  # type: ignore[arg-type]
            (lambda: set_kr_session_byte("key", "x"), "A session value must be bytes, not str"),  # type: ignore[arg-type]
            (lambda: set_kr_session_json("key", object()), "JSON cannot express the value for 'key'"),
            (lambda: get_kr_session_string(None), "key must be text, not NoneType"),  # type: ignore[arg-type]
            (lambda: get_kr_session_int32(""), "parameter 'key' because it is an empty string"),
            (lambda: remove_kr_session(""), "parameter 'key' because it is an empty string"),
        ],
    )
    async def test_values_that_cannot_be(self, work: Callable[[], Any], text: str, steps: Steps) -> None:
        assert text in await steps(work)


class TestTheSessionItself:
    async def test_id_is_a_guid_that_stays(self, steps: Steps) -> None:
        def begin() -> str:
            set_kr_session_string("a", "1")
            return get_kr_session_id()

        first = await steps(begin)
        assert str(uuid.UUID(first)) == first
        assert await steps(get_kr_session_id) == first

    async def test_renew_keeps_the_values_under_another_cookie(self, steps: Steps) -> None:
        await steps(lambda: set_kr_session_string("a", "1"))
        before = steps.cookie
        await steps(renew_kr_session)
        assert steps.cookie not in (before, None)
        assert await steps(lambda: get_kr_session_string("a")) == "1"

    async def test_abandon_ends_it(self, steps: Steps) -> None:
        await steps(lambda: set_kr_session_string("a", "1"))
        await steps(abandon_kr_session)
        assert steps.cookie is None
        assert await steps(lambda: get_kr_session_string("a")) is None

    async def test_the_context_has_it_too(self, steps: Steps) -> None:
        await steps(lambda: get_kr_context().session.set_int32("n", 7))
        assert await steps(lambda: (get_kr_session_int32("n"), get_kr_context().session.keys)) == (7, ["n"])

    @pytest.mark.parametrize("access", ["read_only", "ReadOnly", SessionAccess.READ_ONLY])
    async def test_a_read_only_route(self, access: Any, steps: Steps) -> None:
        await steps(lambda: set_kr_session_string("a", "1"))
        assert await steps(lambda: get_kr_session_string("a"), access=access) == "1"
        refused = await steps(lambda: set_kr_session_string("a", "2"), access=access)
        assert 'session_access="read_only", so it cannot write' in refused
        assert await steps(lambda: get_kr_session_string("a")) == "1"


CALLS: dict[str, Callable[[], Any]] = {
    "get_kr_session_string": lambda: get_kr_session_string("a"),
    "set_kr_session_string": lambda: set_kr_session_string("a", "b"),
    "get_kr_session_int32": lambda: get_kr_session_int32("a"),
    "set_kr_session_int32": lambda: set_kr_session_int32("a", 1),
    "get_kr_session_byte": lambda: get_kr_session_byte("a"),
    "set_kr_session_byte": lambda: set_kr_session_byte("a", b"b"),
    "get_kr_session_json": lambda: get_kr_session_json("a"),
    "set_kr_session_json": lambda: set_kr_session_json("a", 1),
    "remove_kr_session": lambda: remove_kr_session("a"),
    "clear_kr_session": clear_kr_session,
    "renew_kr_session": renew_kr_session,
    "abandon_kr_session": abandon_kr_session,
    "get_kr_session_id": get_kr_session_id,
}


class TestWhereTheyDoNotWork:
    @pytest.mark.parametrize("name", CALLS)
    def test_outside_a_request(self, name: str) -> None:
        with pytest.raises(ContextError, match=f"^{name} must be called inside a route script"):
            CALLS[name]()

    @pytest.mark.parametrize("name", CALLS)
    async def test_on_a_host_without_sessions(self, name: str, host: KestrunHost, serve: Serve, log: Log) -> None:
        steps = Steps(await serve(), log, lambda work: work)
        line = await steps(CALLS[name])
        assert line.startswith("kestrun_py.errors.SessionNotConfiguredError")
        assert "call add_session on the host (add_kr_session in a script)" in line


class TestAddKrSession:
    def test_defaults(self, host: KestrunHost) -> None:
        assert add_kr_session() is host
        options = host.services.require(SessionOptions)
        assert (options.idle_timeout, options.io_timeout, options.absolute_timeout) == (1200, 10, None)
        assert (options.lock, options.on_cache_failure) == (SessionLock.EXCLUSIVE, CacheFailurePolicy.FAIL)
        assert options.max_size == 1024 * 1024
        assert options.cookie.name == ".AspNetCore.Session"

    def test_every_option(self, host: KestrunHost) -> None:
        cookie = new_kr_cookie_builder(name="Kr.Session", http_only=True)
        add_kr_session(
            cookie,
            idle_timeout=20,
            io_timeout="00:00:05",
            absolute_timeout="1h",
            lock="None",  # type: ignore[arg-type]
            on_cache_failure="Continue",  # type: ignore[arg-type]
            max_size=1000,
        )
        assert host.services.require(SessionOptions) == SessionOptions(
            cookie, 20, 5, 3600, SessionLock.NONE, CacheFailurePolicy.CONTINUE, 1000
        )

    def test_fractions_of_a_second(self, host: KestrunHost) -> None:
        add_kr_session(idle_timeout=0.5, io_timeout=0.25)
        options = host.services.require(SessionOptions)
        assert (options.idle_timeout, options.io_timeout) == (0.5, 0.25)

    def test_ready_options_and_another_server(self, host: KestrunHost) -> None:
        other, options = KestrunHost("other"), SessionOptions.of(idle_timeout=5)
        assert add_kr_session(options=options, server=other) is other
        assert other.services.get(SessionOptions) is options
        assert host.services.get(SessionOptions) is None

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({"idle_timeout": 0}, "idle_timeout must be positive"),
            ({"io_timeout": -1}, "io_timeout must be positive"),
            ({"idle_timeout": "soon"}, "idle_timeout: Invalid TimeSpan format"),
            ({"lock": "shared"}, "lock: 'shared' is not one of Exclusive, None"),
            ({"on_cache_failure": "ignore"}, "on_cache_failure: 'ignore' is not one of Fail, Continue"),
            ({"options": SessionOptions.of(), "lock": "None"}, "options or lock, not both"),
            ({"memory_cache_options": {}, "no_distributed_memory_cache": True}, "memory_cache_options are for the"),
            ({"memory_cache_options": {"size_limit": -1}}, "size_limit"),
        ],
    )
    def test_options_that_cannot_be(self, given: dict[str, Any], text: str, host: KestrunHost) -> None:
        with pytest.raises(ArgumentError, match=text):
            add_kr_session(**given)

    def test_twice(self, host: KestrunHost) -> None:
        add_kr_session()
        with pytest.raises(InvalidOperationError, match="Session services are already registered"):
            add_kr_session()

    async def test_a_cookie_may_be_piped(self, host: KestrunHost, serve: Serve) -> None:
        cookie = new_kr_cookie_builder(name="Piped", http_only=True)
        assert cookie | add_kr_session(idle_timeout=20) is host
        options = host.services.require(SessionOptions)
        assert (options.cookie, options.idle_timeout) == (cookie, 20)
        add_kr_map_route("/", script_block=lambda: set_kr_session_string("a", "1"))
        assert list((await (await serve()).get("/")).cookies) == ["Piped"]

    def test_a_cookie_that_cannot_be_piped(self, host: KestrunHost) -> None:
        cookie = new_kr_cookie_builder(name="Piped", http_only=True)
        with pytest.raises(ArgumentError, match=r"add_session\(cookie=\.\.\.\)"):
            cookie | host  # no session yet
        add_kr_session(new_kr_cookie_builder(name="Given", http_only=True))
        with pytest.raises(ArgumentError, match=r"add_session\(cookie=\.\.\.\)"):
            cookie | host
        assert host.services.require(SessionOptions).cookie.name == "Given"
        other = add_kr_session(server=KestrunHost("other"))
        with pytest.raises(ArgumentError, match="needs a name"):
            new_kr_cookie_builder() | other
        with pytest.raises(TypeError, match="unsupported operand"):
            5 | other  # type: ignore[operator]
        with pytest.raises(InvalidOperationError, match="A piped cookie comes too late"):
            cookie | other.enable_configuration()

    def test_memory_cache_options(self, host: KestrunHost) -> None:
        add_kr_session(memory_cache_options={"size_limit": 1000, "scan_interval": 5})
        cache = host.services.get(DistributedCache)
        assert isinstance(cache, MemoryCache)
        assert cache._room.limit == 1000

    def test_names_are_kestruns(self) -> None:
        names = list(inspect.signature(add_kr_session).parameters)
        kestruns = {"server", "options", "cookie", "idle_timeout", "io_timeout", "no_distributed_memory_cache"}
        assert kestruns | {"memory_cache_options"} <= set(names)
        assert names[0] == "cookie"


class TestDataProtection:
    async def test_a_folder_holds_the_keys(self, tmp_path: Path, host: KestrunHost, serve: Serve) -> None:
        folder = tmp_path / "keys"
        assert add_kr_data_protection(folder=folder, application_name="shop") is host
        add_kr_session()
        add_kr_map_route("/", script_block=lambda: set_kr_session_string("a", "1"))
        client = await serve()
        assert (await client.get("/")).cookies
        assert len(list(folder.glob("key-*.xml"))) == 1
