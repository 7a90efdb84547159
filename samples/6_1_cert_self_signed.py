"""6.1 Self-signed certificate: a root for development, a certificate that it signed, and https with it.

Try it:
    curl -k https://127.0.0.1:5000/hello
"""

import argparse
import os

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--trust-root", action="store_true")
arguments = parser.parse_args()
port = arguments.port or os.environ.get("PORT") or 5000

(
    new_kr_logger()
    | set_kr_logger_level("Debug")
    | add_kr_sink_console()
    | register_kr_logger("myLogger", set_as_default=True)
)

# A root CA, and a certificate for this machine that it has signed
bundle = new_kr_self_signed_certificate(
    ["localhost", "127.0.0.1", "::1"],
    development=True,
    exportable=True,
    leaf_valid_days=30,
    root_valid_days=3650,
    trust_root=arguments.trust_root,
)
root = bundle.root_certificate
certificate = bundle.leaf_certificate

print(f"Development root: {root.subject}")
print(f"Leaf certificate: {certificate.subject}")
print("Purposes:", ", ".join(get_kr_certificate_purpose(certificate)))

new_kr_server("HTTPS Demo")
add_kr_endpoint(port=port, x509_certificate=certificate, protocols="Http1")

enable_kr_configuration()


@add_kr_map_route("/hello", verbs="Get")
def hello():
    write_kr_text_response("hello https")


start_kr_server(close_logs_on_exit=True)
