"""What a server gallery asks of a server: points with vectors, payloads and simple conditions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from .columns import Columns, cells, fold, number_of
from .filters import FILE, Clause

TOKENS, CAPTION, MEAN = "tokens", "caption", "mean"
CELLS, COLUMNS = "cells", "has"
_SIGNS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


@dataclass(frozen=True)
class Point:
    """One entry of a collection.

    Attributes:
        id: An item's id; 0 is the gallery's own entry.
        vectors: By name; a list of them under "tokens".
        payload: Plain values.
    """

    id: int
    vectors: dict[str, Any]
    payload: dict[str, Any]


@dataclass(frozen=True)
class Atom:
    """One test of a payload.

    Attributes:
        kind: "match" a text of a list, "range" of a number, or "ids".
        key: The payload's key.
        text: What to match.
        bounds: Of "lt", "lte", "gt", "gte", with a number each.
        ids: Ids that pass.
    """

    kind: Literal["match", "range", "ids"]
    key: str = ""
    text: str = ""
    bounds: tuple[tuple[str, float], ...] = ()
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Condition:
    """Holds where one of its tests does, or where none does."""

    either: tuple[Atom, ...]
    negated: bool = False


class Points(Protocol):
    """A collection of points, wherever it lies."""

    def exists(self) -> bool: ...
    def create(self, width: int) -> None: ...
    def put(self, points: Sequence[Point]) -> None: ...
    def delete(self, ids: Sequence[int]) -> None: ...
    def get(self, ids: Sequence[int], *, vectors: bool = False) -> list[Point]: ...
    def scroll(self, start: int, limit: int, *, vectors: bool) -> list[Point]: ...
    def count(self) -> int: ...
    def nearest(
        self,
        using: str,
        query: Any,
        limit: int,
        conditions: Sequence[Condition] = (),
        prefetch: tuple[Any, int] | None = None,
    ) -> list[tuple[int, float]]: ...


@dataclass
class FilterKeys:
    """What of an item's metadata a server compares."""

    cells: list[str] = field(default_factory=list[str])
    columns: list[str] = field(default_factory=list[str])
    numbers: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def payload(self) -> dict[str, Any]:
        """As keys of a payload."""
        return {CELLS: self.cells, COLUMNS: self.columns, **self.numbers}


def filter_keys(rows: Sequence[tuple[str, str, int | float | None]]) -> FilterKeys:
    """The keys of an item's cells (see `columns.cells`)."""
    keys = FilterKeys()
    for column, text, number in rows:
        keys.cells.append(_cell(column, text))
        if column not in keys.columns:
            keys.columns.append(column)
        if number is not None:
            keys.numbers.setdefault(_number_key(column), []).append(float(number))
    return keys


def condition_of(clause: Clause) -> Condition | None:
    """A clause as a condition; None where a server has no such test, and the client must look."""
    column, operator = clause.column, clause.operator
    if column == FILE or operator == "~":
        return None
    if not clause.value:
        return Condition((Atom("match", COLUMNS, column),), negated=operator == "=")
    number = number_of(clause.value)
    if operator in ("=", "!="):
        either = [Atom("match", CELLS, _cell(column, fold(clause.value)))]
        if number is not None:
            bounds = (("gte", float(number)), ("lte", float(number)))
            either.append(Atom("range", _number_key(column), bounds=bounds))
        return Condition(tuple(either), negated=operator == "!=")
    if number is None:
        return None
    bounds = ((_SIGNS[operator], float(number)),)
    return Condition((Atom("range", _number_key(column), bounds=bounds),))


def _cell(column: str, text: str) -> str:
    return f"{column}={text}"


def _number_key(column: str) -> str:
    # A name may hold the signs of a path; a digest holds none.
    return f"n_{hashlib.sha256(column.encode()).hexdigest()[:16]}"


# ---- the gallery's own entry, and filters on the client


@dataclass(frozen=True)
class About:
    """What a collection says of its gallery."""

    fingerprint: str
    encoder_name: str
    tokens_per_image: int
    width: int
    revision: int
    columns: tuple[str, ...]


def meta_point(about: About, revision: int, columns: Sequence[str]) -> Point:
    """The gallery's own entry."""
    payload = {
        "fingerprint": about.fingerprint,
        "encoder_name": about.encoder_name,
        "tokens_per_image": about.tokens_per_image,
        "width": about.width,
        "revision": revision,
        "columns": sorted(columns),
    }
    return Point(0, {}, payload)


def passes(clause: Clause, payload: dict[str, Any]) -> bool:
    """Whether an item's payload passes a clause, as the embedded gallery compares."""
    if clause.column == FILE:
        found = [(fold(payload["file"]), None)]
    else:
        columns = cast("Columns", json.loads(payload["columns"]))
        found = [(text, number) for name, text, number in cells(columns) if name == clause.column]
    text, wanted = fold(clause.value), number_of(clause.value)
    if clause.column == FILE:
        wanted = None
    if not clause.value:
        return bool(found) == (clause.operator == "!=")
    if clause.operator in ("=", "!="):
        equal = any(t == text or (wanted is not None and n == wanted) for t, n in found)
        return equal == (clause.operator == "=")
    if clause.operator == "~":
        return any(text in t for t, _ in found)
    if wanted is None:
        return any(_ordered(clause.operator, t, text) for t, _ in found)
    return any(n is not None and _ordered(clause.operator, n, wanted) for _, n in found)


def _ordered(operator: str, a: Any, b: Any) -> bool:
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator]
