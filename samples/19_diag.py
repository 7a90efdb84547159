"""19.diag Diagnostics: a route given as source text that looks at the session and its cache.

Try it:
    curl -k -s -c jar.txt -b jar.txt https://127.0.0.1:5000/diag/session
"""

import argparse
import os

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000

new_kr_server("Session Diagnostics")
add_kr_endpoint(port=port, self_signed_cert=True)

cookie = new_kr_cookie_builder(name="Kr.Session", http_only=True, same_site="Lax", secure_policy="Always")
add_kr_session(cookie=cookie, idle_timeout=20)
enable_kr_configuration()

# Source text is compiled once; `context` is the KestrunContext of the request
add_kr_map_route(
    "/diag/session",
    verbs="Get",
    code="""
import time

from kestrun_py.caching import DistributedCache

if context.session.get("color") is None:
    context.session.set_string("color", "blue")

# The cache behind the sessions, as the application itself may use it
cache = context.services.get(DistributedCache)

# A small entry shows that the cache can be written
context.wait(cache.set_string("__ping", str(int(time.time()))))

context.response.write_json(
    {
        "session": context.session.get_string("color"),
        "cacheType": f"{type(cache).__module__}.{type(cache).__qualname__}",
    }
)
""",
)

start_kr_server()
