"""7.3 HTTPS: one endpoint with TLS beside one without, and a route on each.

Try it:
    curl http://127.0.0.1:5000/unsecure
    curl -k https://127.0.0.1:5443/secure
"""

import argparse
import os
import tempfile
from pathlib import Path

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000

new_kr_logger() | add_kr_sink_console() | register_kr_logger("console", set_as_default=True)

server = new_kr_server("Endpoints Https")

# For development only: a certificate in a file. In production it comes from a CA, and the password from a secret store.
certificate_path = Path(tempfile.mkdtemp(prefix="kestrun-https-")) / "devcert.pfx"
password = "P@ssw0rd!"
new_kr_self_signed_certificate("localhost", exportable=True, valid_days=30) | export_kr_certificate(
    file_path=certificate_path, format="Pfx", include_private_key=True, password=password
)

http_endpoints = add_kr_endpoint(port=port)
first_port = server.endpoints[0].port
second_port = first_port + 443 if first_port <= 65092 else first_port - 443
https_endpoints = add_kr_endpoint(port=second_port, cert_path=certificate_path, cert_password=password)

# The certificate is loaded; its file is not needed any more
certificate_path.unlink()
certificate_path.parent.rmdir()

enable_kr_configuration()


@add_kr_map_route("/secure", verbs="Get", endpoints=https_endpoints)
def secure():
    write_kr_log("Information", "Secure endpoint invoked")
    write_kr_text_response("Secure hello", status_code=200)


@add_kr_map_route("/unsecure", verbs="Get", endpoints=http_endpoints)
def unsecure():
    write_kr_log("Information", "Unsecure endpoint invoked")
    write_kr_text_response("Unsecure hello", status_code=200)


write_kr_log("Information", "HTTP listener active on {Port}", values=first_port)
write_kr_log("Information", "HTTPS listener active on {Port2}", values=second_port)

start_kr_server(close_logs_on_exit=True)
