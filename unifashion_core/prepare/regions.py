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
from .keypoints import Point, Skeleton
from .labels import Ids, Part
from .paste import inner_distance

Mask = NDArray[np.bool_]
Region = Literal["upper", "lower", "dress", "full"]
Sleeve = Literal["keep", "none", "short", "elbow", "long"]
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
_ARMS = (Part.LEFT_ARM, Part.RIGHT_ARM)
_HANDS = (Part.LEFT_HAND, Part.RIGHT_HAND, Part.GLOVES)
_HEADS = (Part.HAIR, Part.FACE, Part.HEAD)
_LEGS = (Part.LEFT_LEG, Part.RIGHT_LEG)
_FEET = (Part.LEFT_SHOE, Part.RIGHT_SHOE)

# In torso lengths. Along an arm, from the finger tips: what is left for a sleeve of that length.
_HAND_LENGTH = 0.36
_SLEEVE_FROM_TIP: dict[Sleeve, float] = {"elbow": 0.86, "short": 1.12}
# Along shoulder - elbow - wrist: 0, 1 and 2.
_SLEEVE_TO: dict[Sleeve, float] = {"none": 0.1, "short": 0.55, "elbow": 1.05}
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
    """

    parts: Ids
    source: str
    skeleton: Skeleton | None = None
    warnings: tuple[str, ...] = ()
    head_margin: float = 0.0


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
    parts = with_hands(body, torso)
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


def with_hands(body: Body, torso: float) -> Ids:
    """The parts, with hands told from arms: no parse map's label set does."""
    if np.isin(body.parts, _HANDS[:2]).any():
        return body.parts
    parts = body.parts.copy()
    for side, arm, hand in (
        ("left", Part.LEFT_ARM, Part.LEFT_HAND),
        ("right", Part.RIGHT_ARM, Part.RIGHT_HAND),
    ):
        here = parts == arm
        if not here.any():
            continue
        wrist = body.skeleton.get(f"{side}_wrist") if body.skeleton else None
        elbow = body.skeleton.get(f"{side}_elbow") if body.skeleton else None
        if wrist is not None and elbow is not None:
            parts[here & (_along(parts.shape, elbow, wrist) > 1.0)] = hand
        else:
            tip = _from_tip(here, np.isin(parts, (*_TOPS, *_WHOLES)))
            parts[here & (tip < _HAND_LENGTH * torso)] = hand
    return parts


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
        found |= np.isin(parts, (*_TOPS, Part.NECK)) | _sleeved(parts, body, torso, options.sleeve)
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
    return found | bottoms | _filled(legs & (rows > hip)) | legs


def _kept(parts: Ids, body: Body, torso: float, options: MaskOptions, target: Mask) -> Mask:
    """What no dilation may enter: the protected parts, and the garment that stays on."""
    protected = [part for name in options.protect for part in PROTECTED[name]]
    kept = np.isin(parts, protected)
    if body.head_margin:
        kept |= dilate(kept & np.isin(parts, _HEADS), body.head_margin / 100 * torso)
    if "feet" in options.protect and body.skeleton is not None:
        kept |= _bare_feet(parts, body.skeleton)
    if options.regions == ("upper",):
        kept |= np.isin(parts, _BOTTOMS) & ~target
    elif options.regions == ("lower",):
        kept |= np.isin(parts, _TOPS) & ~target
    return kept


def _bare_feet(parts: Ids, skeleton: Skeleton) -> Mask:
    feet = np.zeros(parts.shape, bool)
    for side, leg in (("left", Part.LEFT_LEG), ("right", Part.RIGHT_LEG)):
        knee, ankle = skeleton.get(f"{side}_knee"), skeleton.get(f"{side}_ankle")
        if knee is not None and ankle is not None:
            feet |= (parts == leg) & (_along(parts.shape, knee, ankle) > 1.0)
    return feet


def _sleeved(parts: Ids, body: Body, torso: float, sleeve: Sleeve) -> Mask:
    """The arms' pixels that a sleeve of this length may cover."""
    arms = np.isin(parts, _ARMS)
    if sleeve in ("keep", "long"):
        return arms
    found = np.zeros(parts.shape, bool)
    for side, arm in (("left", Part.LEFT_ARM), ("right", Part.RIGHT_ARM)):
        here = parts == arm
        joints = [
            body.skeleton.get(f"{side}_{name}") if body.skeleton else None
            for name in ("shoulder", "elbow", "wrist")
        ]
        shoulder, elbow, wrist = joints
        if shoulder is not None and elbow is not None:
            at = _along(parts.shape, shoulder, elbow)
            if wrist is not None:
                lower = 1.0 + _along(parts.shape, elbow, wrist)
                at = np.where(
                    _distance(parts.shape, elbow, wrist) < _distance(parts.shape, shoulder, elbow),
                    np.maximum(lower, 1.0),
                    at,
                )
            found |= here & (at <= _SLEEVE_TO[sleeve])
        elif sleeve != "none" and here.any():
            whole = here | (parts == (Part.LEFT_HAND if side == "left" else Part.RIGHT_HAND))
            tip = _from_tip(whole, np.isin(parts, (*_TOPS, *_WHOLES)))
            found |= here & (tip >= _SLEEVE_FROM_TIP[sleeve] * torso)
    return found


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


def _along(shape: tuple[int, ...], start: Point, end: Point) -> NDArray[np.float32]:
    """Place of each pixel along a bone: 0 at its start, 1 at its end, beyond it more."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(dx * dx + dy * dy, 1e-6)
    x = ((np.arange(shape[1]) - start[0]) * dx / length).astype(np.float32)
    y = ((np.arange(shape[0]) - start[1]) * dy / length).astype(np.float32)
    return x[None, :] + y[:, None]


def _distance(shape: tuple[int, ...], start: Point, end: Point) -> NDArray[np.float32]:
    """Distance of each pixel to a bone."""
    at = np.clip(_along(shape, start, end), 0.0, 1.0)
    x = np.arange(shape[1], dtype=np.float32)[None] - start[0] - at * np.float32(end[0] - start[0])
    y = (
        np.arange(shape[0], dtype=np.float32)[:, None]
        - start[1]
        - at * np.float32(end[1] - start[1])
    )
    return np.hypot(x, y).astype(np.float32)


def _from_tip(arm: Mask, garment: Mask) -> NDArray[np.float32]:
    """Way of each pixel of an arm to its finger tips, within the arm; infinite elsewhere."""
    rows, columns = np.nonzero(arm)
    if garment.any():
        top = int(np.flatnonzero(garment.any(1))[0])
    else:
        top = int(rows[0])
    # The shoulder's end is the highest; of a raised arm it is the one next to the garment's top.
    height = np.abs(rows.astype(np.int64) - top)
    start = np.zeros(arm.shape, bool)
    start[rows[height == height.min()], columns[height == height.min()]] = True
    way = _ways(arm, start)
    far = np.isinf(way) & arm
    if far.any():  # in pieces, such as skin at the shoulder: the hand is in the piece farthest down
        low = far & (np.arange(arm.shape[0])[:, None] == np.nonzero(far)[0].max())
        tips = low
    else:
        tips = arm & (way == way[arm].max())
    return _ways(arm, tips)


def _ways(inside: Mask, start: Mask) -> NDArray[np.float32]:
    """Length of the shortest way to `start` inside a mask, by turns over sides and corners."""
    rows, columns = np.nonzero(inside)
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    open_ = np.zeros((height + 2, width + 2), bool)
    open_[1:-1, 1:-1] = inside[top : top + height, left : left + width]
    found = np.full(open_.shape, np.inf, np.float32)
    frontier = np.flatnonzero(np.pad(start[top : top + height, left : left + width], 1) & open_)
    flat, free = found.reshape(-1), open_.reshape(-1).copy()
    flat[frontier], free[frontier] = 0.0, False
    across = width + 2
    sides = np.array([-1, 1, -across, across])
    corners = np.array([-across - 1, -across + 1, across - 1, across + 1])
    for turn in range(1, height * width):
        # sides alone, then sides and corners, makes an octagon: within 6 % of the true length
        steps = sides if turn % 5 in (1, 3, 4) else np.concatenate([sides, corners])
        reached = (frontier[:, None] + steps[None]).reshape(-1)
        frontier = np.unique(reached[free[reached]])
        if not len(frontier):
            break
        flat[frontier], free[frontier] = turn, False
    whole = np.full(inside.shape, np.inf, np.float32)
    whole[top : top + height, left : left + width] = found[1:-1, 1:-1]
    return whole
