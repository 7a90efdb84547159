"""6.2 Certificate signing requests: a small API that makes a key and a request for it.

Try it:
    curl -d '{"DnsNames": ["example.com"], "Country": "US"}' -H "Content-Type: application/json" \\
        http://127.0.0.1:5000/certs/csr
"""

import argparse
import os

from cmdlets import *

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000

(
    new_kr_logger()
    | set_kr_logger_level("Debug")
    | add_kr_sink_console()
    | register_kr_logger("myLogger", set_as_default=True)
)

new_kr_server("CSR API")
add_kr_endpoint(port=port)

enable_kr_configuration()

# The members of the body, and the arguments that they become
ARGUMENTS = {
    "DnsNames": "dns_names",
    "KeyType": "key_type",
    "KeyLength": "key_length",
    "Country": "country",
    "Org": "org",
    "CommonName": "common_name",
}


@add_kr_map_route("/certs/csr", verbs="Post")
def create_request():
    try:
        body = get_kr_request_body()
        if not isinstance(body, dict):
            raise ValueError("The body must be a JSON object.")
        arguments = {ARGUMENTS[name]: value for name, value in body.items() if name in ARGUMENTS and value}
        if "dns_names" not in arguments:
            raise ValueError("DnsNames is missing.")
        request = new_kr_certificate_request(**arguments)
        write_kr_log("Debug", "Created a request for {DnsNames}", values=arguments["dns_names"])
        write_kr_json_response(
            {
                "csrPem": request.csr_pem,
                "privateKeyPem": request.private_key_pem,
                "publicKeyPem": request.public_key_pem,
            },
            status_code=200,
        )
    except ValueError as error:  # the errors about arguments are ValueErrors
        write_kr_json_response({"error": str(error)}, status_code=400)


start_kr_server(close_logs_on_exit=True)
