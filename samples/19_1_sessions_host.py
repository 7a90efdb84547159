"""19.1-host Sessions with the host object: sample 19.1 for those who come from the C# side.

Try it:
    kestrun sample 19.1-host
    curl -k -s -c jar.txt -b jar.txt https://127.0.0.1:5000/session/counter
"""

import argparse
import os

from kestrun_py import HttpVerb, KestrunContext, KestrunHost
from kestrun_py.logging import LoggerConfiguration

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000


# 1) A counter: an integer in the session
def counter(context: KestrunContext) -> None:
    current = context.session.get_int32("counter") or 0
    context.session.set_int32("counter", current + 1)
    context.response.write_json({"message": "Counter incremented", "counter": current + 1})


# 2) Login: remembers ?user=max
def login(context: KestrunContext) -> None:
    user = context.request.query.get("user", "")
    if not user.strip():
        missing = {"error": "Missing 'user' query parameter", "example": "/session/login?user=max"}
        context.response.write_json(missing, status=400)
        return
    context.session.set_string("user", user)
    context.response.write_json({"message": "Logged in", "user": user})


# 3) Who am I: reads the user back
def whoami(context: KestrunContext) -> None:
    user = context.session.get_string("user")
    if not user:
        context.response.write_json({"error": "No active session or user not set"}, status=401)
        return
    context.response.write_json({"user": user})


# 4) Logout: empties the session
def logout(context: KestrunContext) -> None:
    context.session.clear()
    context.response.write_json({"message": "Session cleared"})


# 5) Any value: /session/set?key=color&value=purple
def set_value(context: KestrunContext) -> None:
    key = context.request.query.get("key", "")
    value = context.request.query.get("value", "")
    if not key.strip() or not value.strip():
        missing = {
            "error": "Missing 'key' and/or 'value' query parameter(s)",
            "example": "/session/set?key=color&value=purple",
        }
        context.response.write_json(missing, status=400)
        return
    context.session.set_string(key, value)
    context.response.write_json({"message": "Stored in session", "key": key, "value": value})


# 6) And back: /session/get?key=color. A script that waits for nothing may as well be async
async def get_value(context: KestrunContext) -> None:
    key = context.request.query.get("key", "")
    if not key.strip():
        missing = {"error": "Missing 'key' query parameter", "example": "/session/get?key=color"}
        context.response.write_json(missing, status=400)
        return
    value = context.session.get_string(key)
    if value is None:
        context.response.write_json({"error": f"Key '{key}' not found in session"}, status=404)
        return
    context.response.write_json({"key": key, "value": value})


# A route that leaves the session alone
async def hello(context: KestrunContext) -> None:
    context.response.write_text("Hello, Session World!")


logger = LoggerConfiguration().set_level("Debug").add_console_sink().register("myLogger", set_as_default=True)

host = KestrunHost("Sessions Demo Server", logger=logger)

cookie = host.new_cookie_builder(name="Kr.Session", http_only=True, same_site="Lax", secure_policy="Always")

(
    host.add_endpoint(port=port, self_signed_cert=True)
    .add_session(cookie=cookie, idle_timeout=20, io_timeout=10)
    .add_map_route("/session/counter", HttpVerb.GET, counter)
    .add_map_route("/session/login", HttpVerb.GET, login)
    .add_map_route("/session/whoami", HttpVerb.GET, whoami)
    .add_map_route("/session/logout", HttpVerb.GET, logout)
    .add_map_route("/session/set", HttpVerb.GET, set_value)
    .add_map_route("/session/get", HttpVerb.GET, get_value)
    .add_map_route("/hello", HttpVerb.GET, hello)
    .run()
)
