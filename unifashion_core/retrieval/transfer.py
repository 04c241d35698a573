"""Galleries as plain files: vectors as safetensors, items as JSON lines beside them.

`NAME.safetensors` holds `tokens`, (R, T, D), and `captions`, (C, D), both float16, and says of
which encoder they are; `NAME.jsonl` has a line an item. Written and read in parts: a gallery may be
larger than the memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ..errors import InputError
from ..types import OnStep
from .columns import Columns, column_value
from .layout import HALF, Half, Rows, sync_folder
from .segments import MappedRows
from .store import Gallery, Snapshot, create_gallery, open_gallery
from .writer import GalleryWriter

SUFFIX, ITEMS_SUFFIX = ".safetensors", ".jsonl"
_FORMAT = "unifashion-gallery-1"
_PART = 1024
_HEADER_LIMIT = 1 << 20


@dataclass(frozen=True)
class Export:
    """An export that was opened.

    Attributes:
        path: Its safetensors file.
        fingerprint: Of the encoder.
        encoder_name: What it is called.
        tokens: (R, T, D), float16, mapped.
        captions: (C, D), float16, mapped.
        items: Its lines.
    """

    path: Path
    fingerprint: str
    encoder_name: str
    tokens: Half
    captions: Half
    items: tuple[dict[str, Any], ...]


def export_gallery(gallery: Gallery, out: Path, *, on_step: OnStep | None = None) -> int:
    """Write the newest revision of a gallery to two files.

    Args:
        gallery: The gallery.
        out: Where to, ending with .safetensors; the items lie beside it, ending with .jsonl. Both
            are there whole or not at all, and replace what is there.
        on_step: Called with (rows done, rows).

    Returns:
        The revision that was written.

    Raises:
        InputError: If `out` has another ending.
        GalleryError: If a row isn't what was committed.
    """
    if out.suffix != SUFFIX:
        raise InputError(f"Export: '{out.name}' doesn't end with {SUFFIX}. Give such a name.")
    parts = [out.with_name(f".{out.stem}{suffix}.part") for suffix in (SUFFIX, ITEMS_SUFFIX)]
    try:
        with gallery.snapshot() as snapshot:
            live = snapshot.item_rows()
            rows = np.unique(live.token_rows)
            captions = np.unique(live.caption_rows[live.caption_rows >= 0])
            with open(parts[1], "wb") as file:
                digest = _write_items(file, snapshot, live.ids, rows, captions)
            with open(parts[0], "wb") as file:
                _write_header(file, gallery, len(rows), len(captions), digest)
                _write_rows(file, snapshot.vectors("captions"), captions, None)
                _write_rows(file, snapshot.vectors("tokens"), rows, on_step)
                file.flush()
                os.fsync(file.fileno())
            revision = snapshot.revision
        os.replace(parts[1], out.with_suffix(ITEMS_SUFFIX))
        os.replace(parts[0], out)
        sync_folder(out.parent)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return revision


def _write_items(file: BinaryIO, snapshot: Snapshot, ids: Rows, rows: Rows, captions: Rows) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(ids), _PART):
        for item in snapshot.items(ids[start : start + _PART].tolist()):
            caption = item.caption_row
            values = {
                "root": item.root,
                "file": item.file,
                "size": item.size,
                "mtime_ns": item.mtime_ns,
                "content": item.content.hex(),
                "row": int(np.searchsorted(rows, item.token_row)),
                "caption_row": None if caption is None else int(np.searchsorted(captions, caption)),
                "missing": item.missing,
                "columns": item.columns,
            }
            line = (json.dumps(values, ensure_ascii=False) + "\n").encode()
            digest.update(line)
            file.write(line)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()


def _write_header(file: BinaryIO, gallery: Gallery, rows: int, captions: int, digest: str) -> None:
    tokens, width = gallery.tokens_per_image, gallery.width
    split = captions * width * HALF.itemsize
    end = split + rows * tokens * width * HALF.itemsize
    header = {
        "__metadata__": {
            "format": _FORMAT,
            "fingerprint": gallery.fingerprint,
            "encoder_name": gallery.encoder_name,
            "items_sha256": digest,
        },
        "captions": {"dtype": "F16", "shape": [captions, width], "data_offsets": [0, split]},
        "tokens": {"dtype": "F16", "shape": [rows, tokens, width], "data_offsets": [split, end]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def _write_rows(file: BinaryIO, stored: MappedRows, rows: Rows, on_step: OnStep | None) -> None:
    for start in range(0, len(rows), _PART):
        part = rows[start : start + _PART]
        file.write(stored.gather(part).tobytes())
        if on_step is not None:
            on_step(start + len(part), len(rows))


def read_export(path: Path) -> Export:
    """Open an export and check it.

    Args:
        path: Its safetensors file.

    Raises:
        InputError: If it isn't one, or the items beside it are others or wrong.
    """
    try:
        with open(path, "rb") as file:
            header, begin = _read_header(file, path)
        items = path.with_suffix(ITEMS_SUFFIX).read_bytes()
    except OSError as e:
        raise InputError(
            f"Import: {e.filename} can't be read ({e.strerror}). Keep both files of an export "
            "together."
        ) from e
    about = cast("dict[str, str]", header.get("__metadata__", {}))
    if about.get("format") != _FORMAT:
        raise _wrong(path, "not an export of a gallery")
    if hashlib.sha256(items).hexdigest() != about.get("items_sha256"):
        raise _wrong(path.with_suffix(ITEMS_SUFFIX), f"not the items that belong to {path.name}")
    tokens, captions = (_mapped(path, header, begin, name) for name in ("tokens", "captions"))
    if tokens.ndim != 3 or captions.ndim != 2 or tokens.shape[2] != captions.shape[1]:
        raise _wrong(path, f"tokens of shape {tokens.shape}, captions of {captions.shape}")
    lines = [line for line in items.decode("utf-8").split("\n") if line]
    checked = tuple(
        _item(path, number, line, len(tokens), len(captions))
        for number, line in enumerate(lines, start=1)
    )
    return Export(
        path, about["fingerprint"], about.get("encoder_name", "?"), tokens, captions, checked
    )


def _wrong(path: Path, what: str) -> InputError:
    return InputError(f"Import: {path}: {what}. Export the gallery again.")


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    start = file.read(8)
    size = struct.unpack("<Q", start)[0] if len(start) == 8 else _HEADER_LIMIT + 1
    if size > _HEADER_LIMIT:
        raise _wrong(path, "not an export of a gallery")
    try:
        header = json.loads(file.read(size))
    except ValueError as e:
        raise _wrong(path, f"its header can't be read ({e})") from e
    return header, 8 + size


def _mapped(path: Path, header: dict[str, Any], begin: int, name: str) -> Half:
    try:
        entry = header[name]
        shape = tuple(int(n) for n in entry["shape"])
        first, last = entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as e:
        raise _wrong(path, f"its header lacks '{name}'") from e
    size = int(np.prod(shape)) * HALF.itemsize
    fits = first >= 0 and last - first == size and begin + last <= path.stat().st_size
    if entry.get("dtype") != "F16" or min(shape, default=0) < 0 or not fits:
        raise _wrong(path, f"'{name}' is not whole")
    if not size:
        return np.empty(shape, HALF)
    return np.memmap(path, HALF, "r", begin + first, shape)


def _item(path: Path, number: int, line: str, rows: int, captions: int) -> dict[str, Any]:
    where = path.with_suffix(ITEMS_SUFFIX)
    try:
        item = json.loads(line)
        caption = item["caption_row"]
        bytes.fromhex(item["content"])
        item["columns"] = {str(k): column_value(v) for k, v in item["columns"].items()}
        good = (
            all(isinstance(item[name], str) for name in ("root", "file"))
            and all(isinstance(item[name], int) for name in ("size", "mtime_ns", "row"))
            and len(item["content"]) == 64
            and 0 <= item["row"] < rows
            and (caption is None or 0 <= caption < captions)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise _wrong(where, f"line {number} is no item ({e})") from e
    if not good:
        raise _wrong(where, f"line {number} is no item of this export")
    return item


def import_gallery(
    path: Path, file: Path, *, on_step: OnStep | None = None
) -> tuple[Gallery, int, int]:
    """Add an export's items to a gallery; it is made where there is none.

    Items of the same path are replaced. What an exception ends is committed as far as it came.

    Args:
        path: The gallery's folder.
        file: The export's safetensors file.
        on_step: Called with (items done, items).

    Returns:
        The gallery, how many items were added, and how many were replaced.

    Raises:
        InputError: As `read_export`.
        GalleryError: If the gallery is of another encoder, or the disk refuses.
    """
    export = read_export(file)
    if path.is_dir() and any(path.iterdir()):
        gallery = open_gallery(path, fingerprint=export.fingerprint)
    else:
        gallery = create_gallery(
            path,
            fingerprint=export.fingerprint,
            tokens_per_image=export.tokens.shape[1],
            width=export.tokens.shape[2],
            encoder_name=export.encoder_name,
        )
    with GalleryWriter(gallery) as writer:
        before, items = writer.count, len(export.items)
        known = writer.token_rows()
        for start in range(0, items, _PART):
            _import_part(writer, export, export.items[start : start + _PART], known)
            writer.commit()
            if on_step is not None:
                on_step(min(start + _PART, items), items)
        added = writer.count - before
    return gallery, added, items - added


def _import_part(
    writer: GalleryWriter,
    export: Export,
    items: tuple[dict[str, Any], ...],
    known: dict[bytes, int],
) -> None:
    fresh = {
        bytes.fromhex(item["content"]): item["row"]
        for item in items
        if bytes.fromhex(item["content"]) not in known
    }
    if fresh:
        rows = writer.append("tokens", export.tokens[list(fresh.values())])
        known.update(zip(fresh, rows.tolist(), strict=True))
    said = [item["caption_row"] for item in items if item["caption_row"] is not None]
    captions = iter(writer.append("captions", export.captions[said]).tolist() if said else ())
    with writer.together():
        for item in items:
            content = bytes.fromhex(item["content"])
            item_id = writer.put_image(
                writer.root_id(item["root"]),
                item["file"],
                item["size"],
                item["mtime_ns"],
                content,
                token_row=known[content],
            )
            writer.put_columns(item_id, cast("Columns", item["columns"]))
            writer.put_caption(item_id, next(captions) if item["caption_row"] is not None else None)
            if item.get("missing"):
                writer.put_missing([item_id], True)
