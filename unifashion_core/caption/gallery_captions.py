"""A gallery captions itself: the caption column of each item, and its vector for the search.

The gallery's writer and its items come as Protocols, so that this part knows no gallery. Which
captions are ours stands in a column beside them, `caption_by`: captioner, style, and digests of
what the caption was made from and of its text.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..errors import GalleryError, ImageError, UniFashionError
from ..imaging import decode_image, read_file
from ..types import Captioner, OnStep, TextEncoder
from .folder import TextStyle
from .stream import READ_ERRORS, Said, StreamOptions, ahead, decoding_size, key_of, say

CAPTION, CAPTION_BY = "caption", "caption_by"
"""Columns of an item."""

_COMMIT_ITEMS = 64
_DIGITS = 16  # of a digest in the column


class GalleryItem(Protocol):
    """What a gallery holds of a picture."""

    @property
    def item_id(self) -> int: ...
    @property
    def path(self) -> Path: ...
    @property
    def content(self) -> bytes:
        """SHA-256 of the file that was indexed."""
        ...

    @property
    def columns(self) -> Mapping[str, Any]: ...


class CaptionWriter(Protocol):
    """What writes to a gallery."""

    def append(
        self, kind: Literal["captions"], values: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.int64]:
        """Store unit vectors, (R, D); gives their rows, (R,)."""
        ...

    def put_columns(self, item_id: int, columns: Mapping[str, Any]) -> None:
        """Replace the columns of an item."""
        ...

    def put_caption(self, item_id: int, caption_row: int | None) -> None:
        """Point an item at its caption's vector."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Changes inside happen all or not at all."""
        ...

    def commit(self) -> None:
        """Make every change so far durable."""
        ...


@dataclass(frozen=True)
class GalleryCaptions:
    """What a run did; captioned + skipped + failed = total.

    Attributes:
        captioned: Items with a new caption.
        skipped: Items whose caption was up to date, or is not ours.
        kept: Those of the skipped whose caption is not ours.
        failed: Items that could not be captioned, and why; they stay as they were.
        total: Items of the gallery.
    """

    captioned: int
    skipped: int
    kept: int
    failed: tuple[tuple[Path, str], ...]
    total: int

    def to_json(self) -> dict[str, Any]:
        """As commands print it."""
        failed = [{"path": str(path), "reason": reason} for path, reason in self.failed]
        return {
            "captioned": self.captioned,
            "skipped": self.skipped,
            "failed": failed,
            "total": self.total,
        }


def caption_gallery(
    writer: CaptionWriter,
    items: Sequence[GalleryItem],
    captioner: Captioner,
    style: TextStyle,
    text_encoder: TextEncoder,
    *,
    overwrite: bool = False,
    options: StreamOptions | None = None,
    on_step: OnStep | None = None,
) -> GalleryCaptions:
    """Give each item of a gallery a caption and its vector.

    A caption of ours is made again where image, captioner or style changed; any other caption is
    kept. What an exception (also one from `on_step`) ends is committed as far as it came.

    Args:
        writer: Of the gallery.
        items: All of its items.
        captioner: What writes.
        style: How its words are written.
        text_encoder: The gallery's encoder.
        overwrite: Whether captions of others are replaced.
        options: Batch size, threads, seed.
        on_step: Called with (items done, items).

    Returns:
        Counts and failures.
    """
    run = _Run(writer, captioner, style, text_encoder, options or StreamOptions())
    run.on_step, run.total = on_step or run.on_step, len(items)
    try:
        run.caption([item for item in items if run.is_due(item, overwrite)])
    except (GalleryError, OSError):
        raise  # the writer's own context drops what isn't committed
    except BaseException:
        writer.commit()  # cancelled: every batch that was captioned stays
        raise
    writer.commit()
    return GalleryCaptions(
        run.captioned,
        len(items) - run.captioned - len(run.failed),
        run.kept,
        tuple(run.failed),
        len(items),
    )


@dataclass
class _Pending:
    """An item on its way; a worker reads it."""

    item: GalleryItem
    image: Image.Image | None = None
    error: str | None = None


class _Run:
    def __init__(
        self,
        writer: CaptionWriter,
        captioner: Captioner,
        style: TextStyle,
        text_encoder: TextEncoder,
        options: StreamOptions,
    ) -> None:
        self.writer, self.captioner, self.style = writer, captioner, style
        self.text_encoder, self.options = text_encoder, options
        self.on_step: OnStep = _ignore_step
        self.key = key_of(captioner, options.seed)
        self.side = decoding_size(captioner)
        self.failed: list[tuple[Path, str]] = []
        self.captioned = self.kept = self.done = self.total = self._uncommitted = 0

    def is_due(self, item: GalleryItem, overwrite: bool) -> bool:
        """Whether an item is to be captioned; counts those that are not."""
        caption, by = item.columns.get(CAPTION), item.columns.get(CAPTION_BY)
        if caption in (None, ""):
            return True
        inputs, text = _digests_in(by)
        ours = isinstance(caption, str) and text == _digest(caption)
        due = inputs != self._inputs(item) if ours else overwrite
        self.kept += not ours and not overwrite
        self.done += not due
        return due

    def _inputs(self, item: GalleryItem) -> str:
        """Digest of what a caption is made from."""
        return _digest(item.content.hex(), self.key, self.style.key)

    def caption(self, due: Sequence[GalleryItem]) -> None:
        window: list[_Pending] = []
        prepared = ahead(map(_Pending, due), self._prepare, self.options)
        self.on_step(self.done, self.total)
        with contextlib.closing(prepared):
            for pending in prepared:
                window.append(pending)
                if len(window) == self.options.batch_size:
                    self._flush(window)
                    window = []
            self._flush(window)

    def _prepare(self, pending: _Pending) -> _Pending:
        """Read one picture; runs in a worker."""
        path = pending.item.path
        try:
            data = read_file(path)
            if hashlib.sha256(data).digest() != pending.item.content:
                raise ImageError(f"{path}: has changed since it was indexed. Index its folder.")
            pending.image = decode_image(data, str(path), min_side=self.side)
        except READ_ERRORS as e:
            pending.error = str(e) or f"{path}: not enough memory. Scale it down."
        return pending

    def _flush(self, window: Sequence[_Pending]) -> None:
        """Caption a batch and write it as a whole."""
        fresh = [p for p in window if p.image is not None]
        self.failed += [(p.item.path, p.error) for p in window if p.error is not None]
        images = [p.image for p in fresh if p.image is not None]
        said = say(self.captioner, images, seed=self.options.seed, on_step=self._step_inside)
        texts: list[tuple[GalleryItem, str]] = []
        for pending, found in zip(fresh, said, strict=True):
            texts += self._text(pending.item, found)
        with self.writer.together():
            for item, text, vector in self._with_vectors(texts):
                self._put(item, text, vector)
                self.captioned += 1
        self.done += len(window)
        self._commit_sometimes(len(window))
        self.on_step(self.done, self.total)

    def _step_inside(self, _done: int, _total: int) -> None:
        self.on_step(self.done, self.total)

    def _text(
        self, item: GalleryItem, said: Said | UniFashionError
    ) -> Iterator[tuple[GalleryItem, str]]:
        """The text of an item; none where it failed."""
        try:
            if isinstance(said, UniFashionError):
                raise said
            yield item, self.style.apply(said.caption, said.attributes)
        except UniFashionError as e:
            self.failed.append((item.path, f"{item.path}: {e}"))

    def _with_vectors(
        self, texts: Sequence[tuple[GalleryItem, str]]
    ) -> Iterator[tuple[GalleryItem, str, torch.Tensor]]:
        """Items, texts and their vectors; encoded together, or one by one where some can't be."""
        if not texts:
            return
        try:
            vectors = self.text_encoder.encode_texts([text for _, text in texts]).vectors
        except UniFashionError as e:
            if len(texts) == 1:
                ((item, text),) = texts
                self.failed.append((item.path, f"{item.path}: its caption {text!r}: {e}"))
                return
            for one in texts:
                yield from self._with_vectors([one])
            return
        for (item, text), vector in zip(texts, vectors, strict=True):
            yield item, text, vector

    def _put(self, item: GalleryItem, text: str, vector: torch.Tensor) -> None:
        (row,) = self.writer.append("captions", vector[None].numpy())
        by = " ".join(
            (
                "-".join(self.captioner.name.split()) or "captioner",
                self.style.key.split()[0],
                self._inputs(item),
                _digest(text),
            )
        )
        self.writer.put_columns(item.item_id, {**item.columns, CAPTION: text, CAPTION_BY: by})
        self.writer.put_caption(item.item_id, int(row))

    def _commit_sometimes(self, more: int) -> None:
        self._uncommitted += more
        if self._uncommitted >= _COMMIT_ITEMS:
            self.writer.commit()
            self._uncommitted = 0


def _digest(*values: str) -> str:
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:_DIGITS]


def _digests_in(column: object) -> tuple[str, str]:
    """Digests of inputs and text in a `caption_by` column; empty where it is none."""
    words = column.split() if isinstance(column, str) else []
    return (words[-2], words[-1]) if len(words) == 4 else ("", "")


def _ignore_step(done: int, total: int) -> None:
    pass
