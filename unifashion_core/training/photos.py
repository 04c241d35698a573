"""Garment masks and recoloured copies of photos: real folds and light in a colour that is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..deps import require

Array = npt.NDArray[Any]

# sRGB anchors of the colour names, for those that too few photos have; several, since one name
# covers light and dark cloth.
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

_LEAST_SAMPLES = 4
_NEAREST_SAMPLES = 8
_NEIGHBOURS, _LEAST_ALIKE = 8, 2

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


class ColourSamples:
    """What colour names look like in real photos: Lab of garments whose colour was named by eye,
    each with the Lab of the ground beside it, which tells of the light.

    Args:
        named: Colour name and `garment_and_ground` of each photo.
    """

    def __init__(self, named: Iterable[tuple[str, Array]]) -> None:
        held: defaultdict[str, list[Array]] = defaultdict(list)
        for colour, pair in _credible(list(named)):
            held[colour].append(pair)
        self._held = {name: np.stack(pairs) for name, pairs in held.items()}

    def draw(self, colour: str, ground: Array, rng: np.random.Generator) -> Array:
        """A Lab colour, (3,), that people call so on such a ground, with some jitter.

        Args:
            colour: A key of `ANCHORS`.
            ground: Lab of the ground, (3,): samples in a like light are taken.
            rng: Draws.
        """
        samples = self._held.get(colour)
        if samples is None or len(samples) < _LEAST_SAMPLES:
            anchors = ANCHORS[colour]
            chosen = to_lab(np.array(anchors[rng.integers(len(anchors))], np.uint8)[None, None])
            return chosen[0, 0] + rng.normal(size=3) * (3.0, 2.0, 2.0)
        far = np.linalg.norm(samples[:, 1] - ground, axis=1)
        near = np.argsort(far, kind="stable")[:_NEAREST_SAMPLES]
        return samples[near[rng.integers(len(near))], 0] + rng.normal(size=3) * (2.0, 1.2, 1.2)


def _credible(named: list[tuple[str, Array]]) -> list[tuple[str, Array]]:
    """Without those whose like-coloured neighbours have other names: there the mask is wrong."""
    if len(named) <= _NEIGHBOURS:
        return named
    garments = np.stack([pair[0] for _, pair in named])
    names = np.array([name for name, _ in named])
    far = np.linalg.norm(garments[:, None] - garments[None], axis=2)
    np.fill_diagonal(far, np.inf)
    near = names[np.argsort(far, axis=1, kind="stable")[:, :_NEIGHBOURS]]
    alike = (near == names[:, None]).sum(axis=1)
    return [one for one, count in zip(named, alike, strict=True) if count >= _LEAST_ALIKE]


def garment_and_ground(image: Image.Image, mask: Array) -> Array:
    """Median Lab of the garment and of what is around it, (2, 3)."""
    lab = to_lab(np.asarray(image))
    return np.stack([np.median(lab[mask], axis=0), np.median(lab[~mask], axis=0)])


def recolour(image: Image.Image, mask: Array, target: Array) -> Image.Image:
    """Give the garment another colour, keeping its folds and shade.

    The Lab median of the masked pixels is moved to the target; the lightness keeps its contrast,
    squeezed where it would clip, the chroma a third of its own.

    Args:
        image: Photo, RGB.
        mask: Garment, (H, W), bool.
        target: Lab, (3,), such as `ColourSamples.draw` gives.

    Raises:
        MissingPackageError: Without opencv (extra `train`).
    """
    cv2 = _cv2()
    lab = to_lab(np.asarray(image))
    inside = lab[mask]
    mean = np.median(inside, axis=0)
    shade = lab[..., 0] - mean[0]
    room = min(target[0], 100 - target[0]) + 4.0
    gain = min(max(room / (2.0 * float(np.std(inside[:, 0])) + 1e-3), 0.35), 1.15)
    new = np.empty_like(lab)
    new[..., 0] = target[0] + shade * gain
    new[..., 1:] = target[1:] + (lab[..., 1:] - mean[1:]) * 0.33
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
