"""Many pictures at once: a plan of variations, and saving with what a picture was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ..unifashion_core.caption.sidecars import write_whole
from ..unifashion_core.errors import InputError
from ..unifashion_core.rendering.names import check_template, file_name, inside
from ..unifashion_core.rendering.plan import Picture, PlanLists, SeedKind, Seeds, hit_pictures
from ..unifashion_core.rendering.saved import FORMATS, encode_picture
from ..unifashion_core.types import Hits as HitsValue
from ._comfy import check_gallery_name, io, metadata_wanted, output_folder
from ._convert import check_readable, pictures
from ._types import Hits, Plan

EVERY, SIDE = "every with every", "side by side"
_SEEDS: dict[str, SeedKind] = {"fixed": "fixed", "counted": "counted", "from the item": "hash"}


class PlanVariations(io.ComfyNode):
    """What to make, as a value."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_PlanVariations",
            display_name="Plan Variations",
            category="UniFashion/try-on",
            description="Lists what to make: persons x garments x prompts x seeds, or lists that "
            "go side by side. Render Variations makes it.",
            search_aliases=["batch", "grid", "xy plot", "lookbook"],
            is_input_list=True,
            inputs=[
                io.Combo.Input(
                    "combine",
                    options=[EVERY, SIDE],
                    default=EVERY,
                    tooltip="every with every: all persons in all garments with all prompts. side "
                    "by side: the first of each list, then the second; a list of one goes with "
                    "all.",
                ),
                io.Combo.Input(
                    "region",
                    options=["upper", "lower", "dress", "full"],
                    default="upper",
                    tooltip="Which part of the person is painted anew.",
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="A prompt a line. {red|blue} is a choice: every one of it is made, or "
                    "side by side one told by the seed. {colours} is a list of yours. Empty = no "
                    "words.",
                ),
                io.String.Input(
                    "lists",
                    default="",
                    multiline=True,
                    tooltip="Lists for the prompts, one a line, such as: colours: red, navy, olive",
                ),
                io.Combo.Input(
                    "seeds",
                    options=list(_SEEDS),
                    default="fixed",
                    tooltip="fixed: every combination has the same seeds, so that garments can be "
                    "compared. counted: each picture has the next one. from the item: told by "
                    "what it is made of, so that adding a garment changes no other picture.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The first seed.",
                ),
                io.Int.Input(
                    "repeats", default=1, min=1, max=100, tooltip="Seeds a combination, 1 to 100."
                ),
                io.String.Input(
                    "where",
                    default="",
                    tooltip="Only items that pass, such as garment~shirt AND seed<4. Columns: "
                    "person, garment, sketch, region, prompt, seed. Empty = all.",
                ),
                io.Image.Input(
                    "persons", optional=True, tooltip="Photos of persons: batches, or lists."
                ),
                io.Image.Input("garments", optional=True, tooltip="Garments: batches, or lists."),
                Hits.Input("hits", optional=True, tooltip="Garments as well: what a search found."),
                io.Image.Input(
                    "sketches", optional=True, tooltip="Sketches to follow, instead of garments."
                ),
            ],
            outputs=[
                Plan.Output("plan", tooltip="For Render Variations."),
                io.String.Output("preview", tooltip="How many pictures, and the first of them."),
                io.Int.Output("count", tooltip="How many pictures."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        combine: list[str],
        region: list[str],
        prompts: list[str],
        lists: list[str],
        seeds: list[str],
        seed: list[int],
        repeats: list[int],
        where: list[str],
        persons: Sequence[torch.Tensor] = (),
        garments: Sequence[torch.Tensor] = (),
        hits: Sequence[HitsValue] = (),
        sketches: Sequence[torch.Tensor] = (),
    ) -> io.NodeOutput:
        found = [hit for value in hits for row in value.rows for hit in row]
        check_readable(found)
        wanted = PlanLists(
            persons=_named("person", persons),
            garments=[*_named("garment", garments), *hit_pictures(found)],
            regions=region,
            prompts=[line for text in prompts for line in text.splitlines() if line.strip()],
            sketches=_named("sketch", sketches),
            seeds=Seeds(_SEEDS[seeds[0]], seed[0], repeats[0]),
            choices=_read_lists("\n".join(lists)),
        )
        plan = wanted.product() if combine[0] == EVERY else wanted.pairs()
        if where[0].strip():
            plan = plan.filtered(where[0])
        text = plan.preview()
        return io.NodeOutput(plan, text, len(plan), ui={"text": [text]})


def _named(kind: str, images: Sequence[torch.Tensor]) -> list[Picture]:
    """Pictures of batches and lists, numbered."""
    found = [picture for batch in images if batch is not None for picture in pictures(batch)]
    return [Picture(f"{kind} {n + 1}", None, picture) for n, picture in enumerate(found)]


def _read_lists(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, colon, entries = line.partition(":")
        if line.strip() and not colon:
            raise InputError(
                f"Plan Variations: the list '{line.strip()[:40]}' has no colon. Write it as "
                "colours: red, blue"
            )
        if colon:
            found[name.strip()] = [e.strip() for e in entries.split(",") if e.strip()]
    return found


class SavePictures(io.ComfyNode):
    """Save with names and formats of one's own, and with the graph inside."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_SavePictures",
            display_name="Save Pictures",
            category="UniFashion/try-on",
            description="Saves pictures in the output folder with names of your own, as PNG with "
            "the workflow inside, JPEG or WebP.",
            search_aliases=["save image", "export", "metadata", "jpeg", "webp"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="What to save."),
                io.String.Input(
                    "folder_name",
                    default="unifashion-pictures",
                    tooltip="Folder below output. One name, no path.",
                ),
                io.String.Input(
                    "name",
                    default="{index:05}_{date}",
                    tooltip="Of the files: words and {index}, {seed}, {prompt}, {date}; a / makes "
                    "folders. Letters that tell the picture's content come last, so nothing is "
                    "ever overwritten.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="png",
                    tooltip="png keeps every pixel and holds the workflow; jpeg and webp are "
                    "smaller.",
                ),
                io.String.Input(
                    "prompt", default="", multiline=True, tooltip="Kept in the file. May be empty."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    tooltip="Kept in the file and usable in its name.",
                ),
            ],
            outputs=[io.String.Output("folder", tooltip="Where they are.")],
        )

    @classmethod
    def execute(
        cls,
        *,
        images: torch.Tensor,
        folder_name: str,
        name: str,
        format: str,
        prompt: str,
        seed: int,
    ) -> io.NodeOutput:
        folder = output_folder() / check_gallery_name(folder_name)
        check_template(name)
        shown: list[dict[str, str]] = []
        for number, picture in enumerate(pictures(images)):
            parameters = {"prompt": prompt, "seed": seed, "index": number}
            kept, texts = (parameters, graph_texts(cls)) if metadata_wanted() else ({}, {})
            data = encode_picture(picture, format, kept, texts)
            shown.append(save_named(folder, name, format, parameters, data))
        return io.NodeOutput(str(folder), ui={"images": shown})


def graph_texts(cls: type[io.ComfyNode]) -> dict[str, Any]:
    """The graph as the page reads it out of a PNG."""
    hidden = cls.hidden
    return {} if hidden is None else {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}


def save_named(
    folder: Path, template: str, kind: str, values: Mapping[str, str | int], data: bytes
) -> dict[str, str]:
    """Write a picture's bytes under the name that a template gives; how the page asks for it."""
    known = {**values, "id": hashlib.sha256(data).hexdigest(), "date": date.today().isoformat()}
    file = file_name(template, known, FORMATS[kind])
    path = inside(folder, file)
    write_whole(path, data)
    sub = path.parent.relative_to(output_folder()).as_posix()
    return {"filename": path.name, "subfolder": sub, "type": "output"}
