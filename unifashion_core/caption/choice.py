"""The captioner that a user chose: of an encoder or a folder, with other settings, with or without
another one's attributes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from ..attention import AttentionBackend
from ..errors import AbilityError
from ..types import CaptionDecoder, Captioner, FashionEncoder, GarmentAttributes, OnStep
from .decoding import DecodingSettings
from .llm import LlmCaptioner
from .loading import load_captioner, recognise_captioner
from .qformer import BATCH_SIZE, QFormerCaptioner, qformer_captioner
from .records import AttributeSource, merge_attributes
from .vlm import VlmCaptioner
from .vocabulary import AttributeVocabulary


@dataclass(frozen=True)
class CaptionerChoice:
    """What differs from how the weights were saved; None keeps that.

    Attributes:
        strategy: "greedy", "beam" or "nucleus".
        beams: Captions that a beam search follows.
        max_tokens: The longest caption.
        batch_size: Images at once.
        prompt: What a model that follows instructions is asked.
        attributes: Who says the attributes.
        vocabulary: What they can be.
    """

    strategy: str | None = None
    beams: int | None = None
    max_tokens: int | None = None
    batch_size: int | None = None
    prompt: str | None = None
    attributes: AttributeSource = "captioner"
    vocabulary: AttributeVocabulary | None = None

    def settings(self, saved: DecodingSettings) -> DecodingSettings:
        """The saved settings with these; a shorter end moves the earliest one along."""
        values = {name: getattr(self, name) for name in ("strategy", "beams", "max_tokens")}
        if self.max_tokens is not None:
            values["min_tokens"] = min(saved.min_tokens, self.max_tokens)
        return saved.changed(**{name: v for name, v in values.items() if v is not None})


@dataclass(frozen=True)
class CaptionerPlace:
    """Where and how a captioner's own networks compute."""

    attention: AttentionBackend
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32


def encoder_captioner(encoder: FashionEncoder, choice: CaptionerChoice) -> QFormerCaptioner:
    """The captioner that an encoder is by itself.

    Raises:
        AbilityError: If it has no LM head.
    """
    if "lm" not in encoder.abilities:
        raise AbilityError(
            f"captioner: encoder {encoder.name!r} has no LM head, so it can't write. Load a "
            "UniFashion or BLIP-2 checkpoint with one, the pocket encoder, or another captioner."
        )
    decoder = cast(CaptionDecoder, encoder)
    settings = choice.settings(DecodingSettings.from_card(decoder.card))
    return qformer_captioner(
        decoder,
        settings=settings,
        vocabulary=choice.vocabulary,
        batch_size=BATCH_SIZE if choice.batch_size is None else choice.batch_size,
    )


def needs_encoder(path: Path, choice: CaptionerChoice) -> bool:
    """Whether a captioner of a path works with an encoder: to read, or for the attributes."""
    return choice.attributes != "captioner" or recognise_captioner(path) in ("own", "paper")


def folder_captioner(
    path: Path, place: CaptionerPlace, choice: CaptionerChoice, encoder: FashionEncoder | None
) -> tuple[Captioner, LlmCaptioner | VlmCaptioner]:
    """A captioner with a language model.

    Args:
        path: Its folder or file.
        place: Of its networks.
        choice: What differs from how it was saved.
        encoder: Where `needs_encoder`.

    Returns:
        The captioner, and the part of it that has networks of its own.

    Raises:
        AbilityError, CheckpointError, FolderError, MissingPackageError: As `load_captioner`.
    """
    loaded = load_captioner(
        path,
        encoder_decoder=encoder,
        device=place.device,
        dtype=place.dtype,
        attention=place.attention,
        prompt=choice.prompt,
        batch_size=choice.batch_size,
    )
    own = loaded.changed(settings=choice.settings(loaded.settings))
    if choice.attributes == "captioner" or encoder is None:
        return own, own
    reads = CaptionerChoice(batch_size=choice.batch_size, vocabulary=choice.vocabulary)
    other = encoder_captioner(encoder, reads)
    return WithAttributes(own, other, choice.attributes == "both"), own


@dataclass(frozen=True)
class WithAttributes:
    """A captioner whose attributes another one says; satisfies `Captioner`.

    Attributes:
        writer: Writes the captions.
        describer: Says the attributes.
        both: Whether the writer's attributes come first, and the describer's fill the rest.
    """

    writer: Captioner
    describer: Captioner
    both: bool = False

    @property
    def name(self) -> str:
        return f"{self.writer.name}+{self.describer.name}"

    @property
    def fingerprint(self) -> str:
        """Of both."""
        parts = f"{self.writer.fingerprint} {self.describer.fingerprint} {self.both}"
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def abilities(self) -> frozenset[str]:
        return self.writer.abilities | self.describer.abilities

    def caption(
        self, images: Sequence[Image.Image], *, on_step: OnStep | None = None, seed: int = 0
    ) -> tuple[str, ...]:
        """One caption an image; see `Captioner`."""
        return self.writer.caption(images, on_step=on_step, seed=seed)

    def describe(
        self,
        images: Sequence[Image.Image],
        *,
        masks: Sequence[np.ndarray[Any, Any] | None] | None = None,
        on_step: OnStep | None = None,
    ) -> tuple[GarmentAttributes, ...]:
        """Attributes of each image; see `Captioner`."""
        known = self.describer.describe(images, masks=masks, on_step=on_step)
        if not self.both or "attributes" not in self.writer.abilities:
            return known
        said = self.writer.describe(images, masks=masks, on_step=on_step)
        return tuple(merge_attributes(*pair) for pair in zip(said, known, strict=True))
