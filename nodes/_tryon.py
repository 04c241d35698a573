"""What the try-on topics share: their common inputs, and from them to finished pictures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..unifashion_core.cutout import garment_mask
from ..unifashion_core.errors import InputError
from ..unifashion_core.imaging import to_pil
from ..unifashion_core.pocket import CLIP_MERGES
from ..unifashion_core.prepare.batch import as_masks, batch_size, pick
from ..unifashion_core.prepare.paste import MAX_FEATHER
from ..unifashion_core.prepare.regions import REGIONS
from ..unifashion_core.tryon.solvers import DEFAULT_SOLVER, DEFAULT_STEPS, SOLVERS
from ._comfy import (
    ProgressBar,
    intermediate_device,
    io,
    latent_previewer,
    throw_if_interrupted,
)
from ._encoder import pocket_encoder
from ._preparer import preparations, preparer_of
from ._types import ManagedEncoder, ManagedPreparer, ManagedTryOn

if TYPE_CHECKING:
    from ..unifashion_core.rendering.item import (
        PreparedGarment,
        PreparedPerson,
        Rendered,
        RenderedSet,
        RenderSettings,
        TryOnItem,
        TryOnTools,
    )
    from ..unifashion_core.rendering.scores import RunScorer
    from ..unifashion_core.tryon.checkpoint import TryOnModel

PAIRS, PRODUCT = "in pairs", "each with each"
_NOISE, _PHOTO = "noise", "photo"
_OWN_SIZE = 0
_PREVIEW_SIDE = 512
_SMALL = 30_000_000  # parameters of an autoencoder that may decode every preview
_SEED = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class TryOnItems:
    """What travels as UNIFASHION_CONDITION.

    Attributes:
        items: One a picture; their seeds come with the sampler.
        fingerprint: Of the model that they were prepared for.
    """

    items: tuple[TryOnItem, ...]
    fingerprint: str


def region_input() -> io.Combo.Input:
    """The widget for what is painted anew."""
    return io.Combo.Input(
        "region",
        options=[*REGIONS, "upper,lower"],
        default="upper",
        tooltip="What is painted anew: upper, lower, dress, or full = everything worn. With a "
        "mask connected it only says what that mask should touch.",
    )


def strength_input(name: str, of: str, *, optional: bool = False) -> io.Float.Input:
    """The widget for how much something counts."""
    return io.Float.Input(
        name,
        default=1.0,
        min=0.0,
        max=2.0,
        step=0.05,
        optional=optional,
        tooltip=f"How much the {of} counts: 0 = not at all, 1 = as trained, 2 = overdone.",
    )


def frame_inputs() -> list[Any]:
    """The widgets for the model's frame."""
    side: dict[str, Any] = {"default": _OWN_SIZE, "min": 0, "max": 2048, "step": 64}
    return [
        io.Int.Input(
            "width",
            optional=True,
            tooltip="Width of the model's frame in pixels, a multiple of 64; 0 = what it was "
            "trained on, which is best.",
            **side,
        ),
        io.Int.Input("height", optional=True, tooltip="Height likewise.", **side),
    ]


def sampler_inputs(guidance: float = 1.0) -> list[Any]:
    """The widgets that every sampling node begins with; `guidance` is its default."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=_SEED,
            control_after_generate=True,
            tooltip="Of the noise: the same seed gives the same picture. Picture n of a batch has "
            "seed + n, and is what it would be alone with that seed.",
        ),
        io.Int.Input(
            "steps",
            default=DEFAULT_STEPS,
            min=1,
            max=1000,
            tooltip="Steps of the solver. dpm++2m and unipc need 6 to 12; plms, the paper's, 50.",
        ),
        io.Combo.Input(
            "solver",
            options=list(SOLVERS),
            default=DEFAULT_SOLVER,
            tooltip="dpm++2m, unipc: good in few steps. plms: as the paper's code. ddim: simple. "
            "lcm: only for models that were distilled for it.",
        ),
        io.Float.Input(
            "guidance",
            default=guidance,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip="How strongly the text leads. 1 = as trained, and costs nothing; more takes "
            "twice the time. 1 is right for try-on, 2 to 5 for designs by text.",
        ),
    ]


def more_sampler_inputs() -> list[Any]:
    """Its further, optional ones."""
    return [
        io.Float.Input(
            "guidance_until",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip="Share of the steps that have guidance; the last ones change little, so 0.7 "
            "saves time.",
        ),
        io.Combo.Input(
            "start",
            options=[_NOISE, _PHOTO],
            default=_NOISE,
            optional=True,
            tooltip="noise: from nothing. photo: from the photo in much noise, as the paper's "
            "code does.",
        ),
        io.Int.Input(
            "batch",
            default=8,
            min=1,
            max=64,
            optional=True,
            tooltip="Pictures painted at once, at most; fewer where memory is short. More is "
            "faster and changes no picture.",
        ),
    ]


def paste_inputs() -> list[Any]:
    """The widgets for how results go back."""
    return [
        io.Boolean.Input(
            "paste_back",
            default=True,
            optional=True,
            tooltip="On: results go back into their photos at full size. Off: images are the "
            "crops.",
        ),
        io.Int.Input(
            "feather",
            default=8,
            min=0,
            max=MAX_FEATHER,
            optional=True,
            tooltip="Width of the seam in pixels of the photo; it lies inside the mask. 0 = a "
            "hard edge.",
        ),
        io.Boolean.Input(
            "match_colour",
            default=False,
            optional=True,
            tooltip="Bring a result's colours to the photo's, by what both show just outside the "
            "mask.",
        ),
    ]


def tools_of(model: ManagedTryOn, preparer: ManagedPreparer | None) -> TryOnTools:
    """What the core's chain works with, over the host's models."""
    from ..unifashion_core.rendering.item import TryOnTools

    return TryOnTools(
        model.model,
        model.fingerprint,
        preparer_of(preparer),
        preparations(),
        CLIP_MERGES,
        model.load,
        garment_mask,
    )


def settings_of(options: dict[str, Any]) -> RenderSettings:
    """The widgets of `sampler_inputs`, `more_sampler_inputs` and `paste_inputs` as a value."""
    from ..unifashion_core.rendering.item import RenderSettings, SamplerSettings

    sampler = SamplerSettings(
        options["solver"],
        options["steps"],
        guidance=options["guidance"],
        guidance_until=options.get("guidance_until", 1.0),
        start="reference" if options.get("start") == _PHOTO else "noise",
    )
    return RenderSettings(
        sampler,
        batch=options.get("batch", 8),
        paste=options.get("paste_back", True),
        feather=options.get("feather", 8),
        match_colour=options.get("match_colour", False),
    )


def frame_size(width: int, height: int) -> tuple[int, int] | None:
    """Height and width of the frame; None: the model's own."""
    if width == height == _OWN_SIZE:
        return None
    if _OWN_SIZE in (width, height):
        raise InputError("Try on: one side of the frame is 0. Set both to 0, or none.")
    return height, width


def prepare_people(
    tools: TryOnTools,
    photos: torch.Tensor,
    region: str,
    mask: torch.Tensor | None,
    pose: torch.Tensor | None,
    size: tuple[int, int] | None,
) -> list[PreparedPerson]:
    """Each photo with its own mask and pose, or one for all."""
    from ..unifashion_core.rendering.item import prepare_person

    planes = None if mask is None else as_masks(mask).cpu()
    given = {"masks": planes, "poses": pose}
    counts = {name: len(value) for name, value in given.items() if value is not None}
    total = batch_size("Try on", {"persons": len(photos), **counts})
    found: list[PreparedPerson] = []
    for n in range(total):
        throw_if_interrupted()
        found.append(
            prepare_person(
                tools,
                pick(photos, n).cpu(),
                region,
                mask=None if planes is None else pick(planes, n),
                pose=None if pose is None else pick(pose, n).cpu(),
                size=size,
            )
        )
    return found


def prepare_hints(
    tools: TryOnTools,
    garment: torch.Tensor | None,
    sketch: torch.Tensor | None,
    size: tuple[int, int] | None,
) -> list[PreparedGarment | None]:
    """Garments or sketches; one None where there is neither."""
    from ..unifashion_core.rendering.item import prepare_garment

    pictures, kind = (garment, "garment") if sketch is None else (sketch, "sketch")
    if pictures is None:
        return [None]
    return [prepare_garment(tools, picture.cpu(), kind, size=size) for picture in pictures]


def combined(
    people: Sequence[PreparedPerson],
    hints: Sequence[PreparedGarment | None],
    context: Sequence[torch.Tensor | None],
    combine: str,
) -> list[tuple[PreparedPerson, PreparedGarment | None, torch.Tensor | None]]:
    """Who wears what; an embedding goes with its garment."""
    worn = batch_size("Try on", {"garments": len(hints), "embeddings": len(context)})
    things = [(hints[n % len(hints)], context[n % len(context)]) for n in range(worn)]
    if combine == PRODUCT:
        return [(person, *thing) for person in people for thing in things]
    total = batch_size("Try on", {"persons": len(people), "garments": len(things)})
    return [(people[n % len(people)], *things[n % len(things)]) for n in range(total)]


def seeded(items: Sequence[TryOnItem], seed: int, times: int) -> list[TryOnItem]:
    """Each item so many times, the seeds counted on over all."""
    each = [item for item in items for _ in range(times)]
    return [replace(item, seed=(seed + n) & _SEED) for n, item in enumerate(each)]


class Watch:
    """Progress with previews; stops within a step where the user interrupts."""

    def __init__(self, model: TryOnModel) -> None:
        self._model = model
        self._bar, self._at = ProgressBar(1), (0, 1)
        self._previewer = latent_previewer()
        self._preview: Any = None

    def look(self, done: int, total: int, latents: torch.Tensor) -> None:
        """Draw the first picture of a batch."""
        if latents.shape[1] == 4 and self._previewer is not None:
            self._preview = self._previewer(latents[:1])
        elif sum(p.numel() for p in self._model.autoencoder.parameters()) <= _SMALL:
            like = next(self._model.autoencoder.parameters())
            scale = self._model.config.autoencoder.scale_factor
            pixels = self._model.autoencoder.decode(latents[:1].to(like.device, like.dtype) / scale)
            picture = to_pil(((pixels[0].permute(1, 2, 0) + 1) / 2).float())
            self._preview = ("JPEG", picture, _PREVIEW_SIDE)

    def show(self, picture: Image.Image) -> None:
        """A finished picture in the place of the one that is being painted."""
        self._preview = ("JPEG", picture, _PREVIEW_SIDE)
        self._bar.update_absolute(*self._at, self._preview)

    def step(self, done: int, total: int) -> None:
        """Show how far it is."""
        throw_if_interrupted()
        self._at = (done, total)
        self._bar.update_absolute(done, total, self._preview)


def render(tools: TryOnTools, items: Sequence[TryOnItem], settings: RenderSettings) -> RenderedSet:
    """Paint items with progress, previews and cancel."""
    from ..unifashion_core.rendering.item import render_items

    watch = Watch(tools.model)
    return render_items(tools, items, settings, on_step=watch.step, on_preview=watch.look)


def scorer_of(given: ManagedEncoder | None) -> RunScorer:
    """Scores a run by what is connected, or by the encoder that ships once one is needed."""
    from ..unifashion_core.rendering.scores import RunScorer

    encoder = functools.cache(lambda: pocket_encoder() if given is None else given)
    return RunScorer(lambda: encoder().ready())


def stacked(results: Sequence[Rendered]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and crops as two batches."""
    where = intermediate_device()
    return (
        torch.stack([result.image for result in results]).to(where),
        torch.stack([result.crop for result in results]).to(where),
    )


def joined_notes(notes: Sequence[str]) -> str:
    """What the user should know of one picture."""
    return "; ".join(dict.fromkeys(notes)) or "as given"


def report_of(made: RenderedSet) -> str:
    """A line a picture, and how many were encoded."""
    lines = [f"seed {result.item.seed}: {joined_notes(result.notes)}" for result in made.results]
    read = f"persons and garments that the model read for it: {made.encodings}; it knew the others"
    return "\n".join([*lines, read])
