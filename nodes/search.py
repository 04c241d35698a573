"""Search a gallery, rerank what was found, and look at it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import torch
from PIL import Image

from ..unifashion_core.errors import ImageError, InputError
from ..unifashion_core.imaging import open_image
from ..unifashion_core.retrieval.kernels import choose_kernel
from ..unifashion_core.retrieval.kernels.device import DeviceCopies, DeviceKernel
from ..unifashion_core.retrieval.rerank import rerank
from ..unifashion_core.retrieval.store import Gallery as GalleryValue
from ..unifashion_core.types import Embedding as EmbeddingValue
from ..unifashion_core.types import Hit
from ..unifashion_core.types import Hits as HitsValue
from ._comfy import Patcher, device, free_memory, io, load_models, manage, ui
from ._convert import check_readable, pictures, progress, to_batch, to_image
from ._types import Embedding, Encoder, Gallery, Hits, ManagedEncoder

BATCH = 16
SCANS = ["processor", "device", "device or processor"]
FREE_SHARE = 0.8
"""Of the device's free memory that a scan may take."""


@dataclass(frozen=True)
class _HeldCopies:
    """A gallery's copies under the host's model manager."""

    patcher: Patcher

    def ready(self, memory_bytes: int) -> None:
        load_models([self.patcher], memory_bytes)


def scan_kernel(scan_on: str, gallery: object) -> DeviceKernel | None:
    """What scans a gallery; None for the processor's fastest.

    Args:
        scan_on: One of `SCANS`.
        gallery: The gallery.

    Raises:
        InputError: If there is no device and the processor may not do it instead.
    """
    processor, only, _ = SCANS
    there = isinstance(gallery, GalleryValue) and device().type != "cpu"
    if scan_on == only and not there:
        why = (
            "the host computes on the processor here"
            if isinstance(gallery, GalleryValue)
            else "the gallery's server compares its pictures itself"
        )
        raise InputError(
            f"Retrieve Garments: scan_on is '{scan_on}', but {why}. Choose '{processor}'."
        )
    if scan_on == processor or not there:
        return None

    def hold(copies: DeviceCopies) -> _HeldCopies:
        return _HeldCopies(manage(copies, name="GalleryCopies"))

    return DeviceKernel(device(), int(FREE_SHARE * free_memory()), choose_kernel(), hold)


class RetrieveGarments(io.ComfyNode):
    """The best pictures of a gallery for each query."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_RetrieveGarments",
            display_name="Retrieve Garments",
            category="UniFashion/gallery",
            description="Finds the pictures of a gallery that fit a query best, exactly, best "
            "first.",
            search_aliases=["search", "find", "similar", "lookup"],
            inputs=[
                Gallery.Input("gallery", tooltip="From Index Folder or Open Gallery."),
                Embedding.Input(
                    "query", tooltip="From an Encode, Compose or Blend node; one search a query."
                ),
                io.Int.Input(
                    "top_k", default=12, min=1, max=100_000, tooltip="How many hits a query."
                ),
                io.String.Input(
                    "where",
                    default="",
                    tooltip="Only pictures whose columns fit: category=dress AND colours!=red. "
                    "Also < > <= >= and "
                    "~ (contains). Empty = all.",
                ),
                io.Float.Input(
                    "caption_weight",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.1,
                    tooltip="How much a picture's caption counts beside the picture, 0 to 2; 0 = "
                    "not at all, "
                    "1 = as much (the paper's way). Needs a gallery with captions.",
                ),
                io.Int.Input(
                    "offset",
                    default=0,
                    min=0,
                    max=100_000,
                    optional=True,
                    tooltip="How many of the best hits to skip: the second page of 12 has offset "
                    "12. Ranks go on.",
                ),
                io.Combo.Input(
                    "scan_on",
                    options=SCANS,
                    default=SCANS[0],
                    optional=True,
                    tooltip="Where pictures are compared. device = the graphics card, which keeps "
                    "what it compares while it has room; an error without one. device or processor "
                    "= the processor where there is no card. The hits are the same.",
                ),
            ],
            outputs=[
                Hits.Output(
                    "hits",
                    tooltip="Ranked pictures, for Contact Sheet, Hits to Images and Rerank Hits.",
                ),
                io.String.Output(
                    "report", tooltip="Rank, score and file of each hit, a line each."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        gallery: GalleryValue,
        query: EmbeddingValue,
        top_k: int,
        where: str,
        caption_weight: float,
        offset: int = 0,
        scan_on: str = SCANS[0],
    ) -> io.NodeOutput:
        from ..unifashion_core.retrieval.search import search

        hits = search(
            gallery,
            query,
            top_k=offset + top_k,
            where=where,
            caption_weight=caption_weight,
            kernel=scan_kernel(scan_on, gallery),
        )
        hits = replace(hits, rows=tuple(row[offset:] for row in hits.rows))
        return io.NodeOutput(hits, describe(hits))


class RerankHits(io.ComfyNode):
    """A second, closer look at the first hits."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_RerankHits",
            display_name="Rerank Hits",
            category="UniFashion/gallery",
            description="Reads the first hits' pictures again together with the query's text "
            "(image-text matching) "
            "and puts them in a new order. For text and composed queries.",
            search_aliases=["itm", "refine"],
            inputs=[
                Hits.Input("hits", tooltip="From Retrieve Garments."),
                Encoder.Input("encoder", tooltip="The gallery's encoder; it needs an ITM head."),
                io.Int.Input(
                    "first",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="How many hits of each query to look at.",
                ),
            ],
            outputs=[
                Hits.Output("hits", tooltip="The first hits in their new order, then the rest."),
                io.String.Output(
                    "report", tooltip="Rank, score and file of each hit, a line each."
                ),
            ],
        )

    @classmethod
    def execute(cls, *, hits: HitsValue, encoder: ManagedEncoder, first: int) -> io.NodeOutput:
        check_readable(hit for row in hits.rows for hit in row[:first])
        ready = encoder.ready(BATCH)
        found = rerank(hits, ready, first, batch_size=BATCH, on_step=progress())
        return io.NodeOutput(found, describe(found))


class HitsToImages(io.ComfyNode):
    """The pictures behind hits."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_HitsToImages",
            display_name="Hits to Images",
            category="UniFashion/gallery",
            description="Loads the pictures that were found, for any other node.",
            search_aliases=["load hits", "results"],
            inputs=[
                Hits.Input("hits", tooltip="From Retrieve Garments."),
                io.Int.Input(
                    "first", default=4, min=1, max=1000, tooltip="How many hits of each query."
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=64,
                    max=4096,
                    step=64,
                    tooltip="Side in pixels of the batch's pictures; each is shown whole, on "
                    "white.",
                ),
            ],
            outputs=[
                io.Image.Output("batch", tooltip="All pictures in one batch, (B, size, size, 3)."),
                io.Image.Output(
                    "list",
                    is_output_list=True,
                    tooltip="The pictures in their own sizes, one by one.",
                ),
                io.String.Output(
                    "captions", is_output_list=True, tooltip="Caption of each, or its file name."
                ),
                io.Float.Output("scores", is_output_list=True, tooltip="Score of each, -1 to 1."),
                io.String.Output(
                    "notes", tooltip="Pictures that could not be read, and why. Usually empty."
                ),
                io.Int.Output(
                    "item_ids",
                    is_output_list=True,
                    tooltip="The gallery's id of each, for Add to Gallery.",
                ),
            ],
        )

    @classmethod
    def execute(cls, *, hits: HitsValue, first: int, size: int) -> io.NodeOutput:
        chosen = [hit for row in hits.rows for hit in row[:first]]
        if not chosen:
            raise InputError(
                "Hits to Images: there is no hit. Loosen the filter, or index pictures."
            )
        check_readable(chosen)
        found: list[tuple[Hit, Image.Image]] = []
        problems: list[str] = []
        step = progress()
        for number, hit in enumerate(chosen, 1):
            try:
                found.append((hit, open_image(hit.path)))
            except ImageError as e:
                problems.append(str(e))
            step(number, len(chosen))
        if not found:
            raise InputError(f"Hits to Images: none of the pictures can be read. {problems[0]}")
        return io.NodeOutput(
            to_batch([picture for _, picture in found], size),
            [to_image(picture) for _, picture in found],
            [_words(hit) for hit, _ in found],
            [hit.score for hit, _ in found],
            "\n".join(problems),
            [hit.item_id for hit, _ in found],
        )


class ContactSheet(io.ComfyNode):
    """All hits on one page."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_ContactSheet",
            display_name="Contact Sheet",
            category="UniFashion/gallery",
            description="Draws the hits of each query on one page: rank, score, caption, and the "
            "query itself.",
            search_aliases=["grid", "overview", "lookbook"],
            is_output_node=True,
            inputs=[
                Hits.Input("hits", tooltip="From Retrieve Garments or Rerank Hits."),
                io.Int.Input("columns", default=4, min=1, max=20, tooltip="Pictures in a row."),
                io.Int.Input(
                    "cell",
                    default=256,
                    min=96,
                    max=1024,
                    step=32,
                    tooltip="Side of a picture in pixels.",
                ),
                io.Boolean.Input(
                    "captions",
                    default=True,
                    tooltip="Write caption or file name under each picture.",
                ),
                io.Image.Input(
                    "query_images",
                    optional=True,
                    tooltip="The pictures that were searched with; shown first on each query's "
                    "page.",
                ),
                io.Int.Input(
                    "rows",
                    default=0,
                    min=0,
                    max=100,
                    optional=True,
                    tooltip="Rows on a page at most, the rest goes on further pages; 0 = all on "
                    "one page.",
                ),
                io.Image.Input(
                    "made",
                    optional=True,
                    tooltip="Pictures that were made from the hits, in their order, such as "
                    "try-ons: each stands beside its hit.",
                ),
            ],
            outputs=[
                io.Image.Output("sheets", is_output_list=True, tooltip="The pages, for Save Image.")
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        hits: HitsValue,
        columns: int,
        cell: int,
        captions: bool,
        query_images: torch.Tensor | None = None,
        rows: int = 0,
        made: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..unifashion_core.rendering.sheets import SheetStyle, hits_sheet

        check_readable(hit for row in hits.rows for hit in row)
        asked = pictures(query_images) if query_images is not None else []
        results = iter(pictures(made) if made is not None else [])
        style = SheetStyle(columns=columns, cell=cell, captions=captions, rows=rows)
        step, sheets = progress(), list[torch.Tensor]()
        for number, (query, row) in enumerate(zip(hits.queries, hits.rows, strict=True)):
            picture = asked[min(number, len(asked) - 1)] if asked else None
            pages = hits_sheet(query, row, style, picture, list(islice(results, len(row))))
            sheets += map(to_image, pages)
            step(number + 1, len(hits.rows))
        shown = [
            file for sheet in sheets for file in ui.PreviewImage(sheet, cls=cls).as_dict()["images"]
        ]
        return io.NodeOutput(sheets, ui={"images": shown})


def describe(hits: HitsValue) -> str:
    """Hits in words: a line each, a blank line between queries."""
    blocks = ["\n".join(_line(hit) for hit in row) or "no hit" for row in hits.rows]
    return "\n\n".join([*blocks, *hits.notes])


def _line(hit: Hit) -> str:
    itm = "" if hit.itm is None else f"  itm {hit.itm:.3f}"
    return f"{hit.rank:3d}  {hit.score:.3f}{itm}  {hit.file}{'  (missing)' if hit.missing else ''}"


def _words(hit: Hit) -> str:
    return str(hit.columns.get("caption") or hit.file)
