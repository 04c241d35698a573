"""Garment masks and recoloured copies of photos: real folds and light in a colour that is known."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..deps import require

Array = npt.NDArray[Any]

# sRGB anchors of the colour names; several, since one name covers light and dark cloth.
ANCHORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((22, 22, 25), (38, 37, 40)),
    "white": ((243, 242, 240), (228, 229, 232)),
    "grey": ((128, 129, 132), (160, 161, 164), (92, 94, 98)),
    "beige": ((214, 194, 164), (196, 174, 140), (226, 211, 188)),
    "brown": ((104, 68, 44), (78, 52, 38), (134, 92, 60)),
    "red": ((188, 26, 36), (214, 42, 40), (128, 22, 40)),
    "pink": ((234, 164, 182), (226, 104, 148), (240, 190, 200)),
    "orange": ((232, 122, 36), (214, 94, 30)),
    "yellow": ((236, 206, 62), (216, 178, 48), (244, 226, 120)),
    "green": ((42, 128, 66), (88, 104, 56), (28, 78, 52), (136, 188, 142)),
    "blue": ((62, 112, 192), (132, 174, 220), (40, 84, 168), (38, 124, 148)),
    "navy": ((26, 32, 66), (34, 44, 84)),
    "purple": ((108, 54, 142), (150, 112, 182), (74, 36, 92)),
}

_MASK_SIDE = 160
_MASK_LIMITS = (0.08, 0.80)


def garment_mask(image: Image.Image) -> Array | None:
    """Find the garment of a photo that shows one against a background.

    GrabCut, started from a central ellipse against the border.

    Returns:
        Mask (H, W), bool, True on the garment; None where the result is not credible: too small,
        nearly everything, or not in the middle.

    Raises:
        MissingPackageError: Without opencv (extra `train`).
    """
    cv2 = _cv2()
    small = image.copy()
    small.thumbnail((_MASK_SIDE, _MASK_SIDE), Image.Resampling.BILINEAR)
    pixels = np.ascontiguousarray(np.asarray(small)[:, :, ::-1])
    height, width = pixels.shape[:2]
    marks = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    rows, columns = np.mgrid[0:height, 0:width]
    radius = ((rows / (height - 1) - 0.5) / 0.46) ** 2 + ((columns / (width - 1) - 0.5) / 0.42) ** 2
    marks[radius < 1] = cv2.GC_PR_FGD
    marks[radius < 0.06] = cv2.GC_FGD
    edge = max(2, round(0.02 * min(height, width)))
    marks[:edge] = marks[-edge:] = marks[:, :edge] = marks[:, -edge:] = cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(pixels, marks, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    found = ((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)).astype(np.uint8)
    found = _largest_part(cv2, found)
    share = float(found.mean())
    middle = found[height // 3 : -height // 3, width // 3 : -width // 3].mean()
    if not _MASK_LIMITS[0] < share < _MASK_LIMITS[1] or middle < 0.5:
        return None
    full = cv2.resize(found * 255, image.size, interpolation=cv2.INTER_LINEAR)
    return full > 127


def recolour(image: Image.Image, mask: Array, colour: str, rng: np.random.Generator) -> Image.Image:
    """Give the garment another colour, keeping its folds and shade.

    The Lab mean of the masked pixels is moved to an anchor of the colour (with some jitter); the
    lightness keeps its contrast, squeezed where it would clip, the chroma a third of its own.

    Args:
        image: Photo, RGB.
        mask: Garment, (H, W), bool.
        colour: A key of `ANCHORS`.
        rng: Draws anchor and jitter.

    Raises:
        MissingPackageError: Without opencv (extra `train`).
    """
    cv2 = _cv2()
    lab = to_lab(np.asarray(image))
    anchors = ANCHORS[colour]
    anchor = to_lab(np.array(anchors[rng.integers(len(anchors))], np.uint8)[None, None])[0, 0]
    spread = (3.0, 2.0, 2.0) if colour in ("black", "white", "grey") else (6.0, 5.0, 5.0)
    anchor = anchor + rng.normal(size=3) * spread * 0.6
    inside = lab[mask]
    mean = np.median(inside, axis=0)
    shade = lab[..., 0] - mean[0]
    room = min(anchor[0], 100 - anchor[0]) + 4.0
    gain = min(max(room / (2.0 * float(np.std(inside[:, 0])) + 1e-3), 0.35), 1.15)
    new = np.empty_like(lab)
    new[..., 0] = anchor[0] + shade * gain
    new[..., 1:] = anchor[1:] + (lab[..., 1:] - mean[1:]) * 0.33
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.2)[..., None]
    mixed = (lab * (1 - soft) + new * soft).astype(np.float32)
    mixed[..., 0] = _bounded(mixed[..., 0], 100.0)
    rgb = cv2.cvtColor(mixed, cv2.COLOR_LAB2RGB)
    return Image.fromarray(np.rint(_bounded(rgb, 1.0) * 255).astype(np.uint8))


def to_lab(rgb: Array) -> Array:
    """8-bit sRGB (..., 3) of two leading axes to CIE Lab, float32: L 0..100."""
    return _cv2().cvtColor(rgb.astype(np.float32) / 255.0, _cv2().COLOR_RGB2LAB)


def _bounded(values: Array, high: float) -> Array:
    return np.minimum(np.maximum(values, 0.0), high)


def _largest_part(cv2: ModuleType, mask: Array) -> Array:
    """The biggest connected part, and others of at least an eighth of it (a pair of shoes)."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = 1 + np.flatnonzero(areas >= areas.max() / 8)
    return np.isin(parts, kept).astype(np.uint8)


def _cv2() -> ModuleType:
    return require("cv2", package="opencv-python-headless")
