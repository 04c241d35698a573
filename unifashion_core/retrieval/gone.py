"""Removed items: the table `gone` names them, and the view `live` leaves them out.

Taking an item's rows out of every table and index at once would change pages all over the file, so
they stay until a compaction, or until the item's file is added again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from .layout import Rows

_FACTOR, _MASK = 2654435761, (1 << 30) - 1  # a product stays in 63 bits
_SUM = f"({{0}} & {_MASK}) * {_FACTOR}"
_PART = 500  # SQLite allows 999 parameters in old versions

# gone.sum guards a row against a damaged file.
GONE = """
CREATE TABLE gone (
    item INTEGER PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE,
    sum INTEGER NOT NULL
);
CREATE VIEW live AS SELECT * FROM items WHERE id NOT IN (SELECT item FROM gone);
"""
COUNT_LIVE = "SELECT (SELECT count(*) FROM items) - (SELECT count(*) FROM gone)"


def put_gone(connection: sqlite3.Connection, item_ids: Sequence[int]) -> None:
    """Name items as removed; those that aren't live are left as they are."""
    for start in range(0, len(item_ids), _PART):
        part = item_ids[start : start + _PART]
        marks = ", ".join(["(?)"] * len(part))
        named = f"SELECT column1 AS id FROM (VALUES {marks})"
        row = f"INSERT OR IGNORE INTO gone SELECT id, {_SUM.format('id')} FROM ({named})"
        try:
            connection.execute(row, part)
        except sqlite3.IntegrityError:  # not each of them is an item; looking first takes longer
            connection.execute(f"{row} WHERE id IN (SELECT id FROM items)", part)


def drop_gone(connection: sqlite3.Connection) -> None:
    """Delete all that the database still holds of removed items."""
    connection.execute("DELETE FROM items WHERE id IN (SELECT item FROM gone)")


def drop_gone_file(connection: sqlite3.Connection, root: int, file: str) -> bool:
    """Delete what is held of a removed item of this file; says whether there was one."""
    dropped = connection.execute(
        "DELETE FROM items WHERE root = ? AND file = ? AND id IN (SELECT item FROM gone)",
        [root, file],
    )
    return dropped.rowcount > 0


def as_noted(ids: Rows, sums: Rows) -> bool:
    """Whether rows of `gone` are as they were written."""
    return np.array_equal((ids & _MASK) * _FACTOR, sums)


def damaged_gone(connection: sqlite3.Connection) -> list[int]:
    """The items of rows that aren't as they were written."""
    wrong = f"SELECT item FROM gone WHERE sum IS NOT {_SUM.format('item')}"
    return [item_id for (item_id,) in connection.execute(wrong)]


def mend_gone(connection: sqlite3.Connection) -> list[int]:
    """Write damaged rows anew: where the sum is one, it says which item was meant.

    Returns:
        The items of these rows.
    """
    mended: list[int] = []
    for item_id in damaged_gone(connection):
        (total,) = connection.execute("SELECT sum FROM gone WHERE item = ?", [item_id]).fetchone()
        connection.execute("DELETE FROM gone WHERE item = ?", [item_id])
        meant = total // _FACTOR if isinstance(total, int) and not total % _FACTOR else item_id
        put_gone(connection, [meant])
        mended.append(meant)
    connection.execute("DELETE FROM gone WHERE item NOT IN (SELECT id FROM items)")
    return mended
