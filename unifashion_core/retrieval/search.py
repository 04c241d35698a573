"""Search a gallery: filter, score exactly, and give hits with their metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..types import Embedding, Hit, Hits, Query
from .bounds import ScoredPart
from .columns import Columns, flat
from .filters import Where, parse_where
from .items import StoredItem
from .kernels import Kernel, choose_kernel
from .placement import CaptionPlacement, Placement, place_captions
from .scoring import Captions, Ranking, rank
from .store import Gallery, Snapshot

if TYPE_CHECKING:
    from .server import ServerGallery


def search(
    gallery: Gallery | ServerGallery,
    embedding: Embedding,
    *,
    top_k: int,
    where: Where = None,
    caption_weight: float = 0.0,
    kernel: Kernel | None = None,
) -> Hits:
    """Find the best items of each query, exactly.

    Args:
        gallery: Where to look; its newest revision is searched.
        embedding: The queries, of the gallery's encoder.
        top_k: Hits a query; all items when there are fewer.
        where: A filter on metadata (see `filters`); None keeps every item.
        caption_weight: How much the similarity to an item's caption counts beside the one to its
            image, for parts that are one vector; 0 leaves captions out, 1 is the paper's sum
            (scaled to [-1, 1]).
        kernel: What computes; the machine's fastest when None. Every one gives the same hits.

    Returns:
        Hits in order of score, then item id.

    Raises:
        GalleryError: If the embedding is of another encoder, or the gallery is damaged.
        InputError: If the filter, `top_k` or a weight is wrong; an unknown column lists the
            columns.
    """
    if not isinstance(gallery, Gallery):
        return gallery.search(embedding, top_k=top_k, where=where, caption_weight=caption_weight)
    gallery.require_encoder(embedding.fingerprint)
    clauses = parse_where(where)
    with gallery.snapshot() as snapshot:
        items = snapshot.item_rows(clauses)
        placement = _placement(snapshot)
        kernel = kernel or choose_kernel()
        rankings = rank(
            placement,
            [_scored_parts(query) for query in embedding.queries],
            top_k=top_k,
            items=items if clauses else None,
            captions=_captions(snapshot, placement, caption_weight),
            kernel=kernel,
        )
        rows = tuple(_hits(snapshot, ranking) for ranking in rankings)
        notes: list[str] = []
        if not len(items):
            notes.append("no item passes the filter" if clauses else "the gallery is empty")
        elif caption_weight > 0.0 and not (items.caption_rows >= 0).any():
            notes.append("no item has a caption's vector: the caption weight changes nothing")
        return Hits(
            rows,
            embedding.queries,
            gallery.fingerprint,
            gallery.name,
            snapshot.revision,
            tuple(notes),
            candidates=tuple(ranking.candidates for ranking in rankings),
            kernel=kernel.name,
        )


def _placement(snapshot: Snapshot) -> Placement:
    rows = snapshot.item_rows()
    kept = rows.derived.get("placement")
    if not isinstance(kept, Placement):
        kept = Placement(snapshot.segments(), rows, snapshot.gallery.row_shape("tokens"))
        rows.derived["placement"] = kept
    return kept


def _captions(snapshot: Snapshot, placement: Placement, weight: float) -> Captions | None:
    if weight == 0.0:
        return None
    kept = placement.items.derived.get("captions")
    if not isinstance(kept, CaptionPlacement):
        kept = place_captions(snapshot.vectors("captions"), placement.items)
        placement.items.derived["captions"] = kept
    return Captions(kept, weight)


def _scored_parts(query: Query) -> list[ScoredPart]:
    return [
        ScoredPart(part.tokens.detach().to("cpu", torch.float32), part.weight)
        for part in query.parts
    ]


def _hits(snapshot: Snapshot, ranking: Ranking) -> tuple[Hit, ...]:
    items = snapshot.items(ranking.ids.tolist())
    return tuple(
        _hit(number, item, float(score))
        for number, (item, score) in enumerate(zip(items, ranking.scores, strict=True), start=1)
    )


def _hit(rank_number: int, item: StoredItem, score: float) -> Hit:
    return Hit(
        rank=rank_number,
        item_id=item.item_id,
        path=item.path,
        file=item.file,
        score=score,
        columns=shown_columns(item.columns),
        missing=item.missing,
    )


def shown_columns(columns: Columns) -> dict[str, str | int | float | bool | None]:
    """Metadata as a hit carries it: a list becomes its entries joined by ", "."""
    return {name: flat(value) for name, value in columns.items()}
