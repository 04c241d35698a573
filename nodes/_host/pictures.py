"""Picture files of core nodes and previews: tensors to PNG with their graph, and back."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence
from PIL.PngImagePlugin import PngInfo

from ...unifashion_core.errors import ImageError, InputError
from .session import current

SavedFile = dict[str, str]
"""{"filename", "subfolder", "type"}: how the page asks for a file."""

# What Pillow raises for files that are damaged, no pictures, or far larger than they look.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_EMPTY_MASK = (64, 64)  # what ComfyUI gives for a picture without alpha


def save_images(
    images: torch.Tensor,
    prefix: str,
    kind: str,
    metadata: Mapping[str, Any],
    compress_level: int = 4,
) -> list[SavedFile]:
    """Write a batch as PNG files.

    Args:
        images: (B, H, W, C), 0..1, C of 1, 3 or 4.
        prefix: Start of the name, with subfolders; `%year%` and its like are filled in.
        kind: "output" or "temp".
        metadata: Text chunks to store; what is None is left out.
        compress_level: 0 (fast) to 9 (small).

    Raises:
        FolderError: If the prefix leaves the folder.
        InputError: If there are no pictures.
    """
    if not isinstance(images, torch.Tensor) or images.ndim != 4:
        raise InputError(
            f"Save images: got {type(images).__name__}, wanted a batch of pictures (B, H, W, C). "
            "Connect an IMAGE."
        )
    session = current()
    root = session.folders.output if kind == "output" else session.folders.temp
    height, width = int(images.shape[1]), int(images.shape[2])
    folder, stem, number, sub = session.folders.save_place(_filled(prefix, width, height), root)
    chunks = PngInfo()
    if session.metadata:
        for name, value in metadata.items():
            if value is not None:
                chunks.add_text(name, json.dumps(value))
    saved: list[SavedFile] = []
    for i, image in enumerate(images):
        name = f"{stem.replace('%batch_num%', str(i))}_{number + i:05}_.png"
        to_pil(image).save(folder / name, pnginfo=chunks, compress_level=compress_level)
        saved.append({"filename": name, "subfolder": sub, "type": kind})
    return saved


def _filled(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    known = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for name, value in known.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def to_pil(image: torch.Tensor) -> Image.Image:
    """(H, W, C) in 0..1 to 8 bits, cut off as ComfyUI does (not rounded)."""
    values = (image.float().cpu().numpy() * 255.0).clip(0, 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def load_image(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """A file as LoadImage gives it.

    Returns:
        Frames (B, H, W, 3) in 0..1, upright; masks (B, H, W), 1 where transparent.

    Raises:
        ImageError: If the file is no picture, damaged, or a decompression bomb.
    """
    try:
        return _load_image(path)
    except _UNREADABLE as e:
        raise ImageError(
            f"Load image: {path.name} can't be read ({e!s:.200}). Save it again as PNG or JPEG."
        ) from e


def _load_image(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with Image.open(path) as file:
        frames = [file] if file.format == "MPO" else ImageSequence.Iterator(file)
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        for frame in frames:
            image, mask = _frame(ImageOps.exif_transpose(frame))
            if not pairs or image.shape == pairs[0][0].shape:
                pairs.append((image, mask))
    return torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])


def _frame(picture: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    if picture.mode == "I":
        picture = picture.point(lambda value: value * (1 / 255))
    image = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0)
    if "A" in picture.getbands():
        alpha = picture.getchannel("A")
    elif picture.mode == "P" and "transparency" in picture.info:
        alpha = picture.convert("RGBA").getchannel("A")
    else:
        return image, torch.zeros(_EMPTY_MASK)
    return image, 1.0 - torch.from_numpy(np.asarray(alpha, dtype=np.float32) / 255.0)
