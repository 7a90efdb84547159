"""What a request costs in Redis commands."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import quote

import pytest
from host_nodes import Node, Nodes
from shared_caches import RedisMonitor, RedisShared

from kestrun_py.caching.redis import _scripts as scripts
from kestrun_py.data_protection import CookieProtector, KeyRing

Commands = Callable[[], list[str]]

NAMES = {script.sha.decode(): name for name, script in vars(scripts).items() if isinstance(script, scripts.Script)}


@pytest.fixture
async def node(redis_cache: RedisShared, nodes: Nodes) -> Node:
    """A host whose key ring and scripts the server knows."""
    node = await nodes.start(redis_cache)
    for path in ("/counter", "/read", "/peek", "/renew", "/read-def"):
        await node.get(path, await node.login())
    await node.get("/logout", await node.login())
    return node


@pytest.fixture
def commands(node: Node, redis_cache: RedisShared) -> Iterator[Commands]:
    """What was sent since the last call, scripts by their names."""
    with closing(RedisMonitor(redis_cache.server)) as monitor:
        yield lambda: [NAMES[words[1]] if words[0].upper() == "EVALSHA" else words[0] for words in monitor.commands()]


@pytest.mark.parametrize("with_cookie", [True, False])
async def test_a_route_that_ignores_the_session_sends_nothing(
    node: Node, commands: Commands, redis_cache: RedisShared, with_cookie: bool
) -> None:
    cookie = await node.login() if with_cookie else None
    commands()
    before = redis_cache.statistics()
    for _ in range(20):
        assert (await node.get("/plain", cookie)).result == "plain"
    assert redis_cache.statistics() == before
    assert before["cmdstat_evalsha"] > 0
    assert commands() == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/read", ["LOCK", "RELEASE"]),
        ("/read-def", ["LOCK", "RELEASE"]),
        ("/peek", ["GET"]),
        ("/counter", ["LOCK", "COMMIT"]),
        ("/counter-def", ["LOCK", "COMMIT"]),
        ("/stream", ["LOCK", "COMMIT"]),
        ("/logout", ["LOCK", "COMMIT_REMOVAL"]),
        ("/renew", ["LOCK", "RENEW", "STORE", "STORE", "COMMIT_REMOVAL"]),
    ],
)
async def test_a_known_session(
    node: Node, commands: Commands, redis_cache: RedisShared, path: str, expected: list[str]
) -> None:
    cookie = await node.login()
    commands()
    await node.get(path, cookie)
    assert commands() == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/read", []), ("/peek", []), ("/read-def", []), ("/logout", []), ("/counter", ["STORE"]), ("/stream", ["STORE"])],
)
async def test_no_session(
    node: Node, commands: Commands, redis_cache: RedisShared, path: str, expected: list[str]
) -> None:
    commands()
    await node.get(path)
    assert commands() == expected


async def test_an_expired_session(node: Node, commands: Commands, redis_cache: RedisShared) -> None:
    cookie = await node.login()
    await node.get("/logout", cookie)
    commands()
    await node.get("/read", cookie)
    assert commands() == ["LOCK", "GET"]
    await node.get("/counter", cookie)
    assert commands() == ["LOCK", "GET", "STORE"]


def _change(cookie: str, index: int) -> str:
    text = bytearray(base64.b64decode(cookie + "=" * (-len(cookie) % 4)))
    text[index] ^= 1
    return quote(base64.b64encode(bytes(text)).decode().rstrip("="), safe="")


def _unquoted(cookie: str) -> str:
    return cookie.replace("%2B", "+").replace("%2F", "/")


HOSTILE: dict[str, Callable[[str], str]] = {
    "empty": lambda cookie: "",
    "text": lambda cookie: "admin",
    "a session key": lambda cookie: "11111111-2222-3333-4444-555555555555",
    "a Redis command": lambda cookie: "%0D%0AFLUSHALL%0D%0A",
    "SQL": lambda cookie: "%27%3BDROP%20TABLE%20Sessions--",
    "cut off": lambda cookie: cookie[:-8],
    "longer": lambda cookie: cookie + "AAAA",
    "huge": lambda cookie: "A" * 4000,
    "another magic": lambda cookie: _change(_unquoted(cookie), 0),
    "another key": lambda cookie: _change(_unquoted(cookie), 5),
    "another text": lambda cookie: _change(_unquoted(cookie), 60),
    "another signature": lambda cookie: _change(_unquoted(cookie), -1),
    "not UTF-8": lambda cookie: "%FF%FE%80",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("path", ["/read", "/read-def", "/peek", "/logout", "/renew"])
async def test_hostile_cookies_never_get_to_the_sessions(
    node: Node, commands: Commands, redis_cache: RedisShared, name: str, path: str
) -> None:
    cookie = HOSTILE[name](await node.login())
    before = redis_cache.entries()
    commands()
    answer = await node.get(path, cookie)
    assert (answer.result, answer.cookie) == (None, None)
    # Whose key nobody knows makes the ring look for it, now and then.
    sent = commands()
    assert sent == [] or (name == "another key" and sent == ["LRANGE"])
    assert redis_cache.entries() == before


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_cookies_are_replaced_by_a_new_session(
    node: Node, commands: Commands, redis_cache: RedisShared, name: str
) -> None:
    known = await node.login()
    commands()
    answer = await node.get("/counter", HOSTILE[name](known))
    assert answer.result == 1
    assert answer.cookie
    assert [name for name in commands() if name != "LRANGE"] == ["STORE"]
    assert (await node.get("/read", known)).result == 1


@pytest.mark.parametrize("text", ["", "admin", "x" * 35, "x" * 37, "*" * 500, "DataProtection-Keys"])
async def test_a_good_cookie_that_holds_no_session_key(
    node: Node, commands: Commands, redis_cache: RedisShared, text: str
) -> None:
    """What another application with the same keys may have protected."""
    cookie = quote(await CookieProtector(node.host.services.require(KeyRing)).write(text), safe="")
    commands()
    assert (await node.get("/read", cookie)).result is None
    assert commands() == []


async def test_the_key_ring_is_looked_at_for_unknown_keys_once_in_a_while(
    node: Node, commands: Commands, redis_cache: RedisShared
) -> None:
    cookie = _unquoted(await node.login())
    commands()
    for index in range(5, 15):
        assert (await node.get("/read", _change(cookie, index))).result is None
    assert commands().count("LRANGE") <= 1
