"""How sure an encoder's attributes are, measured on the training photos, for its card.

An encoder knows its training photos by heart, so its scores there say nothing of other photos. They
are therefore shown in parts of half of each side. There the pocket encoder finds the class of 0.83
of them; a ridge classifier on the frozen tower's features, cross-validated over the same photos,
finds 0.83, so such a part is about as hard as a new photo (of parts of 60 % the encoder knows 0.93,
turned by 30 degrees 0.90).

Colours stay what they are in a part, so an encoder's memory of them can't be taken out: they are
measured on pixels alone, by members of the namer that did not see the photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ..caption.attributes import AttributeReader, Confidence
from ..caption.decoding import DecodingSettings
from ..encoder.encoder import MultimodalEncoder
from ..imaging import open_image
from ..pocket.photos import Photo
from ..types import COLOURS, ImageFeatures, OnStep
from ..weights import read_json, write_json
from .claims import values_of
from .colours import fold_of, sample_photos
from .describe import photo_attributes

PRECISION = 0.93
"""Wanted of the answers; a little more than 0.9, since the figure on other photos varies."""

LEAST_ANSWERS = 20
SHORT_CAPTIONS = DecodingSettings(
    "greedy", min_tokens=1, max_tokens=24, repeat_words=False, colour_weight=1.0
)
"""Of an encoder that learned the short captions of `grammar.full_caption`. Its belief in a colour
and the pixels' are multiplied as they are: a weight can't be measured on photos whose colours it
remembers."""

_PART = 0.5
_BATCH = 32
_SCALES = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 60.0)
_PIXEL_WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
_NEVER = 2.0


@dataclass(frozen=True)
class CalibrationSet:
    """Training photos, and parts of them as if they were new.

    Attributes:
        photos: N of them.
        features: Of a part of each.
        shares: Of the colours, from the whole photos, by members new to each, (N, 13).
    """

    photos: tuple[Photo, ...]
    features: ImageFeatures
    shares: npt.NDArray[Any]


def calibrate(
    encoder: MultimodalEncoder,
    folder: Path,
    photos: Sequence[Photo],
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Measure an encoder's card entries "attributes" and "caption".

    Args:
        encoder: With an LM head, the settings of its captions are given as well.
        folder: Holds the photos.
        photos: Training photos, labelled by eye.
        seed: Of the parts.
        on_step: Called with (photos read, photos in all).
    """
    reader = AttributeReader(encoder)
    known = read_set(encoder, reader, folder, photos, seed=seed, on_step=on_step)
    entries = {
        name: asdict(calibrate_attribute(reader, known, name))
        for name in reader.vocabulary.attributes
    }
    entries["details"] = asdict(calibrate_details(reader, known))
    entries["colours"] = asdict(calibrate_colours(known))
    how = (
        f"{len(photos)} training photos labelled by eye, a part of {_PART:.0%} of each side of "
        f"each (seed {seed}); scale by likelihood, threshold for a precision of {PRECISION}; "
        "2 = never answered"
    )
    report: dict[str, Any] = {"attributes": {"how": how, **entries}}
    if "lm" in encoder.abilities:
        report["caption"] = asdict(SHORT_CAPTIONS)
    return report


def write_card(folder: Path, entries: dict[str, Any]) -> None:
    """Put entries into the card of an encoder's config.json; others stay."""
    path = folder / "config.json"
    content = read_json(path)
    content["card"] = {**content.get("card", {}), **entries}
    write_json(path, content)


def read_set(
    encoder: MultimodalEncoder,
    reader: AttributeReader,
    folder: Path,
    photos: Sequence[Photo],
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> CalibrationSet:
    """Show the encoder a part of each photo, and the namer the photo itself."""
    rng = np.random.default_rng(seed)
    tokens: list[Tensor] = []
    vision: list[Tensor] = []
    for at in range(0, len(photos), _BATCH):
        part = photos[at : at + _BATCH]
        images = [open_image(folder / p.file, min_side=encoder.input_size) for p in part]
        views = [encoder.preprocess(_part(image, rng)) for image in images]
        found = encoder.encode_pixels(torch.stack(views))
        assert found.vision is not None
        tokens.append(found.tokens)
        vision.append(found.vision)
        if on_step is not None:
            on_step(at + len(part), len(photos))
    features = ImageFeatures(torch.cat(tokens), torch.cat(vision))
    samples = sample_photos(folder, photos)
    pairs = zip(samples, photos, strict=True)
    shares = [reader.namer.shares(sample, unseen=fold_of(photo)) for sample, photo in pairs]
    return CalibrationSet(tuple(photos), features, np.stack(shares))


def calibrate_attribute(reader: AttributeReader, known: CalibrationSet, name: str) -> Confidence:
    """Scale and threshold of one attribute; photos whose value nobody knows don't count."""
    rows: list[tuple[dict[str, float], set[str]]] = []
    for scores, photo in zip(
        reader.beliefs(name, known.features.tokens), known.photos, strict=True
    ):
        right = _labels(photo, name)
        if scores and right and right & set(scores):
            rows.append((scores, right))
    if len(rows) < LEAST_ANSWERS:
        return Confidence(threshold=_NEVER)
    scale = _best(_SCALES, lambda s: _fit(rows, s))
    answers = [_answer(scores, right, scale) for scores, right in rows]
    return Confidence(scale, threshold_of([a for a in answers if a is not None]))


def calibrate_details(reader: AttributeReader, known: CalibrationSet) -> Confidence:
    """One scale and threshold for all details."""
    tokens = known.features.tokens
    found = reader.detail_beliefs(tokens, reader.categories(tokens))
    labels = [_labels(p, "details") for p in known.photos]
    pairs = [
        (s, v in right)
        for scores, right in zip(found, labels, strict=True)
        for v, s in scores.items()
    ]
    scores = torch.tensor([s for s, _ in pairs])
    truth = torch.tensor([float(t) for _, t in pairs])

    def fit(scale: float) -> float:
        chances = torch.sigmoid(scores * scale).clamp(1e-4, 1 - 1e-4)
        return float((truth * chances.log() + (1 - truth) * (1 - chances).log()).mean())

    scale = _best(_SCALES, fit)
    sure = torch.sigmoid(scores * scale)
    answers = [(float(s), bool(t)) for s, t in zip(sure, truth, strict=True) if s > 0.5]
    return Confidence(scale, threshold_of(answers))


def calibrate_colours(known: CalibrationSet) -> Confidence:
    """How sharp the measured shares are, and from which confidence on a colour is named."""
    photos = known.photos
    pixels = torch.as_tensor(known.shares.tolist()).clamp_min(1e-4).log()
    main = torch.tensor([COLOURS.index(p.colours[0]) for p in photos])

    def fit(weight: float) -> float:
        chances = (weight * pixels).softmax(dim=1).gather(1, main[:, None])[:, 0]
        return float(chances.clamp_min(1e-4).log().mean())

    weight = _best(_PIXEL_WEIGHTS, fit)
    sure, best = (weight * pixels).softmax(dim=1).max(dim=1)
    answers = [
        (float(s), COLOURS[int(b)] in p.colours) for s, b, p in zip(sure, best, photos, strict=True)
    ]
    return Confidence(0.0, threshold_of(answers), weight)


def _part(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Somewhere in the photo, half of each side."""
    width, height = max(1, int(image.width * _PART)), max(1, int(image.height * _PART))
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _labels(photo: Photo, name: str) -> set[str]:
    """What the list says of an attribute of the vocabulary; "" where none of the values holds."""
    known = photo_attributes(photo)
    if name == "neckline":
        found = values_of(known.get("neck", []))
        return set(found) if found else ({""} if "neck" in known else set())
    if name == "details":
        groups = ("details", "closure", "neck")
        return {v for group in groups for v in values_of(known.get(group, []))}
    if name == "material":
        found = values_of(known.get("material", []))
        return set(found) if found else ({""} if "material" in known else set())
    return {v for v in values_of(known.get(name, [])) if v != "n/a"}


def _fit(rows: Sequence[tuple[dict[str, float], set[str]]], scale: float) -> float:
    """Mean log likelihood of the right values."""
    total = 0.0
    for scores, right in rows:
        chances = (torch.tensor(list(scores.values())) * scale).softmax(dim=0)
        share = sum(float(c) for c, v in zip(chances, scores, strict=True) if v in right)
        total += float(np.log(max(share, 1e-4)))
    return total / len(rows)


def _answer(scores: dict[str, float], right: set[str], scale: float) -> tuple[float, bool] | None:
    """Confidence of the best value and whether it is right; None where it is "none of these"."""
    chances = (torch.tensor(list(scores.values())) * scale).softmax(dim=0)
    best = int(chances.argmax())
    value = list(scores)[best]
    return (float(chances[best]), value in right) if value else None


def threshold_of(answers: Sequence[tuple[float, bool]]) -> float:
    """The lowest confidence at which the answers above are right often enough; 2 where there is
    none.
    """
    ordered = sorted(answers, key=lambda a: -a[0])
    right, best = 0, _NEVER
    for count, (sure, hit) in enumerate(ordered, 1):
        right += hit
        if count >= LEAST_ANSWERS and right / count >= PRECISION:
            best = sure
    return best


def _best(options: Sequence[Any], value: Callable[[Any], float]) -> Any:
    return max(options, key=value)
