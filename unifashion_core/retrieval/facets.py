"""Facets: how often each value of a metadata column occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .columns import Columns, fold, text_of
from .filters import Clause, Where, check_columns, parse_where
from .store import Gallery

if TYPE_CHECKING:
    from .server import ServerGallery

_PART = 4096


@dataclass(frozen=True)
class Facets:
    """Values of one column.

    Attributes:
        column: Its name.
        values: Each value with how many items have it, the most frequent first.
        without: Items that have no value.
        revision: The gallery's.
    """

    column: str
    values: tuple[tuple[str, int], ...]
    without: int
    revision: int


def count_values(gallery: Gallery | ServerGallery, column: str, *, where: Where = None) -> Facets:
    """Count a column's values; an item with a list counts for each of its entries.

    Values that differ only in case are one, spelled as by its first item.

    Args:
        gallery: The gallery; its newest revision.
        column: Name of the column.
        where: A filter on what is counted.

    Raises:
        InputError: If no item has this column; it lists the columns.
    """
    if not isinstance(gallery, Gallery):
        return gallery.count_values(column, where)
    with gallery.snapshot() as snapshot:
        check_columns([Clause(column, "=", "")], snapshot.columns, gallery.name)
        ids = snapshot.item_rows(parse_where(where)).ids
        items = (
            (item.item_id, item.columns)
            for start in range(0, len(ids), _PART)
            for item in snapshot.items(ids[start : start + _PART].tolist())
        )
        return count_cells(column, items, snapshot.revision)


def count_cells(column: str, items: Iterable[tuple[int, Columns]], revision: int) -> Facets:
    """Count a column's values over items.

    Args:
        column: Its name.
        items: Id and metadata of each, in order of id.
        revision: What they are of.
    """
    counts: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    without = 0
    for _, columns in items:
        value = columns.get(column)
        entries = [text_of(v) for v in value] if isinstance(value, list) else [text_of(value)]
        texts = {fold(entry): entry.strip() for entry in reversed(entries) if fold(entry)}
        counts.update(texts.keys())
        for text, entry in texts.items():
            spelled.setdefault(text, entry)
        without += not texts
    order = sorted(counts, key=lambda text: (-counts[text], text))
    values = tuple((spelled[text], counts[text]) for text in order)
    return Facets(column, values, without, revision)
