"""The Q-Former captioner: an encoder's own LM head over its query cache, with no weights of its
own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ..errors import AbilityError
from ..types import (
    COLOURS,
    CaptionDecoder,
    GarmentAttributes,
    GarmentMasker,
    ImageFeatures,
    OnStep,
)
from .attributes import AttributeReader, attribute_reader
from .batches import in_batches
from .decoding import Alphabet, ContentWords, DecodingSettings, Evidence, decode
from .vocabulary import AttributeVocabulary

BATCH_SIZE = 16

_LEAST_SHARE = 0.01  # of a colour: a garment's pixels exclude no word altogether

_HYPHEN = re.compile(r"(?<=\w) ([-'/]) (?=\w)")
_COMMA = re.compile(r" (?=[,?])")


@dataclass
class _Last:
    """The pictures that were read last, and what was found: a caption and the attributes of one
    picture take one pass of the tower and one cut-out.
    """

    images: tuple[Image.Image, ...] = ()
    features: ImageFeatures | None = None
    shares: npt.NDArray[Any] | None = None

    def about(self, images: Sequence[Image.Image]) -> _Last:
        """Itself if it is about these very objects, else emptied for them."""
        if len(images) != len(self.images) or any(
            a is not b for a, b in zip(images, self.images, strict=True)
        ):
            self.images, self.features, self.shares = tuple(images), None, None
        return self


@dataclass(frozen=True)
class QFormerCaptioner:
    """Satisfies `Captioner`.

    Attributes:
        encoder: With an LM head.
        settings: How captions are searched for; see `qformer_captioner`.
        reader: Reads the attributes.
        batch_size: Images that are decoded together.
    """

    encoder: CaptionDecoder
    settings: DecodingSettings
    reader: AttributeReader
    batch_size: int = BATCH_SIZE
    _last: _Last = field(default_factory=_Last, init=False, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def abilities(self) -> frozenset[str]:
        return frozenset({"caption", "attributes"})

    @property
    def input_size(self) -> int:
        """Shorter side in pixels below which a photo should not be decoded."""
        return self.encoder.input_size

    @property
    def fingerprint(self) -> str:
        """Of the encoder and of all that shapes captions and attributes."""
        parts: list[Any] = ["qformer", self.encoder.fingerprint, asdict(self.settings)]
        parts.append(self.reader.fingerprint)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def caption(
        self, images: Sequence[Image.Image], *, on_step: OnStep | None = None, seed: int = 0
    ) -> tuple[str, ...]:
        """One caption an image; see `Captioner`."""
        done = 0

        def run(part: Sequence[Image.Image]) -> list[str]:
            nonlocal done
            step = _within(on_step, done, len(part), len(images))
            found = self._caption(part, step, seed)
            done += len(part)
            return found

        captions = in_batches(images, self.batch_size, run, f"caption with {self.name!r}")
        if on_step is not None:
            on_step(len(images), len(images))
        return tuple(captions)

    def describe(
        self,
        images: Sequence[Image.Image],
        *,
        masks: Sequence[npt.NDArray[Any] | None] | None = None,
        on_step: OnStep | None = None,
    ) -> tuple[GarmentAttributes, ...]:
        """Attributes of each image; see `Captioner`."""
        given = [None] * len(images) if masks is None else list(masks)
        done = 0

        def run(
            part: Sequence[tuple[Image.Image, npt.NDArray[Any] | None]],
        ) -> tuple[GarmentAttributes, ...]:
            nonlocal done
            pictures, garments = [i for i, _ in part], [m for _, m in part]
            features = self.features(pictures)
            shares = self._shares(pictures) if all(m is None for m in garments) else None
            found = self.reader.read(features, pictures, garments, shares=shares)
            done += len(part)
            if on_step is not None:
                on_step(done, len(images))
            return found

        pairs = list(zip(images, given, strict=True))
        where = f"attributes with {self.name!r}"
        return tuple(in_batches(pairs, self.batch_size, run, where))

    def caption_vision(
        self,
        vision: Tensor,
        shares: npt.NDArray[Any] | None = None,
        *,
        on_step: OnStep | None = None,
        seed: int = 0,
    ) -> list[str]:
        """Captions of what the encoder's tower made of images, (B, P, W), as one batch.

        Args:
            vision: Tower tokens.
            shares: Measured shares of the colours, (B, 13); what `colour_weight` weighs.
            on_step: As in `decode`.
            seed: As in `decode`.
        """
        tokenizer, weight = self.encoder.tokenizer, self.settings.colour_weight
        evidence = None if shares is None or weight == 0 else self._evidence(shares, weight)
        rows = decode(
            self.encoder.begin_caption(vision),
            len(vision),
            alphabet_of(self.encoder),
            self.settings,
            evidence=evidence,
            seed=seed,
            on_step=on_step,
        )
        return [tidy(tokenizer.decode(row)) for row in rows]

    def _caption(
        self, images: Sequence[Image.Image], on_step: OnStep | None, seed: int
    ) -> list[str]:
        vision = self.features(images).vision
        assert vision is not None  # an encoder with an LM head reads tower tokens
        shares = self._shares(images) if self.settings.colour_weight else None
        return self.caption_vision(vision, shares, on_step=on_step, seed=seed)

    def _evidence(self, shares: npt.NDArray[Any], weight: float) -> Evidence:
        """The measured colours as support for the words that name them."""
        words = self.encoder.tokenizer.vocabulary
        known = [i for i, colour in enumerate(COLOURS) if colour in words]
        support = torch.tensor(shares[:, known].tolist()).clamp_min(_LEAST_SHARE).log() * weight
        return Evidence(tuple(words[COLOURS[i]] for i in known), support)

    def features(self, images: Sequence[Image.Image]) -> ImageFeatures:
        """What the encoder makes of a batch; kept until other pictures come."""
        last = self._last.about(images)
        if last.features is None:
            pixels = torch.stack([self.encoder.preprocess(image) for image in images])
            last.features = self.encoder.encode_pixels(pixels)
        return last.features

    def _shares(self, images: Sequence[Image.Image]) -> npt.NDArray[Any]:
        last = self._last.about(images)
        if last.shares is None:
            last.shares = self.reader.colour_shares(images, None)
        return last.shares


def qformer_captioner(
    encoder: CaptionDecoder,
    *,
    settings: DecodingSettings | None = None,
    vocabulary: AttributeVocabulary | None = None,
    masker: GarmentMasker | None = None,
    batch_size: int = BATCH_SIZE,
) -> QFormerCaptioner:
    """Make the captioner of an encoder.

    Args:
        encoder: With an LM head.
        settings: None takes those of the encoder's card, which are BLIP-2's where it has none.
        vocabulary: What attributes are asked; None takes ours.
        masker: Finds garments; None takes the cut-out of two colour models.
        batch_size: Images that are decoded together.

    Raises:
        AbilityError: If the encoder has no LM head.
        InputError: If its card names a setting that there is none of.
    """
    if "lm" not in encoder.abilities:
        raise AbilityError(
            f"captioner: encoder {encoder.name!r} has no LM head (group Qformer.cls). Load a "
            "checkpoint that has it, such as a phase-1 checkpoint, or another captioner."
        )
    chosen = DecodingSettings.from_card(encoder.card) if settings is None else settings
    reader = attribute_reader(encoder, vocabulary=vocabulary, masker=masker)
    return QFormerCaptioner(encoder, chosen, reader, batch_size)


def alphabet_of(encoder: CaptionDecoder) -> Alphabet:
    """What the ids of an encoder's vocabulary mean in a caption."""
    t = encoder.tokenizer
    never = tuple(sorted({t.pad_id, t.unk_id, t.cls_id, t.bos_id} - {t.sep_id}))
    return Alphabet(t.bos_id, t.sep_id, never, ContentWords(t.vocabulary))


def tidy(caption: str) -> str:
    """A decoded caption as one writes it: "t - shirt" -> "t-shirt"."""
    return _COMMA.sub("", _HYPHEN.sub(r"\1", caption)).strip()


def _within(on_step: OnStep | None, done: int, size: int, total: int) -> OnStep | None:
    """Progress in images from the tokens of one batch."""
    if on_step is None:
        return None
    return lambda step, steps: on_step(done + size * step // steps, total)
