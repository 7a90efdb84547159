"""The key ring's list."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from redis_server import RedisServer, open_redis_cache, open_redis_cluster_cache

from kestrun_py.caching.redis import RedisXmlRepository
from kestrun_py.data_protection import StoredElement
from kestrun_py.errors import CacheUnavailableError


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_list_of_aspnet(server: RedisServer) -> None:
    with server.client() as client:
        async with open_redis_cache(server.address, instance_name="app:") as cache:
            repository = cache.key_repository()
            assert await repository.read_all() == []
            assert await repository.append('<key id="ä" />', "key-1", 0)
            client.rpush("DataProtection-Keys", b"<revocation />")
            client.rpush("DataProtection-Keys", b"\xff")
            assert await repository.read_all() == [
                StoredElement("entry 0 of the list DataProtection-Keys", '<key id="ä" />'),
                StoredElement("entry 1 of the list DataProtection-Keys", "<revocation />"),
                StoredElement(
                    "entry 2 of the list DataProtection-Keys",
                    "",
                    "cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
                ),
            ]
            assert client.lrange("DataProtection-Keys", 0, -1)[0] == '<key id="ä" />'.encode()
            assert client.ttl("DataProtection-Keys") == -1
            assert server.address in str(repository)


async def test_only_one_of_many_adds_the_first_key(server: RedisServer) -> None:
    async with open_redis_cache(server.address) as one, open_redis_cache(server.address) as other:
        repositories = [one.key_repository(), other.key_repository()]
        added = await asyncio.gather(
            *(repositories[number % 2].append(f"<key{number} />", "key", 0) for number in range(20))
        )
        assert added.count(True) == 1
        assert len(await repositories[0].read_all()) == 1
        assert not await repositories[0].append("<late />", "key", 0)
        assert await repositories[0].append("<next />", "key", 1)


async def test_other_list(server: RedisServer) -> None:
    async with open_redis_cache(server.address) as cache:
        repository = RedisXmlRepository(cache.client, key="other")
        assert await repository.append("<key />", "key", 0)
        assert await cache.key_repository().read_all() == []


async def test_in_a_cluster() -> None:
    async with open_redis_cluster_cache() as cache:
        repository = RedisXmlRepository(cache.client, key=f"{uuid.uuid4()}:keys")  # other tests use the cluster too
        assert await repository.append("<key />", "key", 0)
        assert [element.xml for element in await repository.read_all()] == ["<key />"]


async def test_dead_server(server: RedisServer) -> None:
    server.kill()
    async with open_redis_cache(server.address) as cache:
        with pytest.raises(CacheUnavailableError):
            await cache.key_repository().read_all()
