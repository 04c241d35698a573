"""Sketches of garments, and the way of a photo into a model's frame and back."""

from __future__ import annotations

import torch

from ..unifashion_core.prepare.batch import as_masks, batch_size, fit_batch, paste_batch, pick
from ..unifashion_core.prepare.fit import Fit as FitValue
from ..unifashion_core.prepare.paste import MAX_FEATHER
from ..unifashion_core.prepare.sketch import KINDS, SketchStyle, on_paper, sketch
from ._comfy import io
from ._convert import progress
from ._types import Fit

_ON_BLACK, _ON_WHITE = "white on black", "black on white"


class SketchGarment(io.ComfyNode):
    """A garment as lines."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_SketchGarment",
            display_name="Sketch Garment",
            category="UniFashion/prepare",
            description="Draws the outline, seams and print of a garment; or cleans a sketch that "
            "was drawn by hand, so that models can read it.",
            search_aliases=["lineart", "edges", "scribble"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="Garments, best from Cut Out Garment, or drawings."
                ),
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    default="photo",
                    tooltip="photo: edges are found. drawing: pen or pencil on paper; paper, "
                    "shadows and specks go.",
                ),
                io.Float.Input(
                    "thickness",
                    default=3.0,
                    min=0.0,
                    max=16.0,
                    step=0.5,
                    tooltip="Width of the lines in pixels of a picture of 1024, 0.5 to 16. For a "
                    "drawing 0 keeps its own lines.",
                ),
                io.Float.Input(
                    "detail",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 = outline and main seams, 1 = every fold and print.",
                ),
                io.Combo.Input(
                    "lines",
                    options=[_ON_BLACK, _ON_WHITE],
                    default=_ON_BLACK,
                    tooltip="white on black is what sketch models read.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The garment: nothing is drawn outside, and its outline always is.",
                ),
            ],
            outputs=[
                io.Image.Output("sketch", tooltip="The lines as a picture."),
                io.Mask.Output("mask", tooltip="1 = line."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        image: torch.Tensor,
        kind: str,
        thickness: float,
        detail: float,
        lines: str,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        planes = None if mask is None else as_masks(mask).cpu()
        counts = {"images": len(image)} | ({} if planes is None else {"masks": len(planes)})
        step, drawn = progress(), list[torch.Tensor]()
        total = batch_size("Sketch garment", counts)
        style = SketchStyle(thickness, detail)
        for item in range(total):
            inside = None if planes is None else pick(planes, item)
            drawn.append(sketch(pick(image, item)[..., :3].cpu(), inside, style, kind))  # type: ignore[arg-type] # the combo's options
            step(item + 1, total)
        shown = [on_paper(one, lines == _ON_WHITE) for one in drawn]
        return io.NodeOutput(torch.stack(shown), torch.stack(drawn))


class FitToModel(io.ComfyNode):
    """The part of a photo that a model works on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_FitToModel",
            display_name="Fit to Model",
            category="UniFashion/prepare",
            description="Crops a photo round the mask, resizes it to the model's size without "
            "stretching, and remembers how it goes back. Paste Back puts the result into the "
            "photo at its full size.",
            search_aliases=["crop", "resize", "inpaint crop"],
            inputs=[
                io.Image.Input("image", tooltip="Photos of any size."),
                io.Int.Input(
                    "width",
                    default=768,
                    min=64,
                    max=4096,
                    step=64,
                    tooltip="Width of the model's picture in pixels, a multiple of 64.",
                ),
                io.Int.Input(
                    "height", default=1024, min=64, max=4096, step=64, tooltip="Height likewise."
                ),
                io.Float.Input(
                    "context",
                    default=0.25,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How much of the photo is kept round the mask on each side, as a share "
                    "of the mask's longer side. 0 = none, 4 = the whole photo, usually.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="What is to change, from Agnostic Mask. None: the whole photo is "
                    "fitted.",
                ),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The crop, for the model."),
                io.Mask.Output("mask", tooltip="The mask within the crop; 0 in the padding."),
                Fit.Output("fit", tooltip="How the crop goes back, for Paste Back."),
                io.String.Output("note", tooltip="Crop and scale of each photo, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        image: torch.Tensor,
        width: int,
        height: int,
        context: float,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        crops, masks, fits = fit_batch(image, mask, (height, width), context, progress())
        return io.NodeOutput(crops, masks, fits, "\n".join(fit.describe() for fit in fits))


class PasteBack(io.ComfyNode):
    """A model's result in the photo it came from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_PasteBack",
            display_name="Paste Back",
            category="UniFashion/prepare",
            description="Puts a model's result back into the photo at its full size. Outside the "
            "mask every pixel stays exactly as it was.",
            search_aliases=["uncrop", "composite", "stitch"],
            inputs=[
                io.Image.Input("result", tooltip="What the model made, of the crop's size."),
                Fit.Input("fit", tooltip="From Fit to Model."),
                io.Image.Input("image", tooltip="The photos that Fit to Model got."),
                io.Mask.Input(
                    "mask", tooltip="The photos' mask, as Fit to Model got it: what may change."
                ),
                io.Int.Input(
                    "feather",
                    default=8,
                    min=0,
                    max=MAX_FEATHER,
                    tooltip="Width of the seam in pixels of the photo; it lies inside the mask. "
                    "0 = a hard edge.",
                ),
                io.Boolean.Input(
                    "match_colour",
                    default=False,
                    tooltip="Bring the result's colours to the photo's, by what both show just "
                    "outside the mask. For models that shift colours.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The photos with the results in them.")],
        )

    @classmethod
    def execute(
        cls,
        *,
        result: torch.Tensor,
        fit: tuple[FitValue, ...],
        image: torch.Tensor,
        mask: torch.Tensor,
        feather: int,
        match_colour: bool,
    ) -> io.NodeOutput:
        pasted = paste_batch(result, fit, image, mask, feather, match_colour, progress())
        return io.NodeOutput(pasted)
