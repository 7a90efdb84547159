"""What was logged already, so that a state that lasts is logged once."""

from __future__ import annotations

__all__ = ["Repeats"]


class Repeats:
    """Remembers the last text about each subject."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def is_new(self, subject: str, text: str) -> bool:
        """Notes the text, and tells whether the last one about the subject was another."""
        if self._last.get(subject) == text:
            return False
        self._last[subject] = text
        return True

    def end(self, subject: str) -> bool:
        """Forgets a subject, and tells whether there was a text about it."""
        return self._last.pop(subject, None) is not None
