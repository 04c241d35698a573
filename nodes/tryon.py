"""Try on: load a model, say what is wanted, and sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..unifashion_core.attention import ATTENTION_NAMES, choose_attention
from ..unifashion_core.errors import InputError
from ..unifashion_core.pocket import pocket_tryon
from ..unifashion_core.tryon.adapter import query_outputs
from ..unifashion_core.tryon.fingerprint import tryon_fingerprint
from ..unifashion_core.types import Embedding as EmbeddingValue
from ..unifashion_core.weights import licence_of
from ._comfy import (
    attention_function,
    device,
    find_model,
    intermediate_device,
    io,
    list_models,
    manage,
    model_dtype,
    offload_device,
)
from ._convert import SHIPS
from ._tryon import (
    PAIRS,
    PRODUCT,
    TryOnItems,
    combined,
    frame_inputs,
    frame_size,
    joined_notes,
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
from ._types import Condition, Embedding, ManagedPreparer, ManagedTryOn, Preparer, TryOn

if TYPE_CHECKING:
    from ..unifashion_core.rendering.item import PreparedPerson, Rendered
    from ..unifashion_core.tryon.checkpoint import TryOnModel
    from ..unifashion_core.tryon.config import TryOnConfig

KIND = "unifashion_tryon"
POCKET = "pocket (ships with the pack)"
_AUTO = "auto"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_PARAMETERS = 1_700_000_000  # of the paper's model: what the host decides the dtype for
_OWN_SIZE = 0


class LoadTryOn(io.ComfyNode):
    """The diffusion model: the pocket one, or a checkpoint of the models folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_LoadTryOn",
            display_name="Load Try-On Model",
            category="UniFashion/try-on",
            description="Loads what puts a garment on a person. The pocket model ships with the "
            "pack: it is small, paints 128x128 pixels and knows drawn mannequins. For photos, "
            "UniFashion and StableVITON checkpoints are read from models/unifashion_tryon.",
            search_aliases=["stableviton", "virtual try-on", "vton", "model loader"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[POCKET, *list_models(KIND)],
                    default=POCKET,
                    tooltip="A file or folder below models/unifashion_tryon. What it is, is told "
                    "by its content, not by its name.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=[_AUTO, *_DTYPES],
                    default=_AUTO,
                    tooltip="Type that the model computes in. auto = as ComfyUI decides for this "
                    "card. float32 is exact and needs twice the memory of the others.",
                ),
                io.Combo.Input(
                    "attention",
                    options=list(ATTENTION_NAMES),
                    default="auto",
                    tooltip="auto = ComfyUI's own setting. host, xformers, sdpa: exactly that "
                    "one, or an error where it can't run. math: slow, for comparing.",
                ),
                io.Int.Input(
                    "heads",
                    default=0,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip="Attention heads of a .ckpt of unusual width, which its file can't "
                    "tell. 0 = known from the file; leave it there for all published ones.",
                ),
            ],
            outputs=[
                TryOn.Output("model", tooltip="For the other nodes of UniFashion/try-on."),
                io.String.Output(
                    "info", tooltip="What was loaded, its size, its labels and its licence."
                ),
            ],
        )

    @classmethod
    def execute(cls, *, model: str, dtype: str, attention: str, heads: int = 0) -> io.NodeOutput:
        from ..unifashion_core.tryon.checkpoint import load_tryon

        path = pocket_tryon() if model == POCKET else find_model(KIND, model)
        kind = model_dtype(_PARAMETERS) if dtype == _AUTO else _DTYPES[dtype]
        backend = choose_attention(attention, device(), kind, attention_function())
        found = load_tryon(
            path, attention=backend, device=offload_device(), dtype=kind, heads=heads or None
        )
        patchers = {
            name: manage(module, name=f"UniFashionTryOn_{name}")
            for name, module in found.modules.items()
        }
        managed = ManagedTryOn(found, model, tryon_fingerprint(found), patchers)
        licence = SHIPS if model == POCKET else licence_of(path)
        return io.NodeOutput(managed, f"{_say_model(managed)}\n{licence}")


class TryOnCondition(io.ComfyNode):
    """What a try-on is led by."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_TryOnCondition",
            display_name="Try-On Condition",
            category="UniFashion/try-on",
            description="Brings together who wears it (a photo), what is worn (a garment, or a "
            "sketch of one), and words for it. Mask and pose are made here where none is "
            "connected; each person and each garment is prepared once, however often it is used.",
            search_aliases=["virtual try-on", "vton", "wear", "dress"],
            inputs=[
                TryOn.Input("model", tooltip="From Load Try-On Model."),
                io.Image.Input(
                    "person", tooltip="Photos of persons, of any size, from the head to the hips."
                ),
                region_input(),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What the garment is, such as its caption: a red dress with dots. "
                    "Empty = the garment's picture alone leads.",
                ),
                strength_input("hint_strength", "garment or sketch"),
                strength_input("context_strength", "text and embedding"),
                io.Combo.Input(
                    "combine",
                    options=[PAIRS, PRODUCT],
                    default=PAIRS,
                    tooltip="in pairs: the first person wears the first garment, and so on; one "
                    "of either serves all of the other. each with each: every person wears every "
                    "garment, the garment changing fastest.",
                ),
                io.Image.Input(
                    "garment",
                    optional=True,
                    tooltip="Garments to put on, best flat on a plain ground; they are cut out.",
                ),
                io.Image.Input(
                    "sketch",
                    optional=True,
                    tooltip="Drawings to follow, instead of garments: dark lines on light, or the "
                    "other way round. Colours come from the text.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="What is painted anew on each photo, from Agnostic Mask or drawn. "
                    "Else it is made from the region.",
                ),
                io.Image.Input(
                    "pose",
                    optional=True,
                    tooltip="Pose map of each photo, from Pose Map. Needed by models that read "
                    "densepose maps; else it is drawn here.",
                ),
                Embedding.Input(
                    "embedding",
                    optional=True,
                    tooltip="From an Encode or Compose node, for models with an adapter: the "
                    "garment as the encoder understands it.",
                ),
                Preparer.Input(
                    "preparer", optional=True, tooltip="From Load Preparer; else the built-in one."
                ),
                *frame_inputs(),
            ],
            outputs=[
                Condition.Output("condition", tooltip="For Sample Try-On."),
                io.Image.Output(
                    "seen", tooltip="What the model sees of each photo, without the old garment."
                ),
                io.String.Output("note", tooltip="How each was prepared, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        model: ManagedTryOn,
        person: torch.Tensor,
        region: str,
        text: str,
        hint_strength: float,
        context_strength: float,
        combine: str,
        garment: torch.Tensor | None = None,
        sketch: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        pose: torch.Tensor | None = None,
        embedding: EmbeddingValue | None = None,
        preparer: ManagedPreparer | None = None,
        width: int = _OWN_SIZE,
        height: int = _OWN_SIZE,
    ) -> io.NodeOutput:
        from ..unifashion_core.rendering.item import TryOnItem

        _check_wanted(garment, sketch, text, embedding)
        tools, size = tools_of(model, preparer), frame_size(width, height)
        people = prepare_people(tools, person, region, mask, pose, size)
        hints = prepare_hints(tools, garment, sketch, size)
        context = [None] if embedding is None else list(query_outputs(embedding))
        items = [
            TryOnItem(one, hint, text, 0, outputs, hint_strength, context_strength)
            for one, hint, outputs in combined(people, hints, context, combine)
        ]
        notes = [
            joined_notes([*i.person.notes, *(i.garment.notes if i.garment else ())]) for i in items
        ]
        return io.NodeOutput(
            TryOnItems(tuple(items), model.fingerprint),
            torch.stack([_seen(one) for one in people]),
            "\n".join(notes),
        )


class SampleTryOn(io.ComfyNode):
    """The pictures themselves."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UniFashion_SampleTryOn",
            display_name="Sample Try-On",
            category="UniFashion/try-on",
            description="Paints the garments onto the persons, and puts each result back into its "
            "photo at full size: outside the mask every pixel stays as it was.",
            search_aliases=["virtual try-on", "vton", "ksampler", "generate"],
            inputs=[
                TryOn.Input("model", tooltip="The model that the condition was made for."),
                Condition.Input("condition", tooltip="From Try-On Condition."),
                *sampler_inputs(),
                io.Int.Input(
                    "variations",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Pictures of each item; each has the next seed.",
                ),
                *more_sampler_inputs(),
                *paste_inputs(),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The photos with the results in them."),
                io.Image.Output("crops", tooltip="What the model made, in its own frame."),
                io.Latent.Output(
                    "latent",
                    tooltip="The crops as latents. Core's VAE Decode reads them where the model "
                    "has Stable Diffusion's four channels.",
                ),
                io.String.Output("note", tooltip="What to know of each picture, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        model: ManagedTryOn,
        condition: TryOnItems,
        seed: int,
        variations: int,
        **options: Any,
    ) -> io.NodeOutput:
        if condition.fingerprint != model.fingerprint:
            raise InputError(
                f"Sample try-on: the condition was made for another model than {model.name}. "
                "Connect both nodes to the same Load Try-On Model."
            )
        items = seeded(condition.items, seed, variations)
        made = render(tools_of(model, None), items, settings_of(options))
        return io.NodeOutput(
            *stacked(made.results),
            {"samples": _latents(model.model, made.results)},
            report_of(made),
        )


def _check_wanted(
    garment: torch.Tensor | None,
    sketch: torch.Tensor | None,
    text: str,
    embedding: EmbeddingValue | None,
) -> None:
    if garment is not None and sketch is not None:
        raise InputError(
            "Try-on condition: a garment and a sketch, and only one can lead. Disconnect one."
        )
    if garment is None and sketch is None and not text.strip() and embedding is None:
        raise InputError(
            "Try-on condition: nothing to put on. Connect a garment or a sketch, or write a text."
        )


def _latents(model: TryOnModel, results: Sequence[Rendered]) -> torch.Tensor:
    """Unscaled, (B, z, h, w); zeros where nothing was painted."""
    config = model.config.autoencoder
    height, width = (side // config.factor for side in results[0].crop.shape[:2])
    nothing = torch.zeros(config.latent_channels, height, width)
    found = [nothing if result.latents is None else result.latents for result in results]
    return torch.stack(found).to(intermediate_device())


def _seen(person: PreparedPerson) -> torch.Tensor:
    kept = 1.0 - person.crop_mask[..., None]
    return person.crop * kept + 0.5 * (1.0 - kept)


def _say_guidance(config: TryOnConfig) -> str:
    if config.garment_guidance == 1.0:
        return ""
    share = f" for {config.garment_guidance_until:.0%} of the steps"
    return f", guidance by the garment {config.garment_guidance:g}{share}"


def _say_model(managed: ManagedTryOn) -> str:
    model: TryOnModel = managed.model
    config = model.config
    count = sum(p.numel() for module in model.modules.values() for p in module.parameters())
    context = "text" if config.context == "text" else "the garment's picture"
    dtype = str(next(model.unet.parameters()).dtype).removeprefix("torch.")
    return (
        f"{managed.name}: {count / 1e6:.0f} million weights, {dtype}; pictures of "
        f"{config.size[1]}x{config.size[0]}, pose maps: {config.pose_map}, context: {context}, "
        f"predicts {config.unet.prediction_type}{', distilled' if config.distilled else ''}"
        f"{_say_guidance(config)}; fingerprint {managed.fingerprint[:8]}"
    )
