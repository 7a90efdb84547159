"""6.3 Import, export and validate: a small API around certificate files.

It reads and writes files that the client names: run it on your own machine only.

Try it:
    curl -d '{"outPath": "./devcert", "outFormat": "Pfx", "includePrivateKey": true, "password": "p@ss"}' \\
        -H "Content-Type: application/json" http://127.0.0.1:5000/certs/export
    curl -d '{"filePath": "./devcert.pfx", "password": "p@ss"}' \\
        -H "Content-Type: application/json" http://127.0.0.1:5000/certs/import
"""

import argparse
import os

from cmdlets import *
from kestrun_py import KestrunError

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_args().port or os.environ.get("PORT") or 5000

(
    new_kr_logger()
    | set_kr_logger_level("Debug")
    | add_kr_sink_console()
    | register_kr_logger("myLogger", set_as_default=True)
)

new_kr_server("Cert Ops API")
add_kr_endpoint(port=port)

enable_kr_configuration()


def body_object():
    """The JSON object in the request's body."""
    body = get_kr_request_body()
    if not isinstance(body, dict):
        raise ValueError("The body must be a JSON object.")
    return body


@add_kr_map_route("/certs/import", verbs="Post")
def import_certificate():
    try:
        body = body_object()
        certificate = import_kr_certificate(str(body.get("filePath") or ""), password=body.get("password") or None)
        write_kr_json_response(
            {
                "subject": certificate.subject,
                "notAfter": certificate.not_after,
                "valid": test_kr_certificate(certificate),
                "purposes": get_kr_certificate_purpose(certificate),
            }
        )
    except (KestrunError, ValueError) as error:
        write_kr_log("Error", "Certificate import failed: {Reason}", values=str(error))
        write_kr_json_response({"error": str(error)}, status_code=400)


@add_kr_map_route("/certs/export", verbs="Post")
def export_certificate():
    try:
        body = body_object()
        if not body.get("outPath"):
            raise ValueError("Output path (outPath) is required for export.")
        certificate = new_kr_self_signed_certificate("temp.example.com", exportable=True, valid_days=1)
        certificate | export_kr_certificate(
            file_path=str(body["outPath"]),
            format=str(body.get("outFormat")),
            password=body.get("password") or None,
            include_private_key=bool(body.get("includePrivateKey")),
        )
        write_kr_json_response({"exported": True, "path": body["outPath"], "format": body.get("outFormat")})
    except (KestrunError, ValueError) as error:
        write_kr_log("Error", "Certificate export failed: {Reason}", values=str(error))
        write_kr_json_response({"error": str(error)}, status_code=400)


start_kr_server(close_logs_on_exit=True)
