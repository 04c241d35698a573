"""Densepose maps: read from ids or colours, and turned into joints, hands and feet."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from .colour_step import body_from_skeleton
from .keypoints import Point, Skeleton
from .labels import Colour, Part
from .regions import Body, dilate

Ids = NDArray[np.uint8]

# The body's parts in the map's numbering; left and right are the person's own.
_TORSO, _HEAD = (1, 2), (23, 24)
_HANDS = {"left": (4,), "right": (3,)}
_FEET = {"left": (5,), "right": (6,)}
_CHAINS: dict[str, dict[str, tuple[tuple[int, ...], ...]]] = {
    "left": {
        "arm": (_TORSO, (15, 17), (19, 21), _HANDS["left"]),
        "leg": (_TORSO, (8, 10), (12, 14), _FEET["left"]),
    },
    "right": {
        "arm": (_TORSO, (16, 18), (20, 22), _HANDS["right"]),
        "leg": (_TORSO, (7, 9), (11, 13), _FEET["right"]),
    },
}
_JOINTS = {"arm": ("shoulder", "elbow", "wrist"), "leg": ("hip", "knee", "ankle")}

# The ids 0 to 24 as detectron2 draws them (times 255 / 24 in a colour map); the background is
# black, or the first colour.
PARULA: tuple[Colour, ...] = (
    (53, 42, 135), (37, 60, 163), (20, 80, 194), (4, 97, 223), (8, 110, 221), (14, 122, 216),
    (20, 132, 212), (15, 144, 208), (11, 156, 203), (6, 166, 198), (22, 173, 185),
    (38, 179, 172), (55, 185, 159), (86, 187, 144), (114, 189, 130), (145, 191, 116),
    (170, 189, 105), (192, 188, 96), (216, 186, 86), (228, 192, 74), (240, 199, 60),
    (252, 206, 46), (251, 220, 36), (250, 235, 25), (249, 251, 14),
)  # fmt: skip
_VIRIDIS: tuple[Colour, ...] = (
    (68, 1, 84), (71, 16, 99), (72, 31, 112), (71, 44, 122), (68, 57, 131), (64, 70, 136),
    (59, 81, 139), (54, 93, 141), (49, 104, 142), (44, 113, 142), (40, 124, 142),
    (37, 133, 142), (33, 144, 141), (31, 154, 138), (32, 163, 134), (39, 173, 129),
    (53, 183, 121), (70, 192, 111), (92, 200, 99), (115, 208, 86), (142, 214, 69),
    (170, 220, 50), (197, 224, 33), (226, 228, 24), (253, 231, 37),
)  # fmt: skip
_NEAR = 24.0  # of a colour to its entry: what JPEG and resizing change inside a part
_LEAST_NEAR = 0.9  # share of the pixels that must be near one
_AROUND = 0.06  # of the torso: the body's outline to the clothes', without an outline of these


@dataclass(frozen=True)
class DensePose:
    """A densepose map.

    Attributes:
        ids: 0 background, 1 to 24 the body's parts, (H, W), uint8.
    """

    ids: Ids


def read_densepose(image: Image.Image, where: str = "densepose") -> DensePose:
    """Read a densepose map.

    Args:
        image: Ids in a picture with one channel, or detectron2's colours (parula or viridis), also
            from JPEG.
        where: What to call it in an error.

    Raises:
        InputError: If it is neither, or shows no person.
    """
    rgb = np.asarray(image.convert("RGB"))
    grey = bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())
    if grey:
        ids = rgb[..., 0].copy()
        if int(ids.max()) > 24:
            raise InputError(
                f"{where}: ids up to {int(ids.max())}, a densepose map has 0 to 24. Give the ids "
                "or the colours as the densepose node makes them."
            )
    else:
        ids = _by_colour(rgb, where)
    if not np.isin(ids, _TORSO).any():
        raise InputError(
            f"{where}: shows no torso, so no person to put a garment on. Give the map of a photo "
            "that shows the upper body."
        )
    return DensePose(ids)


def _by_colour(rgb: Ids, where: str) -> Ids:
    """The id of the nearest colour, in the colour map that fits better."""
    colours, back = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    counts = np.bincount(back.reshape(-1))
    best: tuple[float, Any] = (-1.0, None)
    for palette in (PARULA, _VIRIDIS):
        table = np.array([(0, 0, 0), *palette[1:]], np.float32)
        if palette is _VIRIDIS:
            table = np.concatenate([table, np.array(palette[:1], np.float32)])
        squares = np.full(len(colours), np.inf, np.float32)
        owner = np.zeros(len(colours), np.uint8)
        for index, colour in enumerate(table):
            distance: Any = np.square(colours.astype(np.float32) - colour).sum(1)
            closer = distance < squares
            squares[closer], owner[closer] = distance[closer], index % 25
        near = float(counts[squares < _NEAR**2].sum()) / rgb[..., 0].size
        if near > best[0]:
            best = (near, owner)
    if best[0] < _LEAST_NEAR:
        raise InputError(
            f"{where}: {100 - 100 * best[0]:.0f} % of its pixels are in no densepose colour map "
            "(parula, viridis). Give the map as the densepose node makes it."
        )
    return best[1][back.reshape(-1)].reshape(rgb.shape[:2])


def skeleton_of(pose: DensePose) -> Skeleton:
    """Joints where the parts meet, in pixels of the map."""
    joints: dict[str, Point] = {}
    for side, limbs in _CHAINS.items():
        for limb, chain in limbs.items():
            for name, above, below in zip(_JOINTS[limb], chain, chain[1:], strict=False):
                met = _meeting(np.isin(pose.ids, above), np.isin(pose.ids, below))
                if met is not None:
                    joints[f"{side}_{name}"] = met
    head = _centre(np.isin(pose.ids, _HEAD))
    if head is not None:
        joints["nose"] = head
    hands = {side: _centre(np.isin(pose.ids, ids)) for side, ids in _HANDS.items()}
    return Skeleton(joints, {side: (at,) for side, at in hands.items() if at is not None})


def body_from_densepose(
    image: Image.Image, pose: DensePose, silhouette: NDArray[np.float32] | None
) -> Body:
    """A person's parts from a densepose map and the photo's colours.

    Args:
        image: The photo, RGB.
        pose: Of the same photo, of any size.
        silhouette: Share of the person in its clothes, (H, W); None takes the map's, widened.

    Raises:
        InputError: If the map shows no arm on one side and no shoulder can be placed.
    """
    picture = Image.fromarray(pose.ids).resize(image.size, Image.Resampling.NEAREST)
    ids = np.asarray(picture)
    sized = DensePose(ids)
    skeleton = skeleton_of(sized)
    warnings: tuple[str, ...] = ()
    if silhouette is None:
        around = _AROUND * (skeleton.torso() or 0.2 * image.height)
        silhouette = dilate(ids > 0, around).astype(np.float32)
        warnings = ("no outline of the person: drawn from the densepose map, without wide clothes",)
    else:
        silhouette = np.maximum(silhouette, (ids > 0).astype(np.float32))
    body = body_from_skeleton(image, skeleton, silhouette, source="densepose")
    parts = body.parts.copy()
    for found, left, right in ((_HANDS, Part.LEFT_HAND, Part.RIGHT_HAND),
                               (_FEET, Part.LEFT_SHOE, Part.RIGHT_SHOE)):  # fmt: skip
        parts[np.isin(ids, found["left"])] = left
        parts[np.isin(ids, found["right"])] = right
    return replace(body, parts=parts, warnings=body.warnings + warnings)


def _meeting(above: NDArray[np.bool_], below: NDArray[np.bool_]) -> Point | None:
    """Middle of the pixels of one part that lie next to the other one."""
    if not above.any() or not below.any():
        return None
    return _centre(dilate(above, 2.0) & below)


def _centre(mask: NDArray[np.bool_]) -> Point | None:
    rows, columns = np.nonzero(mask)
    return (float(columns.mean()), float(rows.mean())) if len(rows) else None
