"""From a person's parts to the region that a try-on model shall paint anew."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from .keypoints import Skeleton
from .labels import Ids, Part
from .limbs import Sleeve, bare_feet, sleeved, with_hands
from .paste import inner_distance

Mask = NDArray[np.bool_]
Region = Literal["upper", "lower", "dress", "full"]
Hem = Literal["keep", "hip", "knee", "ankle"]

REGIONS: tuple[Region, ...] = get_args(Region)
SLEEVES: tuple[Sleeve, ...] = get_args(Sleeve)
HEMS: tuple[Hem, ...] = get_args(Hem)
PROTECTED: dict[str, tuple[Part, ...]] = {
    "face": (Part.FACE, Part.HEAD, Part.GLASSES),
    "hair": (Part.HAIR, Part.HAT),
    "hands": (Part.LEFT_HAND, Part.RIGHT_HAND, Part.GLOVES),
    "feet": (Part.LEFT_SHOE, Part.RIGHT_SHOE, Part.SOCKS),
    "neck": (Part.NECK,),
    "arms": (Part.LEFT_ARM, Part.RIGHT_ARM),
    "legs": (Part.LEFT_LEG, Part.RIGHT_LEG),
    "upper": (Part.UPPER, Part.COAT),
    "lower": (Part.LOWER, Part.SKIRT),
    "bag": (Part.BAG,),
    "scarf": (Part.SCARF,),
}
"""What `protect` may name, and the parts that it keeps out of the mask."""
DEFAULT_PROTECTED = ("face", "hair", "hands", "feet")
DEFAULT_DILATION = 3.0
"""Percent of the torso: about 10 pixels of a 768x1024 try-on photo."""

_TOPS = (Part.UPPER, Part.COAT)
_BOTTOMS = (Part.LOWER, Part.SKIRT, Part.BELT)
_WHOLES = (Part.DRESS, Part.JUMPSUIT)
_HEADS = (Part.HAIR, Part.FACE, Part.HEAD)
_LEGS = (Part.LEFT_LEG, Part.RIGHT_LEG)
_FEET = (Part.LEFT_SHOE, Part.RIGHT_SHOE)

# In torso lengths.
_HIP_TO_KNEE, _KNEE_TO_ANKLE, _WAIST_TO_KNEE, _SHOULDER_TO_HIP = 0.85, 0.8, 1.2, 1.1
# sqrt(pixels of the person) to the torso: 0.66 to 0.70 on five photos, head to thigh or foot.
_TORSO_OF_AREA = 0.685


@dataclass(frozen=True)
class MaskOptions:
    """What the mask shall cover.

    Attributes:
        regions: One or several; their union.
        sleeve: Length of the new sleeves. "keep" counts as long: which sleeve comes isn't known.
        hem: Where the new garment ends. "keep": where the present one does, for skirts, trousers
            and dresses at the knee at the highest.
        dilation: Percent of the torso's length that the region is widened by.
        offset: Further percent to the left, top, right and bottom of the picture; negative
            narrows.
        protect: Keys of `PROTECTED` that stay as they are.
    """

    regions: tuple[Region, ...] = ("upper",)
    sleeve: Sleeve = "keep"
    hem: Hem = "keep"
    dilation: float = DEFAULT_DILATION
    offset: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    protect: tuple[str, ...] = DEFAULT_PROTECTED

    def __post_init__(self) -> None:
        if not self.regions:
            raise InputError(f"mask: no region. Choose of {', '.join(REGIONS)}.")
        _check_choice("region", self.regions, REGIONS)
        _check_choice("sleeve", (self.sleeve,), SLEEVES)
        _check_choice("hem", (self.hem,), HEMS)
        _check_choice("protect", self.protect, tuple(PROTECTED))
        for name, value in (("dilation", self.dilation), *(("offset", v) for v in self.offset)):
            if not -100.0 <= value <= 100.0 or (name == "dilation" and value < 0):
                raise InputError(
                    f"mask: {name} {value} percent of the torso. Choose "
                    f"{'0' if name == 'dilation' else '-100'} to 100."
                )


@dataclass(frozen=True)
class Body:
    """What a source knows of a person.

    Attributes:
        parts: A `Part` a pixel, (H, W).
        source: How it was found out, for people.
        skeleton: Its joints, where known, in pixels of `parts`.
        warnings: What a user should know of it.
        head_margin: Percent of the torso by which a protected head is widened: its edge is rough.
        clear_waist: False where upper and lower garment have one colour and the line between them
            is only assumed.
    """

    parts: Ids
    source: str
    skeleton: Skeleton | None = None
    warnings: tuple[str, ...] = ()
    head_margin: float = 0.0
    clear_waist: bool = True


def options_for(
    region: str | Sequence[str], sleeve: str, hem: str, protect: Sequence[str], **others: object
) -> MaskOptions:
    """`MaskOptions` from plain texts; "upper,lower" and lists name several regions."""
    named = region.split(",") if isinstance(region, str) else region
    regions = tuple(dict.fromkeys(name.strip() for name in named if name.strip()))
    made = {"regions": regions, "sleeve": sleeve, "hem": hem, "protect": tuple(protect), **others}
    return MaskOptions(**made)  # pyright: ignore[reportArgumentType] # checked when it is made


def region_mask(body: Body, options: MaskOptions) -> Mask:
    """The region to be painted anew, (H, W), True = to be changed."""
    torso = torso_length(body)
    parts = with_hands(body.parts, body.skeleton, torso)
    target = np.zeros(parts.shape, bool)
    for region in options.regions:
        target |= _target(region, parts, body, torso, options)
    grown = dilate(target, options.dilation / 100 * torso)
    grown = _shift_sides(grown, [value / 100 * torso for value in options.offset])
    return grown & ~_kept(parts, body, torso, options, target)


def torso_length(body: Body) -> float:
    """Mid-shoulder to mid-hip in pixels of the parts; from the person's area without joints."""
    area = int(np.count_nonzero(body.parts))
    by_area = _TORSO_OF_AREA * area**0.5
    known = body.skeleton.torso() if body.skeleton else None
    if known is None:
        return by_area
    return min(max(known, 0.4 * by_area), 2.5 * by_area)  # a joint far off must not ruin the mask


def dilate(mask: Mask, radius: float) -> Mask:
    """Widen by a disc; a radius below one pixel changes nothing."""
    reach = int(radius)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if reach < 1 or not len(rows):
        return mask
    box = tuple(
        slice(max(int(at[0]) - reach, 0), int(at[-1]) + reach + 1) for at in (rows, columns)
    )
    outside = torch.from_numpy(~mask[box])
    grown = mask.copy()
    # distances are capped at reach + 1, which a radius just below must not round up to
    grown[box] = (inner_distance(outside, reach) <= min(radius, reach + 0.999)).numpy()
    return grown


def _check_choice(name: str, given: Sequence[str], known: Sequence[str]) -> None:
    for value in given:
        if value not in known:
            raise InputError(f"mask: {name} '{value}' is unknown. Choose of {', '.join(known)}.")


def _target(region: Region, parts: Ids, body: Body, torso: float, options: MaskOptions) -> Mask:
    """A region before it is widened."""
    rows = np.arange(parts.shape[0])[:, None]
    wholes, hip = np.isin(parts, _WHOLES), _hip_row(parts, body, torso)
    found = np.zeros(parts.shape, bool)
    if region != "lower":
        found |= np.isin(parts, (*_TOPS, Part.NECK)) | sleeved(
            parts, body.skeleton, torso, options.sleeve
        )
        found |= wholes & (rows <= hip) if region == "upper" else wholes
    if region == "upper":
        if options.hem != "keep":
            found |= np.isin(parts, (*_BOTTOMS, *_LEGS)) & (
                rows <= _hem_row(parts, body, torso, options.hem)
            )
        return found
    bottoms = np.isin(parts, _BOTTOMS) | (wholes & (rows > hip - 0.35 * torso))
    hem = "ankle" if region == "full" and options.hem == "keep" else options.hem
    limit = _hem_row(parts, body, torso, "knee" if hem == "keep" else hem)
    legs = (bottoms | np.isin(parts, _LEGS)) & (rows <= limit)
    # A dress has a skirt: what is worn now is to vanish from between its legs as well.
    skirt = legs | bottoms if region == "dress" and hem == "keep" else legs
    return found | bottoms | _filled(skirt & (rows > hip)) | legs


def _kept(parts: Ids, body: Body, torso: float, options: MaskOptions, target: Mask) -> Mask:
    """What no dilation may enter: the protected parts, and the garment that stays on."""
    protected = [part for name in options.protect for part in PROTECTED[name]]
    kept = np.isin(parts, protected)
    if body.head_margin:
        kept |= dilate(kept & np.isin(parts, _HEADS), body.head_margin / 100 * torso)
    if "feet" in options.protect and body.skeleton is not None:
        kept |= bare_feet(parts, body.skeleton)
    if options.regions == ("upper",):
        kept |= np.isin(parts, _BOTTOMS) & ~target
    elif options.regions == ("lower",):
        kept |= np.isin(parts, _TOPS) & ~target
    return kept


def _hip_row(parts: Ids, body: Body, torso: float) -> float:
    middle = body.skeleton.middle("hip") if body.skeleton else None
    if middle is not None:
        return middle[1]
    bottoms = np.flatnonzero(np.isin(parts, _BOTTOMS).any(1))
    if len(bottoms):
        return float(bottoms[0]) + 0.35 * torso
    wholes = np.flatnonzero(np.isin(parts, (*_TOPS, *_WHOLES)).any(1))
    return float(wholes[0]) + _SHOULDER_TO_HIP * torso if len(wholes) else 0.0


def _hem_row(parts: Ids, body: Body, torso: float, hem: Hem) -> float:
    """The last row of a hem."""
    hip = _hip_row(parts, body, torso)
    if hem == "hip":
        return hip + 0.1 * torso
    name = "knee" if hem == "knee" else "ankle"
    middle = body.skeleton.middle(name) if body.skeleton else None
    if middle is not None and middle[1] > hip:
        return middle[1]
    feet = np.flatnonzero(np.isin(parts, _FEET).any(1))
    legs = np.flatnonzero(np.isin(parts, _LEGS).any(1))
    ankle = hip + (_HIP_TO_KNEE + _KNEE_TO_ANKLE) * torso
    if len(feet):
        ankle = max(float(feet[0]), hip)
    elif len(legs) and legs[-1] < parts.shape[0] - 2:
        ankle = float(legs[-1]) - 0.1 * torso
    return ankle if hem == "ankle" else min(ankle - _KNEE_TO_ANKLE * torso, hip + torso)


def _filled(mask: Mask) -> Mask:
    """Every row from its first to its last pixel: what a skirt covers between the legs."""
    seen = np.maximum.accumulate(mask, axis=1)
    return seen & np.maximum.accumulate(mask[:, ::-1], axis=1)[:, ::-1]


def _shift_sides(mask: Mask, offsets: Sequence[float]) -> Mask:
    """Move the left, top, right and bottom edges outwards (positive) or inwards."""
    made = mask
    for (axis, sign), offset in zip(((1, -1), (0, -1), (1, 1), (0, 1)), offsets, strict=True):
        steps = int(abs(offset))
        if steps:
            made = (
                _smear(made, axis, sign, steps)
                if offset > 0
                else ~_smear(~made, axis, -sign, steps)
            )
    return made


def _smear(mask: Mask, axis: int, sign: int, steps: int) -> Mask:
    """Every True drawn out over so many pixels towards one side."""
    line = np.moveaxis(mask, axis, -1)
    line = line if sign > 0 else line[..., ::-1]
    total = np.cumsum(line, axis=-1, dtype=np.int32)
    before = np.zeros_like(total)
    before[..., steps + 1 :] = total[..., : -steps - 1]
    made = total > before
    return np.moveaxis(made if sign > 0 else made[..., ::-1], -1, axis)
