"""Pictures in and out: files to upright RGB within fixed limits, and to tensors and back.

Only JPEG, PNG and WebP are decoded, by their content and never by their suffix. The limits are
checked on the header, before a pixel is decoded.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from .errors import FolderError, ImageError, ShapeError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_SIDE = 16_384
MAX_FILE_PIXELS = 200_000_000
MAX_DECODED_PIXELS = 100_000_000
MAX_FILE_BYTES = 512 * 1024**2

DRAFT_MARGIN = 2
"""How much larger than needed a JPEG decoded small stays. Cosine of image features (Lite0, 40 sharp
photos) to those of the full decode: 0.964 or more at a margin of 1, 0.998 or more at 2."""

OnFolderError = Callable[[Path, str], None]

# What Pillow's decoders raise on damaged files; a decoder bug must not end an indexing run either.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    EOFError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)

_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(path: Path, *, min_side: int | None = None) -> Image.Image:
    """Read a picture as upright RGB: transparency on white, the first frame of an animation.

    Args:
        path: A JPEG, PNG or WebP file, of any suffix.
        min_side: Pixels that the shorter side is going to be scaled to. A JPEG is then decoded at
            1/2, 1/4 or 1/8 of its size, as long as `DRAFT_MARGIN` times these are left. None
            decodes the full size.

    Returns:
        The picture, mode RGB.

    Raises:
        ImageError: If the file is missing, empty, truncated, no such picture or outside the limits.
    """
    return decode_image(read_file(path), str(path), min_side=min_side)


def read_file(path: Path) -> bytes:
    """The bytes of a picture's file.

    Raises:
        ImageError: If it can't be read, is empty or holds more than `MAX_FILE_BYTES`.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise ImageError(
                    f"{path}: the file holds {size:,} bytes, at most {MAX_FILE_BYTES:,} are read. "
                    "Save it smaller."
                )
            data = file.read()
    except OSError as e:
        raise ImageError(
            f"{path}: can't be read ({e.strerror or e}). Check that it is there and may be read."
        ) from e
    if not data:
        raise ImageError(f"{path}: the file is empty (0 bytes). Copy it again from its source.")
    return data


def decode_image(data: bytes, where: str, *, min_side: int | None = None) -> Image.Image:
    """As `open_image`, from bytes in memory.

    Args:
        data: The content of the file.
        where: What to call it in an error.
        min_side: As in `open_image`.

    Returns:
        The picture, mode RGB.

    Raises:
        ImageError: As in `open_image`.
    """
    try:
        image = _open_header(data, where)
        if image is None:
            raise ImageError(
                f"{where}: not a picture that can be read, got {_describe(data)}. "
                "Save it as JPEG, PNG or WebP."
            )
        _check_limits(image.size, where, MAX_FILE_PIXELS)
        if min_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            side = DRAFT_MARGIN * min_side
            image.draft(None, (side, side))  # pyright: ignore[reportArgumentType] # None = keep
        _check_limits(image.size, where, MAX_DECODED_PIXELS)
        orientation = _orientation(image)
        image.load()
        rgb = _to_rgb(image)
    except ImageError:
        raise
    except _DECODE_ERRORS as e:
        raise ImageError(
            f"{where}: the picture is damaged or truncated ({e}). Copy it again from its source."
        ) from e
    turn = _UPRIGHT.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _open_header(data: bytes, where: str) -> Image.Image | None:
    """The plugin that the magic bytes name, with its header read and no pixel decoded.

    `Image.open` isn't used: its limit is a process-wide setting that also warns, and it would try
    every format that Pillow knows on files of unknown origin.
    """
    stream = io.BytesIO(data)
    if data[:3] == b"\xff\xd8\xff":
        return JpegImagePlugin.JpegImageFile(stream)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return PngImagePlugin.PngImageFile(stream)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _check_limits(_webp_size(data), where, MAX_DECODED_PIXELS)  # its plugin allocates at once
        return WebPImagePlugin.WebPImageFile(stream)
    return None


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _describe(data: bytes) -> str:
    kinds = {b"GIF8": "a GIF", b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF"}
    for magic, name in kinds.items():
        if data.startswith(magic):
            return name
    return f"bytes that begin with {data[:8].hex(' ')}"


def _check_limits(size: tuple[int, int], where: str, max_pixels: int) -> None:
    width, height = size
    if max(size) > MAX_SIDE or width * height > max_pixels:
        raise ImageError(
            f"{where}: {width:,} x {height:,} pixels, at most {MAX_SIDE:,} a side and "
            f"{max_pixels // 1_000_000} million in all are read. Scale it down."
        )
    if min(size) < 1:
        raise ImageError(f"{where}: {width} x {height} pixels. Copy it again from its source.")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none. An unreadable EXIF block turns nothing, as in "
    "viewers."""
    try:
        value = image.getexif().get(0x0112, 1)
    except _DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a channel, grey; convert() would clip at 255
        return _grey16_to_rgb(image)
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    grey = (values.clip(0, 65535) * 255 + 32767) // 65535
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey = np.where(values == clear, 255, grey)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        ImageError: If it can't be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as e:
        raise ImageError(
            f"{path}: can't be read ({e.strerror or e}). Check that it is there and may be read."
        ) from e
    return digest.hexdigest()


def iter_images(folder: Path, *, on_error: OnFolderError | None = None) -> Iterator[Path]:
    """The pictures in a folder and its subfolders, by suffix, sorted by their path.

    Hidden files and folders (a leading dot) are left out. A linked folder is not entered, and a
    linked file counts only when its target lies inside `folder`: indexing a folder never reads
    outside it.

    Args:
        folder: Where to look.
        on_error: Called with a subfolder that can't be listed and the reason; it is then left out.

    Yields:
        Paths below `folder`.

    Raises:
        FolderError: If `folder` can't be listed, or a subfolder where `on_error` is None.
    """
    root = folder.resolve()
    found: list[tuple[str, Path]] = []
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            entries = list(os.scandir(current))
        except OSError as e:
            reason = f"can't be listed ({e.strerror or e})"
            if on_error is None or current == folder:
                raise FolderError(
                    f"{current}: {reason}. Check that it is a folder and may be read."
                ) from e
            on_error(current, reason)
            continue
        for entry in entries:
            path = current / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif _is_image(entry, root):
                found.append((path.relative_to(folder).as_posix(), path))
    yield from (path for _, path in sorted(found))


def _is_image(entry: os.DirEntry[str], root: Path) -> bool:
    if not entry.name.lower().endswith(SUFFIXES) or not entry.is_file():
        return False
    return not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(root)


def to_tensor(image: Image.Image) -> torch.Tensor:
    """A picture as ComfyUI holds it.

    Args:
        image: Any mode; taken as RGB.

    Returns:
        Values in 0..1, (H, W, 3), float32.
    """
    import torch  # the rest of this file serves processes that never load torch

    values = np.array(image.convert("RGB"), dtype=np.float32)
    return torch.as_tensor(values).div_(255.0)


def to_pil(image: torch.Tensor) -> Image.Image:
    """The picture of a tensor, rounded to 8 bits.

    Args:
        image: Values in 0..1 (clipped), (H, W, 3).

    Returns:
        The picture, mode RGB.

    Raises:
        ShapeError: If the tensor has another shape.
    """
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ShapeError(
            f"image: shape {tuple(image.shape)}, wanted (H, W, 3). Give one RGB image."
        )
    values = image.detach().float().cpu().clamp(0.0, 1.0).mul_(255.0).round_()
    return Image.fromarray(values.numpy().astype(np.uint8))
