"""Marked hits as a query: more like these, less like those."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..types import Embedding, Query, QueryPart
from .query import EXCLUSION_WEIGHT, blend, exclude
from .server import ServerGallery
from .store import Gallery


def marked_query(
    gallery: Gallery | ServerGallery,
    like: Sequence[int],
    unlike: Sequence[int] = (),
    *,
    base: Embedding | None = None,
    unlike_weight: float = EXCLUSION_WEIGHT,
) -> Embedding:
    """What is like some items of a gallery and unlike others, from their stored tokens.

    Args:
        gallery: Where the items are.
        like: Ids of items to be like; together they weigh 1.
        unlike: Ids of items to be unlike; together they weigh `unlike_weight`.
        base: A query that this is added to, of one query or several; the items alone when None.
        unlike_weight: Below 0.

    Returns:
        `base` with the items' parts, or one query of these alone.

    Raises:
        InputError: If nothing is wanted, or an item is in both lists.
        GalleryError: If an id isn't a live item.
    """
    both = sorted(set(like) & set(unlike))
    if both:
        raise InputError(f"Marked hits: item {both[0]} is in both lists. Leave it in one of them.")
    if not like and base is None:
        raise InputError(
            "Marked hits: nothing to be like. Mark one to be like, or add a text or a picture."
        )
    wanted = [] if base is None else [(base, 1.0)]
    if like:
        wanted.append((_of_items(gallery, like), 1.0))
    query = blend(wanted)
    return exclude(query, _of_items(gallery, unlike), unlike_weight) if unlike else query


def _of_items(gallery: Gallery | ServerGallery, ids: Sequence[int]) -> Embedding:
    """One query of an image part an item, which share the weight 1."""
    if isinstance(gallery, Gallery):
        with gallery.snapshot() as snapshot:
            rows = [item.token_row for item in snapshot.items(ids)]
            stored = snapshot.vectors("tokens").gather(np.array(rows, np.int64))
    else:
        stored = gallery.tokens_of(ids)
    parts = tuple(
        QueryPart(torch.tensor(tokens, dtype=torch.float32), "image", 1.0 / len(ids))
        for tokens in stored
    )
    return Embedding((Query(parts),), gallery.fingerprint)


def find_items(gallery: Gallery | ServerGallery, paths: Sequence[Path]) -> list[int]:
    """Ids of the items of some files.

    Args:
        gallery: Where to look.
        paths: Absolute, or relative to the folder that was indexed.

    Raises:
        InputError: If a path is no item's.
    """
    if not isinstance(gallery, Gallery):
        return gallery.find(paths)
    with gallery.snapshot() as snapshot:
        return snapshot.find(paths)
