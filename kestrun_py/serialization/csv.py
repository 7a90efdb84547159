"""CSV as PowerShell's ``ConvertTo-Csv`` writes it, which Kestrun's ``Write-KrCsvResponse`` uses."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, Literal, TypeAlias

from kestrun_py.conversion.moments import moment_text
from kestrun_py.errors import ArgumentError
from kestrun_py.serialization.plain import is_scalar, members_of

__all__ = ["QuoteKind", "QuoteKindText", "from_csv", "to_csv"]


class QuoteKind(Enum):
    """Which fields are quoted."""

    NEVER = "never"
    ALWAYS = "always"
    AS_NEEDED = "as_needed"


QuoteKindText: TypeAlias = Literal["Never", "Always", "AsNeeded"]


def to_csv(
    value: Any,
    *,
    delimiter: str = ",",
    use_quotes: QuoteKind = QuoteKind.ALWAYS,
    quote_fields: Collection[str] = (),
    include_type_information: bool = False,
    no_header: bool = False,
) -> bytes:
    """Writes a row, or a list of rows, as CSV; the first row's members are the columns.

    Args:
        value: A mapping, a data class, an object with attributes, or a list of them; a scalar is a row with the column
            ``Value``.
        delimiter: What stands between fields; one character.
        use_quotes: Which fields are quoted.
        quote_fields: Instead, the columns that are quoted.
        include_type_information: Whether the first line names the type of the first row.
        no_header: Whether to leave out the names of the columns.

    Raises:
        ArgumentError: The delimiter is not one character.
    """
    if len(delimiter) != 1:
        raise ArgumentError(f"delimiter must be one character, not {delimiter!r}.")
    items = [value] if is_scalar(value) or members_of(value) is not None else list(value)
    rows = [_row(item) for item in items]
    columns = [str(name) for name in rows[0]] if rows else []
    quoted = {name.casefold() for name in quote_fields}

    def line(texts: Mapping[str, str | None]) -> str:
        return delimiter.join(_field(text, delimiter, _kind(use_quotes, name, quoted)) for name, text in texts.items())

    lines = [f"#TYPE {type(items[0]).__name__}"] if include_type_information and items else []
    if columns and not no_header:
        lines.append(line({name: name for name in columns}))
    lines += [line({name: _text(row.get(name)) for name in columns}) for row in rows]
    return "\n".join(lines).encode("utf-8", "replace")


def _row(item: Any) -> dict[str, Any]:
    members = members_of(item)
    return {"Value": item} if members is None else {str(name): value for name, value in members.items()}


def _kind(kind: QuoteKind, column: str, quoted: Collection[str]) -> QuoteKind:
    if not quoted:
        return kind
    return QuoteKind.ALWAYS if column.casefold() in quoted else QuoteKind.AS_NEEDED


def _field(text: str | None, delimiter: str, kind: QuoteKind) -> str:
    if text is None:
        return ""
    needs = kind is QuoteKind.ALWAYS or (
        kind is QuoteKind.AS_NEEDED and not {delimiter, '"', "\n", "\r"}.isdisjoint(text)
    )
    return '"' + text.replace('"', '""') + '"' if needs else text


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if (text := moment_text(value)) is not None:
        return text
    return value.name if isinstance(value, Enum) else str(value)


def from_csv(text: str) -> list[dict[str, str]]:
    """Reads CSV whose first line names the columns; each row is a dictionary.

    Raises:
        ArgumentError: A row has more fields than there are columns, or a quote is not closed.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ArgumentError(f"The text is not CSV: {error} (line {reader.line_num}).") from None
    if any(None in row for row in rows):
        raise ArgumentError("The text is not CSV: a row has more fields than there are columns.")
    return [{name: value or "" for name, value in row.items()} for row in rows]
