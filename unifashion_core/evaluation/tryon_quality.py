"""How well a small try-on model puts garments on mannequins that it never saw."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type, and torch's from_numpy has none)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..prepare.lab import length, to_lab
from ..training.describe import garment_attributes
from ..training.grammar import full_caption
from ..wardrobe.colours import nearest_colour
from .tryon_judges import (
    PATTERN_CLASSES,
    JudgedRecord,
    OutlineJudge,
    PatternJudge,
    judge_outlines,
    judge_patterns,
)

Hint = Literal["garment", "sketch", "none"]

COLOUR_LIMIT, SHARE_LIMIT = 12.0, 0.15
_ROUNDS = 20


class Painter(Protocol):
    """A try-on model with its sampler."""

    def __call__(
        self, records: Sequence[JudgedRecord], hint: Hint, texts: Sequence[str], seed: int
    ) -> Tensor:
        """Paint each record's mask anew.

        Args:
            records: Persons; what they wear inside the mask is not shown to the model.
            hint: What the garment encoder sees; "none" is hint strength 0.
            texts: One a record; an empty one is no text.
            seed: Of the noise; the same for every record.

        Returns:
            (N, 3, H, W), 0..1.
        """
        ...


@dataclass(frozen=True)
class Painted:
    """All pictures of a measurement, (N, 3, H, W) each, 0..1.

    Attributes:
        truth: The true renders.
        ceiling: The true renders through the autoencoder.
        garment: Painted from the garment, without a text, one entry a seed.
        floor: Painted at hint strength 0, without a text.
        sketch: Painted from sketch and text.
    """

    truth: Tensor
    ceiling: Tensor
    garment: tuple[Tensor, ...]
    floor: Tensor
    sketch: Tensor


def paint_all(
    records: Sequence[JudgedRecord], painter: Painter, ceiling: Tensor, seeds: Sequence[int]
) -> Painted:
    """Paint what `measure` reads.

    Args:
        records: Held-out ones.
        painter: The model.
        ceiling: The true renders through the autoencoder, (N, 3, H, W).
        seeds: Of the garment-led pictures; the first one serves the others as well.
    """
    silent = [""] * len(records)
    said = [full_caption(garment_attributes(r.garment)) for r in records]
    return Painted(
        truth=torch.stack([r.record.image.permute(2, 0, 1) for r in records]),
        ceiling=ceiling,
        garment=tuple(painter(records, "garment", silent, seed) for seed in seeds),
        floor=painter(records, "none", silent, seeds[0]),
        sketch=painter(records, "sketch", said, seeds[0]),
    )


def measure(
    records: Sequence[JudgedRecord],
    painted: Painted,
    patterns: PatternJudge,
    outlines: OutlineJudge,
) -> dict[str, dict[str, float]]:
    """All figures of the model, and the same for the ceiling and the floor.

    Returns:
        "model", "ceiling", "floor", "sketch" and "judges": figures by name. `delta_e`: mean Lab
        distance on plain garments; `colours`: share of patterned ones of which both main colours
        arrive; `pattern`: share whose pattern is the garment's; `outline`: mean IoU; `around`: mean
        Lab distance of what the mask covers beside the garment, skin and background; `colour_name`:
        share whose colour's name is the text's, of those whose attributes name one; `steady`: share
        whose pattern is the same for all seeds. Plain and patterned are what is drawn, as in
        `pattern_class`.
    """
    worn = torch.stack([r.record.worn * r.record.mask for r in records])
    masks = torch.stack([r.record.mask for r in records])
    labels = torch.tensor([r.pattern for r in records])
    patterned = labels != PATTERN_CLASSES.index("plain")
    plain = (~patterned).nonzero().flatten().tolist()
    figured = patterned.nonzero().flatten().tolist()
    around = masks * (1 - worn)

    def patterns_of(images: Tensor) -> Tensor:
        return judge_patterns(patterns, images, worn)

    def figures(images: Tensor) -> dict[str, float]:
        found = judge_outlines(outlines, images, masks)
        off = [_delta_e(images[i], painted.truth[i], worn[i]) for i in plain]
        beside = map(_delta_e, images, painted.truth, around)
        both = [_colours_arrive(images[i], painted.truth[i], worn[i]) for i in figured]
        classes = patterns_of(images)
        return {
            "delta_e": _mean(off),
            "colours": _mean(both),
            "pattern": float((classes == labels).float().mean()),
            "pattern_figured": float((classes == labels)[patterned].float().mean()),
            "outline": _mean([_iou(a, b) for a, b in zip(found, worn, strict=True)]),
            "around": _mean(list(beside)),
        }

    by_seed = torch.stack([patterns_of(images) for images in painted.garment])
    steady = float((by_seed == by_seed[:1]).all(dim=0).float().mean())
    sketched = figures(painted.sketch)
    sketched["colour_name"] = _named(records, painted.sketch, worn)
    return {
        "model": {**figures(painted.garment[0]), "steady": steady},
        "ceiling": figures(painted.ceiling),
        "floor": figures(painted.floor),
        "sketch": sketched,
        "judges": {
            "pattern": float((patterns_of(painted.truth) == labels).float().mean()),
            "outline": figures(painted.truth)["outline"],
            "colour_name": _named(records, painted.truth, worn),
            "records": float(len(records)),
            "plain": float(len(plain)),
        },
    }


def _delta_e(image: Tensor, truth: Tensor, where: Tensor) -> float:
    """Mean Lab distance of chosen pixels."""
    inside = where > 0.5
    if not bool(inside.any()):
        return float("nan")
    a, b = (to_lab(x.permute(1, 2, 0)[inside]) for x in (image, truth))
    return float(length(a - b).mean())


def _colours_arrive(image: Tensor, truth: Tensor, worn: Tensor) -> float:
    """1 where both main colours of the true render are there, in about its shares."""
    inside = worn > 0.5
    made, true = (to_lab(x.permute(1, 2, 0)[inside]) for x in (image, truth))
    centres = _two_colours(true)
    wanted, got = (torch.cdist(x, centres).argmin(dim=1) for x in (true, made))
    for number in (0, 1):
        share, has = float((wanted == number).float().mean()), got == number
        if abs(float(has.float().mean()) - share) > SHARE_LIMIT or not bool(has.any()):
            return 0.0
        if float(length(made[has].mean(dim=0) - true[wanted == number].mean(dim=0))) > COLOUR_LIMIT:
            return 0.0
    return 1.0


def _two_colours(lab: Tensor) -> Tensor:
    """Two means, started at the middle and what is farthest from it, (2, 3)."""
    centres = torch.stack([lab.mean(dim=0), lab[length(lab - lab.mean(dim=0)).argmax()]])
    for _ in range(_ROUNDS):
        nearest = torch.cdist(lab, centres).argmin(dim=1)
        centres = torch.stack(
            [
                lab[nearest == n].mean(dim=0) if bool((nearest == n).any()) else centres[n]
                for n in (0, 1)
            ]
        )
    return centres


def _named(records: Sequence[JudgedRecord], images: Tensor, worn: Tensor) -> float:
    """Share of plain garments of which the median colour has the text's name."""
    hits: list[float] = []
    for record, image, mask in zip(records, images, worn, strict=True):
        inside = mask > 0.5
        if record.garment.pattern == "plain" and bool(inside.any()):
            median = image.permute(1, 2, 0)[inside].median(dim=0).values * 255
            hits.append(float(nearest_colour(median.tolist()) == record.garment.colours[0]))
    return _mean(hits)


def _iou(a: Tensor, b: Tensor) -> float:
    union = float(torch.maximum(a, b).sum())
    return float(torch.minimum(a, b).sum()) / union if union else 1.0


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if v == v]
    return sum(known) / len(known) if known else float("nan")
