"""Galleries: index a folder into one, open one."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..unifashion_core.errors import UniFashionError
from ..unifashion_core.imaging import iter_images
from ..unifashion_core.retrieval.connections import open_any
from ..unifashion_core.retrieval.items import StoredItem
from ..unifashion_core.retrieval.source import read_source
from ..unifashion_core.retrieval.store import gallery_for, open_gallery
from ._comfy import gallery_path, io, list_galleries, resolve_image_folder
from ._convert import check_readable, progress
from ._types import Encoder, Gallery, ManagedEncoder

if TYPE_CHECKING:
    from ..unifashion_core.retrieval.index import IndexReport

BATCH = 16


class IndexFolder(io.ComfyNode):
    """Bring a gallery up to date with a folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_IndexFolder",
            display_name="Index Folder",
            category="UniFashion/gallery",
            description="Puts every picture of a folder, and of the folders in it, into a gallery "
            "that stays on "
            "disk. Only what is new or changed is encoded; stopping keeps what is done.",
            search_aliases=["index", "add images", "build gallery", "database"],
            is_output_node=True,
            inputs=[
                Encoder.Input(
                    "encoder", tooltip="What reads the pictures. A gallery stays with its encoder."
                ),
                io.String.Input(
                    "gallery",
                    default="wardrobe",
                    tooltip="Name of the gallery; it is made when there is none. One name, no "
                    "path.",
                ),
                io.String.Input(
                    "folder",
                    default="input",
                    tooltip="input, output, or a folder below them; others once they are listed "
                    "under "
                    "unifashion_images in extra_model_paths.yaml.",
                ),
                io.String.Input(
                    "metadata",
                    default="",
                    tooltip="A .jsonl or .csv file in that folder with a column 'file' and any "
                    "others, such as "
                    "category, colours, caption; they can be filtered by. Empty = metadata.jsonl "
                    "if there is one.",
                ),
                io.Boolean.Input(
                    "prune",
                    default=False,
                    tooltip="Remove pictures from the gallery whose file is gone. Off: they stay, "
                    "marked missing. "
                    "Files are never deleted.",
                ),
                io.Boolean.Input(
                    "reembed",
                    default=False,
                    optional=True,
                    tooltip="If the gallery is of another encoder, encode everything again with "
                    "this one. Off: that is an error.",
                ),
            ],
            outputs=[
                Gallery.Output("gallery", tooltip="For Retrieve Garments."),
                io.String.Output(
                    "report",
                    tooltip="What was added, updated and skipped, and what failed and why.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, *, folder: str | None = None, gallery: str | None = None, **_: object
    ) -> object:
        """The folder's listing; a linked folder's name is not known here, so look each time."""
        if not folder or not gallery:
            return float("nan")
        root = resolve_image_folder(folder)
        listing = hashlib.sha256()
        for path in iter_images(root):
            state = path.stat()
            listing.update(
                f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="replace")
            )
        made = (gallery_path(gallery)).is_dir()
        return f"{listing.hexdigest()} {made}"

    @classmethod
    def execute(
        cls,
        *,
        encoder: ManagedEncoder,
        gallery: str,
        folder: str,
        metadata: str,
        prune: bool,
        reembed: bool = False,
    ) -> io.NodeOutput:
        from ..unifashion_core.retrieval.index import index_folder
        from ..unifashion_core.retrieval.reembed import reembed as give_encoder
        from ..unifashion_core.retrieval.writer import open_writer

        path, root = gallery_path(gallery), resolve_image_folder(folder)
        source = read_source(root, _metadata_file(root, metadata))
        ready = encoder.ready(BATCH)
        if reembed and path.is_dir():
            check_readable(_stored(path))
            give_encoder(path, ready, batch_size=BATCH, on_step=progress())
        found = gallery_for(path, ready)
        with open_writer(found) as writer:
            report = index_folder(
                writer,
                source,
                ready,
                text_encoder=ready,
                prune=prune,
                batch_size=BATCH,
                on_step=progress(),
            )
        return io.NodeOutput(found, describe(report), ui={"report": [report_json(report)]})


def _stored(path: Path) -> list[StoredItem]:
    """All items of a gallery on this machine."""
    with open_gallery(path).snapshot() as snapshot:
        return snapshot.items(snapshot.item_rows().ids.tolist())


class OpenGallery(io.ComfyNode):
    """A gallery that was indexed before."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_OpenGallery",
            display_name="Open Gallery",
            category="UniFashion/gallery",
            description="Opens a gallery by name, to search it without its pictures being looked "
            "at again.",
            search_aliases=["load gallery", "database"],
            inputs=[
                io.Combo.Input(
                    "gallery",
                    options=list_galleries(),
                    tooltip="A gallery that Index Folder made, or one on a "
                    "server that `gallery connect` named.",
                )
            ],
            outputs=[
                Gallery.Output("gallery", tooltip="For Retrieve Garments."),
                io.String.Output("info", tooltip="Its size, encoder and columns."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, *, gallery: str | None = None) -> object:
        """The gallery's revision."""
        return open_any(gallery_path(gallery)).revision if gallery else float("nan")

    @classmethod
    def execute(cls, *, gallery: str) -> io.NodeOutput:
        found = open_any(gallery_path(gallery))
        columns = ", ".join(found.columns) or "none"
        info = (
            f"{found.name}: {found.count} pictures, encoder {found.encoder_name} "
            f"({found.fingerprint[:8]}), revision {found.revision}, columns: {columns}"
        )
        return io.NodeOutput(found, info)


def describe(report: IndexReport) -> str:
    """A report in words, a line for each failure."""
    head = (
        f"{report.total} pictures: {report.added} added, {report.updated} updated, "
        f"{report.skipped} unchanged, {report.moved} moved, {report.missing} missing, "
        f"{len(report.failed)} failed"
    )
    return "\n".join([head, *report.notes, *(failure.reason for failure in report.failed)])


def report_json(report: IndexReport) -> dict[str, object]:
    """A report as plain values, as the commands print it."""
    values = asdict(report)
    values["failed"] = [{"path": str(f.path), "reason": f.reason} for f in report.failed]
    values["notes"] = list(report.notes)
    return values


def _metadata_file(root: Path, name: str) -> Path | None:
    """The metadata file of a folder; it can only lie in it."""
    if not name.strip():
        usual = root / "metadata.jsonl"
        return usual if usual.is_file() else None
    path = (root / name.strip()).resolve()
    if not path.is_relative_to(root) or not os.path.isfile(path):  # a name may be too long
        raise UniFashionError(
            f"Index Folder: no metadata file {name!r} in {root}. Give the name of a file in that "
            f"folder."
        )
    return path
