"""The TLS settings of https endpoints."""

from __future__ import annotations

import os
import secrets
import ssl
import tempfile

from kestrun_py.certificates.certificate import Certificate
from kestrun_py.errors import ServerStartError

__all__ = ["ssl_context"]


def ssl_context(certificate: Certificate) -> ssl.SSLContext:
    """The TLS settings of an endpoint: TLS 1.2 or later, HTTP/1.1.

    Raises:
        ServerStartError: OpenSSL refuses the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load_into(context, certificate)
    except OSError as error:  # ssl.SSLError is one
        raise ServerStartError(f"{certificate!r} cannot be used for TLS: {error}") from error
    return context


def _load_into(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Hands the certificate over in a file, as ssl demands: encrypted, no one else's to read, and removed at once."""
    password = secrets.token_hex(32)
    descriptor, name = tempfile.mkstemp(prefix="kestrun-", suffix=".pem")
    try:
        with open(descriptor, "wb") as file:
            file.write(certificate.to_pem(password.encode()))
        context.load_cert_chain(name, password=password)
    finally:
        os.unlink(name)
