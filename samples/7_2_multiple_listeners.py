"""7.2 Multiple Listeners: one server on two ports.

Try it:
    curl http://127.0.0.1:5000/ping
    curl http://127.0.0.1:5433/ping
"""

import argparse
import os

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000

new_kr_logger() | add_kr_sink_console() | register_kr_logger("console", set_as_default=True)

server = new_kr_server("Endpoints Multi")

# Two listeners on the loopback address
add_kr_endpoint(port=port)
first_port = server.endpoints[0].port
second_port = first_port + 433 if first_port <= 65102 else first_port - 433
add_kr_endpoint(port=second_port)

enable_kr_configuration()


@add_kr_map_route("/ping", verbs="Get")
def ping():
    write_kr_log("Debug", "Ping requested")
    write_kr_text_response("pong", status_code=200)


write_kr_log("Information", "Multiple listeners configured ({Port}, {Port2})", values=[first_port, second_port])

start_kr_server(close_logs_on_exit=True)
