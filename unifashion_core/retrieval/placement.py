"""Where the vectors of a revision's items lie in its mapped segments, for scans without a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import GalleryError
from .items import ItemRows
from .layout import Rows
from .quantise import Floats, quantise
from .segments import MappedRows, SegmentView

Truths: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stored:
    """One entry of equal shape for each of N items, scattered over arrays that lie in memory.

    Attributes:
        parts: The arrays, (rows, *shape) each, in one piece.
        part_of: Which of them holds an item's entry, (N,).
        rows: Its row there, (N,).
        addresses: Where it begins in memory, (N,).
    """

    parts: tuple[npt.NDArray[Any], ...]
    part_of: Rows
    rows: Rows
    addresses: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one entry."""
        return self.parts[0].shape[1:]

    def __len__(self) -> int:
        return len(self.addresses)

    def gather(self, places: Rows) -> npt.NDArray[Any]:
        """Some items' entries, (places, *shape); not copied where they lie one after the other."""
        part_of, rows = self.part_of[places], self.rows[places]
        if len(rows) and (part_of == part_of[0]).all() and (np.diff(rows) == 1).all():
            return self.parts[int(part_of[0])][int(rows[0]) : int(rows[-1]) + 1]
        out = np.empty((len(places), *self.shape), self.parts[0].dtype)
        numbers = np.unique(part_of)
        for number in numbers:
            chosen = part_of == number if len(numbers) > 1 else slice(None)
            out[chosen] = self.parts[number][rows[chosen]]
        return out


def stored(parts: Sequence[npt.NDArray[Any]], part_of: Rows, rows: Rows) -> Stored:
    """Find the addresses of entries.

    Args:
        parts: Arrays in one piece.
        part_of: Which of them holds an item's entry, (N,).
        rows: Its row there, (N,).
    """
    starts = np.array([part.ctypes.data for part in parts], np.int64)
    size = parts[0][:0].itemsize * int(np.prod(parts[0].shape[1:]))
    return Stored(tuple(parts), part_of, rows, starts[part_of] + rows * size)


@dataclass(frozen=True)
class Coarse:
    """Copies of few bits, in memory.

    Attributes:
        records: Of an image each, a row of bytes: see kernels/coarse.py.
        rooms: Arrays that the next search may fill: fresh memory is slow.
    """

    records: Stored
    rooms: list[Floats] = field(default_factory=list[Floats], compare=False, repr=False)


COARSE_BYTES = 1 << 30
"""Of coarse copies that are kept in memory: 250,000 images of 32 x 256."""
_COARSE = "coarse"
HUGE_PAGE = 1 << 21
"""Bytes of a page of memory that the system gives where a piece begins at a multiple of it."""
MakeCoarse: TypeAlias = Callable[[SegmentView, npt.NDArray[np.uint8]], None]


class Placement:
    """The items of one revision and where a scan finds them.

    Args:
        views: The revision's segments of tokens, by row number.
        items: All its items.
        shape: Tokens of an image and their width, (T, D).

    Attributes:
        items: The items, N, in order of id.
        copies: Eight-bit copies, (T, D) each.
        scales: Their scales, (T,) each.
        values: The stored float16 tokens, (T, D) each.
        bounds: How far each copy may be off, (N,).
        every: The places of all items, (N,).

    Raises:
        GalleryError: If an item points at a row that no segment has.
    """

    def __init__(
        self, views: Sequence[SegmentView], items: ItemRows, shape: tuple[int, ...]
    ) -> None:
        self.items = items
        self._views = views = tuple(views) or (_no_rows(shape),)
        part_of, rows = _find(views, items.token_rows)
        self.copies = stored([view.int8 for view in views], part_of, rows)
        self.scales = stored([view.scales for view in views], part_of, rows)
        self.values = stored([view.f16 for view in views], part_of, rows)
        bounds = stored([view.bounds for view in views], part_of, rows)
        self.bounds: Floats = bounds.gather(np.arange(len(items)))
        self.every: Rows = np.arange(len(items))
        self.every.flags.writeable = False
        self._checked = np.zeros(len(items), np.bool_)
        self._found, self._asked = (part_of, rows), 0
        self._coarse: Coarse | None = None
        last = int(items.ids[-1]) if len(items) else 0
        self._place_of = np.full(last + 1, -1, np.int32)
        self._place_of[items.ids] = np.arange(len(items), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.items)

    def places(self, ids: Rows) -> Rows:
        """Places of some items among all, (ids,)."""
        return self._place_of[ids].astype(np.int64)

    def addresses(self, entries: Stored, places: Rows) -> Rows:
        """Where some items' entries begin, (places,); not copied for `every` item."""
        return entries.addresses if places is self.every else entries.addresses[places]

    def coarse(self, size: int, make: MakeCoarse) -> Coarse | None:
        """Coarse copies of all segments, which their views keep.

        Args:
            size: Bytes of an image.
            make: Makes those of a view, in an array (N, size).

        Returns:
            None where they take too much room, and at the first search: making them takes longer
            than a search without them.
        """
        if self._coarse is not None:
            return self._coarse
        self._asked += 1
        rows = sum(view.count for view in self._views)
        lacking = [view for view in self._views if _COARSE not in view.derived]
        fresh = sum(view.count for view in lacking)
        if rows * size > COARSE_BYTES or (2 * fresh > rows and self._asked < 2):
            return None
        room, start = _room(fresh * size), 0
        for view in lacking:
            end = start + view.count * size
            records = np.reshape(room[start:end], (view.count, size))
            make(view, records)
            view.derived[_COARSE], start = records, end
        made = [view.derived[_COARSE] for view in self._views]
        self._coarse = Coarse(stored(made, *self._found))  # pyright: ignore[reportArgumentType] # put there above
        return self._coarse

    def check(self, places: Rows) -> None:
        """Refuse stored tokens that aren't what was committed; each is looked at once.

        Raises:
            GalleryError: It names the file.
        """
        fresh = np.unique(places[~self._checked[places]])
        part_of, rows = self.values.part_of[fresh], self.values.rows[fresh]
        for number in np.unique(part_of):
            self._views[int(number)].check_rows(rows[part_of == number])
        self._checked[fresh] = True


def _room(size: int) -> npt.NDArray[np.uint8]:
    """Bytes in few pages: a scan of small ones waits for the system's tables."""
    room = np.empty(size + HUGE_PAGE, np.uint8)
    start = -room.ctypes.data % HUGE_PAGE
    return room[start : start + size]


def _no_rows(shape: tuple[int, ...]) -> SegmentView:
    f16 = np.empty((0, *shape), np.float16)
    return SegmentView(0, 0, f16, *quantise(f16))


def _find(views: Sequence[SegmentView], token_rows: Rows) -> tuple[Rows, Rows]:
    """View and row in it of each token row."""
    firsts = np.array([view.first_item for view in views], np.int64)
    ends = firsts + np.array([view.count for view in views], np.int64)
    part_of = np.searchsorted(firsts, token_rows, side="right") - 1
    inside = part_of >= 0
    inside[inside] = token_rows[inside] < ends[part_of[inside]]
    if not inside.all():
        where = views[0].where.split(":")[0] or "Gallery"
        stored_rows = int(sum(view.count for view in views))
        raise GalleryError(
            f"{where}: an item points at vector {int(token_rows[~inside][0])}, {stored_rows} are "
            "stored. Restore it from a copy, or run `gallery repair` to go on without the item."
        )
    return part_of, token_rows - firsts[part_of]


@dataclass(frozen=True)
class CaptionPlacement:
    """Vectors of captions of the items that have one.

    Attributes:
        has: Whether an item has one, (N,).
        places: Places of those that have, ascending, (C,).
        values: Their vectors, (1, D) each, float16.
    """

    has: Truths
    places: Rows
    values: Stored | None


def place_captions(captions: MappedRows, items: ItemRows) -> CaptionPlacement:
    """Find the captions of a revision's items.

    Args:
        captions: The revision's rows of captions.
        items: All its items.

    Raises:
        GalleryError: If an item points at a row that was never stored, or one is damaged.
    """
    has = items.caption_rows >= 0
    places = np.flatnonzero(has)
    if not len(places):
        return CaptionPlacement(has, places, None)
    wanted = items.caption_rows[places]
    captions.check(wanted)
    firsts, parts = zip(*captions.parts(), strict=True)
    part_of = np.searchsorted(np.array(firsts), wanted, side="right") - 1
    rows = wanted - np.array(firsts)[part_of]
    return CaptionPlacement(has, places, stored([p[:, None] for p in parts], part_of, rows))
