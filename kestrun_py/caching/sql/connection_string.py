"""Connection strings: ADO.NET's grammar, ODBC's grammar, and what a SQL cache takes from either.

No message quotes a piece of a text that was not understood: it may belong to a password. Messages hold positions and
the names of known keywords.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kestrun_py.errors import ArgumentError

__all__ = [
    "ConnectionSettings",
    "Keywords",
    "SessionSettings",
    "check_no_url",
    "is_odbc_string",
    "odbc_string",
    "parse_ado_string",
    "parse_odbc_string",
    "passed_through",
    "unknown_keyword",
]

DEFAULT_POOL_SIZE: Final = 10
_LARGEST_POOL: Final = 32_767
_TRUE: Final = frozenset({"true", "yes"})
_FALSE: Final = frozenset({"false", "no"})
_URL: Final = re.compile(r"[a-z][\w+.:-]*://", re.IGNORECASE)
# What messages show: the keywords for the server, the database and the user.
_SHOWN: Final = frozenset({"server", "servername", "host", "dsn", "filedsn", "database", "user id", "username", "uid"})
_NEXT_PAIR: Final = re.compile(r"\s[\w ]*=")
# A shorter password is masked where it stands as a value: everywhere else, its letters are those of other words.
_SHORTEST_MASKED_LENGTH: Final = 4


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How to connect where a connection has a session of its own, which no pooler gives to another client.

    Attributes:
        odbc: The ODBC connection string.
        claim: A statement that answers with a row, and sets the session up, if the session belongs to the connection.
        refusal: What a pooler's message says that refuses such a connection string.
    """

    odbc: str
    claim: str
    refusal: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How to connect, and how many connections to keep.

    Attributes:
        odbc: The ODBC connection string.
        prefix: What every statement begins with on a connection that is made by `odbc`.
        session: How to connect to a server that keeps a session for each connection, if that is to be tried first.
        fallbacks: How to connect to the other servers, in order, where this one gives no connection.
        address: The server and the database, for messages.
        login_timeout: Seconds to wait for a new connection.
        command_timeout: Seconds after which the server gives a statement up; 0 for never.
        min_size: Connections opened at the start.
        max_size: Connections at most.
        pooling: Whether a connection is kept for the next caller.
        secrets: What must not show in messages.
    """

    odbc: str
    address: str
    prefix: str = ""
    session: SessionSettings | None = None
    fallbacks: tuple[ConnectionSettings, ...] = ()
    login_timeout: int = 15
    command_timeout: int = 30
    min_size: int = 0
    max_size: int = DEFAULT_POOL_SIZE
    pooling: bool = True
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ConnectionSettings(address={self.address!r})"

    def without_secrets(self, text: str) -> str:
        """Returns a text with every password in it replaced by stars."""
        for secret in self.secrets:
            pattern = re.escape(secret)
            if len(secret) < _SHORTEST_MASKED_LENGTH:
                pattern = rf"(?<=[={{'\"]){pattern}(?=[;}}'\"\s]|\Z)"
            text = re.sub(pattern, "***", text)
        return text


def check_no_url(text: str, instead: str) -> None:
    """Raises `ArgumentError` for a URL of a kind that is not understood; it says what to write instead."""
    if _URL.match(text):
        raise ArgumentError(f"The connection string is a URL of a kind that is not understood; write {instead}")


def _check_shown(keyword: str, value: str) -> None:
    """Refuses a name that holds the next pair: messages would show its value."""
    if keyword in _SHOWN and _NEXT_PAIR.search(value):
        raise ArgumentError(
            f"The connection string's value of '{keyword}' holds a further 'key='; parts are separated by ';'."
        )


def is_odbc_string(text: str) -> bool:
    """Whether a connection string names an ODBC driver or data source, which an ADO.NET one never does."""
    try:
        pairs = parse_ado_string(text)
    except ArgumentError:
        # A value in braces may hold what ADO.NET's grammar chokes on.
        pairs = parse_odbc_string(text)
    return any(key in ("driver", "dsn", "filedsn") for key, _ in pairs)


def passed_through(text: str) -> ConnectionSettings:
    """The settings of an ODBC connection string, which is used as it is."""
    pairs = parse_odbc_string(text)
    for keyword, value in pairs:
        _check_shown(keyword, value)
    values = dict(reversed(pairs))
    server = values.get("server") or values.get("servername") or values.get("dsn") or values.get("filedsn")
    secrets = tuple(value for keyword, value in pairs if keyword in ("pwd", "password") and value)
    return ConnectionSettings(text, _address(server or "the ODBC data source", values.get("database")), secrets=secrets)


def parse_ado_string(text: str) -> list[tuple[str, str]]:
    """Splits an ADO.NET connection string.

    ``key=value`` pairs are separated by semicolons; ``==`` in a key stands for ``=``; a value in single or double
    quotes may hold anything, the quote itself doubled.

    Returns:
        The pairs in order, keys in lower case with single spaces.

    Raises:
        ArgumentError: The text does not follow the grammar; the message holds no piece of it.
    """
    pairs: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        if text[position] in ";\0" or text[position].isspace():
            position += 1
            continue
        number = len(pairs) + 1
        key, position = _ado_key(text, position, number)
        value, position = _ado_value(text, position, number)
        pairs.append((key, value))
    return pairs


def _ado_key(text: str, position: int, number: int) -> tuple[str, int]:
    key = ""
    while position < len(text):
        if text.startswith("==", position):
            key += "="
            position += 2
        elif text[position] == "=":
            break
        elif text[position] == ";":
            raise _malformed(number, "has no '='")
        else:
            key += text[position]
            position += 1
    else:
        raise _malformed(number, "has no '='")
    key = " ".join(key.split()).lower()
    if not key:
        raise _malformed(number, "has no name before its '='")
    return key, position + 1


def _ado_value(text: str, position: int, number: int) -> tuple[str, int]:
    while position < len(text) and text[position].isspace():
        position += 1
    if position == len(text) or text[position] not in "'\"":
        end = text.find(";", position)
        end = len(text) if end < 0 else end
        return text[position:end].strip(), end + 1
    value, position = _quoted(text, position, number)
    end = text.find(";", position)
    end = len(text) if end < 0 else end
    if text[position:end].strip():
        raise ArgumentError(
            f"The value of part {number} of the connection string goes on after its closing quote; "
            "put a ';' after it, or double the quote inside it."
        )
    return value, end + 1


def _quoted(text: str, position: int, number: int) -> tuple[str, int]:
    quote = text[position]
    position += 1
    parts = []
    while True:
        end = text.find(quote, position)
        if end < 0:
            raise ArgumentError(f"The value of part {number} of the connection string has no closing {quote}.")
        parts.append(text[position:end])
        if not text.startswith(quote * 2, end):
            return quote.join(parts), end + 1
        position = end + 2


def _malformed(number: int, problem: str) -> ArgumentError:
    return ArgumentError(
        f"Part {number} of the connection string {problem}; parts are key=value, separated by ';' "
        "(a value that holds a ';' goes in quotes)."
    )


def parse_odbc_string(text: str) -> list[tuple[str, str]]:
    """Splits an ODBC connection string, leniently: keys in lower case, values out of their braces.

    A brace inside a value in braces is doubled. The driver manager and the driver have the last word on the syntax.
    """
    pairs = []
    position = 0
    while position < len(text):
        key, equals, rest = text[position:].partition("=")
        if not equals:
            break
        position = len(text) - len(rest)
        lead = len(rest) - len(rest.lstrip())
        if rest[lead : lead + 1] == "{":
            value, position = _braced(text, position + lead)
            position = text.find(";", position)
        else:
            end = text.find(";", position)
            value = (text[position:] if end < 0 else text[position:end]).strip()
            position = end
        pairs.append((key.rpartition(";")[2].strip().lower(), value))
        if position < 0:
            break
        position += 1
    return pairs


def _braced(text: str, position: int) -> tuple[str, int]:
    position += 1
    value = ""
    while position < len(text):
        if text.startswith("}}", position):
            value += "}"
            position += 2
        elif text[position] == "}":
            return value, position + 1
        else:
            value += text[position]
            position += 1
    return value, position


def odbc_string(pairs: Iterable[tuple[str, str]]) -> str:
    """Joins an ODBC connection string; every value that could be misread is put in braces."""
    return ";".join(f"{key}={_odbc_value(value)}" for key, value in pairs)


def _odbc_value(value: str) -> str:
    if value and all(character.isalnum() or character in "_-./:,\\" for character in value):
        return value
    return "{" + value.replace("}", "}}") + "}"


class Keywords:
    """The values of an ADO.NET connection string, by their canonical keyword.

    Args:
        pairs: What `parse_ado_string` returned; a later value of a keyword replaces an earlier one.
        known: The canonical keyword of every keyword that is understood, itself included; an empty one for those that
            are accepted and have no meaning here.

    Raises:
        ArgumentError: A keyword is not known, or a value holds a NUL character.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], known: Mapping[str, str]) -> None:
        self._values: dict[str, str] = {}
        for number, (key, value) in enumerate(pairs, start=1):
            if key not in known:
                raise unknown_keyword(f"Part {number} of the connection string", key, known)
            if "\0" in value:
                raise ArgumentError(f"The connection string's value of '{key}' holds a NUL character.")
            _check_shown(known[key], value)
            if value:
                self._values[known[key]] = value

    def text(self, keyword: str, default: str = "") -> str:
        """The text of a keyword."""
        return self._values.get(keyword, default)

    def flag(self, keyword: str, *, true: Iterable[str] = (), default: bool = False) -> bool:
        """A boolean: true, yes, false, no, or one of the further words for true."""
        value = self._values.get(keyword)
        if value is None:
            return default
        word = value.lower()
        if word in _TRUE or word in true:
            return True
        if word in _FALSE:
            return False
        raise ArgumentError(f"The connection string's '{keyword}' must be true or false (yes or no).")

    def number(self, keyword: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
        """An integer from `least` to `most`."""
        value = self._values.get(keyword)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and least <= int(value) <= most):
            raise ArgumentError(f"The connection string's '{keyword}' must be a whole number from {least} to {most}.")
        return int(value)

    def settings(self, odbc: str, server: str, database: str, *, login_timeout: int) -> ConnectionSettings:
        """The settings whose keywords every dialect shares."""
        min_size = self.number("min pool size", 0, most=_LARGEST_POOL)
        max_size = self.number("max pool size", max(DEFAULT_POOL_SIZE, min_size), least=1, most=_LARGEST_POOL)
        if min_size > max_size:
            raise ArgumentError(
                f"The connection string's 'min pool size' ({min_size}) exceeds its 'max pool size' ({max_size})."
            )
        return ConnectionSettings(
            odbc,
            _address(server, database),
            login_timeout=login_timeout,
            command_timeout=self.number("command timeout", 30),
            min_size=min_size,
            max_size=max_size,
            pooling=self.flag("pooling", default=True),
            secrets=tuple(filter(None, (self.text("password"),))),
        )


def unknown_keyword(where: str, key: str, known: Mapping[str, str]) -> ArgumentError:
    """The error that says where a keyword is not known; it may name a similar one that is, never the text's own."""
    similar = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    hint = f" (did you mean '{similar[0]}'?)" if similar else ""
    return ArgumentError(
        f"{where} has a keyword that is not supported{hint}. Supported are: "
        + ", ".join(sorted({name for name in known.values() if name}))
        + ". A value that holds a ';' goes in quotes. An ODBC connection string (with Driver=) may hold others."
    )


def _address(server: str, database: str | None) -> str:
    return f"{server}, database {database}" if database else server
