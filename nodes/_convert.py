"""Between the host's values and the core's: pictures, progress, and files that hits name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image, ImageOps

from ..unifashion_core.errors import FolderError, InputError
from ..unifashion_core.imaging import to_pil, to_tensor
from ..unifashion_core.types import OnStep, Query
from ._comfy import (
    ProgressBar,
    image_folders,
    intermediate_device,
    intermediate_dtype,
    throw_if_interrupted,
)

WHITE = (255, 255, 255)
SHIPS = "licence: ships with the pack, see NOTICE; what you make with it may be sold"


def pictures(image: torch.Tensor) -> list[Image.Image]:
    """An IMAGE batch, (B, H, W, C), as RGB pictures; a fourth channel is alpha, laid on white.

    Raises:
        InputError: If it is no batch of pictures.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or not len(image):
        raise InputError(
            f"image: shape {tuple(image.shape)}, wanted (B, H, W, 3) or (B, H, W, 4). "
            "Connect an IMAGE."
        )
    if image.shape[-1] == 4:
        alpha = image[..., 3:]
        image = image[..., :3] * alpha + (1.0 - alpha)
    return [to_pil(picture) for picture in image]


def to_image(picture: Image.Image) -> torch.Tensor:
    """A picture as an IMAGE of one, (1, H, W, 3)."""
    return to_tensor(picture)[None].to(intermediate_device(), intermediate_dtype())


def to_batch(found: Sequence[Image.Image], side: int) -> torch.Tensor:
    """Pictures of any sizes as one IMAGE, (B, side, side, 3), each whole and centred on white."""
    fitted = [ImageOps.pad(picture, (side, side), color=WHITE) for picture in found]
    return torch.cat([to_image(picture) for picture in fitted])


def progress() -> OnStep:
    """An `on_step` that moves the running node's bar, and stops where the user interrupts."""
    bar = ProgressBar(1)

    def step(done: int, total: int) -> None:
        throw_if_interrupted()  # the bar itself looks only when it sends, which is throttled
        bar.update_absolute(done, total)

    return step


class HasPath(Protocol):
    """A hit or a gallery's item."""

    @property
    def path(self) -> Path: ...


def check_readable(hits: Iterable[HasPath]) -> None:
    """Refuse pictures outside the host's image folders: the paths in a gallery are only data.

    Raises:
        FolderError: It names the file and says how to list its folder.
    """
    roots = [folder.resolve() for folder in image_folders()]
    for hit in hits:
        path = hit.path.resolve()
        if not any(path.is_relative_to(root) for root in roots):
            raise FolderError(
                f"Hits: {hit.path} lies outside the folders that may be read. List its folder "
                "under unifashion_images in extra_model_paths.yaml, or index a copy in input."
            )


def notes_of(queries: Iterable[Query]) -> str:
    """What the user should know of queries, a line each; empty where there is nothing."""
    return "\n".join(dict.fromkeys(note for query in queries for note in query.notes))
