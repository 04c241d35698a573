"""How well agnostic masks fit photos whose parse maps are known.

The rule that they are compared with, at the photo's size: garment of the region, arms and neck
widened by a disc, without the head, the other garment and the hands. The hands come from the
files' own keypoints, never from the network that is measured.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import FolderError
from ..imaging import iter_images, open_image
from ..prepare.keypoints import Point, Skeleton, read_keypoints
from ..prepare.labels import Part, PartMap, read_parse_file
from ..prepare.mask import FoundPerson, Source, agnostic_mask, find_body, work_copy
from ..prepare.regions import dilate, torso_length
from ..types import OnStep

Mask = NDArray[np.bool_]
FindPerson = Callable[[Image.Image], "FoundPerson | None"]

RULE_RADIUS = 10
PAINT_RADIUS = 50
"""Pixels; the grey paint of VITON-HD is far wider than its garment."""

_PAINT, _PAINT_RANGE, _UNLIKE = 128, 6, 12
_HAND_REACH = 0.45  # of the torso, from the wrist
_HAND_WIDTH = 4  # pixels around the hull of hand keypoints
_SHOES = 40


@dataclass(frozen=True)
class Bundle:
    """A photo with its true parts.

    Attributes:
        name: Of its folder.
        image: The photo.
        truth: Its parts.
        joints: Of the files.
        hands: Pixels of hands.
        paint: Where the data set painted the photo grey, or None.
    """

    name: str
    image: Image.Image
    truth: PartMap
    joints: Skeleton
    hands: Mask
    paint: Mask | None


def evaluate_masks(
    folder: Path, find: FindPerson, *, on_step: OnStep | None = None
) -> dict[str, Any]:
    """Measure masks of the built-in source and of given parse maps.

    Args:
        folder: Holds bundles (below `bundles` or itself): person.jpg, parse.png and openpose_json
            (VITON-HD) or keypoints.json (DressCode). Where it has them, persons and garments of
            `tryon` and shoes of `retrieval_cc0` are looked at for persons.
        find: The built-in person finder; called with a `work_copy`.
        on_step: Called with (bundles done, bundles in all).

    Returns:
        Figures by source and region: a row a bundle, and their means.

    Raises:
        FolderError: If there is no bundle.
    """
    found = _bundles(folder)
    if not found:
        raise FolderError(
            f"{folder}: no folder with person.jpg and parse.png in it. Give the folder of bundles."
        )
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for done, place in enumerate(found):
        bundle = read_bundle(place)
        person = find(work_copy(bundle.image))
        for name, row in _measure(bundle, [] if person is None else [person]):
            rows.setdefault(name, {})[bundle.name] = row
        if on_step is not None:
            on_step(done + 1, len(found))
    report: dict[str, Any] = {
        name: {"n": len(some), "mean": _mean(list(some.values())), "each": some}
        for name, some in rows.items()
    }
    report["no_person"] = _persons(folder, find)
    return report


def has_bundles(folder: Path) -> bool:
    """Whether `evaluate_masks` has anything to measure in a folder."""
    return bool(_bundles(folder))


def _bundles(folder: Path) -> list[Path]:
    place = folder / "bundles" if (folder / "bundles").is_dir() else folder
    if not place.is_dir():
        raise FolderError(f"{folder}: no such folder. Check its name.")
    return sorted(b for b in place.iterdir() if (b / "parse.png").is_file())


def _measure(bundle: Bundle, person: Sequence[Source]) -> list[tuple[str, dict[str, float]]]:
    """Rows of one bundle, each with the name of its table."""
    dressed = bool((bundle.truth.parts == Part.DRESS).any())
    region = "dress" if dressed else "upper"
    measured = [
        ("built_in", _row(bundle, person, region)),
        ("parse_given", _row(bundle, [bundle.truth], region)),
    ]
    skirted = _has_skirt(bundle.truth)
    if skirted:
        measured.append(("lower_built_in", _row(bundle, person, "lower")))
        measured.append(("lower_parse_given", _row(bundle, [bundle.truth], "lower")))
    if bundle.paint is not None:
        for name, source in (("paint_built_in", person), ("paint_parse_given", [bundle.truth])):
            torso = torso_length(find_body(bundle.image, source))
            percent = 100 * PAINT_RADIUS / torso * _scale(bundle, source)
            made = agnostic_mask(bundle.image, source=source, region=region, dilation=percent)
            row = {"iou": _iou(made.mask.numpy() > 0.5, bundle.paint), "radius": PAINT_RADIUS}
            measured.append((name, row))
    return measured


def _scale(bundle: Bundle, source: Sequence[Source]) -> float:
    """Pixels of the body that a source gives to those of the photo."""
    return find_body(bundle.image, source).parts.shape[1] / bundle.image.width


def _row(bundle: Bundle, source: Sequence[Source], region: str) -> dict[str, float]:
    made = agnostic_mask(bundle.image, source=source, region=region)
    return mask_figures(bundle, made.mask.numpy() > 0.5, region)


def mask_figures(bundle: Bundle, mask: Mask, region: str) -> dict[str, float]:
    """Figures of one mask.

    Args:
        bundle: The photo's truth.
        mask: True = to be painted anew, (H, W) of the photo.
        region: "upper", "lower" or "dress".

    Returns:
        covered: share of the garment in the mask; head, hands, other: share of these in it; other
        leaves out what lies within the rule's radius of the garment; iou: with the rule.
    """
    garment, other, head = _groups(bundle.truth, region)
    rule = mask_rule(bundle, region)
    beyond = other & ~dilate(garment, RULE_RADIUS)
    return {
        "covered": _share(garment, mask),
        "head": _share(head, mask),
        "hands": _share(bundle.hands, mask),
        "other": _share(beyond, mask),
        "iou": _iou(mask, rule),
    }


def mask_rule(bundle: Bundle, region: str) -> Mask:
    """What the mask of a region should be, by the module's rule, (H, W)."""
    garment, other, head = _groups(bundle.truth, region)
    wide = garment | np.isin(bundle.truth.parts, (Part.LEFT_ARM, Part.RIGHT_ARM, Part.NECK))
    return dilate(wide, RULE_RADIUS) & ~head & ~other & ~bundle.hands


def _groups(truth: PartMap, region: str) -> tuple[Mask, Mask, Mask]:
    parts = truth.parts
    upper = np.isin(parts, (Part.UPPER, Part.COAT))
    lower = np.isin(parts, (Part.LOWER, Part.SKIRT))
    head = np.isin(parts, (Part.HAIR, Part.FACE, Part.HEAD))
    if region == "dress":
        return parts == Part.DRESS, np.zeros(parts.shape, bool), head
    return (upper, lower, head) if region == "upper" else (lower, upper, head)


def _has_skirt(truth: PartMap) -> bool:
    """DressCode's files give skirts the id of trousers, so there any lower garment counts."""
    skirts = (Part.SKIRT, Part.LOWER) if "dresscode" in truth.source else (Part.SKIRT,)
    return bool(np.isin(truth.parts, skirts).any())


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle of VITON-HD's or DressCode's files.

    Raises:
        FolderError: If it has no keypoints.
    """
    image = open_image(folder / "person.jpg")
    openpose, dresscode = folder / "openpose_json.json", folder / "keypoints.json"
    frame: Any = None
    if openpose.is_file():
        frame = json.loads(openpose.read_text("utf-8"))
        joints = read_keypoints(frame, image.size, where=str(openpose))
    elif dresscode.is_file():
        joints = _dresscode_joints(dresscode, image.size)
    else:
        raise FolderError(
            f"{folder}: no openpose_json.json or keypoints.json. Give a whole bundle."
        )
    truth = read_parse_file(folder / "parse.png", "cihp" if frame is not None else "dresscode")
    agnostic = folder / "agnostic.jpg"
    paint = _paint(image, open_image(agnostic)) if agnostic.is_file() else None
    return Bundle(folder.name, image, truth, joints, _hands(truth, joints), paint)


def _dresscode_joints(path: Path, size: tuple[int, int]) -> Skeleton:
    """18 points on a grid of half the size, absent ones negative."""
    points = json.loads(path.read_text("utf-8"))["keypoints"]
    flat = [v for x, y, *_ in points for v in (2 * x, 2 * y, float(x >= 0 and y >= 0))]
    frame = {"people": [{"pose_keypoints_2d": flat}], "canvas_width": size[0]}
    return read_keypoints({**frame, "canvas_height": size[1]}, size, where=str(path))


def _paint(image: Image.Image, agnostic: Image.Image) -> Mask:
    painted = np.asarray(agnostic).astype(np.int16)
    unlike = np.abs(painted - np.asarray(image).astype(np.int16)).max(-1) > _UNLIKE
    grey = (np.abs(painted - _PAINT) <= _PAINT_RANGE).all(-1)
    return np.asarray(grey & unlike, bool)


def _hands(truth: PartMap, joints: Skeleton) -> Mask:
    """Around hand keypoints where there are some, else the arms' pixels beyond the wrists."""
    height, width = truth.parts.shape
    found: Mask = np.zeros((height, width), bool)
    if joints.hands:
        for points in joints.hands.values():
            picture = Image.new("1", (width, height))
            ImageDraw.Draw(picture).polygon(_hull(points), fill=1)
            found |= np.asarray(picture)
        return dilate(found, _HAND_WIDTH)
    reach = _HAND_REACH * (joints.torso() or 0.0)
    rows, columns = np.mgrid[:height, :width]
    for side, arm in (("left", Part.LEFT_ARM), ("right", Part.RIGHT_ARM)):
        elbow, wrist = joints.get(f"{side}_elbow"), joints.get(f"{side}_wrist")
        if elbow is None or wrist is None:
            continue
        dx, dy = wrist[0] - elbow[0], wrist[1] - elbow[1]
        beyond = (columns - wrist[0]) * dx + (rows - wrist[1]) * dy > 0
        near = np.hypot(columns - wrist[0], rows - wrist[1]) < reach
        found |= np.isin(truth.parts, (Part.LEFT_ARM, Part.RIGHT_ARM, arm)) & beyond & near
    return found


def _hull(points: Sequence[Point]) -> list[Point]:
    """The convex hull, counter-clockwise."""
    ordered = sorted(set(points))

    def half(some: Sequence[Point]) -> list[Point]:
        made: list[Point] = []
        for x, y in some:
            while len(made) > 1 and (made[-1][0] - made[-2][0]) * (y - made[-2][1]) <= (
                made[-1][1] - made[-2][1]
            ) * (x - made[-2][0]):
                made.pop()
            made.append((x, y))
        return made

    return half(ordered)[:-1] + half(ordered[::-1])[:-1]


def _persons(folder: Path, find: FindPerson) -> dict[str, Any]:
    """On how many photos of each kind no person is found."""
    report: dict[str, Any] = {}
    for name, place, most in (
        ("garments", folder / "tryon" / "garment", None),
        ("shoes", folder / "retrieval_cc0" / "shoes", _SHOES),
        ("persons", folder / "tryon" / "person", None),
    ):
        if place.is_dir():
            photos = list(iter_images(place))[:most]
            none = sum(find(work_copy(open_image(path))) is None for path in photos)
            report[name] = {"n": len(photos), "no_person": none / max(len(photos), 1)}
    return report


def _share(of: Mask, mask: Mask) -> float:
    return int((of & mask).sum()) / max(int(of.sum()), 1)


def _iou(a: Mask, b: Mask) -> float:
    return int((a & b).sum()) / max(int((a | b).sum()), 1)


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
