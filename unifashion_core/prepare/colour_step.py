"""A person's parts from joints and colours: seeds by the joints, boundaries by the colours."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from .colour_step_geometry import CHIN, BodyPlanes, body_planes, complete
from .colour_step_priors import Kind, kind_priors
from .colour_step_walk import random_walk
from .connected import flood
from .keypoints import Skeleton
from .lab import to_lab
from .labels import Ids, Part
from .regions import Body

Plane = NDArray[np.float32]
Kinds = NDArray[np.intp]

SIDE = 224
"""Longer side of the person at which colours are judged."""

_MARGIN = 0.03  # of the person's longer side
_CONTRAST, _TRUST, _SURE, _ROUNDS = 0.004, 0.03, 0.97, 60
_WRIST, _SLEEVED_WRIST = 2.0, 1.6  # place along the arm; bare skin at a sleeve's end is the hand
_FAINT, _BONE = (
    0.25,
    0.4,
)  # share of the outline, and distance in widths, that still count as an arm
_HEAD_MARGIN = 1.0  # percent of the torso: hair is finer than the grid that colours are judged on
_SHIN = 1.5  # place along the leg: a piece of the lower garment's colour below it is a shoe's
_BARE_LEG = 0.6  # share of skin at a place of a leg that says it is bare
_NECK_BASE = 0.12  # in torso lengths below the shoulders' line: skin above belongs to the head


@dataclass(frozen=True)
class _View:
    """The person's part of a photo, scaled for judging colours."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in the photo
    lab: Plane
    inside: NDArray[np.bool_]
    arm: NDArray[np.bool_]  # inside by the joints' word
    body: BodyPlanes


def body_from_skeleton(
    image: Image.Image,
    skeleton: Skeleton,
    silhouette: Plane | None,
    *,
    source: str,
) -> Body:
    """A person's parts from joints, the person's outline and the photo's colours.

    Args:
        image: The photo, RGB.
        skeleton: Its joints, in the photo's pixels.
        silhouette: Share of the person, (H, W) of the photo; None draws an outline from the joints.
        source: How the joints are known, for people.

    Raises:
        InputError: If the shoulders are unseen: without them nothing tells where a garment sits.
    """
    whole = complete(skeleton)
    if whole is None:
        raise InputError(
            f"mask: the {source} show no shoulders, so nothing tells where a garment sits. Give a "
            "photo that shows the upper body, a parse map, or the mask itself."
        )
    warnings: tuple[str, ...] = ()
    if silhouette is None:
        silhouette = outline(whole, image.height, image.width)
        warnings += ("no outline of the person: drawn from the joints, so edges are rough",)
    view = _look(image, whole, silhouette)
    prior, waist = kind_priors(view.lab, view.inside, view.body)
    trust = np.where(view.inside, np.float32(_TRUST), np.float32(1.0))
    trust = np.where(prior.max(-1) > _SURE, 4 * trust, trust).astype(np.float32)
    kinds = random_walk(view.lab, view.inside, prior, trust, contrast=_CONTRAST, rounds=_ROUNDS)
    parts = _spread(_parts(kinds, view.inside, view.body), view.inside)
    parts = _at_full_size(parts, view.arm, view.box, silhouette)
    return Body(
        parts,
        f"{source} + colours",
        whole,
        warnings,
        head_margin=_HEAD_MARGIN,
        clear_waist=waist.clear,
    )


def outline(skeleton: Skeleton, height: int, width: int) -> Plane:
    """A rough silhouette from a `complete` skeleton: torso, limbs and head with some width."""
    scale = min(1.0, SIDE / max(height, width))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    body = body_planes(skeleton.scaled(small[1] / width, small[0] / height), *small)
    torso = (body.along > -0.1) & (body.along < 1.2) & (np.abs(body.across) < 1.1 * body.shoulder)
    inside = torso | (body.arms.distance < 1.0) | (body.legs.distance < 1.0) | (body.face < 1.4)
    made = torch.from_numpy(inside.astype(np.float32))[None, None]
    return torch.nn.functional.interpolate(made, (height, width), mode="bilinear")[0, 0].numpy()


def _look(image: Image.Image, skeleton: Skeleton, silhouette: Plane) -> _View:
    rows, columns = (
        np.flatnonzero((silhouette > 0.4).any(1)),
        np.flatnonzero((silhouette > 0.4).any(0)),
    )
    if not len(rows):
        rows, columns = np.array([0, image.height - 1]), np.array([0, image.width - 1])
    side = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1
    margin = int(_MARGIN * side) + 1
    left, top = max(0, int(columns[0]) - margin), max(0, int(rows[0]) - margin)
    right = min(image.width, int(columns[-1]) + margin + 1)
    bottom = min(image.height, int(rows[-1]) + margin + 1)
    scale = min(1.0, SIDE / max(right - left, bottom - top))
    width, height = max(8, round((right - left) * scale)), max(8, round((bottom - top) * scale))
    box = (left, top, right, bottom)
    small = image.resize((width, height), Image.Resampling.BOX, box)
    share = Image.fromarray(silhouette).resize((width, height), Image.Resampling.BOX, box)
    pixels = torch.from_numpy(np.array(small, np.float32) / 255)
    moved = skeleton.moved(-left, -top).scaled(width / (right - left), height / (bottom - top))
    body, seen = body_planes(moved, height, width), np.asarray(share)
    # the outline may lose an arm in the dark, which the joints still know of
    arm = ((body.arms.distance < 1.0) & (seen > _FAINT)) | (body.arms.distance < _BONE)
    return _View(box, to_lab(pixels).numpy(), (seen > 0.5) | arm, arm, body)


def _parts(kinds: Plane, inside: NDArray[np.bool_], body: BodyPlanes) -> Ids:
    """The part of each pixel, from its kind and its place."""
    kind = _tidy(kinds.argmax(-1), inside, body)
    skin, arms, legs = kind == Kind.SKIN, body.arms, body.legs
    parts = np.select(
        [kind == Kind.HAIR, kind == Kind.UPPER, kind == Kind.LOWER],
        [Part.HAIR, Part.UPPER, Part.LOWER],
        Part.NECK,
    ).astype(np.uint8)
    parts[skin & ((body.face < 1.1) | (body.face_down < CHIN))] = Part.FACE
    neck = (body.along < 0.0) & (np.abs(body.across) < 0.8 * body.shoulder)
    neck |= (body.along < _NECK_BASE) & (np.abs(body.across) < 0.6 * body.shoulder)
    parts[skin & (parts != Part.FACE) & neck] = Part.HEAD
    on_leg = skin & (body.along > 1.0)
    low = (body.along > 1.2) & (arms.distance > 1.2)
    foot = low & ((legs.place > 2.02) | ((kind == Kind.UPPER) & (legs.place > 1.7)))
    foot |= low & (legs.place > _SHIN) & _apart((kind == Kind.LOWER) & inside, body.along < 1.3)
    bare = skin & (arms.distance < 1.3) & (body.face > 1.3) & (body.along > -0.1)
    bare &= parts != Part.HEAD
    for side, arm, hand, leg, shoe in (
        (0, Part.LEFT_ARM, Part.LEFT_HAND, Part.LEFT_LEG, Part.LEFT_SHOE),
        (1, Part.RIGHT_ARM, Part.RIGHT_HAND, Part.RIGHT_LEG, Part.RIGHT_SHOE),
    ):
        parts[on_leg & (legs.side == side)] = leg
        parts[foot & (legs.side == side)] = shoe
        mine = bare & (arms.side == side)
        parts[mine] = arm
        forearm = inside & (arms.side == side) & (arms.distance < 0.7)
        forearm &= (arms.place > 1.2) & (arms.place < 1.7)
        sleeved = int((forearm & skin).sum()) < 0.3 * int(forearm.sum())
        parts[mine & (arms.place > (_SLEEVED_WRIST if sleeved else _WRIST))] = hand
    return parts


def _apart(mask: NDArray[np.bool_], near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pieces of a mask that don't reach a place: socks and straps in the skirt's colour."""
    reached = flood(torch.from_numpy(mask & near), torch.from_numpy(mask)).numpy()
    return mask & ~reached


def _tidy(kind: Kinds, inside: NDArray[np.bool_], body: BodyPlanes) -> Kinds:
    """Without hair apart from the head, a skirt's colours up a sleeve, and slivers of a garment
    along bare legs.
    """
    made = kind.copy()
    hair = (made == Kind.HAIR) & inside
    on_head = hair & (body.face_down < CHIN) & (np.abs(body.face_across) < 3.5)
    apart = _apart(hair, on_head)
    on_body = np.where(body.along < 0.95, Kind.UPPER, Kind.LOWER)
    made[apart] = np.where(body.arms.distance < 1.0, Kind.SKIN, on_body)[apart]
    lower = (made == Kind.LOWER) & inside
    middle = (np.abs(body.across) < 0.7 * body.shoulder) & (body.arms.distance > 0.9)
    in_sleeve = _apart(lower, middle) & (body.arms.distance < 1.5) & (body.arms.place < 2.0)
    made[in_sleeve & (body.along < 1.3)] = Kind.UPPER
    leg = (made == Kind.SKIN) | (made == Kind.LOWER)
    leg &= (body.along > 1.0) & (body.legs.distance < 1.5) & (body.arms.distance > 1.0)
    places = np.clip(body.legs.place * 12, 0, 40).astype(np.intp)
    for side in (0, 1):
        mine = leg & (body.legs.side == side)
        whole = np.bincount(places[mine], minlength=41)
        bare = np.bincount(places[mine & (made == Kind.SKIN)], minlength=41)
        mostly = bare > _BARE_LEG * whole
        made[mine & mostly[places]] = Kind.SKIN
    return made


def _spread(parts: Ids, inside: NDArray[np.bool_]) -> Ids:
    """Parts of the inside carried on over its edge, where a finer outline may still find them."""
    made, known = parts.copy(), inside.copy()
    for _ in range(3):
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            filled = np.roll(known, step, axis) & ~known
            made[filled] = np.roll(made, step, axis)[filled]
            known = known | filled
    return made


def _at_full_size(
    parts: Ids, arm: NDArray[np.bool_], box: tuple[int, int, int, int], silhouette: Plane
) -> Ids:
    """Parts of the whole photo: each spread smoothly, the strongest wins."""
    left, top, right, bottom = box
    size = (bottom - top, right - left)
    best = torch.zeros(size)
    found = torch.full(size, int(Part.UPPER), dtype=torch.uint8)
    for part in np.unique(parts):
        rows, columns = np.nonzero(parts == part)
        # a margin of one, so that the spread part fades out inside its box
        y0, y1 = max(0, int(rows.min()) - 1), min(parts.shape[0], int(rows.max()) + 2)
        x0, x1 = max(0, int(columns.min()) - 1), min(parts.shape[1], int(columns.max()) + 2)
        here: Any = (parts[y0:y1, x0:x1] == part).astype(np.float32)
        target = _span(y0, y1, parts.shape[0], size[0]), _span(x0, x1, parts.shape[1], size[1])
        shape = (target[0].stop - target[0].start, target[1].stop - target[1].start)
        spread = torch.nn.functional.interpolate(
            torch.from_numpy(here)[None, None], shape, mode="bilinear"
        )[0, 0]
        stronger = spread > best[target]
        best[target] = torch.where(stronger, spread, best[target])
        found[target] = torch.where(
            stronger, torch.tensor(int(part), dtype=torch.uint8), found[target]
        )
    sure = torch.from_numpy(arm.astype(np.float32))[None, None]
    sure = torch.nn.functional.interpolate(sure, size, mode="bilinear")[0, 0].numpy()
    inside = (silhouette[top:bottom, left:right] > 0.5) | (sure > 0.5)
    whole = np.zeros(silhouette.shape, np.uint8)
    whole[top:bottom, left:right] = found.numpy() * inside
    return whole


def _span(start: int, stop: int, length: int, full: int) -> slice:
    return slice(round(start * full / length), round(stop * full / length))
