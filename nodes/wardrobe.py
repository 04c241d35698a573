"""Garments and collections of our own renderer: every graph runs with no picture at hand."""

from __future__ import annotations

import json

from PIL import Image

from ..unifashion_core.imaging import open_image
from ..unifashion_core.types import CATEGORIES
from ._comfy import check_gallery_name, io, output_folder
from ._convert import progress, to_batch, to_image

_ANY = "any"
_LISTING = "metadata.jsonl"  # what the renderer writes beside a collection's pictures


class SampleWardrobe(io.ComfyNode):
    """A whole collection on disk, or one garment."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_SampleWardrobe",
            display_name="Sample Wardrobe",
            category="UniFashion",
            description="Draws garments with known attributes, by seed: a collection to index, or "
            "one garment "
            "to search with, or a person who wears one. Swap it for your own folder or Load Image "
            "when you have pictures.",
            search_aliases=["clothes", "garment", "demo pictures", "sample images"],
            inputs=[
                io.Combo.Input(
                    "what",
                    options=["collection", "garment", "person"],
                    default="collection",
                    tooltip="collection: many garments of all kinds, saved below the output "
                    "folder so that "
                    "they can be indexed. garment: one picture, nothing is saved. person: somebody "
                    "who wears a garment, seen from the front, nothing is saved.",
                ),
                io.Combo.Input(
                    "category",
                    options=[_ANY, *CATEGORIES],
                    default=_ANY,
                    tooltip="Kind of garment; any = all ten kinds (a collection), or one by seed "
                    "(a garment, a person). A person wears no shoes or hats of the wardrobe.",
                ),
                io.Int.Input(
                    "seed",
                    default=7,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Another seed is another wardrobe; the same seed is always the same "
                    "one.",
                ),
                io.Int.Input(
                    "count",
                    default=60,
                    min=1,
                    max=2000,
                    tooltip="Garments in the collection, 1 to 2000; about 20 a second are drawn. "
                    "Not used for one garment.",
                ),
                io.Int.Input(
                    "size",
                    default=256,
                    min=64,
                    max=1024,
                    step=32,
                    tooltip="Side of each square picture in pixels. 256 is enough for search. A "
                    "person's picture is so high, and three quarters as wide.",
                ),
                io.String.Input(
                    "folder_name",
                    default="unifashion-wardrobe",
                    tooltip="Folder below the output folder that the collection is saved in, with "
                    "its "
                    "metadata.jsonl. One name, no path. Not used for one garment.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The pictures, (B, size, size, 3)."),
                io.String.Output(
                    "folder",
                    tooltip="Where the collection was saved, as Index Folder takes it; else empty.",
                ),
                io.String.Output(
                    "captions", is_output_list=True, tooltip="What each picture shows, in words."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, *, what: str = "", folder_name: str | None = None, **_: object
    ) -> object:
        """Draw again when the saved folder is gone."""
        if what != "collection" or not folder_name:
            return "drawn"
        folder = output_folder() / check_gallery_name(folder_name)
        return "saved" if (folder / _LISTING).is_file() else float("nan")

    @classmethod
    def execute(
        cls, *, what: str, category: str, seed: int, count: int, size: int, folder_name: str
    ) -> io.NodeOutput:
        # the renderer is a large module that only this node needs, and only when it runs
        from ..unifashion_core.wardrobe import (
            caption,
            render,
            render_person,
            renew_collection,
            sample_garment,
            sample_person,
        )

        kind = None if category == _ANY else category
        if what == "garment":
            garment = sample_garment(seed, category=kind)
            picture = render(garment, size)
            return io.NodeOutput(to_batch([picture], size), "", [caption(garment)])
        if what == "person":
            worn = None if kind is None else sample_garment(seed, category=kind)
            person = sample_person(seed, worn)
            said = [caption(garment) for garment in person.garments]
            return io.NodeOutput(to_image(render_person(person, size).image), "", said)
        folder = output_folder() / check_gallery_name(folder_name)
        kinds = [kind] if kind else None
        paths = renew_collection(folder, seed, count, size, categories=kinds, on_step=progress())
        found: list[Image.Image] = [open_image(path) for path in paths]
        rows = (folder / _LISTING).read_text("utf-8").splitlines()
        said = [json.loads(row)["caption"] for row in rows]
        return io.NodeOutput(to_batch(found, size), str(folder), said)
