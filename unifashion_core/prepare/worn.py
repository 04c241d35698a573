"""The garment that a person wears, out of the person's parts: for cutting it out of the photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..errors import InputError
from .connected import flood, shrink
from .labels import Part
from .regions import Body

_LOOKED_AT = 256  # longer side at which pieces are told apart
_NARROW = 0.012  # of it: half the width of a piece that is no garment by itself

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
    return _without_slivers(found)


def _without_slivers(found: torch.Tensor) -> torch.Tensor:
    """Without the narrow pieces apart from the garment: edges of arms and of the outline."""
    height, width = found.shape
    step = max(1, max(height, width) // _LOOKED_AT)
    rows, columns = -(-height // step), -(-width // step)
    padded = F.pad(found.float()[None, None], (0, columns * step - width, 0, rows * step - height))
    small = F.max_pool2d(padded, step)[0, 0] > 0
    kept = flood(shrink(small, max(1, round(_NARROW * max(rows, columns)))), small)
    if not bool(kept.any()):
        return found
    large = kept.repeat_interleave(step, 0).repeat_interleave(step, 1)
    return found & large[:height, :width]


def _any_of(parts: torch.Tensor, wanted: tuple[Part, ...]) -> torch.Tensor:
    found = torch.zeros(parts.shape, dtype=torch.bool)
    for part in wanted:
        found |= parts == int(part)
    return found
