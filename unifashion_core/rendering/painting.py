"""From prepared persons and garments to latents and pictures: encoded once, sampled in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import AbilityError
from ..tryon.adapter import encode_query_outputs, join_context
from ..tryon.autoencoder import Posterior
from ..tryon.condition import (
    Condition,
    PersonLatents,
    encode_person,
    encode_picture,
    make_condition,
)
from ..tryon.condition_encoders import ClipText
from ..tryon.context import TextContext, encode_garment_context, encode_texts, free_context
from ..tryon.decoding import decode
from ..tryon.sampling import OnPreview, sample
from ..tryon.tokens import ClipTokenizer
from ..types import OnStep
from .memory import coding_bytes, context_bytes, encoding_bytes, sampling_bytes
from .settings import RenderSettings, TryOnItem
from .tools import TryOnTools

T = TypeVar("T")


@dataclass(frozen=True)
class Painted:
    """What the model made of one item.

    Attributes:
        crop: (h, w, 3) of its frame, 0..1, on the CPU.
        latents: Unscaled, (z, h, w), on the CPU.
        notes: What the user should know.
    """

    crop: Tensor
    latents: Tensor
    notes: tuple[str, ...] = ()


class Painter:
    """Paints items with one model and one way to sample; counts what it encoded.

    Args:
        tools: The model and its cache.
        settings: Of the sampler.
    """

    def __init__(self, tools: TryOnTools, settings: RenderSettings):
        self.tools, self.settings = tools, settings
        self.encodings = 0
        self.runs = 0
        self._tokenizer: ClipTokenizer | None = None

    def check(self, item: TryOnItem) -> None:
        """Refuse what the model can't do.

        Raises:
            AbilityError: If it lacks what reads the item's context.
        """
        if item.query_outputs is not None and self.tools.model.adapter is None:
            raise AbilityError(
                "Try on: this model has no adapter for an encoder's embedding. Leave the embedding "
                "out and give a text, or load a model with adapter weights."
            )
        if item.text.strip() and not isinstance(self.tools.model.context, ClipText):
            raise AbilityError(
                "Try on: this model (StableVITON) reads the garment's picture, not a text. Leave "
                "the text empty, or load a UniFashion model."
            )
        if item.garment is None and not isinstance(self.tools.model.context, ClipText):
            raise AbilityError(
                "Try on: this model (StableVITON) needs a garment. Connect one, or load a "
                "UniFashion model for designs by text."
            )

    def batches(self, items: Sequence[TryOnItem]) -> list[list[int]]:
        """Places of items that are painted together, in order of their first."""
        groups: dict[object, list[int]] = {}
        for place, item in enumerate(items):
            outputs = item.query_outputs
            kind = (item.person.fitted.size, None if outputs is None else len(outputs))
            groups.setdefault(kind, []).append(place)
        size = max(1, self.settings.batch)
        return [
            group[start : start + size]
            for group in groups.values()
            for start in range(0, len(group), size)
        ]

    def paint(
        self,
        items: Sequence[TryOnItem],
        on_step: OnStep | None = None,
        on_preview: OnPreview | None = None,
    ) -> list[Painted]:
        """Paint one batch.

        Args:
            items: Of one of `batches`.
            on_step: Progress over the steps; may raise to cancel.
            on_preview: Sees what the batch looks like so far.
        """
        model, config = self.tools.model, self.tools.model.config
        condition, notes = self._condition(items)
        size = items[0].person.fitted.size
        dtype = next(model.unet.parameters()).dtype
        count = len(items) * self.settings.sampler.predictions(config)
        room = sampling_bytes(config, count, size, dtype)
        # the autoencoder comes along: previews and the end need it
        self.tools.load(["unet", "garment", "autoencoder"], room)
        sampler = replace(self.settings.sampler, batch=0)
        seeds = [item.seed for item in items]
        latents = sample(model, condition, sampler, seeds, on_step, on_preview)
        self.tools.load(["autoencoder"], coding_bytes(config, len(items), size, dtype))
        pictures = decode(model, latents)
        self.runs += 1
        unscaled = latents / config.autoencoder.scale_factor
        return [Painted(*parts) for parts in zip(pictures, unscaled, notes, strict=True)]

    def _condition(self, items: Sequence[TryOnItem]) -> tuple[Condition, list[tuple[str, ...]]]:
        persons = [self._person(item) for item in items]
        hints = [self._hint(item) for item in items]
        found = [self._context(item) for item in items]
        condition = make_condition(
            persons,
            hints,
            torch.cat([tokens for tokens, _ in found]),
            self._free(items[0]),
            hint_strength=[item.hint_strength for item in items],
            context_strength=[item.context_strength for item in items],
        )
        return condition, [notes for _, notes in found]

    def _person(self, item: TryOnItem) -> PersonLatents:
        person = item.person
        whole = self.settings.sampler.start == "reference"

        def make() -> PersonLatents:
            self.encodings += 1
            self._load_coder(person.fitted.size)
            return encode_person(
                self.tools.model, person.crop, person.crop_mask, person.pose, whole=whole
            )

        return self._kept("try-on person latents", [person.key, whole], make)

    def _hint(self, item: TryOnItem) -> Posterior | None:
        garment = item.garment
        if garment is None:
            return None

        def make() -> Posterior:
            self.encodings += 1
            self._load_coder(item.person.fitted.size)
            return encode_picture(self.tools.model, garment.hint)

        return self._kept("try-on garment latents", [garment.key], make)

    def _context(self, item: TryOnItem) -> tuple[Tensor, tuple[str, ...]]:
        """Context tokens, (1, N, C), and what the user should know of the text."""
        model, garment = self.tools.model, item.garment
        if not self._reads_text():
            assert garment is not None  # `check` refuses it

            def see() -> Tensor:
                self._load_context("image")
                return encode_garment_context(model, garment.hint[None])

            return self._kept("try-on garment context", [garment.key], see), ()

        def read() -> TextContext:
            self._load_context("text")
            return encode_texts(model, self._tokens(), [item.text])

        found = self._kept("try-on text context", [item.text], read)
        return self._adapted(item, found.tokens), _text_notes(found)

    def _adapted(self, item: TryOnItem, tokens: Tensor) -> Tensor:
        """Text tokens, and the adapter's where there is an embedding."""
        outputs = item.query_outputs
        if outputs is None:
            return tokens

        def adapt() -> Tensor:
            self.tools.load(["adapter"], 0)
            return encode_query_outputs(self.tools.model, outputs[None])

        return join_context(tokens, self._kept("try-on embedding context", [outputs], adapt))

    def _free(self, item: TryOnItem) -> Tensor | None:
        """The context of nothing. A learned one is one token again and again: one stands for
        contexts of any length.
        """
        model = self.tools.model
        if item.query_outputs is not None:
            return None if model.free is None else model.free.float().cpu()

        def make() -> Tensor | None:
            self._load_context("text" if self._reads_text() else "image")
            return free_context(model, self._tokens() if self._reads_text() else None)

        return self._kept("try-on context of nothing", [], make)

    def _reads_text(self) -> bool:
        return isinstance(self.tools.model.context, ClipText)

    def _tokens(self) -> ClipTokenizer:
        if self._tokenizer is None:
            self._tokenizer = ClipTokenizer(self.tools.merges)
        return self._tokenizer

    def _load_coder(self, size: tuple[int, int]) -> None:
        model = self.tools.model
        dtype = next(model.autoencoder.parameters()).dtype
        self.tools.load(["autoencoder"], encoding_bytes(model.config, size, dtype))

    def _load_context(self, name: str) -> None:
        model = self.tools.model
        dtype = next(model.unet.parameters()).dtype
        self.tools.load([name], context_bytes(model.config, dtype))

    def _kept(self, name: str, inputs: Sequence[object], make: Callable[[], T]) -> T:
        dtype = str(next(self.tools.model.autoencoder.parameters()).dtype)
        return self.tools.cache.get_or_make(name, [self.tools.fingerprint, dtype, *inputs], make)


def _text_notes(found: TextContext) -> tuple[str, ...]:
    notes: list[str] = []
    for words in found.unknown_words:
        if words:
            notes.append(f"words that the model does not know were left out: {', '.join(words)}")
    if any(found.truncated):
        notes.append("the text was cut to what the model reads")
    return tuple(notes)
