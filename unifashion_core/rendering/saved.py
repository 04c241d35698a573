"""A made picture's file: PNG, JPEG or WebP, with what it was made from inside.

Nothing depends on what stands in the file: it is for people, and for dragging into the page.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ..errors import ImageError, InputError
from ..imaging import read_file

FORMATS: Mapping[str, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
PARAMETERS = "unifashion"
"""Key of the parameters among a PNG's texts."""

_QUALITY = 95
_DESCRIPTION = 0x010E  # EXIF ImageDescription


def encode_picture(
    picture: Image.Image, kind: str, parameters: Mapping[str, Any], texts: Mapping[str, Any]
) -> bytes:
    """The bytes of a picture's file.

    Args:
        picture: RGB.
        kind: Of `FORMATS`.
        parameters: What it was made from; empty: the file tells nothing.
        texts: Further JSON values of a PNG, such as ComfyUI's "prompt" and "workflow".

    Raises:
        InputError: If the kind is unknown.
    """
    if kind not in FORMATS:
        raise InputError(f"picture format '{kind}': wanted {', '.join(FORMATS)}. Choose one.")
    buffer = io.BytesIO()
    if kind == "png":
        info = PngImagePlugin.PngInfo()
        for name, value in {**texts, PARAMETERS: parameters}.items():
            if value:
                info.add_text(name, json.dumps(value))
        picture.save(buffer, format="PNG", pnginfo=info, compress_level=4)
        return buffer.getvalue()
    exif = Image.Exif()
    if parameters:
        exif[_DESCRIPTION] = json.dumps({PARAMETERS: parameters})
    more = {"subsampling": 0} if kind == "jpeg" else {}
    picture.save(buffer, format=kind.upper(), quality=_QUALITY, exif=exif, **more)
    return buffer.getvalue()


def read_parameters(path: Path) -> dict[str, Any]:
    """What a picture of a run says of itself.

    Raises:
        ImageError: If the file can't be read.
        InputError: If it says nothing.
    """
    data = read_file(path)
    try:
        found: object = json.loads(_said(data))
    except (OSError, SyntaxError) as e:
        raise ImageError(f"{path}: can't be read ({e}). Give a picture that render made.") from e
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(
            f"{path}: says nothing of how it was made. Give a picture that render made of a plan."
        ) from e
    if not isinstance(found, dict):
        raise InputError(f"{path}: its parameters are no object. Give another picture.")
    return cast("dict[str, Any]", found)


def _said(data: bytes) -> str:
    """The parameters in a file, as JSON."""
    stream = io.BytesIO(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return str(PngImagePlugin.PngImageFile(stream).text[PARAMETERS])
    webp = data[:4] == b"RIFF"
    image = (WebPImagePlugin.WebPImageFile if webp else JpegImagePlugin.JpegImageFile)(stream)
    described = json.loads(str(image.getexif().get(_DESCRIPTION, "")))
    return json.dumps(described[PARAMETERS])
