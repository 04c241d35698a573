"""What the database holds of an image, and the rows that a search reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .columns import Columns, from_json
from .layout import Rows


@dataclass(frozen=True)
class StoredItem:
    """What the database holds of one image.

    Attributes:
        item_id: Its id; never used again, also not after a removal.
        root: The folder that was indexed, absolute.
        file: Path below it, with forward slashes.
        size: Bytes of the file when it was encoded or last compared.
        mtime_ns: Its time of change then, in nanoseconds.
        content: SHA-256 of the file, 32 bytes.
        token_row: Number of its row of tokens.
        caption_row: Number of its caption's vector; None without one.
        missing: Whether the file was gone at the last run over its folder.
        columns: Its metadata.
    """

    item_id: int
    root: str
    file: str
    size: int
    mtime_ns: int
    content: bytes
    token_row: int
    caption_row: int | None
    missing: bool
    columns: Columns

    @property
    def path(self) -> Path:
        """Absolute path of the file."""
        return Path(self.root, self.file)


ITEM_FIELDS = (
    "items.id, roots.path, file, size, mtime_ns, content, token_row, caption_row, missing, columns"
)


def item_of(row: tuple[object, ...]) -> StoredItem:
    """The item of a row of `ITEM_FIELDS`."""
    *values, missing, columns = row
    return StoredItem(*values, missing=bool(missing), columns=from_json(str(columns)))  # pyright: ignore[reportArgumentType] # SQLite's columns are typed by the schema


@dataclass(frozen=True)
class ItemRows:
    """Live items and where their vectors are, in order of id.

    Attributes:
        ids: Item ids, ascending, (N,).
        token_rows: Row of each item's tokens, (N,).
        caption_rows: Row of its caption's vector, -1 without one, (N,).
        derived: What a search worked out from them and the next one needs again, by name.
    """

    ids: Rows
    token_rows: Rows
    caption_rows: Rows
    derived: dict[str, object] = field(default_factory=dict[str, object], compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, keep: npt.NDArray[np.bool_]) -> ItemRows:
        """The items where `keep`, (N,), is True."""
        return ItemRows(self.ids[keep], self.token_rows[keep], self.caption_rows[keep])
