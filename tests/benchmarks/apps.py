"""What the benchmark measures, one application to a process: `python -m benchmarks.apps NAME PORT WHERE KEYS`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import orjson
from aiohttp import web
from aiohttp_session import AbstractStorage, get_session, setup
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import from_url

from cmdlets import get_kr_session_int32, set_kr_session_int32, write_kr_json_response
from kestrun_py import KestrunHost

MESSAGE = "Counter incremented"
SECRET = bytes(range(32))


def _json(value: object) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    return web.Response(body=body, content_type="application/json", charset="utf-8")


def bare(_: str) -> web.Application:
    """What every ratio is taken to: aiohttp alone, answering the same JSON."""

    async def counter(request: web.Request) -> web.Response:
        return _json({"message": MESSAGE, "counter": 1})

    app = web.Application()
    app.router.add_get("/login", counter)
    app.router.add_get("/counter", counter)
    app.router.add_get("/read", counter)
    app.router.add_get("/hello", counter)
    return app


def _peer(storage: AbstractStorage) -> web.Application:
    async def counter(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["counter"] = session.get("counter", 0) + 1
        return _json({"message": MESSAGE, "counter": session["counter"]})

    async def read(request: web.Request) -> web.Response:
        session = await get_session(request)
        return _json({"message": MESSAGE, "counter": session.get("counter", 0)})

    async def hello(request: web.Request) -> web.Response:
        return _json({"message": MESSAGE, "counter": 1})

    app = web.Application()
    setup(app, storage)
    app.router.add_get("/login", counter)
    app.router.add_get("/counter", counter)
    app.router.add_get("/read", read)
    app.router.add_get("/hello", hello)
    return app


def peer_cookie(_: str) -> web.Application:
    """aiohttp-session with everything in an encrypted cookie."""
    return _peer(EncryptedCookieStorage(SECRET))


def peer_redis(url: str) -> web.Application:
    """aiohttp-session with its Redis storage."""
    return _peer(RedisStorage(from_url(url)))


def _routes(host: KestrunHost) -> KestrunHost:
    host.add_endpoint(port=sys.argv[2])
    host.add_data_protection(folder=sys.argv[4])
    host.add_session(
        cookie=host.new_cookie_builder(
            name="Kr.Session", http_only=True, same_site="Lax", secure_policy="SameAsRequest"
        )
    )

    async def counter() -> None:
        current = get_kr_session_int32("counter") or 0
        set_kr_session_int32("counter", current + 1)
        write_kr_json_response({"message": MESSAGE, "counter": current + 1})

    def counter_def() -> None:
        current = get_kr_session_int32("counter") or 0
        set_kr_session_int32("counter", current + 1)
        write_kr_json_response({"message": MESSAGE, "counter": current + 1})

    async def read() -> None:
        write_kr_json_response({"message": MESSAGE, "counter": get_kr_session_int32("counter") or 0})

    async def hello() -> None:
        write_kr_json_response({"message": MESSAGE, "counter": 1})

    host.add_map_route("/login", "Get", counter)
    host.add_map_route("/counter", "Get", counter)
    host.add_map_route("/counter-def", "Get", counter_def)
    host.add_map_route("/read", "Get", read)
    host.add_map_route("/read-only", "Get", read, session_access="read_only")
    return host.add_map_route("/hello", "Get", hello)


def memory(_: str) -> KestrunHost:
    return _routes(KestrunHost("memory"))


def redis(url: str) -> KestrunHost:
    return _routes(KestrunHost("redis").add_distributed_redis_cache(url))


def postgres(connection_string: str) -> KestrunHost:
    return _routes(
        KestrunHost("postgres").add_distributed_postgres_cache(
            connection_string, schema_name="public", table_name="Sessions"
        )
    )


def _ready() -> None:
    print("ready", flush=True)


async def serve(app: web.Application, port: int) -> None:
    """Serves as an application of aiohttp is served."""
    runner = web.AppRunner(app, access_log=None, handle_signals=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    _ready()
    await asyncio.Event().wait()


def main(name: str, port: int, where: str) -> None:
    makers: dict[str, Callable[[str], web.Application | KestrunHost]] = {
        "bare": bare,
        "peer-cookie": peer_cookie,
        "peer-redis": peer_redis,
        "memory": memory,
        "redis": redis,
        "postgres": postgres,
    }
    made = makers[name](where)
    if isinstance(made, KestrunHost):
        made.run(_ready)
    else:
        asyncio.run(serve(made, port))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
