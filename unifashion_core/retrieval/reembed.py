"""Another encoder for a gallery: every picture and caption is encoded again, in one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import UniFashionError
from ..imaging import decode_image, read_file
from ..types import FashionEncoder, OnStep
from .appending import Appender
from .caption_vectors import encode_texts
from .columns import CAPTION
from .items import ITEM_FIELDS, StoredItem, item_of
from .layout import HALF, SEGMENT_BYTES, SegmentKind, segment_number
from .recovery import segment_paths
from .schema import meta_sum
from .source import Failure
from .store import Gallery, open_gallery
from .writer import GalleryWriter


@dataclass
class _Encoded:
    """What became of the items."""

    rows: dict[bytes, int] = field(default_factory=dict[bytes, int])
    items: dict[int, tuple[bytes, int, int]] = field(
        default_factory=dict[int, tuple[bytes, int, int]]
    )  # content, size and time of the file as it is now
    failed: dict[int, Failure] = field(default_factory=dict[int, Failure])


def reembed(
    path: Path,
    encoder: FashionEncoder,
    *,
    batch_size: int = 16,
    on_step: OnStep | None = None,
) -> tuple[Gallery, tuple[Failure, ...]]:
    """Give a gallery another encoder; nothing happens where it is this encoder's already.

    Ids and metadata stay. Items whose picture can't be read any more are taken out and named. Until
    the end, and on any exception, the gallery is as it was.

    Args:
        path: The gallery's folder.
        encoder: The new encoder.
        batch_size: Images encoded at once.
        on_step: Called with (images done, images).

    Returns:
        The gallery, opened anew, and what couldn't be encoded.

    Raises:
        GalleryError: If there is no gallery, or the disk refuses.
    """
    gallery = open_gallery(path)
    if gallery.fingerprint == encoder.fingerprint:
        return gallery, ()
    with GalleryWriter(gallery) as writer, writer.errors():
        writer.drop_removed()
        rows = writer.connection.execute(
            f"SELECT {ITEM_FIELDS} FROM items JOIN roots ON roots.id = root ORDER BY items.id"
        )
        items = [item_of(row) for row in rows]
        tokens = _appender(writer, "tokens", (encoder.tokens_per_image, encoder.width))
        captions = _appender(writer, "captions", (encoder.width,))
        try:
            done = _Encoded()
            for start in range(0, len(items), batch_size):
                _encode(items[start : start + batch_size], encoder, tokens, done)
                if on_step is not None:
                    on_step(min(start + batch_size, len(items)), len(items))
            said = _encode_captions(items, encoder, captions)
            writer.replace_segments("tokens", tokens.finish())
            writer.replace_segments("captions", captions.finish())
        finally:
            tokens.close()
            captions.close()
        _point(writer, items, done, said)
        _name_encoder(writer, encoder)
    return open_gallery(path), tuple(done.failed.values())


def _appender(writer: GalleryWriter, kind: SegmentKind, shape: tuple[int, ...]) -> Appender:
    numbers = [segment_number(path.name) for path in segment_paths(writer.gallery, kind)]
    number = max(numbers, default=0) + 1
    return Appender(writer.gallery.path, kind, shape, [], number, SEGMENT_BYTES)


def _encode(
    items: Sequence[StoredItem], encoder: FashionEncoder, appender: Appender, done: _Encoded
) -> None:
    fresh: dict[bytes, torch.Tensor] = {}
    for item in items:
        try:
            data, state = read_file(item.path), item.path.stat()
            content = hashlib.sha256(data).digest()
            if content not in done.rows and content not in fresh:
                image = decode_image(data, str(item.path), min_side=encoder.input_size)
                fresh[content] = encoder.preprocess(image)
        except (UniFashionError, ValueError, OSError, MemoryError) as e:
            done.failed[item.item_id] = Failure(item.path, str(e) or f"{item.path}: no memory.")
        else:
            done.items[item.item_id] = (content, state.st_size, state.st_mtime_ns)
    if fresh:
        vectors = encoder.encode_pixels(torch.stack(list(fresh.values()))).tokens
        first = appender.append(vectors.numpy().astype(HALF))
        done.rows.update({content: first + n for n, content in enumerate(fresh)})


def _encode_captions(
    items: Sequence[StoredItem], encoder: FashionEncoder, appender: Appender
) -> dict[str, int]:
    """The row of each caption that had a vector and can have one again."""
    texts = dict.fromkeys(
        text
        for item in items
        if item.caption_row is not None and isinstance(text := item.columns.get(CAPTION), str)
    )
    rows: dict[str, int] = {}
    every = list(texts)
    for start in range(0, len(every), 64):
        for part, features in encode_texts(encoder, every[start : start + 64], {}):
            first = appender.append(features.vectors.numpy().astype(HALF))
            rows.update({text: first + n for n, text in enumerate(part)})
    return rows


def _point(
    writer: GalleryWriter, items: Sequence[StoredItem], done: _Encoded, said: dict[str, int]
) -> None:
    """Point items at their new vectors; take out those without one."""
    writer.remove(done.failed)
    writer.drop_removed()  # they have no vectors of this encoder
    values: list[tuple[object, ...]] = []
    for item in items:
        if item.item_id in done.items:
            content, size, mtime_ns = done.items[item.item_id]
            caption = None
            if item.caption_row is not None:
                caption = said.get(str(item.columns.get(CAPTION)))
            values.append((done.rows[content], caption, content, size, mtime_ns, item.item_id))
    writer.connection.executemany(
        "UPDATE items SET token_row = ?, caption_row = ?, content = ?, size = ?, mtime_ns = ?, "
        "missing = 0 WHERE id = ?",
        values,
    )


def _name_encoder(writer: GalleryWriter, encoder: FashionEncoder) -> None:
    meta: dict[str, str | int] = {
        "fingerprint": encoder.fingerprint,
        "encoder_name": encoder.name,
        "tokens_per_image": encoder.tokens_per_image,
        "width": encoder.width,
    }
    meta["sum"] = meta_sum(meta)
    writer.connection.executemany(
        "UPDATE meta SET value = ? WHERE key = ?", [(value, key) for key, value in meta.items()]
    )
