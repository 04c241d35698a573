"""The one chain from person and garment to the pasted-back picture.

Persons and garments are prepared (`prepared.py`) and encoded once each, items are painted in
batches, and each result goes back into its photo at the photo's own resolution. Commands, nodes and
plans all call `render_items`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ..errors import InputError
from ..prepare.paste import paste_back
from ..tryon.sampling import OnPreview
from ..tryon.sampling import SamplerSettings as SamplerSettings
from ..types import OnStep
from .painting import Painted, Painter
from .prepared import EMPTY_MASK, PreparedGarment, prepare_person
from .prepared import PreparedPerson as PreparedPerson
from .prepared import prepare_garment as prepare_garment
from .settings import RenderSettings as RenderSettings
from .settings import TryOnItem as TryOnItem
from .tools import TryOnTools as TryOnTools


@dataclass(frozen=True)
class Rendered:
    """One finished picture.

    Attributes:
        item: What was asked for.
        image: The person's photo with the result in it, (H, W, C) of the photo, 0..1; outside the
            mask it is the photo, bit for bit. Without paste-back: `crop`.
        crop: What the model made, (h, w, 3) of its frame, 0..1.
        latents: Unscaled, (z, h, w); None where nothing was painted.
        notes: What the user should know: of the preparation, of words that are not known …
    """

    item: TryOnItem
    image: torch.Tensor
    crop: torch.Tensor
    latents: torch.Tensor | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RenderedSet:
    """What a call made.

    Attributes:
        results: One an item, in order.
        encodings: How many persons and garments were encoded, each once; those that the cache held
            are not counted.
        batches: How many times the sampler ran.
    """

    results: tuple[Rendered, ...]
    encodings: int = 0
    batches: int = 0


OnItem = Callable[[int, Rendered], None]
"""Called with an item's place and its result as soon as it is finished, batch by batch."""


def render_items(
    tools: TryOnTools,
    items: Sequence[TryOnItem],
    settings: RenderSettings,
    *,
    on_step: OnStep | None = None,
    on_preview: OnPreview | None = None,
    on_item: OnItem | None = None,
) -> RenderedSet:
    """Paint every item, those that can share a batch together, and put each back into its photo.

    An item equals itself rendered alone: its noise comes from its own seed. An item whose mask is
    empty is its person, bit for bit, and no network runs for it.

    Args:
        tools: The model and what prepares.
        items: At least one.
        settings: Of the sampler and of the paste-back.
        on_step: Progress over all steps of all batches; may raise to cancel.
        on_preview: Sees a batch's scaled latents after its steps; (done, total) are over all.
        on_item: Sees each result as soon as it is there.

    Raises:
        InputError: If there is no item, or the model can't do what is asked.
    """
    if not items:
        raise InputError("Try on: no item. Give a person and a garment, or a text.")
    done: dict[int, Rendered] = {}

    def finish(place: int, made: Rendered) -> None:
        done[place] = made
        if on_item is not None:
            on_item(place, made)

    painter = Painter(tools, settings)
    wanted: list[int] = []
    for place, item in enumerate(items):
        if item.person.empty:
            finish(place, _unchanged(item))
        else:
            painter.check(item)
            wanted.append(place)
    batches = painter.batches([items[place] for place in wanted])
    for number, batch in enumerate(batches):
        made = painter.paint(
            [items[wanted[at]] for at in batch],
            on_step=_part(on_step, number, len(batches)),
            on_preview=_part_preview(on_preview, number, len(batches)),
        )
        for at, painted in zip(batch, made, strict=True):
            item = items[wanted[at]]
            finish(wanted[at], _finished(item, painted, settings))
    results = tuple(done[place] for place in range(len(items)))
    return RenderedSet(results, painter.encodings, painter.runs)


@dataclass(frozen=True)
class Turn:
    """A garment of several that one person puts on, one after the other.

    Attributes:
        garment: Garment or sketch; None: by text alone.
        region: Where it is worn.
        text: What it is, in words.
        mask: (H, W) of the photo, instead of the region.
    """

    garment: PreparedGarment | None
    region: str = "upper"
    text: str = ""
    mask: torch.Tensor | None = None


def render_in_turn(
    tools: TryOnTools,
    photos: Sequence[torch.Tensor],
    turns: Sequence[Turn],
    settings: RenderSettings,
    seeds: Sequence[int],
    *,
    on_step: OnStep | None = None,
) -> RenderedSet:
    """Dress persons in several garments in turn, such as an upper and a lower one.

    Each turn starts from the picture that the one before made: outside all masks together it is
    still the photo, bit for bit.

    Args:
        tools: The model and what prepares.
        photos: One a person, (H, W, C), 0..1.
        turns: In the order that they are put on.
        settings: As in `render_items`.
        seeds: One a person.
        on_step: Progress over all turns.

    Returns:
        One result a person, with the notes of all turns.
    """
    if not turns or len(seeds) != len(photos):
        raise InputError(
            f"Try on: {len(turns)} garments in turn, {len(photos)} persons, {len(seeds)} seeds. "
            "Give at least one garment, and a seed a person."
        )
    current, notes = list(photos), [tuple[str, ...]() for _ in photos]
    made = RenderedSet(())
    for number, turn in enumerate(turns):
        items = [
            TryOnItem(
                prepare_person(tools, photo, turn.region, mask=turn.mask),
                turn.garment,
                turn.text,
                seed=seed,
            )
            for photo, seed in zip(current, seeds, strict=True)
        ]
        step = _part(on_step, number, len(turns))
        found = render_items(tools, items, replace(settings, paste=True), on_step=step)
        current = [result.image for result in found.results]
        notes = [
            (*before, *result.notes) for before, result in zip(notes, found.results, strict=True)
        ]
        made = RenderedSet(
            found.results, made.encodings + found.encodings, made.batches + found.batches
        )
    results = tuple(replace(r, notes=n) for r, n in zip(made.results, notes, strict=True))
    return replace(made, results=results)


def _unchanged(item: TryOnItem) -> Rendered:
    person = item.person
    notes = person.notes if EMPTY_MASK in person.notes else (*person.notes, EMPTY_MASK)
    return Rendered(item, person.photo.clone(), person.crop, None, notes)


def _finished(item: TryOnItem, painted: Painted, settings: RenderSettings) -> Rendered:
    person = item.person
    image = painted.crop
    if settings.paste:
        image = paste_back(
            painted.crop,
            person.fitted,
            person.photo,
            person.mask,
            settings.feather,
            settings.match_colour,
        )
    hint = () if item.garment is None else item.garment.notes
    notes = (*person.notes, *hint, *painted.notes)
    return Rendered(item, image, painted.crop, painted.latents, tuple(dict.fromkeys(notes)))


def _part(on_step: OnStep | None, number: int, count: int) -> OnStep | None:
    """Progress of one part of several that take about as long."""
    if on_step is None:
        return None
    return lambda done, total: on_step(number * total + done, count * total)


def _part_preview(on_preview: OnPreview | None, number: int, count: int) -> OnPreview | None:
    if on_preview is None:
        return None
    return lambda done, total, seen: on_preview(number * total + done, count * total, seen)
