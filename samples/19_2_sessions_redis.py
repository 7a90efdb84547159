"""19.2 Sessions in Redis: they outlive the process and are shared by all of them.

Takes a redis:// or rediss:// URL from UPSTASH_REDIS_URL or --redis. Try it:
    kestrun sample 19.2 --redis redis://127.0.0.1:6379
    curl -k -s -c jar.txt -b jar.txt https://127.0.0.1:5000/session/counter
    curl -k -s -c jar.txt -b jar.txt 'https://127.0.0.1:5000/session/login?user=max'
    curl -k -s -c jar.txt -b jar.txt https://127.0.0.1:5000/session/whoami
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

# A log on the console, from Debug on, for everything that names no other logger
(
    new_kr_logger()
    | set_kr_logger_level("Debug")
    | add_kr_sink_console()
    | register_kr_logger("myLogger", set_as_default=True)
)

new_kr_server("Sessions Demo Server")

# HTTPS on the loopback address, with a certificate made for this run
add_kr_endpoint(port=port, self_signed_cert=True)

# --- Session setup -----------------------------------------------------------
# The cookie may be left out, but it is good to be explicit
cookie = new_kr_cookie_builder(
    name="Kr.Session",
    http_only=True,
    same_site="Lax",
    secure_policy="Always",  # "None" to try it over plain HTTP
)

if not arguments.redis:
    sys.exit("Redis URL not provided. Set the environment variable UPSTASH_REDIS_URL or pass --redis.")

# The URL says it all: rediss:// is TLS, default:token@ is the login. Redis need not be up yet: requests that
# need it are answered with 503 until it is.
add_kr_distributed_redis_cache(configuration=arguments.redis, instance_name="KestrunSession_")

# Session services and middleware; the cache above holds the values
add_kr_session(cookie=cookie, idle_timeout=20, io_timeout=10)

enable_kr_configuration()

# --- Routes ------------------------------------------------------------------


# 1) A counter: an integer in the session
@add_kr_map_route("/session/counter", verbs="Get")
def counter():
    current = get_kr_session_int32("counter") or 0
    set_kr_session_int32("counter", current + 1)
    write_kr_json_response({"message": "Counter incremented", "counter": current + 1}, status_code=200)


# 2) Login: remembers ?user=max
@add_kr_map_route("/session/login", verbs="Get")
def login():
    user = get_kr_request_query("user")
    if not user or user.isspace():
        write_kr_json_response(
            {"error": "Missing 'user' query parameter", "example": "/session/login?user=max"}, status_code=400
        )
        return
    set_kr_session_string("user", user)
    write_kr_json_response({"message": "Logged in", "user": user}, status_code=200)


# 3) Who am I: reads the user back
@add_kr_map_route("/session/whoami", verbs="Get")
def whoami():
    user = get_kr_session_string("user")
    if not user:
        write_kr_json_response({"error": "No active session or user not set"}, status_code=401)
        return
    write_kr_json_response({"user": user}, status_code=200)


# 4) Logout: empties the session
@add_kr_map_route("/session/logout", verbs="Get")
def logout():
    clear_kr_session()
    write_kr_json_response({"message": "Session cleared"}, status_code=200)


# 5) Any value: /session/set?key=color&value=purple
@add_kr_map_route("/session/set", verbs="Get")
def set_value():
    key = get_kr_request_query("key")
    value = get_kr_request_query("value")
    if not key or key.isspace() or not value or value.isspace():
        write_kr_json_response(
            {
                "error": "Missing 'key' and/or 'value' query parameter(s)",
                "example": "/session/set?key=color&value=purple",
            },
            status_code=400,
        )
        return
    set_kr_session_string(key, value)
    write_kr_json_response({"message": "Stored in session", "key": key, "value": value}, status_code=200)


# 6) And back: /session/get?key=color
@add_kr_map_route("/session/get", verbs="Get")
def get_value():
    key = get_kr_request_query("key")
    if not key or key.isspace():
        write_kr_json_response(
            {"error": "Missing 'key' query parameter", "example": "/session/get?key=color"}, status_code=400
        )
        return
    value = get_kr_session_string(key)
    if value is None:
        write_kr_json_response({"error": f"Key '{key}' not found in session"}, status_code=404)
        return
    write_kr_json_response({"key": key, "value": value}, status_code=200)


# A route that leaves the session alone
@add_kr_map_route("/hello", verbs="Get")
def hello():
    write_kr_text_response("Hello, Session World!", status_code=200)


start_kr_server(close_logs_on_exit=True)
