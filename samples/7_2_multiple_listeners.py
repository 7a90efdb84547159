"""7.2 Multiple Listeners: one server on two ports.

Try it:
    curl http://127.0.0.1:5000/ping
    curl http://127.0.0.1:5433/ping
"""

import argparse
import os

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 5000)
port = parser.parse_args().port

new_kr_logger() | add_kr_sink_console() | register_kr_logger("console", set_as_default=True)

second_port = port + 433 if port <= 65102 else port - 433

new_kr_server("Endpoints Multi")

# Two listeners on the loopback address
add_kr_endpoint(port=port)
add_kr_endpoint(port=second_port)

enable_kr_configuration()


@add_kr_map_route("/ping", verbs="Get")
def ping():
    write_kr_log("Debug", "Ping requested")
    write_kr_text_response("pong", status_code=200)


write_kr_log("Information", "Multiple listeners configured ({Port}, {Port2})", values=[port, second_port])

start_kr_server(close_logs_on_exit=True)
