"""The filter language on metadata columns.

A clause is `column operator value`; several clauses all have to hold. They stand on lines of their
own, in a list, or are joined by ` AND `.

    category=dress        is this value; of a list, one of its entries is
    colour!=red           is not this value, also where the column is absent
    price<40  price>=10   numbers as numbers, other texts (such as 2026-05-01) as texts
    caption~long sleeve   contains this text; of a list, one of its entries does
    season=               has no value; `season!=` has one

Case does not count. A value or a column with an operator, a quote or ` AND ` in it goes in double
quotes. `file` is the path below the indexed folder.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from ..errors import InputError
from .columns import fold, number_of

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "~"]
Where = str | Sequence[str] | None

FILE = "file"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_CLAUSE = re.compile(
    rf'\s*(?P<column>{_QUOTED}|[^=!<>~"]+?)\s*(?P<operator>!=|<=|>=|=|<|>|~)\s*'
    rf'(?P<value>{_QUOTED}|[^=!<>~"]*?)\s*'
)
_SPLIT = re.compile(rf"((?:{_QUOTED}|(?!\s+AND\s).)*?)(?:\n|\s+AND\s+|$)", re.DOTALL)


@dataclass(frozen=True)
class Clause:
    """One condition.

    Attributes:
        column: Its column, as spelled.
        operator: How the value compares.
        value: What is compared with, as typed.
    """

    column: str
    operator: Operator
    value: str


def parse_where(where: Where) -> tuple[Clause, ...]:
    """Read a filter.

    Args:
        where: Clauses as one text or a list of texts; None and empty texts hold for every item.

    Returns:
        The clauses; all of them have to hold.

    Raises:
        InputError: If a clause can't be read; the text shows the form.
    """
    texts = [where] if isinstance(where, str) else list(where or ())
    return tuple(_clause(part) for text in texts for part in _split(text))


def _split(text: str) -> list[str]:
    return [part.strip() for part in _SPLIT.findall(text) if part.strip()]


def _clause(text: str) -> Clause:
    match = _CLAUSE.fullmatch(text)
    if match is None or (not _unquote(match["value"]) and match["operator"] not in ("=", "!=")):
        raise InputError(
            f"Filter '{text}': can't be read. Write it as column=value (also != < <= > >= ~), "
            "several joined by "
            '" AND ", and put a value that holds one of these signs in double quotes.'
        )
    operator = cast("Operator", match["operator"])
    return Clause(_unquote(match["column"]), operator, _unquote(match["value"]))


def _unquote(text: str) -> str:
    if len(text) < 2 or not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def check_columns(clauses: Sequence[Clause], columns: Collection[str], gallery: str) -> None:
    """Refuse a filter on a column that no item has.

    Raises:
        InputError: It lists the columns.
    """
    for clause in clauses:
        if clause.column not in columns and clause.column != FILE:
            known = ", ".join(sorted(columns)) or "none, since it was indexed without metadata"
            raise InputError(
                f"Gallery '{gallery}': no column '{clause.column}' to filter on. Its columns are: "
                f"{known}. "
                f"'{FILE}' always works."
            )


@dataclass(frozen=True)
class Selection:
    """A clause as a query on the tables of schema.py.

    Attributes:
        source: What to select item ids from, with its condition.
        values: Its parameters.
        item: The column of `source` that holds the id.
        negated: Whether the items that it finds are those that do not pass.
    """

    source: str
    values: list[str | int | float]
    item: str = "item"
    negated: bool = False


def selection(clause: Clause) -> Selection:
    """The items that pass, or the ones that do not."""
    if clause.column == FILE:
        test, values = _comparison(clause, "fold(file)", "NULL")
        return Selection(f"items WHERE {test}", values, item="id")
    if not clause.value:
        any_value = "cells WHERE column = ?"
        return Selection(any_value, [clause.column], negated=clause.operator == "=")
    test, values = _comparison(clause, "text", "number")
    source = f"cells WHERE column = ? AND ({test})"
    return Selection(source, [clause.column, *values], negated=clause.operator == "!=")


def _comparison(clause: Clause, text: str, number: str) -> tuple[str, list[str | int | float]]:
    """The test of one cell; "!=" gives that of "=" for cells, since it negates over all of them."""
    folded, value = fold(clause.value), number_of(clause.value)
    if clause.operator == "~":
        return f"instr({text}, ?) > 0", [folded]
    if clause.operator in ("=", "!="):
        sign = "!=" if clause.operator == "!=" and number == "NULL" else "="
        if value is None or number == "NULL":
            return f"{text} {sign} ?", [folded]
        return f"{text} = ? OR {number} = ?", [folded, value]
    if value is None or number == "NULL":
        return f"{text} {clause.operator} ?", [folded]
    return f"{number} {clause.operator} ?", [value]
