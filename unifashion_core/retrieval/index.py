"""Index a folder: find its images, encode what is new or changed, keep its metadata.

Worker threads read, hash and preprocess files while the caller's thread encodes batches and writes
them.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import GalleryError, InputError, UniFashionError
from ..imaging import decode_image, read_file
from ..types import ImageEncoder, OnStep, TextEncoder
from .caption_vectors import encode_texts
from .columns import CAPTION, Columns, to_json
from .items import StoredItem
from .source import Failure, ImageFile, Source, is_gone, read_source
from .writer import GalleryWriter

COMMIT_ITEMS = 64
COMMIT_SECONDS = 2.0


@dataclass(frozen=True)
class IndexReport:
    """What an indexing run did.

    Attributes:
        added: New items.
        updated: Items whose content was encoded again, or whose metadata or caption vector changed.
        skipped: Items that were up to date, also where only the file's time changed.
        missing: Items of this folder whose file is gone; with `prune` they were removed.
        failed: What couldn't be used; an item indexed earlier stays as it was.
        total: Live items of the whole gallery after the run.
        notes: What the user should know besides.
        moved: Items whose file was gone and whose content was found under a new path.
        revision: The gallery's, after the run.
    """

    added: int
    updated: int
    skipped: int
    missing: int
    failed: tuple[Failure, ...]
    total: int
    notes: tuple[str, ...] = ()
    moved: int = 0
    revision: int = 0


def index_folder(
    writer: GalleryWriter,
    folder: Path | Source,
    encoder: ImageEncoder,
    *,
    text_encoder: TextEncoder | None,
    metadata: Path | None = None,
    prune: bool = False,
    batch_size: int = 16,
    workers: int = 2,
    on_step: OnStep | None = None,
) -> IndexReport:
    """Bring a gallery up to date with a folder.

    A file counts as unchanged by its size and time, else by its content. Equal content is encoded
    once. An item whose file is gone and whose content appears under a new path is moved: it keeps
    its id and its metadata. What an exception (also one from `on_step`) ends is committed as far as
    it was encoded. Without `metadata`, stored metadata stays; with it, a file that has a line takes
    that line's columns and every other keeps its own.

    Args:
        writer: Of the gallery.
        folder: The folder, or what `read_source` gave for it (then `metadata` belongs there).
        encoder: The gallery's encoder.
        text_encoder: Makes the vectors of captions; None leaves new captions without one.
        metadata: As in `read_source`.
        prune: Whether items whose file is gone are removed.
        batch_size: Images encoded at once.
        workers: Threads that read and preprocess.
        on_step: Called with (images done, images of the folder).

    Returns:
        Counts and failures.

    Raises:
        FolderError, InputError: As `read_source`.
        GalleryError: If the encoder isn't the gallery's, or the disk refuses.
    """
    if batch_size < 1 or workers < 1:
        raise InputError(
            f"Index: batch size {batch_size} and {workers} workers, wanted 1 or more of each."
        )
    for connected in (encoder, text_encoder):
        if connected is not None:
            writer.gallery.require_encoder(connected.fingerprint)
    if isinstance(folder, Path):
        source = read_source(folder, metadata)
    elif metadata is None:
        source = folder
    else:
        raise InputError("Index: this folder was read already. Give its metadata to `read_source`.")
    run = _Run(writer, source, encoder, text_encoder, on_step or _ignore_step, batch_size)
    try:
        run.index(workers)
        run.settle_missing(prune)
        writer.commit()
    except (GalleryError, OSError):
        writer.rollback()
        raise
    except BaseException:
        writer.commit()  # cancelled: every batch that was encoded stays
        raise
    return run.report()


def _ignore_step(done: int, total: int) -> None:
    pass


@dataclass
class _Change:
    """What a file needs; filled by a worker where its content may differ."""

    found: ImageFile
    stored: StoredItem | None
    columns: Columns | None
    content: bytes | None = None
    token_row: int | None = None
    pixels: torch.Tensor | None = None
    caption: str | None = None
    failure: str | None = None
    moved: bool = False


@dataclass
class _Run:
    writer: GalleryWriter
    source: Source
    encoder: ImageEncoder
    text_encoder: TextEncoder | None
    on_step: OnStep
    batch_size: int
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("added", "updated", "skipped", "moved"), 0)
    )
    failures: list[Failure] = field(default_factory=list[Failure])
    moved: set[int] = field(default_factory=set[int])
    missing: int = 0
    cut_captions: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        root = self.source.root.as_posix()
        self.failures.extend(self.source.failures)
        self.root = self.writer.root_id(root)
        self.stored = self.writer.items_of(root)
        self.rows = self.writer.token_rows()
        self.committed_at = time.monotonic()
        self.uncommitted = 0

    def index(self, workers: int) -> None:
        """Work through the files in order, so that new ids follow the paths."""
        changed: list[_Change] = []
        batch: list[_Change] = []
        for found in self.source.files:
            change = _Change(
                found, self.stored.get(found.file), self.source.columns.get(found.file)
            )
            if _is_unchanged(change):
                batch.append(change)
            else:
                changed.append(change)
        for start in range(0, len(batch), COMMIT_ITEMS):
            self._flush(batch[start : start + COMMIT_ITEMS])
        batch = []
        with contextlib.closing(self._prepared(changed, workers)) as prepared:
            for change in prepared:
                batch.append(change)
                if (
                    sum(one.pixels is not None for one in batch) >= self.batch_size
                    or len(batch) >= COMMIT_ITEMS
                ):
                    self._flush(batch)
                    batch = []
            self._flush(batch)

    def _prepared(self, changes: list[_Change], workers: int) -> Generator[_Change]:
        """Changes in order, prepared at most two batches ahead."""
        pending: deque[Future[_Change]] = deque()
        with ThreadPoolExecutor(workers, thread_name_prefix="unifashion-index") as pool:
            try:
                for change in changes:
                    pending.append(pool.submit(self._prepare, change))
                    if len(pending) > 2 * self.batch_size:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _prepare(self, change: _Change) -> _Change:
        """Read, hash and preprocess one file; runs in a worker."""
        try:
            data = read_file(change.found.path)
            change.content = hashlib.sha256(data).digest()
            if change.stored is not None and change.content == change.stored.content:
                change.token_row = change.stored.token_row
            elif change.content in self.rows:
                change.token_row = self.rows[change.content]
            else:
                image = decode_image(data, str(change.found.path), min_side=self.encoder.input_size)
                change.pixels = self.encoder.preprocess(image)
        except (UniFashionError, ValueError, OSError, MemoryError) as e:
            change.failure = str(e) or f"{change.found.path}: not enough memory. Scale it down."
        return change

    def _flush(self, batch: list[_Change]) -> None:
        """Encode a batch and write it as a whole."""
        for change in batch:
            if change.failure is not None:
                self.failures.append(Failure(change.found.path, change.failure))
        usable = [change for change in batch if change.failure is None]
        self._find_moved(usable)
        self._encode(usable)
        caption_rows = self._encode_captions(usable)
        counts = dict(self.counts)
        with self.writer.together():
            for change in usable:
                counts[self._write(change, caption_rows)] += 1
        self.counts = counts
        self.done += len(batch)
        self._commit_sometimes(len(batch))
        self.on_step(self.done, len(self.source.files))

    def _find_moved(self, changes: list[_Change]) -> None:
        """Give each new path the item that lay elsewhere and is gone from there, if any."""
        for change in changes:
            if change.stored is not None or change.content not in self.rows:
                continue
            for item in self.writer.items_with(change.content):
                if item.item_id not in self.moved and is_gone(item.path):
                    self.moved.add(item.item_id)
                    if self.stored.get(item.file) == item:
                        del self.stored[item.file]
                    change.stored, change.moved = item, True
                    break

    def _commit_sometimes(self, more: int) -> None:
        self.uncommitted += more
        if (
            self.uncommitted >= COMMIT_ITEMS
            or time.monotonic() - self.committed_at > COMMIT_SECONDS
        ):
            self.writer.commit()
            self.uncommitted, self.committed_at = 0, time.monotonic()

    def _encode(self, changes: list[_Change]) -> None:
        """Give every change with pixels its row of tokens; equal content shares one."""
        fresh: dict[bytes, torch.Tensor] = {}
        for change in changes:
            if (
                change.pixels is not None
                and change.content is not None
                and change.content not in self.rows
            ):
                fresh.setdefault(change.content, change.pixels)
        if fresh:
            tokens = self.encoder.encode_pixels(torch.stack(list(fresh.values()))).tokens
            rows = self.writer.append("tokens", tokens.numpy())
            self.rows.update(zip(fresh, rows.tolist(), strict=True))
        for change in changes:
            if change.pixels is not None and change.content is not None:
                change.token_row, change.pixels = self.rows[change.content], None

    def _encode_captions(self, changes: list[_Change]) -> dict[str, int]:
        """Store the vector of each new or changed caption; a text that failed is absent."""
        for change in changes:
            change.caption = self._new_caption(change)
        texts = list(dict.fromkeys(change.caption for change in changes if change.caption))
        rows: dict[str, int] = {}
        reasons: dict[str, str] = {}
        if texts and self.text_encoder is not None:
            for part, features in encode_texts(self.text_encoder, texts, reasons):
                self.cut_captions += sum(features.truncated)
                numbers = self.writer.append("captions", features.vectors.numpy())
                rows.update(zip(part, numbers.tolist(), strict=True))
        for change in changes:
            if change.caption in reasons:
                self._caption_failed(change, reasons[change.caption])
        return rows

    def _new_caption(self, change: _Change) -> str | None:
        """The caption that needs a vector, if one does."""
        caption = _columns_after(change).get(CAPTION)
        if caption is None or caption == "":
            return None
        if not isinstance(caption, str):
            self._caption_failed(change, "it is not a text. Write one caption as a text.")
            return None
        stored = change.stored
        if stored is not None and stored.caption_row is not None:
            return caption if stored.columns.get(CAPTION) != caption else None
        return caption

    def _caption_failed(self, change: _Change, reason: str) -> None:
        path = change.found.path
        self.failures.append(
            Failure(path, f"{path}: the image is kept without its caption: {reason}")
        )

    def _write(self, change: _Change, caption_rows: dict[str, int]) -> str:
        """Write one change; tells how it counts."""
        found, stored, content = change.found, change.stored, change.content
        if change.moved and stored is not None:
            self.writer.move(stored.item_id, self.root, found.file)
        if content is not None and change.token_row is not None:
            item_id = self.writer.put_image(
                self.root,
                found.file,
                found.size,
                found.mtime_ns,
                content,
                token_row=change.token_row,
            )
        else:
            assert stored is not None  # only a stored file goes without being read
            item_id = stored.item_id
            if stored.missing:
                self.writer.put_missing([item_id], False)
        updated = stored is not None and content not in (None, stored.content)
        before: Columns = stored.columns if stored is not None else {}
        after = _columns_after(change)
        if to_json(after) != to_json(before):
            self.writer.put_columns(item_id, after)
            updated = True
        if change.caption in caption_rows:
            self.writer.put_caption(item_id, caption_rows[change.caption])
            updated = True
        elif before.get(CAPTION) != after.get(CAPTION):
            self.writer.put_caption(item_id, None)  # the old vector is of another text
        if change.moved:
            return "moved"
        return "added" if stored is None else "updated" if updated else "skipped"

    def settle_missing(self, prune: bool) -> None:
        """Count the items of this folder whose file is gone; flag them, or remove them."""
        listed = {found.file for found in self.source.files}
        gone = [
            item for file, item in self.stored.items() if file not in listed and is_gone(item.path)
        ]
        self.missing = len(gone)
        if prune:
            self.writer.remove(item.item_id for item in gone)
        else:
            self.writer.put_missing((item.item_id for item in gone if not item.missing), True)

    def report(self) -> IndexReport:
        """What was done, after the last commit."""
        notes: list[str] = list(self.writer.recovered)
        if self.cut_captions:
            notes.append(f"{self.cut_captions} captions were cut to what the encoder reads")
        return IndexReport(
            added=self.counts["added"],
            updated=self.counts["updated"],
            skipped=self.counts["skipped"],
            missing=self.missing,
            failed=tuple(self.failures),
            total=self.writer.count,
            notes=tuple(notes),
            moved=self.counts["moved"],
            revision=self.writer.gallery.revision,
        )


def _is_unchanged(change: _Change) -> bool:
    found, stored = change.found, change.stored
    if stored is None:
        return False
    return (found.size, found.mtime_ns) == (stored.size, stored.mtime_ns)


def _columns_after(change: _Change) -> Columns:
    if change.columns is not None:
        return change.columns
    return change.stored.columns if change.stored is not None else {}
