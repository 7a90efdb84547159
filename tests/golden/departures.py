"""Where an answer is not as Kestrun's on purpose: the recording, the exchange's index, and the row that says why.

A reason is a text that stands in docs/guides/differences.md.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DEPARTURES"]

_SESSION_EMPTIED: Final = "| session emptied |"
_STORE_DOWN: Final = "| store cannot be written |"
_ARGUMENT_OUT_OF_SET: Final = "| An argument that is none of the accepted values"

DEPARTURES: Final[dict[tuple[str, int], str]] = {
    ("6.2-Cert-CSR", 1): _ARGUMENT_OUT_OF_SET,
    ("19.1-Sessions", 7): _SESSION_EMPTIED,
    ("19.2-Sessions-Redis", 6): _SESSION_EMPTIED,
    ("19.3-Sessions-Sql", 0): _STORE_DOWN,  # it was recorded without a database
}
