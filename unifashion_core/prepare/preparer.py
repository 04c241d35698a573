"""One photo at a time, whatever is known of it: masks, persons and garments, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..errors import InputError
from ..imaging import to_pil, to_tensor
from ..types import GarmentMasker
from .cache import PreparationCache
from .densepose import read_densepose
from .garment import CutOut, cut_out, cut_region
from .keypoints import from_landmarks, read_keypoints
from .labels import PartMap, read_parse_map
from .mask import Source, agnostic_mask, find_body, work_copy
from .person import Person, PersonNetworks, find_person
from .posemap import densepose_map, draw_pose_map
from .worn import worn_garment


@dataclass(frozen=True)
class Known:
    """What a user gives of a photo beside the photo.

    Attributes:
        parse_map: (h, w, 3), 0..1, in ids or colours of its label set.
        parse_labels: Name of the set, None where the map tells.
        keypoints: A frame in POSE_KEYPOINT form.
        densepose: (h, w, 3), 0..1, in ids or colours.
    """

    parse_map: torch.Tensor | None = None
    parse_labels: str | None = None
    keypoints: Any = None
    densepose: torch.Tensor | None = None


@dataclass(frozen=True)
class MaskRequest:
    """What a mask shall cover; as in `mask.agnostic_mask`."""

    region: str
    sleeve: str
    hem: str
    dilation: float
    offset: tuple[float, float, float, float]
    protect: tuple[str, ...]
    add: torch.Tensor | None = None
    subtract: torch.Tensor | None = None


@dataclass(frozen=True)
class MadeMask:
    """A mask to use and to judge.

    Attributes:
        mask: (H, W) of the photo, 1 = to be painted anew.
        overlay: The photo with the mask over it, (H, W, 3).
        note: Region, source and warnings in a line.
    """

    mask: torch.Tensor
    overlay: torch.Tensor
    note: str


class Preparer:
    """Makes preparations of photos, or takes them from a cache.

    Args:
        networks: Gives the person networks, their weights on the device; asked only when needed.
        cache: Where preparations are kept.
        segment: Tells a photo's parts by a segmentation model; None: there is none.
        fingerprint: Tells apart preparers that may give different results.
    """

    def __init__(
        self,
        networks: Callable[[], PersonNetworks],
        cache: PreparationCache,
        segment: Callable[[Image.Image], PartMap] | None = None,
        fingerprint: str = "built-in",
    ):
        self._networks = networks
        self._cache = cache
        self._segment = segment
        self.fingerprint = fingerprint

    def person(self, image: torch.Tensor) -> Person | None:
        """The person of a photo, (H, W, 3 or 4), in its pixels; None if it shows none."""
        found, size = self._found(image), (int(image.shape[0]), int(image.shape[1]))
        return None if found is None else found.resized(*size)

    def _found(self, image: torch.Tensor) -> Person | None:
        """The person in the photo's `work_copy`: what is made of it is no finer."""
        return self._cache.get_or_make(
            "person", [image], lambda: find_person(work_copy(upright(image)), self._networks())
        )

    def mask(self, image: torch.Tensor, known: Known, request: MaskRequest) -> MadeMask:
        """The agnostic mask of a photo, (H, W, 3 or 4), 0..1."""

        def make() -> MadeMask:
            photo = upright(image)
            made = agnostic_mask(
                photo,
                source=self.sources(image, known),
                region=request.region,
                sleeve=request.sleeve,
                hem=request.hem,
                dilation=request.dilation,
                offset=request.offset,
                protect=request.protect,
                add=request.add,
                subtract=request.subtract,
            )
            note = "; ".join([f"{made.region} from {made.source}", *made.warnings])
            return MadeMask(made.mask, to_tensor(made.overlay(photo)), note)

        inputs = [image, self.fingerprint, known, request]
        return self._cache.get_or_make("agnostic mask", inputs, make)

    def pose_map(self, image: torch.Tensor, keypoints: Any = None) -> tuple[torch.Tensor, str]:
        """A map of body parts, and what it was drawn from.

        Args:
            image: The photo, (H, W, 3 or 4), 0..1.
            keypoints: A frame in POSE_KEYPOINT form; None: the person is looked for.

        Raises:
            InputError: If there is no person.
        """
        height, width = int(image.shape[0]), int(image.shape[1])
        if keypoints is not None:
            skeleton, source = read_keypoints(keypoints, (width, height)), "keypoints"
        else:
            person = self._found(image)
            if person is None:
                raise InputError(
                    "Pose map: no person was found in the photo. Give one that shows a person from "
                    "the head or shoulders to the hips, or connect keypoints."
                )
            small = from_landmarks(person.landmarks)
            skeleton = small.scaled(width / person.mask.shape[1], height / person.mask.shape[0])
            source = "built-in landmarks"
        return draw_pose_map(skeleton, height, width), f"body parts from {source}"

    def densepose_map(self, image: torch.Tensor, given: torch.Tensor | None) -> torch.Tensor:
        """A densepose map of another node in VITON-HD's form, as large as the photo.

        Raises:
            InputError: If there is none, or it is no densepose map.
        """
        if given is None:
            raise InputError(
                "Pose map: this model needs a densepose map and none is connected. Connect the "
                "picture of a DensePose preprocessor (such as comfyui_controlnet_aux's) to "
                "'densepose', or choose 'body parts' for the pocket model."
            )
        return densepose_map(given, int(image.shape[0]), int(image.shape[1]))

    def garment(
        self,
        image: torch.Tensor,
        mask: torch.Tensor | None,
        worn: str | None,
        masker: GarmentMasker | None,
    ) -> CutOut:
        """A garment cut out of a photo at its size.

        Args:
            image: (H, W, 3 or 4), 0..1.
            mask: Where it is; None: it is found.
            worn: Region of the person who wears it; None: it lies alone.
            masker: As in `garment.cut_out`.
        """

        def make() -> CutOut:
            colours = to_tensor(upright(image)) if image.shape[-1] == 4 else image.float().cpu()
            if mask is not None or worn is None:
                return cut_out(colours, None if mask is None else mask.cpu(), masker=masker)
            body = find_body(upright(image), self.sources(image, Known()))
            return cut_region(colours, worn_garment(body, worn), body.source)

        return self._cache.get_or_make("garment", [image, mask, worn, self.fingerprint], make)

    def sources(self, image: torch.Tensor, known: Known) -> Sequence[Source]:
        """What is known of a photo's person, best first."""
        photo, found = upright(image), list[Source]()
        if known.parse_map is not None:
            found.append(read_parse_map(to_pil(known.parse_map[..., :3]), known.parse_labels))
        elif self._segment is not None:
            found.append(self._parts(image, self._segment))
        if known.keypoints is not None:
            found.append(read_keypoints(known.keypoints, photo.size))
        if known.densepose is not None:
            found.append(read_densepose(to_pil(known.densepose[..., :3])))
        person = self._found(image)
        return found if person is None else [*found, person]

    def _parts(self, image: torch.Tensor, segment: Callable[[Image.Image], PartMap]) -> PartMap:
        inputs = [image, self.fingerprint]
        return self._cache.get_or_make("parts", inputs, lambda: segment(upright(image)))


def upright(image: torch.Tensor) -> Image.Image:
    """A photo, (H, W, 3 or 4), as a picture; alpha is laid on white."""
    if image.shape[-1] == 4:
        image = image[..., :3] * image[..., 3:] + (1.0 - image[..., 3:])
    return to_pil(image)
