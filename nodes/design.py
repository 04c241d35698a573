"""Design garments that do not exist yet, and judge pictures by the garment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..unifashion_core.errors import InputError
from ..unifashion_core.prepare.batch import as_masks, batch_size, pick
from ..unifashion_core.tryon.solvers import DESIGN_GUIDANCE
from ._comfy import io
from ._convert import progress
from ._tryon import (
    PAIRS,
    combined,
    frame_inputs,
    frame_size,
    more_sampler_inputs,
    paste_inputs,
    prepare_hints,
    prepare_people,
    region_input,
    render,
    report_of,
    sampler_inputs,
    seeded,
    settings_of,
    stacked,
    strength_input,
    tools_of,
)
from ._types import Encoder, ManagedEncoder, ManagedPreparer, ManagedTryOn, Preparer, TryOn

if TYPE_CHECKING:
    from ..unifashion_core.rendering.item import PreparedPerson, TryOnTools
    from ..unifashion_core.rendering.scores import TryOnScore

_OWN_SIZE = 0


class DesignGarment(io.ComfyNode):
    """A garment that does not exist yet, on a person or a mannequin."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_DesignGarment",
            display_name="Design Garment",
            category="UniFashion/try-on",
            description="Paints a garment from words, and from a sketch where one is connected. "
            "Without a person a neutral mannequin wears it, and the note says so.",
            search_aliases=["text to garment", "sketch to image", "fashion design"],
            inputs=[
                TryOn.Input("model", tooltip="From Load Try-On Model; it must read texts."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="a red t-shirt with white stripes",
                    tooltip="What to design, in plain English: kind, colours, pattern.",
                ),
                region_input(),
                *sampler_inputs(DESIGN_GUIDANCE),
                io.Int.Input(
                    "count",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many designs; each has the next seed.",
                ),
                io.Image.Input(
                    "sketch", optional=True, tooltip="Drawings to follow; one design of each."
                ),
                io.Image.Input(
                    "person", optional=True, tooltip="Who wears it; else a neutral mannequin."
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="What is painted anew on the person's photo."
                ),
                io.Image.Input(
                    "pose",
                    optional=True,
                    tooltip="Pose map of the person's photo; or, without a person, the pose of a "
                    "picture that is made as a whole.",
                ),
                Preparer.Input(
                    "preparer", optional=True, tooltip="From Load Preparer; else the built-in one."
                ),
                strength_input("hint_strength", "sketch", optional=True),
                *more_sampler_inputs(),
                *paste_inputs(),
                *frame_inputs(),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The designs, worn."),
                io.Image.Output("crops", tooltip="What the model made, in its own frame."),
                io.String.Output("note", tooltip="What to know of each picture, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        model: ManagedTryOn,
        text: str,
        region: str,
        seed: int,
        count: int,
        sketch: torch.Tensor | None = None,
        person: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        pose: torch.Tensor | None = None,
        preparer: ManagedPreparer | None = None,
        hint_strength: float = 1.0,
        width: int = _OWN_SIZE,
        height: int = _OWN_SIZE,
        **options: Any,
    ) -> io.NodeOutput:
        from ..unifashion_core.rendering.item import TryOnItem

        if not text.strip():
            raise InputError("Design garment: no text. Say what to design: a red dress with dots.")
        tools, size = tools_of(model, preparer), frame_size(width, height)
        if person is not None:
            people = prepare_people(tools, person, region, mask, pose, size)
        else:
            people = _nobody(tools, region, mask, pose, size)
        hints = prepare_hints(tools, None, sketch, size)
        items = [
            TryOnItem(one, hint, text, hint_strength=hint_strength)
            for one, hint, _ in combined(people, hints, [None], PAIRS)
        ]
        made = render(tools, seeded(items, seed, count), settings_of(options))
        return io.NodeOutput(*stacked(made.results), report_of(made))


class ScoreTryOn(io.ComfyNode):
    """How like the garment, and the best of several."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_ScoreTryOn",
            display_name="Score Try-On",
            category="UniFashion/try-on",
            description="Compares what is worn with the garment, by the encoder, looks whether "
            "the rest of the photo is untouched, and gives the best pictures first.",
            search_aliases=["rank", "best of", "quality", "compare"],
            inputs=[
                Encoder.Input("encoder", tooltip="From Load Fashion Encoder."),
                io.Image.Input("results", tooltip="Pictures of Sample Try-On."),
                io.Image.Input("garment", tooltip="The garment of each picture, or one for all."),
                io.Int.Input(
                    "best",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="How many of the best pictures to give; 1 picks the best of n.",
                ),
                io.Image.Input(
                    "person",
                    optional=True,
                    tooltip="The photo of each picture, or one for all: outside the mask it must "
                    "be the same.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="What was painted on each photo, or one for all: only that is "
                    "compared with the garment.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The best pictures, best first."),
                io.Float.Output(
                    "scores",
                    is_output_list=True,
                    tooltip="Likeness of every picture, -1 to 1, in the order they came.",
                ),
                io.String.Output("report", tooltip="Score and place of each picture, best first."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        encoder: ManagedEncoder,
        results: torch.Tensor,
        garment: torch.Tensor,
        best: int,
        person: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..unifashion_core.rendering.scores import best_first, score_results

        planes = None if mask is None else as_masks(mask).cpu()
        given = {"garments": garment, "persons": person, "masks": planes}
        counts = {name: len(value) for name, value in given.items() if value is not None}
        total = batch_size("Score try-on", {"results": len(results), **counts})
        ready = encoder.ready(min(16, 2 * total))
        scores = score_results(
            ready,
            [pick(results, n) for n in range(total)],
            [pick(garment, n) for n in range(total)],
            [None if planes is None else pick(planes, n) for n in range(total)],
            [None if person is None else pick(person, n) for n in range(total)],
            progress(),
        )
        order = best_first(scores)
        chosen = torch.stack([pick(results, n) for n in order[:best]])
        lines = [_say_score(place, n, scores[n]) for place, n in enumerate(order, 1)]
        return io.NodeOutput(chosen, [score.similarity for score in scores], "\n".join(lines))


def _nobody(
    tools: TryOnTools,
    region: str,
    mask: torch.Tensor | None,
    pose: torch.Tensor | None,
    size: tuple[int, int] | None,
) -> list[PreparedPerson]:
    """A mannequin, or a page for each pose."""
    from ..unifashion_core.rendering.prepared import prepare_canvas

    if mask is not None:
        raise InputError(
            "Design garment: a mask and no photo that it marks. Connect the person, or leave the "
            "mask out."
        )
    if pose is not None:
        return [prepare_canvas(tools, one.cpu(), size) for one in pose]
    # the renderer is a large module that only this case needs
    from ..unifashion_core.rendering.mannequin import prepare_mannequin

    return [prepare_mannequin(tools, region, size)]


def _say_score(place: int, number: int, score: TryOnScore) -> str:
    if score.outside is None:
        rest = ""
    elif score.kept:
        rest = "; the photo is untouched outside the mask"
    else:
        rest = f"; outside the mask the photo differs by up to {score.outside * 255:.1f} of 255"
    return f"{place:3d}  picture {number + 1}  {score.similarity:.3f}{rest}"
