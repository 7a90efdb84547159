"""19.scale-out Scale Out: two nodes, one Redis, one cookie.

Takes a redis:// or rediss:// URL from UPSTASH_REDIS_URL or --redis. Try it:
    kestrun sample 19.scale-out --redis redis://127.0.0.1:6379
    curl -k -s -c jar.txt -b jar.txt https://127.0.0.1:5000/session/counter
    curl -k -s -c jar.txt -b jar.txt https://127.0.0.1:5001/session/counter
"""

import argparse
import os
import sys

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--redis", default=os.environ.get("UPSTASH_REDIS_URL"))
arguments = parser.parse_args()
port = arguments.port or os.environ.get("PORT") or 5000

if not arguments.redis:
    sys.exit("Redis URL not provided. Set the environment variable UPSTASH_REDIS_URL or pass --redis.")


def new_node(name, port):
    """One node: a host with its own listener, its own connection to Redis and the same routes."""
    node = new_kr_server(name)
    add_kr_endpoint(port=port, self_signed_cert=True, server=node)

    # The values and the keys that protect the cookie are in Redis; the nodes share nothing else
    add_kr_distributed_redis_cache(configuration=arguments.redis, instance_name="Scale_", server=node)
    cookie = new_kr_cookie_builder(name="Kr.Session", http_only=True, same_site="Lax", secure_policy="Always")
    add_kr_session(cookie=cookie, idle_timeout=20, io_timeout=10, server=node)
    enable_kr_configuration(server=node)

    @add_kr_map_route("/session/counter", verbs="Get", server=node)
    def counter():
        current = get_kr_session_int32("counter") or 0
        set_kr_session_int32("counter", current + 1)
        write_kr_json_response({"node": name, "counter": current + 1})

    return node


first = new_node("Node 1", port)
second = new_node("Node 2", first.endpoints[0].port + 1)

# A cookie knows no ports, so one client has one session on both nodes
start_kr_server(server=second, no_wait=True)
start_kr_server(server=first)
stop_kr_server(server=second)
