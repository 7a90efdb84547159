"""Finding and reaching servers: redis-py's connections, its Sentinel client and its cluster discovery."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import AuthenticationError, ConnectionError, RedisClusterException, RedisError, ResponseError

from kestrun_py.caching.redis._server import first_words
from kestrun_py.caching.redis._wire import Reply, Wire
from kestrun_py.caching.redis.options import Endpoint, RedisOptions, address
from kestrun_py.errors import CacheUnavailableError

__all__ = ["Connector", "unavailable"]

_TLS_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class _NamedTLSConnection(SSLConnection):
    """A TLS connection to a server whose certificate shows another name than its host's."""

    def __init__(self, *, server_hostname: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._server_hostname = server_hostname

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self._server_hostname}


def unavailable(where: str, error: BaseException) -> CacheUnavailableError:
    """What a failed connection becomes."""
    # redis-py wraps its errors in each other; the text is the innermost one's.
    return CacheUnavailableError(f"Redis at {where} cannot be reached: {error or type(error).__name__}")


class Connector:
    """Opens connections as the options say.

    Args:
        options: The options of a Redis server.
    """

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._class = _connection_class(options)
        self._settings = _settings(options)

    def endpoints(self) -> tuple[Endpoint | None, ...]:
        """The servers to try in turn; None is the Unix socket."""
        return self._options.endpoints or (None,)

    async def open(
        self,
        endpoint: Endpoint | None,
        *,
        on_lost: Callable[[str], None],
        on_push: Callable[[Reply], None] | None = None,
    ) -> Wire:
        """Connects, logs in and selects the database.

        Raises:
            CacheUnavailableError: The server cannot be reached, or refuses the login.
        """
        settings = {**self._settings, "db": self._options.default_database}
        if endpoint is None:
            where = str(self._options.unix_socket)
        else:
            where = address(endpoint)
            settings |= {"host": endpoint[0], "port": endpoint[1]}
        connection: AbstractConnection = self._class(**settings)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            return Wire(
                connection,
                where=where,
                stall=self._options.sync_timeout / 1000,
                on_lost=on_lost,
                on_push=on_push,
            )
        except BaseException as error:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
            if not isinstance(error, RedisError | OSError | ValueError):
                raise
            lost = isinstance(error, ConnectionError) and not isinstance(error, AuthenticationError)
            said = await first_words(endpoint, self._options.unix_socket) if lost else None
            if said is not None:
                raise CacheUnavailableError(f"Redis at {where} refuses connections: {said}") from error
            raise unavailable(where, error) from error

    async def find_primary(self) -> Endpoint:
        """Asks the Sentinels where the primary is: all at once, so that a silent one holds nobody up.

        Raises:
            CacheUnavailableError: No Sentinel answers, or none knows a primary of that name that is up.
        """
        answers = [asyncio.create_task(self._ask_sentinel(sentinel)) for sentinel in self._options.endpoints]
        problems: list[str] = []
        try:
            for answer in asyncio.as_completed(answers):
                try:
                    return await answer
                except CacheUnavailableError as error:
                    problems.append(str(error))
        finally:
            for task in answers:
                task.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
        raise CacheUnavailableError(" ".join(problems))

    async def _ask_sentinel(self, sentinel: Endpoint) -> Endpoint:
        where, name = address(sentinel), str(self._options.service_name)
        try:
            primary = (await self._primaries(sentinel)).get(name)
        except ResponseError as error:
            raise CacheUnavailableError(
                f"Redis at {where} does not answer as a Sentinel, which serviceName asks for: {error}"
            ) from error
        except (RedisError, OSError) as error:
            raise CacheUnavailableError(f"The Sentinel at {where} cannot be asked: {error}") from error
        if primary is None:
            raise CacheUnavailableError(f"The Sentinel at {where} knows no primary '{name}'.")
        if not primary["is_master"] or primary["is_sdown"] or primary["is_odown"]:
            raise CacheUnavailableError(f"The Sentinel at {where} says that the primary '{name}' is down.")
        return str(primary["ip"]), int(primary["port"])

    async def _primaries(self, sentinel: Endpoint) -> dict[str, Any]:
        """What a Sentinel knows about each primary, by name."""
        try:
            return await self._masters(sentinel, self._settings)
        except AuthenticationError as refusal:
            # A Sentinel may have no password though the servers have one; it refuses a login then.
            try:
                return await self._masters(sentinel, {**self._settings, "username": None, "password": None})
            except AuthenticationError:
                raise refusal from None

    async def _masters(self, sentinel: Endpoint, settings: dict[str, Any]) -> dict[str, Any]:
        host, port = sentinel
        client = Redis(connection_pool=ConnectionPool(connection_class=self._class, host=host, port=port, **settings))
        try:
            masters: Any = await client.sentinel_masters()
            return dict(masters)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose(close_connection_pool=True)

    async def find_slots(self, nodes: Iterable[Endpoint]) -> dict[int, Endpoint]:
        """Asks nodes of a cluster which of its primaries serves which slot.

        Args:
            nodes: The nodes to ask, one after the other until every slot is known.

        Raises:
            CacheUnavailableError: No node answers.
        """
        found: dict[int, Endpoint] = {}
        problems: list[str] = []
        for node in nodes:
            try:
                slots = await self._ask_node(node)
            except CacheUnavailableError as error:
                problems.append(str(error))
                continue
            found = slots | found
            if len(found) == REDIS_CLUSTER_HASH_SLOTS:
                break
        if not found:
            raise CacheUnavailableError(" ".join(problems))
        return found

    async def _ask_node(self, node: Endpoint) -> dict[int, Endpoint]:
        settings = {**self._settings, "connection_class": self._class}
        manager = NodesManager([ClusterNode(*node, **settings)], False, settings)
        try:
            await manager.initialize()
            return {slot: (str(nodes[0].host), int(nodes[0].port)) for slot, nodes in manager.slots_cache.items()}
        except LookupError:
            raise CacheUnavailableError(f"Redis at {address(node)} knows of no node that serves a slot.") from None
        except (RedisClusterException, RedisError, OSError) as error:
            raise CacheUnavailableError(
                f"Redis at {address(node)} does not tell the nodes of its cluster: {_cause(error)}"
            ) from error
        finally:
            for cache in ("nodes_cache", "startup_nodes"):
                with contextlib.suppress(RedisError, OSError):
                    await manager.aclose(cache)


def _cause(error: BaseException) -> BaseException:
    """What a cluster's error of redis-py was made of: its own text tells less, and sometimes something else."""
    while isinstance(error, RedisClusterException) and (inner := error.__cause__ or error.__context__):
        error = inner
    return error


def _connection_class(options: RedisOptions) -> type[AbstractConnection]:
    if options.unix_socket is not None:
        return UnixDomainSocketConnection
    if not options.ssl:
        return Connection
    return _NamedTLSConnection if options.ssl_host else SSLConnection


def _settings(options: RedisOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "username": options.user,
        "password": options.password,
        "client_name": options.name,
        "socket_timeout": options.connect_timeout / 1000,
        "socket_connect_timeout": options.connect_timeout / 1000,
        "protocol": 2,
    }
    if options.unix_socket is not None:
        return settings | {"path": options.unix_socket}
    settings["socket_keepalive"] = True
    if options.ssl:
        settings |= {
            "ssl_ca_certs": options.ssl_ca_certs,
            "ssl_certfile": options.ssl_certfile,
            "ssl_keyfile": options.ssl_keyfile,
            "ssl_cert_reqs": options.ssl_cert_reqs,
            "ssl_check_hostname": options.ssl_cert_reqs == "required",
        }
        if options.ssl_min_version is not None:
            settings["ssl_min_version"] = _TLS_VERSIONS[options.ssl_min_version]
        if options.ssl_host:
            settings["server_hostname"] = options.ssl_host
    return settings
