"""Where the upper garment ends and the lower one begins, from the colours of whole rows.

A pixel of a print may have a colour of the other garment; a row seldom does.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .colour_step_geometry import BodyPlanes

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Places along the torso: 0 at the shoulders' line, 1 at the hips'.
_ROW = 0.025
_FIRST, _LAST = 0.4, 1.5  # no waist lies beyond
_TOP, _BOTTOM = (0.2, 0.58), (1.1, 1.5)  # surely of the upper, of the lower garment
_USUAL, _SPREAD = 0.84, 0.16  # of 34 photos whose garments differ in colour: 0.84, 0.14
_HIPS = 1.05
_FEW = 12  # pixels
_ALIKE, _UNLIKE = 0.4, 0.9  # difference of the log ratio: no evidence below, full one above
_EVIDENCE = 20.0  # a torso length's worth of rows of log ratio 1, as log probability
_MOST = 3.0  # log ratio of a row


@dataclass(frozen=True)
class Waist:
    """The line between the garments.

    Attributes:
        along: Place along the torso.
        width: Over what length the lower garment takes over.
        clear: False where both garments have one colour, and the line is only assumed.
    """

    along: float
    width: float
    clear: bool


def find_waist(upper: Plane, lower: Plane, inside: Mask, body: BodyPlanes) -> Waist:
    """The line that parts rows of the upper garment's colours from rows of the lower one's best.

    Where the two have one colour, the line is taken at the hips: a rest of the old top below the
    new one is worse than some of the skirt painted anew.

    Args:
        upper: Density of each colour in the upper garment, (H, W), above 0.
        lower: In the lower one.
        inside: The person.
        body: Coordinates of the same pixels.
    """
    middle = inside & (np.abs(body.across) < 0.7 * body.shoulder) & (body.arms.distance > 0.9)
    ratio = np.clip(np.log(lower / upper), -_MOST, _MOST)
    top, bottom = (
        ratio[middle & (body.along > zone[0]) & (body.along < zone[1])] for zone in (_TOP, _BOTTOM)
    )
    if len(top) < _FEW or len(bottom) < _FEW:
        return Waist(_USUAL, 0.13, True)  # cut off there, so there is nothing to part
    low, high = float(top.mean()), float(bottom.mean())
    sure = float(np.clip((high - low - _ALIKE) / (_UNLIKE - _ALIKE), 0.0, 1.0))
    if sure == 0.0:
        return Waist(_HIPS, 0.04, False)
    places = np.arange(_FIRST, _LAST, _ROW)
    rows = np.digitize(body.along[middle], places) - 1
    inner = (rows >= 0) & (rows < len(places) - 1)
    count = np.bincount(rows[inner], minlength=len(places))
    total = np.bincount(rows[inner], ratio[middle][inner] - (low + high) / 2, len(places))
    evidence = sure * _EVIDENCE * _ROW * total / np.maximum(count, 1)
    # of a line above row k: rows from k on speak for the lower garment, those before against it
    score = np.cumsum(evidence[::-1])[::-1] - (np.cumsum(evidence) - evidence)
    usual = sure * _USUAL + (1.0 - sure) * _HIPS
    score -= 0.5 * np.square((places - usual) / _SPREAD)
    return Waist(float(places[int(score.argmax())]), 0.04 + 0.05 * sure, sure > 0.5)
