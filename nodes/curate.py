"""Look after a gallery: check it, find duplicates, count, remove, give room back, add pictures."""

# Size: seven nodes, and most of it are their declared inputs with tooltips.

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..unifashion_core.errors import InputError
from ..unifashion_core.retrieval.facets import count_values
from ..unifashion_core.retrieval.items import StoredItem
from ..unifashion_core.retrieval.removal import remove_ids, remove_items
from ..unifashion_core.retrieval.store import Gallery as GalleryValue
from ..unifashion_core.retrieval.store import gallery_for, open_gallery
from ..unifashion_core.retrieval.validate import validate
from ..unifashion_core.types import Embedding as EmbeddingValue
from ..unifashion_core.types import Hit, Query, QueryPart
from ..unifashion_core.types import Hits as HitsValue
from ._comfy import check_gallery_name, gallery_path, io, output_folder
from ._convert import pictures, progress
from ._types import Embedding, Encoder, Gallery, Hits, ManagedEncoder

if TYPE_CHECKING:
    from ..unifashion_core.retrieval.duplicates import DuplicateGroup

BATCH = 16
_BIG = 2**53  # what a page's numbers hold exactly


class CheckGallery(io.ComfyNode):
    """Is everything as it was committed?"""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_CheckGallery",
            display_name="Check Gallery",
            category="UniFashion/gallery",
            description="Compares a gallery's files with their checksums, and repairs it if you "
            "wish: it then goes on without what is damaged.",
            search_aliases=["validate", "repair", "damage", "checksum"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "gallery", default="wardrobe", tooltip="Name of the gallery to look at."
                ),
                io.Boolean.Input(
                    "repair",
                    default=False,
                    tooltip="Off: only look. On: take out what is damaged; index its folder again "
                    "to bring it back. Your pictures are never touched.",
                ),
                io.String.Input(
                    "after",
                    default="",
                    optional=True,
                    force_input=True,
                    tooltip="Connect a report to check after that node is done; its text is not "
                    "read.",
                ),
            ],
            outputs=[
                io.Boolean.Output("ok", tooltip="Whether all is well (now)."),
                io.String.Output("report", tooltip="What was found and done, a line each."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> object:
        """Damage leaves no revision: look each time."""
        return float("nan")

    @classmethod
    def execute(cls, *, gallery: str, repair: bool, after: str = "") -> io.NodeOutput:
        path = gallery_path(gallery)
        found = validate(path, on_step=progress())
        lines = [f"{p.kind}: {p.path.name}: {p.detail}" for p in found.problems]
        lines += [f"recovered: {text}" for text in found.recovered]
        if repair and not found.ok:
            lines += _repaired(path)
            found = validate(path, on_step=progress())
        lines.append(
            f"{gallery}: all is well, revision {found.revision}" if found.ok else "not repaired"
        )
        return io.NodeOutput(found.ok, "\n".join(lines), ui={"text": ["\n".join(lines)]})


def _repaired(path: Path) -> list[str]:
    from ..unifashion_core.retrieval.repair import repair

    report = repair(open_gallery(path), on_step=progress())
    lines = [f"rebuilt: {text}" for text in report.rebuilt]
    lines += [f"removed, index it again: {file}" for file in report.removed]
    return lines


class CompactGallery(io.ComfyNode):
    """Give the room of removed pictures back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_CompactGallery",
            display_name="Compact Gallery",
            category="UniFashion/gallery",
            description="Writes what is still used into new files. The old ones go when nothing "
            "reads them any more. Searches give the same as before.",
            search_aliases=["vacuum", "defragment", "clean"],
            is_output_node=True,
            inputs=[Gallery.Input("gallery", tooltip="From Open Gallery or Remove from Gallery.")],
            outputs=[
                Gallery.Output("gallery", tooltip="The same gallery."),
                io.String.Output("report", tooltip="How much was kept and saved."),
            ],
        )

    @classmethod
    def execute(cls, *, gallery: GalleryValue) -> io.NodeOutput:
        from ..unifashion_core.retrieval.compact import compact
        from ..unifashion_core.retrieval.writer import open_writer

        with open_writer(embedded(gallery, "Compact Gallery")) as writer:
            done = compact(writer, on_step=progress())
        text = (
            f"{done.rows} vectors kept, {done.removed} dropped: "
            f"{done.bytes_before:,} -> {done.bytes_after:,} bytes"
        )
        return io.NodeOutput(gallery, text, ui={"text": [text]})


def embedded(gallery: object, where: str) -> GalleryValue:
    """A gallery that lies on this machine.

    Raises:
        InputError: If it lies on a server.
    """
    if not isinstance(gallery, GalleryValue):
        raise InputError(
            f"{where}: this gallery lies on a server, which looks after its own files. Choose one "
            "of this machine."
        )
    return gallery


class FindDuplicates(io.ComfyNode):
    """Pictures that are the same, or nearly."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_FindDuplicates",
            display_name="Find Duplicates",
            category="UniFashion/gallery",
            description="Finds groups of pictures in a gallery that look the same to its encoder: "
            "copies, other sizes, small edits.",
            search_aliases=["near-duplicates", "same", "copies"],
            inputs=[
                Gallery.Input("gallery", tooltip="From Index Folder or Open Gallery."),
                io.Float.Input(
                    "threshold",
                    default=0.99,
                    min=0.51,
                    max=1.0,
                    step=0.005,
                    tooltip="Least likeness, 0.51 to 1: 1 = the same picture, 0.99 = "
                    "nearly the same, lower = similar garments too.",
                ),
                io.Int.Input(
                    "first",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="How many groups to give, the largest first.",
                ),
            ],
            outputs=[
                Hits.Output("groups", tooltip="A row a group, for Contact Sheet and Remove."),
                io.String.Output("report", tooltip="Likeness and file, a line each."),
            ],
        )

    @classmethod
    def execute(cls, *, gallery: GalleryValue, threshold: float, first: int) -> io.NodeOutput:
        from ..unifashion_core.retrieval.duplicates import find_duplicates

        own = embedded(gallery, "Find Duplicates")
        found = find_duplicates(own, threshold=threshold, on_step=progress())
        groups = found.groups[:first]
        rows = tuple(
            tuple(_hit(n, item, alike) for n, (item, alike) in enumerate(_pairs(group), 1))
            for group in groups
        )
        queries = tuple(Query((QueryPart(torch.zeros(1, own.width), "image"),)) for _ in groups)
        hits = HitsValue(rows, queries, own.fingerprint, own.name, found.revision)
        blocks = ["\n".join(f"{a:.3f}  {i.file}" for i, a in _pairs(group)) for group in groups]
        count = f"{len(found.groups)} groups of pictures that are alike by {threshold} or more"
        return io.NodeOutput(hits, "\n\n".join([count, *blocks]))


def _pairs(group: DuplicateGroup) -> list[tuple[StoredItem, float]]:
    return list(zip(group.items, group.likeness, strict=True))


def _hit(rank: int, item: StoredItem, likeness: float) -> Hit:
    from ..unifashion_core.retrieval.search import shown_columns

    columns = shown_columns(item.columns)
    return Hit(
        rank, item.item_id, item.path, item.file, likeness, columns=columns, missing=item.missing
    )


class CountValues(io.ComfyNode):
    """How often each value of a column occurs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_CountValues",
            display_name="Count Values",
            category="UniFashion/gallery",
            description="Counts the values of a metadata column, such as category or colours.",
            search_aliases=["facets", "statistics", "histogram"],
            inputs=[
                Gallery.Input("gallery", tooltip="From Index Folder or Open Gallery."),
                io.String.Input(
                    "column", default="category", tooltip="Name of the column, as in a filter."
                ),
                io.String.Input(
                    "where",
                    default="",
                    tooltip="Only pictures that pass, such as category=dress. Empty = all.",
                ),
            ],
            outputs=[io.String.Output("report", tooltip="Count and value, a line each.")],
        )

    @classmethod
    def execute(cls, *, gallery: GalleryValue, column: str, where: str) -> io.NodeOutput:
        found = count_values(gallery, column.strip(), where=where)
        lines = [f"{count:6d}  {value}" for value, count in found.values]
        return io.NodeOutput("\n".join([*lines, f"{found.without:6d}  (none)"]))


class RemoveFromGallery(io.ComfyNode):
    """Take pictures out of a gallery; the files stay."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_RemoveFromGallery",
            display_name="Remove from Gallery",
            category="UniFashion/gallery",
            description="Takes pictures out of a gallery: duplicates, hits, or all that pass a "
            "filter. The files themselves are never deleted.",
            search_aliases=["delete", "prune", "clean"],
            is_output_node=True,
            inputs=[
                Gallery.Input("gallery", tooltip="From Index Folder or Open Gallery."),
                io.String.Input(
                    "where",
                    default="",
                    tooltip="Take out what passes, such as season=2019. Empty = none by filter.",
                ),
                io.Boolean.Input(
                    "keep_first",
                    default=True,
                    tooltip="Of the connected hits, keep the first of each row: of duplicates one "
                    "stays. Off: all of them are taken out.",
                ),
                Hits.Input(
                    "hits",
                    optional=True,
                    tooltip="What to take out: from Find Duplicates or Retrieve Garments.",
                ),
            ],
            outputs=[
                Gallery.Output("gallery", tooltip="The same gallery, at its new revision."),
                io.String.Output("report", tooltip="How many were taken out."),
            ],
        )

    @classmethod
    def execute(
        cls, *, gallery: GalleryValue, where: str, keep_first: bool, hits: HitsValue | None = None
    ) -> io.NodeOutput:
        skip = 1 if keep_first else 0
        ids = [hit.item_id for row in (hits.rows if hits else ()) for hit in row[skip:]]
        removed = remove_ids(gallery, ids) if ids else 0
        if where.strip():
            removed += remove_items(gallery, where=where)[0]
        text = f"{removed} pictures taken out, {gallery.count} left"
        return io.NodeOutput(gallery, text, ui={"text": [text]})


class MoreLikeThese(io.ComfyNode):
    """A query from marked hits."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_MoreLikeThese",
            display_name="More Like These",
            category="UniFashion/gallery",
            description="Makes a query of hits that you mark: more like these, less like those.",
            search_aliases=["feedback", "refine", "similar"],
            inputs=[
                Gallery.Input("gallery", tooltip="The gallery that was searched."),
                Hits.Input("hits", tooltip="What was found; its first row is marked."),
                io.String.Input(
                    "like",
                    default="1",
                    tooltip="Ranks of hits to be like, as on the contact sheet: 1, 4.",
                ),
                io.String.Input(
                    "unlike", default="", tooltip="Ranks of hits to be unlike: 2, 3. Empty = none."
                ),
                Embedding.Input(
                    "query",
                    optional=True,
                    tooltip="The query so far; the marks are added to it. None = the marks alone.",
                ),
            ],
            outputs=[Embedding.Output("query", tooltip="For Retrieve Garments.")],
        )

    @classmethod
    def execute(
        cls,
        *,
        gallery: GalleryValue,
        hits: HitsValue,
        like: str,
        unlike: str,
        query: EmbeddingValue | None = None,
    ) -> io.NodeOutput:
        from ..unifashion_core.retrieval.marked import marked_query

        marked = marked_query(gallery, _marked(hits, like), _marked(hits, unlike), base=query)
        return io.NodeOutput(marked)


def _marked(hits: HitsValue, ranks: str) -> list[int]:
    by_rank = {str(hit.rank): hit.item_id for hit in (hits.rows[0] if hits.rows else ())}
    words = [word for word in re.split(r"[\s,;]+", ranks) if word]
    for word in words:
        if word not in by_rank:
            raise InputError(
                f"More Like These: there is no hit of rank {word!r}, only 1 to {len(by_rank)}. "
                "Write ranks with commas between."
            )
    return list(dict.fromkeys(by_rank[word] for word in words))


class AddToGallery(io.ComfyNode):
    """Save pictures and put them into a gallery."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_AddToGallery",
            display_name="Add to Gallery",
            category="UniFashion/gallery",
            description="Saves generated pictures in the output folder and adds them to a gallery, "
            "with prompt, seed and the item that they were made from as columns to filter by.",
            search_aliases=["save", "store generated"],
            is_output_node=True,
            inputs=[
                Encoder.Input("encoder", tooltip="The gallery's encoder."),
                io.Image.Input("images", tooltip="What to add, one item a picture."),
                io.String.Input(
                    "gallery",
                    default="generated",
                    tooltip="Name of the gallery; it is made when there is none. One name, no "
                    "path.",
                ),
                io.String.Input(
                    "folder_name",
                    default="unifashion-generated",
                    tooltip="Folder below output where the pictures are saved. One name, no path.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="The text that they were made from; kept as column 'prompt'.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=_BIG,
                    tooltip="Seed of the first picture; the next ones count up. Column 'seed'.",
                ),
                io.Int.Input(
                    "source_item",
                    default=0,
                    min=0,
                    max=_BIG,
                    tooltip="Id of the gallery item that was worn or changed, from Hits to Images; "
                    "0 = none. Column 'source_item'.",
                ),
            ],
            outputs=[
                Gallery.Output("gallery", tooltip="For Retrieve Garments."),
                io.String.Output("report", tooltip="The saved files, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        encoder: ManagedEncoder,
        images: torch.Tensor,
        gallery: str,
        folder_name: str,
        prompt: str,
        seed: int,
        source_item: int,
    ) -> io.NodeOutput:
        from ..unifashion_core.retrieval.generated import Origin, add_generated
        from ..unifashion_core.retrieval.writer import open_writer

        path, folder = gallery_path(gallery), output_folder() / check_gallery_name(folder_name)
        ready = encoder.ready(BATCH)
        found = gallery_for(path, ready)
        with open_writer(found) as writer:
            files, _ = add_generated(
                writer,
                folder,
                pictures(images),
                ready,
                Origin(prompt.strip(), seed, source_item),
                on_step=progress(),
            )
        text = "\n".join(str(file) for file in files)
        return io.NodeOutput(found, text, ui={"text": [text]})
