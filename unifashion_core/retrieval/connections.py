"""Server galleries by name: the file that names one, opening it, and moving a gallery over."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..errors import GalleryError, InputError
from ..types import OnStep
from .asked import mean_of
from .columns import cells, to_json
from .points import CAPTION, MEAN, TOKENS, About, Point, Points, filter_keys, meta_point
from .qdrant import connect
from .server import ServerGallery
from .store import Gallery, create_gallery, open_gallery
from .writer import GalleryWriter

_PART = 64
_NAME = re.compile(r"\w[\w .()+-]*")


def connect_gallery(folder: Path, name: str, url: str, collection: str | None = None) -> Path:
    """Write the file that names a server gallery.

    Args:
        folder: The galleries folder; made when absent.
        name: What to call it.
        url: The server's address, http or https, without a password in it.
        collection: Name of the collection there; the gallery's name when None.

    Raises:
        InputError: If name or address can't be used.
        GalleryError: If there is a gallery of this name already.
    """
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname or "@" in address.netloc:
        raise InputError(
            f"Server gallery: {url!r} is no address such as http://localhost:6333. A key belongs "
            "into UNIFASHION_QDRANT_KEY."
        )
    if not _NAME.fullmatch(name) or name[-1] in " .":
        raise InputError(f"Server gallery: {name!r} can't be a name. Use letters, digits and - _.")
    if (folder / name).exists():
        raise GalleryError(f"Gallery '{name}': there is one already at {folder / name}.")
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / f"{name}.json", folder / f".{name}.json.part"
    part.write_text(json.dumps({"url": url, "collection": collection or name}) + "\n", "utf-8")
    part.replace(path)
    return path


def open_any(path: Path, *, fingerprint: str | None = None) -> Gallery | ServerGallery:
    """Open a gallery's folder, or the server gallery that a file names.

    Args:
        path: The folder, the file, or the file's name without .json.
        fingerprint: Of the connected encoder; checked where it is given.

    Raises:
        GalleryError: If it can't be opened.
    """
    file = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
    if path.is_dir() or not file.is_file():
        return open_gallery(path, fingerprint=fingerprint)
    gallery = open_server(file)
    found = ServerGallery(gallery.path, gallery.url, gallery.points)
    if fingerprint is not None:
        found.require_encoder(fingerprint)
    return found


@dataclass(frozen=True)
class Server:
    """A server gallery that may not be filled yet."""

    path: Path
    url: str
    points: Points

    @property
    def revision(self) -> int:
        """Of the gallery there."""
        return ServerGallery(self.path, self.url, self.points).revision


def open_server(path: Path) -> Server:
    """What the file of a server gallery names.

    Raises:
        GalleryError: If there is no such file, or it can't be read.
        MissingPackageError: If qdrant-client isn't installed.
    """
    path = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
    try:
        values = json.loads(path.read_text("utf-8"))
        url, collection = str(values["url"]), str(values["collection"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise GalleryError(
            f"Gallery '{path.stem}': {path} names no server gallery ({e}). Make it with `gallery "
            f"connect --gallery {path.stem} --url U`."
        ) from e
    return Server(path, url, connect(url, collection))


# ---- moving


def push(gallery: Gallery, server: Server, *, on_step: OnStep | None = None) -> int:
    """Copy a gallery to a server; what was in the collection is replaced.

    Args:
        gallery: What to copy: its newest revision.
        server: Where to.
        on_step: Called with (items done, items).

    Returns:
        How many items.

    Raises:
        GalleryError: If the server can't be reached, or a row isn't what was committed.
    """
    points = server.points
    about = About(
        gallery.fingerprint, gallery.encoder_name, gallery.tokens_per_image, gallery.width, 0, ()
    )
    with gallery.snapshot() as snapshot:
        rows = snapshot.item_rows()
        tokens, captions = snapshot.vectors("tokens"), snapshot.vectors("captions")
        points.create(gallery.width)
        for start in range(0, len(rows), _PART):
            here = slice(start, start + _PART)
            items = snapshot.items(rows.ids[here].tolist())
            vectors = tokens.gather(rows.token_rows[here]).astype(np.float32)
            said = rows.caption_rows[here]
            texts = iter(captions.gather(said[said >= 0]).astype(np.float32))
            made: list[Point] = []
            for item, values in zip(items, vectors, strict=True):
                named: dict[str, Any] = {TOKENS: values.tolist(), MEAN: mean_of(values)}
                if item.caption_row is not None:
                    named[CAPTION] = next(texts).tolist()
                payload = {
                    "root": item.root,
                    "file": item.file,
                    "size": item.size,
                    "mtime_ns": item.mtime_ns,
                    "content": item.content.hex(),
                    "missing": item.missing,
                    "columns": to_json(item.columns),
                    **filter_keys(cells(item.columns)).payload(),
                }
                made.append(Point(item.item_id, named, payload))
            points.put(made)
            if on_step is not None:
                on_step(start + len(items), len(rows))
        # Last: until it is there, nobody can open a half-filled collection.
        points.put([meta_point(about, snapshot.revision, snapshot.columns)])
    return len(rows)


def pull(server: Server, path: Path, *, on_step: OnStep | None = None) -> Gallery:
    """Copy a server gallery into a new gallery of this machine.

    Args:
        server: Where from.
        path: The new gallery's folder.
        on_step: Called with (items done, items).

    Raises:
        GalleryError: If there is something at `path`, or the server can't be reached.
    """
    source = ServerGallery(server.path, server.url, server.points)
    gallery = create_gallery(
        path,
        fingerprint=source.fingerprint,
        tokens_per_image=source.tokens_per_image,
        width=source.width,
        encoder_name=source.encoder_name,
    )
    total, known = source.count, dict[bytes, int]()
    with GalleryWriter(gallery) as writer:
        for number, point in enumerate(source.each(vectors=True), start=1):
            _pull_one(writer, point, known)
            if number % 1024 == 0:
                writer.commit()
            if on_step is not None:
                on_step(number, total)
    return gallery


def _pull_one(writer: GalleryWriter, point: Point, known: dict[bytes, int]) -> None:
    payload = point.payload
    content = bytes.fromhex(payload["content"])
    if content not in known:
        values = np.array(point.vectors[TOKENS], np.float32)[None]
        known[content] = int(writer.append("tokens", values)[0])
    item = writer.put_image(
        writer.root_id(payload["root"]),
        payload["file"],
        int(payload["size"]),
        int(payload["mtime_ns"]),
        content,
        token_row=known[content],
    )
    writer.put_columns(item, json.loads(payload["columns"]))
    if point.vectors.get(CAPTION) is not None:
        row = writer.append("captions", np.array(point.vectors[CAPTION], np.float32)[None])
        writer.put_caption(item, int(row[0]))
    if payload["missing"]:
        writer.put_missing([item], True)
