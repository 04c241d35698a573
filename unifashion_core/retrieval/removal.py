"""Removing items, by path or by filter; files of the user are never touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .filters import Where, parse_where
from .store import Gallery
from .writer import open_writer

if TYPE_CHECKING:
    from .server import ServerGallery


def remove_items(
    gallery: Gallery | ServerGallery, *, paths: Sequence[Path] = (), where: Where = None
) -> tuple[int, int]:
    """Remove the named items and those that pass a filter.

    Args:
        gallery: The gallery.
        paths: Absolute, or relative to the folder that was indexed.
        where: A filter; None and an empty one name nothing here.

    Returns:
        How many were removed, and the revision after.

    Raises:
        InputError: If a path is no item's or the filter is wrong; nothing is removed then.
        GalleryBusyError: If another writer is at work.
    """
    if not isinstance(gallery, Gallery):
        return gallery.remove(paths, where)
    with open_writer(gallery) as writer:
        with gallery.snapshot() as snapshot:
            ids = set(snapshot.find(paths)) if paths else set[int]()
            clauses = parse_where(where)
            if clauses:
                ids |= set(snapshot.item_rows(clauses).ids.tolist())
        writer.remove(sorted(ids))
    return len(ids), gallery.revision


def remove_ids(gallery: Gallery | ServerGallery, item_ids: Sequence[int]) -> int:
    """Remove items by id; ids that are gone already don't count.

    Returns:
        How many were removed.

    Raises:
        GalleryBusyError: If another writer is at work.
    """
    if not isinstance(gallery, Gallery):
        return gallery.remove_ids(item_ids)
    with open_writer(gallery) as writer:
        before = writer.count
        writer.remove(sorted(set(item_ids)))
        return before - writer.count
