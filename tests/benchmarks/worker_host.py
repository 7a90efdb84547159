"""A host script for the comparison of one worker with two: the counter on Redis."""

from __future__ import annotations

import os

from cmdlets import (
    add_kr_distributed_redis_cache,
    add_kr_endpoint,
    add_kr_map_route,
    add_kr_session,
    get_kr_session_int32,
    new_kr_server,
    set_kr_session_int32,
    start_kr_server,
    write_kr_json_response,
)

new_kr_server("workers")
add_kr_endpoint(port=int(os.environ["PORT"]))
add_kr_distributed_redis_cache(os.environ["BENCH_REDIS"])
add_kr_session()


@add_kr_map_route("/counter")
async def counter() -> None:
    current = get_kr_session_int32("counter") or 0
    set_kr_session_int32("counter", current + 1)
    write_kr_json_response({"message": "Counter incremented", "counter": current + 1})


add_kr_map_route("/login", script_block=counter)
start_kr_server()
