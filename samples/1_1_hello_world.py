"""1.1 Hello World: one route that answers with text.

Try it:
    curl http://127.0.0.1:5000/hello
"""

import argparse
import os

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000

new_kr_server("Simple Server")

# Listens on the loopback address, 127.0.0.1
add_kr_endpoint(port=port)

enable_kr_configuration()


@add_kr_map_route("/hello", verbs="Get")
def hello():
    write_kr_text_response("Hello, World!", status_code=200)
    # The status is 200 anyway, so this is shorter:
    # write_kr_text_response("Hello, World!")


start_kr_server()
