"""What there is to say of a gallery, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .layout import SEGMENT_ROWS
from .store import Gallery

if TYPE_CHECKING:
    from .server import ServerGallery


DEAD_SHARE = 0.2
FEW_SEGMENTS, SCATTERED = 256, 8


def compact_pays(rows: int, dead: int, segments: int) -> bool:
    """Whether a compaction is worth its time: many removed rows, or many segments of few rows.

    A commit writes a segment, however few rows it has; a search looks each of them up when it first
    sees a revision, so hundreds of small ones cost more than a query.

    Args:
        rows: Stored rows of tokens.
        dead: Those that no item uses.
        segments: Segments that hold them.
    """
    full = -(-rows // SEGMENT_ROWS)
    return dead > DEAD_SHARE * rows or segments > max(FEW_SEGMENTS, SCATTERED * full)


def gallery_info(gallery: Gallery | ServerGallery) -> dict[str, Any]:
    """Name, place, size, encoder, columns and revision of a gallery.

    Raises:
        GalleryError: If it can't be read.
    """
    values: dict[str, Any] = {
        "name": gallery.name,
        "path": str(gallery.path),
        "kind": "embedded" if isinstance(gallery, Gallery) else "server",
        "encoder": gallery.encoder_name,
        "fingerprint": gallery.fingerprint,
        "tokens_per_image": gallery.tokens_per_image,
        "width": gallery.width,
    }
    if not isinstance(gallery, Gallery):
        return {
            **values,
            "url": gallery.url,
            "count": gallery.count,
            "columns": list(gallery.columns),
            "revision": gallery.revision,
        }
    with gallery.snapshot() as snapshot:
        items = snapshot.item_rows()
        views = snapshot.vectors("tokens").segments
        rows = sum(segment.rows for segment in views)
        dead = rows - len(np.unique(items.token_rows))
        values |= {
            "format": snapshot.format,
            "count": len(items),
            "missing": snapshot.missing,
            "captions": int((items.caption_rows >= 0).sum()),
            "columns": list(snapshot.columns),
            "rows": rows,
            "dead_rows": dead,
            "segments": len(views),
            "compact_pays": compact_pays(rows, dead, len(views)),
            "bytes": sum(path.stat().st_size for path in gallery.path.iterdir()),
            "revision": snapshot.revision,
        }
    return values
