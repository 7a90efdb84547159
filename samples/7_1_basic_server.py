"""7.1 Basic Server: one HTTP listener, one route and a log on the console.

Try it:
    curl http://127.0.0.1:5000/hello
"""

import argparse
import os

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000

# A log on the console (optional) shows what happens
(
    new_kr_logger()
    | set_kr_logger_level("Debug")
    | add_kr_sink_console()
    | register_kr_logger("console", set_as_default=True)
)

new_kr_server("Endpoints Basic")

add_kr_endpoint(port=port)

enable_kr_configuration()


@add_kr_map_route("/hello", verbs="Get")
def hello():
    write_kr_log("Information", "Processing /hello request")
    write_kr_text_response("Hello from basic server", status_code=200)


write_kr_log("Information", "Server {Name} configured.", values="Endpoints Basic")

# Closes the loggers when the server has stopped, as close_kr_logger() would
start_kr_server(close_logs_on_exit=True)
