"""Captioners, captions and attributes of pictures, and how a caption is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch

from ..unifashion_core.attention import ATTENTION_NAMES, choose_attention
from ..unifashion_core.caption.decoding import Strategy
from ..unifashion_core.caption.records import AttributeSource, merge_attributes
from ..unifashion_core.caption.vocabulary import load_vocabulary
from ..unifashion_core.errors import InputError
from ..unifashion_core.pocket import EFFICIENTNET_LITE0, ENCODER
from ..unifashion_core.types import GarmentAttributes
from ..unifashion_core.weights import licence_of
from ._caption import BATCH, captioner_input, chosen_style, seed_input, style_inputs
from ._comfy import (
    attention_function,
    device,
    find_model,
    io,
    list_models,
    manage,
    model_dtype,
    model_folders,
    offload_device,
)
from ._convert import SHIPS, pictures, progress
from ._types import Attributes, Captioner, Encoder, ManagedCaptioner, ManagedEncoder

if TYPE_CHECKING:
    from ..unifashion_core.caption.choice import CaptionerChoice

KIND = "unifashion_captioners"
OF_ENCODER = "of the encoder (pocket when none is connected)"
_AS_SAVED, _SHIPS = "as saved", "ships with the pack"
_PARAMETERS = 1_200_000_000  # as in the encoder's loader


def _vocabularies() -> list[str]:
    folders = [folder for folder in model_folders(KIND) if folder.is_dir()]
    return sorted({path.name for folder in folders for path in folder.glob("*.json")})


class LoadCaptioner(io.ComfyNode):
    """What writes captions: an encoder's own head, or a model of the captioners' folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_LoadCaptioner",
            display_name="Load Captioner",
            category="UniFashion",
            description="Loads what turns pictures into words. The pocket encoder captions by "
            "itself and ships with the pack. Language and vision-language models are read from "
            f"models/{KIND}.",
            search_aliases=["caption model", "blip", "llava", "florence", "vlm", "interrogator"],
            inputs=[
                io.Combo.Input(
                    "captioner",
                    options=[OF_ENCODER, *list_models(KIND)],
                    default=OF_ENCODER,
                    tooltip="The encoder's own captions (with none connected, the pocket "
                    f"encoder's), or a folder or file below models/{KIND}.",
                ),
                io.Combo.Input(
                    "attributes_from",
                    options=list(get_args(AttributeSource)),
                    default="captioner",
                    tooltip="Who says category, colours and so on. captioner: what writes the "
                    "captions, if it can. encoder: the encoder. both: the captioner first, the "
                    "encoder where that leaves something open.",
                ),
                io.Combo.Input(
                    "decoding",
                    options=[_AS_SAVED, *get_args(Strategy)],
                    default=_AS_SAVED,
                    tooltip="as saved: what the weights were measured with. greedy: the likeliest "
                    "word each time. beam: several captions at once, the likeliest wins. nucleus: "
                    "drawn, by the seed of the caption nodes.",
                ),
                io.Int.Input(
                    "beams",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Captions that a beam search follows at once: more is slower and takes "
                    "more memory. 0 = as saved.",
                ),
                io.Int.Input(
                    "max_tokens",
                    default=0,
                    min=0,
                    max=2048,
                    tooltip="How long a caption may get, in word pieces. 0 = as saved.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=8,
                    min=1,
                    max=256,
                    tooltip="Pictures that are captioned together. Lower it where memory runs out.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="What a model that follows instructions is asked. Empty = its own. "
                    "Not used by the encoder's captions.",
                ),
                io.Combo.Input(
                    "vocabulary",
                    options=[_SHIPS, *_vocabularies()],
                    default=_SHIPS,
                    tooltip="What attributes can be: the pack's words, or a .json file of yours in "
                    f"models/{KIND} that started as a copy of the pack's.",
                ),
                io.Combo.Input(
                    "attention",
                    options=list(ATTENTION_NAMES),
                    default="auto",
                    tooltip="auto = ComfyUI's own setting. host, xformers, sdpa: exactly that one, "
                    "or an error where it can't run. math: slow, for comparing. A connected "
                    "encoder keeps its own.",
                ),
                Encoder.Input(
                    "encoder",
                    optional=True,
                    tooltip="From Load Fashion Encoder: what reads the pictures. A language model "
                    "needs the encoder that it was trained with.",
                ),
            ],
            outputs=[
                Captioner.Output("captioner", tooltip="For the caption nodes."),
                io.String.Output(
                    "info", tooltip="What was loaded, what it can do, its fingerprint."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        captioner: str,
        attributes_from: AttributeSource,
        decoding: str,
        beams: int,
        max_tokens: int,
        batch_size: int,
        prompt: str,
        vocabulary: str,
        attention: str,
        encoder: ManagedEncoder | None = None,
    ) -> io.NodeOutput:
        from ..unifashion_core.caption.choice import CaptionerChoice, encoder_captioner

        choice = CaptionerChoice(
            None if decoding == _AS_SAVED else decoding,
            beams or None,
            max_tokens or None,
            batch_size,
            prompt.strip() or None,
            attributes_from,
            load_vocabulary(None if vocabulary == _SHIPS else find_model(KIND, vocabulary)),
        )
        if captioner == OF_ENCODER:
            reader = encoder or _pocket_encoder(attention)
            found = encoder_captioner(reader.encoder, choice)
            value = ManagedCaptioner(found, (reader.patcher,), reader.image_bytes)
        else:
            value = _from_folder(find_model(KIND, captioner), choice, attention, encoder)
        able = ", ".join(sorted(value.captioner.abilities))
        print_of = value.captioner.fingerprint[:8]
        licence = SHIPS if encoder is None else "licence: that of the connected encoder"
        if captioner != OF_ENCODER:
            licence = licence_of(find_model(KIND, captioner))
        return io.NodeOutput(value, f"{captioner}: can {able}; fingerprint {print_of}\n{licence}")


class CaptionImages(io.ComfyNode):
    """Pictures to words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_CaptionImages",
            display_name="Caption Images",
            category="UniFashion/caption",
            description="Says in words what each picture of a batch shows.",
            search_aliases=["describe", "blip", "image to text", "interrogate"],
            inputs=[
                captioner_input(),
                io.Image.Input(
                    "images", tooltip="One caption a picture. Transparent parts count as white."
                ),
                seed_input(),
            ],
            outputs=[
                io.String.Output(
                    "captions", is_output_list=True, tooltip="One caption a picture, in order."
                )
            ],
        )

    @classmethod
    def execute(
        cls, *, captioner: ManagedCaptioner, images: torch.Tensor, seed: int
    ) -> io.NodeOutput:
        found = pictures(images)
        ready = captioner.ready(min(BATCH, len(found)))
        return io.NodeOutput(list(ready.caption(found, on_step=progress(), seed=seed)))


class DescribeAttributes(io.ComfyNode):
    """Pictures to attributes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_DescribeAttributes",
            display_name="Describe Attributes",
            category="UniFashion/caption",
            description="Finds category, colours, pattern, material, sleeve, neckline, length, fit "
            "and details of the garment in each picture, each with how sure it is; what is not "
            "sure stays unknown.",
            search_aliases=["tag", "attributes", "colour", "classify"],
            inputs=[
                captioner_input(),
                io.Image.Input("images", tooltip="One garment a picture."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where the garment is, one mask for all or one a picture; "
                    "colours are measured there. Without it the garment is found by itself.",
                ),
            ],
            outputs=[
                Attributes.Output(
                    "attributes",
                    is_output_list=True,
                    tooltip="Of each picture, for Format Caption.",
                ),
                io.String.Output("json", is_output_list=True, tooltip="The same as JSON."),
                io.String.Output(
                    "category", is_output_list=True, tooltip="Kind of garment; empty if unknown."
                ),
                io.String.Output(
                    "colour", is_output_list=True, tooltip="Main colour; empty if unknown."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        captioner: ManagedCaptioner,
        images: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        found = pictures(images)
        ready = captioner.ready(min(BATCH, len(found)))
        known = list(ready.describe(found, masks=_masks(mask, len(found)), on_step=progress()))
        return io.NodeOutput(
            known,
            [json.dumps(one.to_dict(), ensure_ascii=False) for one in known],
            [one.category.value if one.category is not None else "" for one in known],
            [one.colours[0].name if one.colours else "" for one in known],
        )


class FormatCaption(io.ComfyNode):
    """A caption and attributes in a style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_FormatCaption",
            display_name="Format Caption",
            category="UniFashion/caption",
            description="Writes a caption in a style: a sentence, tags, a product title, a try-on "
            "prompt, or a LoRA caption with its trigger word.",
            search_aliases=["template", "prompt", "trigger word", "tags"],
            inputs=[
                io.String.Input(
                    "caption",
                    default="",
                    tooltip="From Caption Images, or your own words. May be empty when attributes "
                    "are connected.",
                ),
                *style_inputs(),
                Attributes.Input("attributes", optional=True, tooltip="From Describe Attributes."),
                Attributes.Input(
                    "more_attributes",
                    optional=True,
                    tooltip="Of another captioner; they fill what the first ones leave unknown.",
                ),
            ],
            outputs=[io.String.Output("text", tooltip="The caption as the style writes it.")],
        )

    @classmethod
    def execute(
        cls,
        *,
        caption: str,
        style: str,
        trigger: str,
        prefix: str,
        suffix: str,
        replacements: str,
        attributes: GarmentAttributes | None = None,
        more_attributes: GarmentAttributes | None = None,
    ) -> io.NodeOutput:
        chosen = chosen_style(style, trigger, prefix, suffix, replacements)
        known = attributes or more_attributes
        if attributes is not None and more_attributes is not None:
            known = merge_attributes(attributes, more_attributes)
        return io.NodeOutput(chosen.apply(caption, known))


def _pocket_encoder(attention: str) -> ManagedEncoder:
    """The encoder that ships, under the host's manager."""
    from ..unifashion_core.encoder.checkpoint import Placement, open_encoder
    from ..unifashion_core.encoder.memory import activation_bytes

    dtype = model_dtype(_PARAMETERS)
    backend = choose_attention(attention, device(), dtype, attention_function())
    place = Placement(backend, offload_device(), dtype)
    found = open_encoder(ENCODER, place, tower=EFFICIENTNET_LITE0).encoder
    patcher = manage(found.model, name="UniFashionEncoder")
    return ManagedEncoder(found, patcher, activation_bytes(found, 1))


def _from_folder(
    path: Path, choice: CaptionerChoice, attention: str, encoder: ManagedEncoder | None
) -> ManagedCaptioner:
    """A captioner with networks of its own, which go under the host's manager."""
    from ..unifashion_core.caption.choice import CaptionerPlace, folder_captioner, needs_encoder

    reader = encoder
    if reader is None and needs_encoder(path, choice):
        reader = _pocket_encoder(attention)
    dtype = model_dtype(_PARAMETERS)
    backend = choose_attention(attention, device(), dtype, attention_function())
    place = CaptionerPlace(backend, offload_device(), dtype)
    found, own = folder_captioner(path, place, choice, None if reader is None else reader.encoder)
    patchers = [manage(module, name=name) for name, module in own.modules.items()]
    size = own.activation_bytes(1)
    if reader is not None:
        patchers.append(reader.patcher)
        size = max(size, reader.image_bytes)
    return ManagedCaptioner(found, tuple(patchers), size)


def _masks(mask: torch.Tensor | None, count: int) -> list[np.ndarray | None] | None:
    """A MASK batch, (B, H, W) or (H, W), as one boolean mask a picture."""
    if mask is None:
        return None
    found = mask[None] if mask.ndim == 2 else mask
    if found.ndim != 3 or len(found) not in (1, count):
        raise InputError(
            f"mask: shape {tuple(mask.shape)} for {count} pictures, wanted (1, H, W) or "
            f"({count}, H, W). Connect one mask, or one a picture."
        )
    values = (found > 0.5).cpu().numpy()
    return [values[min(number, len(values) - 1)] for number in range(count)]
