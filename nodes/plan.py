"""A plan of many pictures: which persons wear which garments, with which words and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..unifashion_core.errors import InputError
from ..unifashion_core.rendering.plan import Picture, PlanLists, SeedKind, Seeds, hit_pictures
from ..unifashion_core.types import Hits as HitsValue
from ._comfy import io
from ._convert import check_readable, pictures
from ._tryon import region_input
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
                region_input(),
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
                    tooltip="Lists for the prompts, one a line, such as: colours: red, navy, "
                    "olive.",
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
