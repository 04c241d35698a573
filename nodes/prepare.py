"""From any photo to what a try-on model needs: masks, pose maps, garments cut out."""

# Size: four nodes with many inputs share how a preparer is made and used

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..unifashion_core.cutout import garment_mask
from ..unifashion_core.errors import InputError
from ..unifashion_core.prepare.batch import as_masks, batch_size, pick
from ..unifashion_core.prepare.garment import CutOut, frame_garment
from ..unifashion_core.prepare.labels import LABEL_SETS
from ..unifashion_core.prepare.labels_segmenter import load_segmenter
from ..unifashion_core.prepare.palette import PaletteColour, draw_palette, palette
from ..unifashion_core.prepare.regions import (
    DEFAULT_DILATION,
    DEFAULT_PROTECTED,
    HEMS,
    REGIONS,
    SLEEVES,
)
from ..unifashion_core.prepare.worn import WORN_REGIONS
from ..unifashion_core.weights import licence_of
from ._comfy import (
    find_model,
    io,
    list_models,
    manage,
    model_dtype,
    offload_device,
)
from ._convert import SHIPS, progress
from ._preparer import BUILT_IN, built_in, preparer_of
from ._types import ManagedPreparer
from ._types import Preparer as PreparerType

if TYPE_CHECKING:
    from ..unifashion_core.prepare.preparer import MaskRequest

KIND = "unifashion_preparers"
_BY_NAME = "by name"
_DECIDE = "as it decides"
_BODY, _DENSE = "body parts", "densepose"
_FLAT, _WORN = "flat lay", "worn"
_SIDES = ("left", "top", "right", "bottom")
_KEEP = 0  # of a frame's side: the photo's own size
_PARAMETERS = 4_000_000  # of the built-in networks

Keypoints = io.Custom("POSE_KEYPOINT")


class LoadPreparer(io.ComfyNode):
    """What finds persons, and tells their parts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_LoadPreparer",
            display_name="Load Preparer",
            category="UniFashion/prepare",
            description="Loads what looks at photos of persons. The built-in networks ship with "
            "the pack and are used by the other nodes anyway; a segmentation model of clothes in "
            "models/unifashion_preparers makes masks more exact.",
            search_aliases=["segformer", "human parsing", "pose"],
            inputs=[
                io.Combo.Input(
                    "preparer",
                    options=[BUILT_IN, *list_models(KIND)],
                    default=BUILT_IN,
                    tooltip="built-in: person mask, landmarks and a colour step. Else a folder "
                    "below models/unifashion_preparers with a transformers model for semantic "
                    "segmentation of clothes, such as SegFormer's.",
                ),
                io.Combo.Input(
                    "labels",
                    options=[_BY_NAME, *LABEL_SETS],
                    default=_BY_NAME,
                    tooltip="Numbering of the segmentation model's labels. by name: the model's "
                    "own names tell. Not used by the built-in one.",
                ),
            ],
            outputs=[
                PreparerType.Output("preparer", tooltip="For the nodes of UniFashion/prepare."),
                io.String.Output("info", tooltip="What was loaded."),
            ],
        )

    @classmethod
    def execute(cls, *, preparer: str, labels: str) -> io.NodeOutput:
        if preparer == BUILT_IN:
            return io.NodeOutput(built_in(), f"{BUILT_IN}\n{SHIPS}")
        path = find_model(KIND, preparer)
        made = _with_segmenter(path, None if labels == _BY_NAME else labels)
        info = f"{preparer}, {labels}; persons by the built-in networks\n{licence_of(path)}"
        return io.NodeOutput(made, info)


class AgnosticMask(io.ComfyNode):
    """What a try-on model shall paint anew."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        percent: dict[str, Any] = {"default": 0.0, "min": -100.0, "max": 100.0, "step": 0.5}
        offsets = [
            io.Float.Input(
                f"offset_{side}",
                optional=True,
                tooltip=f"Further percent of the torso to the {side}, -100 to 100; negative "
                "narrows.",
                **percent,
            )
            for side in _SIDES
        ]
        return io.Schema(
            node_id="UniFashion_AgnosticMask",
            display_name="Agnostic Mask",
            category="UniFashion/prepare",
            description="Marks the region whose garment is to be replaced, with face, hair and "
            "hands kept. Uses the best of what is connected: a parse map, the segmentation model "
            "of the preparer, keypoints, a densepose map; else the networks that ship.",
            search_aliases=["inpaint mask", "try-on mask", "automask"],
            inputs=[
                io.Image.Input("image", tooltip="Photos of persons, of any size."),
                io.Combo.Input(
                    "region",
                    options=[*REGIONS, "upper,lower"],
                    default="upper",
                    tooltip="Which garment: upper, lower, dress, or full = everything worn. "
                    "upper,lower is the union of two.",
                ),
                io.Combo.Input(
                    "sleeve",
                    options=list(SLEEVES),
                    default="keep",
                    tooltip="How long the new sleeves may be. keep counts as long, which is safe "
                    "for every garment; none spares the arms.",
                ),
                io.Combo.Input(
                    "hem",
                    options=list(HEMS),
                    default="keep",
                    tooltip="Where the new garment ends. keep: as the present one; skirts, "
                    "trousers and dresses at the knee at the highest.",
                ),
                io.Float.Input(
                    "dilation",
                    default=DEFAULT_DILATION,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Widens the mask, in percent of the torso's length (mid-shoulder to "
                    "mid-hip). 3 is about 10 pixels of a 768x1024 photo; 0 = as found.",
                ),
                io.String.Input(
                    "protect",
                    default=",".join(DEFAULT_PROTECTED),
                    tooltip="Parts that stay as they are, with commas: face, hair, hands, feet, "
                    "neck, arms, legs, upper, lower, bag, scarf. Empty protects nothing.",
                ),
                PreparerType.Input(
                    "preparer", optional=True, tooltip="From Load Preparer; else the built-in one."
                ),
                io.Image.Input(
                    "parse_map",
                    optional=True,
                    tooltip="Parse map of each photo, or one for all: ids or the colours of its "
                    "label set.",
                ),
                io.Combo.Input(
                    "parse_labels",
                    options=[_DECIDE, *LABEL_SETS],
                    default=_DECIDE,
                    optional=True,
                    tooltip="Label set of the parse map; needed where its ids or colours don't "
                    "tell. atr = SegFormer-clothes, cihp = VITON-HD.",
                ),
                Keypoints.Input(
                    "keypoints",
                    optional=True,
                    tooltip="POSE_KEYPOINT of a pose preprocessor for these photos.",
                ),
                io.Image.Input(
                    "densepose", optional=True, tooltip="Densepose map of each photo, or one."
                ),
                io.Mask.Input("add", optional=True, tooltip="Marked in any case."),
                io.Mask.Input(
                    "subtract", optional=True, tooltip="Kept in any case; stronger than add."
                ),
                *offsets,
            ],
            outputs=[
                io.Mask.Output("mask", tooltip="1 = to be painted anew, as large as the photo."),
                io.Image.Output("overlay", tooltip="The photo with the mask over it, to judge by."),
                io.String.Output("note", tooltip="Source of the mask and warnings, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        image: torch.Tensor,
        preparer: ManagedPreparer | None = None,
        parse_map: torch.Tensor | None = None,
        parse_labels: str = _DECIDE,
        keypoints: Any = None,
        densepose: torch.Tensor | None = None,
        add: torch.Tensor | None = None,
        subtract: torch.Tensor | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        from ..unifashion_core.prepare.preparer import Known, MadeMask

        add, subtract, core = _planes(add), _planes(subtract), preparer_of(preparer)
        others = {"parse_map": parse_map, "densepose": densepose, "add": add, "subtract": subtract}
        step, found = progress(), list[MadeMask]()
        total = _items("Agnostic mask", image, **others)
        labels = None if parse_labels == _DECIDE else parse_labels
        for item in range(total):
            maps = (_own(parse_map, item), labels, _frame_of(keypoints, item))
            known = Known(*maps, _own(densepose, item))
            request = _request(options, _own(add, item), _own(subtract, item))
            found.append(core.mask(pick(image, item), known, request))
            step(item + 1, total)
        return io.NodeOutput(
            torch.stack([made.mask for made in found]),
            torch.stack([made.overlay for made in found]),
            "\n".join(made.note for made in found),
        )


class PoseMap(io.ComfyNode):
    """How a person stands, as a picture for a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_PoseMap",
            display_name="Pose Map",
            category="UniFashion/prepare",
            description="Draws a map of body parts from the landmarks of the person, as the pocket "
            "try-on model reads it; or brings a densepose map of another node to the form of "
            "VITON-HD's, which the large models need.",
            search_aliases=["densepose", "openpose", "body parts"],
            inputs=[
                io.Image.Input("image", tooltip="Photos of persons, of any size."),
                io.Combo.Input(
                    "kind",
                    options=[_BODY, _DENSE],
                    default=_BODY,
                    tooltip="body parts: drawn here, from the person that is found. densepose: the "
                    "connected map, which this pack can't make itself.",
                ),
                io.Image.Input(
                    "densepose",
                    optional=True,
                    tooltip="Densepose map of each photo from another node: ids, or detectron2's "
                    "colours (parula or viridis).",
                ),
                Keypoints.Input(
                    "keypoints",
                    optional=True,
                    tooltip="POSE_KEYPOINT of a pose preprocessor, instead of the networks here.",
                ),
                PreparerType.Input(
                    "preparer", optional=True, tooltip="From Load Preparer; else the built-in one."
                ),
            ],
            outputs=[
                io.Image.Output("pose", tooltip="The map, as large as the photo."),
                io.String.Output("note", tooltip="What each map was made from, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        image: torch.Tensor,
        kind: str,
        densepose: torch.Tensor | None = None,
        keypoints: Any = None,
        preparer: ManagedPreparer | None = None,
    ) -> io.NodeOutput:
        core, step = preparer_of(preparer), progress()
        maps, notes = list[torch.Tensor](), list[str]()
        total = _items("Pose map", image, densepose=densepose)
        for item in range(total):
            photo = pick(image, item)
            if kind == _DENSE:
                given, note = _own(densepose, item), "densepose map given"
                maps.append(core.densepose_map(photo, given))
            else:
                made, note = core.pose_map(photo, _frame_of(keypoints, item))
                maps.append(made)
            notes.append(note)
            step(item + 1, total)
        return io.NodeOutput(torch.stack(maps), "\n".join(notes))


class CutOutGarment(io.ComfyNode):
    """A garment out of its photo."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        side: dict[str, Any] = {"min": 0, "max": 4096, "step": 64}
        return io.Schema(
            node_id="UniFashion_CutOutGarment",
            display_name="Cut Out Garment",
            category="UniFashion/prepare",
            description="Cuts a garment out of a flat-lay or worn photo, sets it upright and "
            "centres it on white, as try-on models know garments. Tells its colours too.",
            search_aliases=["remove background", "garment mask", "palette"],
            inputs=[
                io.Image.Input("image", tooltip="Photos of garments, of any size."),
                io.Combo.Input(
                    "photo",
                    options=[_FLAT, _WORN],
                    default=_FLAT,
                    tooltip="flat lay: the garment alone. worn: on a person.",
                ),
                io.Combo.Input(
                    "region",
                    options=list(WORN_REGIONS),
                    default="upper",
                    tooltip="Which garment of a worn photo. Not used for a flat lay.",
                ),
                io.Boolean.Input(
                    "straighten",
                    default=True,
                    tooltip="Turn the garment by up to 20 degrees to stand upright.",
                ),
                io.Int.Input(
                    "width",
                    default=768,
                    tooltip="Width of the result in pixels, a multiple of 64; 0 = the photo's own "
                    "size, nothing moved.",
                    **side,
                ),
                io.Int.Input(
                    "height", default=1024, tooltip="Height likewise; 0 as for the width.", **side
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the garment is, drawn or from another node; else it is found.",
                ),
                PreparerType.Input(
                    "preparer",
                    optional=True,
                    tooltip="From Load Preparer, for worn photos; else the built-in one.",
                ),
            ],
            outputs=[
                io.Image.Output("garment", tooltip="The garment on white."),
                io.Mask.Output("mask", tooltip="1 = garment, of the result."),
                io.Image.Output("palette", tooltip="Its colours as stripes, by their shares."),
                io.String.Output("colours", tooltip="Its colours as hex with shares, a line each."),
                io.String.Output("note", tooltip="How each was found and turned, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        image: torch.Tensor,
        photo: str,
        region: str,
        straighten: bool,
        width: int,
        height: int,
        mask: torch.Tensor | None = None,
        preparer: ManagedPreparer | None = None,
    ) -> io.NodeOutput:
        planes, core = _planes(mask), preparer_of(preparer)
        step, found = progress(), list[CutOut]()
        total = _items("Cut out garment", image, masks=planes)
        worn = region if photo == _WORN else None
        for item in range(total):
            cut = core.garment(pick(image, item), _own(planes, item), worn, garment_mask)
            found.append(_framed(cut, width, height, straighten))
            step(item + 1, total)
        colours = [palette(cut.image, cut.mask) for cut in found]
        return io.NodeOutput(
            torch.stack([cut.image for cut in found]),
            torch.stack([cut.mask for cut in found]),
            torch.stack([draw_palette(some, 96, 480) for some in colours]),
            "\n".join(_say_colours(some) for some in colours),
            "\n".join(_say_cut(cut) for cut in found),
        )


def _request(
    options: dict[str, Any], add: torch.Tensor | None, subtract: torch.Tensor | None
) -> MaskRequest:
    from ..unifashion_core.prepare.preparer import MaskRequest

    left, top, right, bottom = (options.get(f"offset_{side}", 0.0) for side in _SIDES)
    protect = tuple(p.strip() for p in options["protect"].split(",") if p.strip())
    plain = {name: options[name] for name in ("region", "sleeve", "hem", "dilation")}
    return MaskRequest(
        **plain, offset=(left, top, right, bottom), protect=protect, add=add, subtract=subtract
    )


def _with_segmenter(folder: Path, labels: str | None) -> ManagedPreparer:
    base = built_in()
    segmenter = load_segmenter(folder, offload_device(), model_dtype(_PARAMETERS), labels)
    patcher = manage(segmenter.model, name="UniFashionSegmenter")
    digest = hashlib.sha256(f"{labels}".encode())
    for path in sorted(folder.glob("*")):
        if path.suffix in (".json", ".safetensors"):
            digest.update(path.name.encode() + path.read_bytes())
    patchers = (*base.patchers, patcher)
    return ManagedPreparer(base.networks, segmenter, patchers, digest.hexdigest())


def _items(where: str, images: torch.Tensor, **others: torch.Tensor | None) -> int:
    """Items of a batch; each connected picture and mask brings as many, or one for all."""
    given = {name: len(value) for name, value in others.items() if value is not None}
    return batch_size(where, {"images": len(images)} | given)


def _own(value: torch.Tensor | None, item: int) -> torch.Tensor | None:
    return None if value is None else pick(value, item)


def _planes(masks: torch.Tensor | None) -> torch.Tensor | None:
    return None if masks is None else as_masks(masks)


def _frame_of(keypoints: Any, item: int) -> Any:
    """The photo's own frame of a batch's keypoints."""
    if isinstance(keypoints, list) and len(keypoints) > 1:
        return keypoints[item]
    return keypoints


def _framed(cut: CutOut, width: int, height: int, straighten: bool) -> CutOut:
    if width == height == _KEEP:
        return cut
    if _KEEP in (width, height):
        raise InputError("Cut out garment: one side is 0. Set both to 0, or none.")
    return frame_garment(cut, (height, width), deskew=straighten)


def _say_cut(cut: CutOut) -> str:
    turned = f"turned by {cut.angle:+.1f} degrees" if cut.angle else "upright"
    return "; ".join([cut.source, turned, *cut.notes])


def _say_colours(colours: tuple[PaletteColour, ...]) -> str:
    return ", ".join(f"{colour.hex} {colour.share:.0%}" for colour in colours)
