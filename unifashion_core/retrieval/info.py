"""What there is to say of a gallery, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .store import Gallery

if TYPE_CHECKING:
    from .server import ServerGallery


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
        values |= {
            "format": snapshot.format,
            "count": len(items),
            "missing": snapshot.missing,
            "captions": int((items.caption_rows >= 0).sum()),
            "columns": list(snapshot.columns),
            "rows": rows,
            "dead_rows": rows - len(np.unique(items.token_rows)),
            "segments": len(views),
            "bytes": sum(path.stat().st_size for path in gallery.path.iterdir()),
            "revision": snapshot.revision,
        }
    return values
