"""Values of metadata columns: what is allowed, how they are kept as JSON, and the cells that "
"filters read."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import TypeAlias, cast

ColumnScalar: TypeAlias = str | int | float | bool | None
ColumnValue: TypeAlias = ColumnScalar | list[ColumnScalar]
Columns: TypeAlias = dict[str, ColumnValue]

CAPTION = "caption"

# "00123" is a code and not the number 123.
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def column_value(value: object) -> ColumnValue:
    """Check one value as JSON gives it.

    Raises:
        ValueError: If it is an object, a nested list, or a number that isn't finite; the text says
            which.
    """
    if isinstance(value, list):
        return [_scalar(entry) for entry in cast("list[object]", value)]
    return _scalar(value)


def _scalar(value: object) -> ColumnScalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"holds {value}, wanted a finite number")
    if isinstance(value, str | int | float) or value is None:
        return value
    raise ValueError(
        f"holds {'an object' if isinstance(value, dict) else 'a list inside a list'}, "
        "wanted a text, a number, true, false, or a list of these"
    )


def to_json(columns: Mapping[str, ColumnValue]) -> str:
    """Columns as one line of JSON in a fixed order; columns without a value are left out."""
    kept = {name: value for name, value in columns.items() if value not in (None, "", [])}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Columns:
    """The columns that `to_json` wrote."""
    return json.loads(text)


def flat(value: ColumnValue) -> ColumnScalar:
    """A value for showing: a list becomes its entries joined by commas."""
    if isinstance(value, list):
        return ", ".join(text_of(entry) for entry in value)
    return value


def text_of(value: ColumnScalar) -> str:
    """A value as a user types it in a filter."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def fold(text: str) -> str:
    """A text for comparing: composed Unicode, without case, without space around it."""
    return unicodedata.normalize("NFC", text).casefold().strip()


def number_of(value: ColumnScalar) -> int | float | None:
    """The number that a value is or spells, None otherwise."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            return None
        value = float(value) if set(value) & set(".eE") else int(value)
    # SQLite's integers have 64 bits.
    return value if isinstance(value, float) or -(2**63) <= value < 2**63 else float(value)


def cells(columns: Mapping[str, ColumnValue]) -> list[tuple[str, str, int | float | None]]:
    """Column, folded text and number of each value that a filter may meet."""
    rows: list[tuple[str, str, int | float | None]] = []
    for name, value in columns.items():
        for entry in value if isinstance(value, list) else [value]:
            text = fold(text_of(entry))
            if text:
                rows.append((name, text, number_of(entry)))
    return rows
