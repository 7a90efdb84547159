"""2.3 Route Parameters: values from the path, the query, the body, a header and a cookie.

Try it:
    curl http://127.0.0.1:5000/input/demo
    curl -X PATCH 'http://127.0.0.1:5000/input?value=demo'
    curl -X POST -H 'Content-Type: application/json' -d '{"value": "demo"}' http://127.0.0.1:5000/input
    curl -X PUT -H 'value: demo' http://127.0.0.1:5000/input
    curl -X DELETE -b 'value=demo' http://127.0.0.1:5000/input
"""

import argparse
import os

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000

new_kr_server("Simple Server")

add_kr_endpoint(port=port)

enable_kr_configuration()


# From the path
@add_kr_map_route("/input/{value}", verbs="Get")
def from_path():
    value = get_kr_request_route_param("value")
    write_kr_text_response(f"The Path Parameter 'value' was: {value}", status_code=200)


# From the query
@add_kr_map_route("/input", verbs="Patch")
def from_query():
    value = get_kr_request_query("value")
    write_kr_text_response(f"The Query String 'value' was: {value}", status_code=200)


# From the body: JSON and form bodies come as a dictionary
@add_kr_map_route("/input", verbs="Post")
def from_body():
    body = get_kr_request_body()
    write_kr_text_response(f"The Body Parameter 'value' was: {body['value']}", status_code=200)


# From a header
@add_kr_map_route("/input", verbs="Put")
def from_header():
    value = get_kr_request_header("value")
    write_kr_text_response(f"The Header Parameter 'value' was: {value}", status_code=200)


# From a cookie
@add_kr_map_route("/input", verbs="Delete")
def from_cookie():
    value = get_kr_request_cookie("value")
    write_kr_text_response(f"The Cookie Parameter 'value' was: {value}", status_code=200)


start_kr_server()
