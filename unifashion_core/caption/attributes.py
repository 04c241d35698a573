"""Attributes of garments by an encoder: texts of a vocabulary against the image, and colours from
the garment's pixels.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..cutout import garment_mask, middle
from ..errors import InputError
from ..types import (
    ATTRIBUTES,
    COLOURS,
    Attribute,
    CaptionDecoder,
    GarmentAttributes,
    GarmentMasker,
    ImageFeatures,
)
from .colours import ColourNamer, load_namer, named_shares, sample_pixels
from .vocabulary import AttributeVocabulary, Question, load_vocabulary

_log = logging.getLogger("unifashion.caption")

COLOUR_TEMPLATE = "a photo of {colour} {noun}"
_TINY = 1e-4

Mask = npt.NDArray[Any]

Values = tuple[list[str], Tensor]
"""Names of values, and a unit vector of each, (K, D)."""


@dataclass(frozen=True)
class Confidence:
    """How scores become a confidence, and from which on an answer is given.

    Attributes:
        scale: Of the encoder's scores before the softmax.
        threshold: Least confidence of an answer; above 1, none is given.
        pixels: Colours only: weight of the log shares that the pixels give.
    """

    scale: float = 20.0
    threshold: float = 0.7
    pixels: float = 0.0


DEFAULT_COLOURS = Confidence(0.0, 0.6, 1.0)


def read_calibration(card: Mapping[str, Any]) -> dict[str, Confidence]:
    """What `train calibrate` wrote under "attributes" of an encoder's card; empty where nothing is.

    Raises:
        InputError: If an entry is not of the form.
    """
    entries: object = card.get("attributes", {})
    found: dict[str, Confidence] = {}
    table = cast("dict[str, object]", entries) if isinstance(entries, dict) else {"": None}
    for name, entry in table.items():
        if name == "how":
            continue
        values = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        known = Confidence.__dataclass_fields__.keys()
        if name not in (*ATTRIBUTES, "colours", "details") or not numbers.keys() <= known:
            raise InputError(
                f"attributes: the encoder's card has no valid calibration for {name!r}. Make it "
                "anew with: python run.py train calibrate"
            )
        found[name] = Confidence(**numbers)
    return found


@dataclass(frozen=True)
class AttributeReader:
    """Reads attributes with one encoder.

    Attributes:
        encoder: Text and image ability are used.
        vocabulary: What is asked.
        calibration: By attribute; what it lacks is taken with the defaults of `Confidence`.
        namer: Names colours.
        masker: Finds the garment where no mask is given.
    """

    encoder: CaptionDecoder
    vocabulary: AttributeVocabulary = field(default_factory=load_vocabulary)
    calibration: Mapping[str, Confidence] = field(default_factory=dict[str, Confidence])
    namer: ColourNamer = field(default_factory=load_namer)
    masker: GarmentMasker = garment_mask
    _known: dict[str, dict[str, Values]] = field(
        default_factory=dict[str, dict[str, "Values"]], init=False, compare=False, repr=False
    )

    def read(
        self,
        features: ImageFeatures,
        images: Sequence[Image.Image],
        masks: Sequence[Mask | None] | None = None,
        *,
        shares: npt.NDArray[Any] | None = None,
    ) -> tuple[GarmentAttributes, ...]:
        """Attributes of B images.

        Args:
            features: What the encoder made of them.
            images: The same images, upright, RGB.
            masks: The garment, (H, W) each; None = find it.
            shares: Of `colour_shares`, where they are known already.
        """
        shares = self.colour_shares(images, masks) if shares is None else shares
        found = {name: self.beliefs(name, features.tokens) for name in self.vocabulary.attributes}
        colours = self.colour_beliefs(shares, features.tokens)
        nouns = self.categories(features.tokens)
        details = self.detail_beliefs(features.tokens, nouns)
        return tuple(
            GarmentAttributes(
                **{name: self._answer(name, rows[i]) for name, rows in found.items()},
                colours=self._named(colours[i], shares[i]),
                details=self._details(details[i]),
            )
            for i in range(len(images))
        )

    @property
    def fingerprint(self) -> str:
        """Of all that shapes an answer besides the encoder's weights."""
        digest = hashlib.sha256(self.vocabulary.source.encode())
        digest.update(repr(sorted(self.calibration.items())).encode())
        digest.update(self.namer.out.tobytes())
        return digest.hexdigest()

    def colour_shares(
        self, images: Sequence[Image.Image], masks: Sequence[Mask | None] | None
    ) -> npt.NDArray[Any]:
        """Share of each colour among the garment's pixels, (B, 13)."""
        given = [None] * len(images) if masks is None else masks
        rows = [self._shares(*pair) for pair in zip(images, given, strict=True)]
        return np.stack(rows)

    def _shares(self, image: Image.Image, mask: Mask | None) -> npt.NDArray[Any]:
        if mask is None:
            mask = self.masker(image)
        garment = middle(image.size) if mask is None else mask
        return self.namer.shares(sample_pixels(image, garment))

    def beliefs(self, name: str, tokens: Tensor) -> list[dict[str, float]]:
        """Scores of each value, by image; empty where the attribute has no meaning."""
        question = self.vocabulary.attributes[name]
        if name == "category":
            values, vectors = self._category
            scores = _scores(vectors, tokens)
            return [dict(zip(values, row, strict=True)) for row in _rows(scores)]
        nouns = self.categories(tokens)
        result: list[dict[str, float]] = [{} for _ in nouns]
        for noun in sorted(set(nouns)):
            if question.categories and noun not in question.categories:
                continue
            values, vectors = self._about(noun)[name]
            places = [i for i, n in enumerate(nouns) if n == noun]
            if len(values) > 1:
                scores = _rows(_scores(vectors, tokens[places]))
                for i, row in zip(places, scores, strict=True):
                    result[i] = dict(zip(values, row, strict=True))
        return result

    def categories(self, tokens: Tensor) -> list[str]:
        """The likeliest category of each image, however sure."""
        values, vectors = self._category
        return [values[int(i)] for i in _scores(vectors, tokens).argmax(dim=1)]

    def colour_scores(self, tokens: Tensor) -> Tensor:
        """The encoder's own score of each colour, (B, 13); 0 for one that it has no word for."""
        result = torch.zeros(len(tokens), len(COLOURS))
        nouns = self.categories(tokens)
        for noun in sorted(set(nouns)):
            values, vectors = self._about(noun)["colours"]
            places = [i for i, n in enumerate(nouns) if n == noun]
            if values:
                columns = torch.tensor([COLOURS.index(v) for v in values])
                found = _scores(vectors, tokens[places])
                result[torch.tensor(places)[:, None], columns] = found
        return result

    def colour_beliefs(self, shares: npt.NDArray[Any], tokens: Tensor) -> Tensor:
        """How likely each colour is the main one, by pixels and encoder, (B, 13)."""
        how = self.calibration.get("colours", DEFAULT_COLOURS)
        pixels = torch.as_tensor(shares.tolist()).clamp_min(_TINY).log() * how.pixels
        return (pixels + how.scale * self.colour_scores(tokens)).softmax(dim=1)

    def detail_beliefs(self, tokens: Tensor, nouns: Sequence[str]) -> list[dict[str, float]]:
        """How much better each detail's text fits than the bare noun, by image."""
        result: list[dict[str, float]] = [{} for _ in nouns]
        for i, noun in enumerate(nouns):
            values, vectors = self._about(noun)["details"]
            scores = _scores(vectors, tokens[i : i + 1])[0]
            bare = float(scores[0])
            result[i] = {v: float(s) - bare for v, s in zip(values[1:], scores[1:], strict=True)}
        return result

    def confidence(self, name: str, scores: Mapping[str, float]) -> tuple[str, float]:
        """The best value and how sure it is."""
        scale = self.calibration.get(name, Confidence()).scale
        logits = torch.tensor(list(scores.values())) * scale
        best = int(logits.argmax())
        return list(scores)[best], float(logits.softmax(dim=0)[best])

    def _answer(self, name: str, scores: Mapping[str, float]) -> Attribute | None:
        if not scores:
            return None
        value, sure = self.confidence(name, scores)
        if not value or sure < self.calibration.get(name, Confidence()).threshold:
            return None
        return Attribute(value, sure)

    def _details(self, scores: Mapping[str, float]) -> tuple[str, ...]:
        how = self.calibration.get("details", Confidence())
        sure = {v: float(torch.sigmoid(torch.tensor(s * how.scale))) for v, s in scores.items()}
        return tuple(v for v, s in sure.items() if s >= how.threshold)

    def _named(self, beliefs: Tensor, shares: npt.NDArray[Any]) -> tuple[Any, ...]:
        """The colours, main first; none where the main one is not sure."""
        how = self.calibration.get("colours", DEFAULT_COLOURS)
        main = int(beliefs.argmax())
        if float(beliefs[main]) < how.threshold:
            return ()
        others = [c for c in named_shares(shares) if c.name != COLOURS[main]]
        first = [c for c in named_shares(shares, least=0.0) if c.name == COLOURS[main]]
        return (*first, *others)

    @cached_property
    def _category(self) -> Values:
        question = self.vocabulary.attributes["category"]
        found = self._encoded(
            {"category": {v.name: question.texts(v, "") for v in question.values}}
        )
        if not found["category"][0]:
            raise InputError(
                f"attributes: encoder {self.encoder.name!r} knows no word of the vocabulary's "
                "categories. Write prompts in words that it knows."
            )
        return found["category"]

    def _about(self, category: str) -> dict[str, Values]:
        """The values of everything that is asked of a garment of this category."""
        if category not in self._known:
            value = self.vocabulary.attributes["category"].value(category)
            assert value is not None
            noun = value.prompts[0].removeprefix("a ").removeprefix("an ")
            asked = {**self.vocabulary.attributes, "details": self.vocabulary.details}
            del asked["category"]
            texts = {name: _texts(name, question, noun) for name, question in asked.items()}
            texts["colours"] = {c: [COLOUR_TEMPLATE.format(colour=c, noun=noun)] for c in COLOURS}
            self._known[category] = self._encoded(texts)
        return self._known[category]

    def _encoded(self, texts: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, Values]:
        """The mean vector of each value's texts, by attribute; those that hold an unknown word are
        left out.
        """
        flat = list(
            dict.fromkeys(t for table in texts.values() for ts in table.values() for t in ts)
        )
        unknown = self.encoder.tokenizer.encode(flat).unknown_words if flat else ()
        known = [t for t, words in zip(flat, unknown, strict=True) if not words]
        vectors = self.encoder.encode_texts(known).vectors if known else torch.zeros(0, 1)
        rows = dict(zip(known, vectors, strict=True))
        result: dict[str, Values] = {}
        for attribute, table in texts.items():
            means: dict[str, Tensor] = {}
            for name, wanted in table.items():
                found = [rows[t] for t in wanted if t in rows]
                if found:
                    means[name] = F.normalize(torch.stack(found).mean(dim=0), dim=0)
            stacked = torch.stack(list(means.values())) if means else torch.zeros(0, 1)
            result[attribute] = (list(means), stacked)
        return result


def attribute_reader(
    encoder: CaptionDecoder,
    *,
    vocabulary: AttributeVocabulary | None = None,
    masker: GarmentMasker | None = None,
) -> AttributeReader:
    """Make the reader of an encoder, calibrated by its card where that says how.

    Raises:
        InputError: If the card's calibration is not of the form.
    """
    calibration = read_calibration(encoder.card)
    if not calibration:
        _log.warning(
            "attributes: encoder %s is not calibrated; its confidence is a guess. "
            "`python run.py train calibrate` measures it.",
            encoder.name,
        )
    return AttributeReader(
        encoder,
        load_vocabulary() if vocabulary is None else vocabulary,
        calibration,
        load_namer(),
        garment_mask if masker is None else masker,
    )


def _texts(name: str, question: Question, noun: str) -> dict[str, list[str]]:
    """The texts of every value; "" is "none of these", and of a detail the bare noun."""
    none = {"": question.none_texts(noun)} if question.none else {}
    if name == "details":
        none = {"": [noun]}
    return {**none, **{v.name: question.texts(v, noun) for v in question.values}}


def _scores(vectors: Tensor, tokens: Tensor) -> Tensor:
    """Texts (K, D) against the best token of images (B, T, D), (B, K)."""
    return (tokens @ vectors.T).amax(dim=1)


def _rows(scores: Tensor) -> list[list[float]]:
    return [[float(s) for s in row] for row in scores]
