"""The agnostic mask: where a try-on model shall paint, from whatever tells of the person."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeGuard

import numpy as np
import torch
from PIL import Image

from ..errors import InputError
from .colour_step import body_from_skeleton
from .densepose import DensePose, body_from_densepose
from .keypoints import Skeleton, from_landmarks
from .labels import PartMap
from .overlay import draw_overlay
from .regions import DEFAULT_DILATION, DEFAULT_PROTECTED, Body, options_for, region_mask
from .resample import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORK_SIDE = 1024
"""Longer side at which a mask is made; larger photos get it scaled up."""


_UNCLEAR_WAIST = (
    "upper and lower garment have one colour: the line between them is assumed at the hips"
)


class FoundPerson(Protocol):
    """What the built-in networks tell of a person."""

    @property
    def landmarks(self) -> torch.Tensor:
        """(33, 4): x and y in pixels of `mask`, z, visibility."""
        ...

    @property
    def mask(self) -> torch.Tensor:
        """Share of the person, 0..1, (H, W), as large as the photo or a `work_copy` of it."""
        ...


Source = PartMap | DensePose | Skeleton | FoundPerson


@dataclass(frozen=True)
class MaskResult:
    """One photo's mask.

    Attributes:
        mask: 1 = to be painted anew, (H, W), float32 on the CPU, as large as the photo.
        source: What it was made from: "parse map (cihp)", "landmarks + colours" …
        region: As asked for, "upper" or "upper,lower".
        warnings: What a user should know of it.
        body: The parts it was made of, at the size it was made at.
    """

    mask: torch.Tensor
    source: str
    region: str
    warnings: tuple[str, ...]
    body: Body

    def overlay(self, image: Image.Image) -> Image.Image:
        """The photo with the mask drawn over it."""
        return draw_overlay(image, self.mask)


def agnostic_mask(
    image: Image.Image,
    *,
    source: Source | Sequence[Source] | None,
    region: str | Sequence[str] = "upper",
    sleeve: str = "keep",
    hem: str = "keep",
    dilation: float = DEFAULT_DILATION,
    offset: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    protect: Sequence[str] = DEFAULT_PROTECTED,
    add: torch.Tensor | None = None,
    subtract: torch.Tensor | None = None,
) -> MaskResult:
    """Make the mask of the region whose garment is to be replaced.

    Args:
        image: The photo, upright RGB.
        source: What is known of the person, best first: the first one gives the parts, joints come
            from the first that has them. None (no person was found) is an error.
        region: Of `REGIONS`; several as a list or with commas.
        sleeve: Of `SLEEVES`: how long the new sleeves may be; "keep" counts as long.
        hem: Of `HEMS`: where the new garment ends; "keep" as the present one, for skirts, trousers
            and dresses at the knee at the highest.
        dilation: Percent of the torso's length (mid-shoulder to mid-hip), 0 to 100.
        offset: Further percent to the left, top, right and bottom of the picture.
        protect: Of `PROTECTED`: what stays as it is.
        add: Painted anew in any case, (H, W) of any size, 0..1.
        subtract: Kept in any case, likewise; stronger than `add`.

    Raises:
        InputError: If there is no person, or an option is unknown.
    """
    options = options_for(region, sleeve, hem, protect, dilation=dilation, offset=offset)
    body = find_body(image, source)
    made = torch.from_numpy(region_mask(body, options)).float()
    mask = _as_large(made, image)
    for extra, value in ((add, 1.0), (subtract, 0.0)):
        if extra is not None:
            mask = torch.where(_as_large(_plane(extra), image) > 0, value, mask)
    warnings = body.warnings
    if not body.clear_waist and options.regions in (("upper",), ("lower",)):
        warnings += (_UNCLEAR_WAIST,)
    if not bool(mask.any()):
        warnings += (f"nothing of the region {','.join(options.regions)} was found",)
    return MaskResult(mask, body.source, ",".join(options.regions), warnings, body)


def find_body(image: Image.Image, source: Source | Sequence[Source] | None) -> Body:
    """A person's parts and joints from the best of the sources.

    Raises:
        InputError: If there is none.
    """
    sources = list(source) if isinstance(source, Sequence) else [source]
    known = [one for one in sources if one is not None]
    if not known:
        raise InputError(
            "mask: no person was found in the photo. Give one that shows a person from the head or "
            "shoulders to the hips, or give a parse map, keypoints, or the mask itself."
        )
    best, others = known[0], known[1:]
    person = next((one for one in known if _is_person(one)), None)
    if isinstance(best, PartMap):
        size = (best.parts.shape[1], best.parts.shape[0])
        return _from_parts(best, _skeleton(others, size, image.size), image.size)
    small = work_copy(image)
    silhouette = _silhouette(person, small.size) if person is not None else None
    if isinstance(best, DensePose):
        return body_from_densepose(small, best, silhouette)
    skeleton = _skeleton([best], small.size, image.size)
    assert skeleton is not None
    return body_from_skeleton(
        small,
        skeleton,
        silhouette,
        source="keypoints" if isinstance(best, Skeleton) else "built-in landmarks",
    )


def _from_parts(found: PartMap, skeleton: Skeleton | None, size: tuple[int, int]) -> Body:
    height, width = found.parts.shape
    if not found.parts.any():
        raise InputError(
            f"mask: the {found.source} shows no person, every pixel is background. Give the map of "
            "this photo."
        )
    if abs(width * size[1] - height * size[0]) > 0.02 * height * size[0]:
        raise InputError(
            f"mask: the {found.source} is {width} x {height}, the photo {size[0]} x {size[1]}. "
            "Give a map of the same shape."
        )
    if skeleton is None:
        return Body(found.parts, found.source)
    return Body(found.parts, f"{found.source} + joints", skeleton)


def _is_person(source: Source) -> TypeGuard[FoundPerson]:
    return not isinstance(source, PartMap | DensePose | Skeleton)


def _skeleton(
    sources: Sequence[Source], size: tuple[int, int], photo: tuple[int, int]
) -> Skeleton | None:
    """The joints of the first source that has some, in pixels of a picture of `size`."""
    for one in sources:
        if isinstance(one, Skeleton):
            return one.scaled(size[0] / photo[0], size[1] / photo[1])
        if not isinstance(one, PartMap | DensePose):
            height, width = one.mask.shape
            return from_landmarks(one.landmarks).scaled(size[0] / width, size[1] / height)
    return None


def work_copy(image: Image.Image) -> Image.Image:
    """The photo at the size at which masks are made: find the person in this one."""
    size = _work_size(image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BOX)


def _work_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, WORK_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _silhouette(person: FoundPerson, size: tuple[int, int]) -> NDArray[np.float32]:
    return resize(person.mask, size[1], size[0], smooth=True).numpy()


def _plane(mask: torch.Tensor) -> torch.Tensor:
    """(H, W) of a mask that may come as a batch of one."""
    plane = mask.detach().float().cpu()
    plane = plane[0] if plane.ndim == 3 and plane.shape[0] == 1 else plane
    if plane.ndim != 2:
        raise InputError(f"mask: shape {tuple(mask.shape)}, wanted (H, W). Give one mask a photo.")
    return plane


def _as_large(mask: torch.Tensor, image: Image.Image) -> torch.Tensor:
    """A mask at the photo's size, 0 or 1."""
    if tuple(mask.shape) == (image.height, image.width):
        return (mask >= 0.5).float()
    return (resize(mask, image.height, image.width, smooth=True) >= 0.5).float()
