"""The garment that a person wears, out of the person's parts: for cutting it out of the photo."""

from __future__ import annotations

import torch

from ..errors import InputError
from .labels import Part
from .regions import Body

WORN_REGIONS = ("upper", "lower", "dress")

_PARTS = {
    "upper": (Part.UPPER, Part.COAT, Part.SCARF),
    "lower": (Part.LOWER, Part.SKIRT, Part.BELT),
    "dress": (Part.DRESS, Part.JUMPSUIT, Part.BELT),
}
_SEPARATES = (*_PARTS["upper"], *_PARTS["lower"])


def worn_garment(body: Body, region: str) -> torch.Tensor:
    """Where a person wears a garment.

    Args:
        body: Of `mask.find_body`.
        region: One of `WORN_REGIONS`. Where the body's source knows no dress, a dress is the upper
            and the lower garment together.

    Returns:
        (h, w) of the body's parts, bool.

    Raises:
        InputError: If the person wears none there, or the region is unknown.
    """
    if region not in _PARTS:
        raise InputError(f"Cut out: region '{region}', wanted one of {', '.join(WORN_REGIONS)}.")
    parts = torch.as_tensor(body.parts)
    found = _any_of(parts, _PARTS[region])
    if region == "dress" and not bool(found.any()):
        found = _any_of(parts, _SEPARATES)
    if not bool(found.any()):
        raise InputError(
            f"Cut out: no {region} garment was found on the person ({body.source}). Choose another "
            "region, or connect a mask."
        )
    return found


def _any_of(parts: torch.Tensor, wanted: tuple[Part, ...]) -> torch.Tensor:
    found = torch.zeros(parts.shape, dtype=torch.bool)
    for part in wanted:
        found |= parts == int(part)
    return found
