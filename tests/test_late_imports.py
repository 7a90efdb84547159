"""What a host that does not use it need not wait for."""

from __future__ import annotations

import subprocess
import sys

HELLO = """
import sys
from cmdlets import *
new_kr_server("hello")
add_kr_endpoint(port=0)
enable_kr_configuration()
"""


def loaded(script: str, package: str) -> bool:
    """Tells whether a script has imported a package."""
    code = f"{script}\nprint({package!r} in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split()[-1] == "True"


def test_a_host_without_sessions_and_https_does_not_import_cryptography() -> None:
    assert not loaded(HELLO, "cryptography")


def test_https_imports_cryptography() -> None:
    assert loaded(HELLO.replace("port=0", "port=0, self_signed_cert=True"), "cryptography")
