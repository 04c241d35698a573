"""Pictures in, pictures out: which file each picture of a command becomes, and how it is told."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...unifashion_core.errors import InputError, UniFashionError

if TYPE_CHECKING:
    from PIL import Image

LOSSY = "JPEG is lossy: pixels differ a little from what was made. Use .png to keep them exactly."
DEEP = "The photo has 16 bits a channel; the result has 8."
_PICTURES = (".png", ".jpg", ".jpeg")


def picture_jobs(inputs: Sequence[Path], out: Path, ending: str) -> list[tuple[Path, Path]]:
    """Each picture with the file that it becomes.

    Args:
        inputs: Files, and folders of which every picture is meant.
        out: A file for one picture, or a folder for `<stem><ending>.png` of each; it is made.
        ending: Such as "_sketch".

    Raises:
        InputError: If nothing is there, or two pictures would become one file.
    """
    from ...unifashion_core.imaging import iter_images

    found: list[Path] = []
    for path in inputs:
        found += iter_images(path) if path.is_dir() else [path]
    if not found:
        raise InputError(f"{inputs[0]}: no picture in it (jpg, png, webp). Give another folder.")
    if out.suffix.lower() in _PICTURES and not out.is_dir():
        if len(found) > 1:
            raise InputError(f"{out}: one file for {len(found)} pictures. Give a folder.")
        out.parent.mkdir(parents=True, exist_ok=True)
        return [(found[0], out)]
    stems: dict[str, Path] = {}
    for path in found:
        other = stems.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise InputError(
                f"{other} and {path} would both be {path.stem}{ending}.png. Rename one, or give "
                "them one after the other with folders of their own."
            )
    out.mkdir(parents=True, exist_ok=True)
    return [(path, out / f"{path.stem}{ending}.png") for path in found]


def run_jobs(
    jobs: Sequence[tuple[Path, Path]],
    make: Callable[[Path, Path], dict[str, Any]],
    as_json: bool,
) -> int:
    """Do each job and print a line of it; 1 only when every one failed.

    Args:
        jobs: From `picture_jobs`.
        make: Writes a picture's file and gives what to tell of it.
        as_json: Print JSON lines.
    """
    failed = 0
    for path, out in jobs:
        line: dict[str, Any] = {"path": str(path)}
        try:
            line |= {"out": str(out)} | make(path, out)
        except (UniFashionError, OSError) as e:
            failed += 1
            line["error"] = str(e)
        if as_json:
            print(json.dumps(line), flush=True)
        elif "error" in line:
            print(f"{path}: {line['error']}", file=sys.stderr)
        else:
            width, height = line["size"]
            print(f"{out}: {width} x {height}, {line['source']}")
            for warning in line["warnings"]:
                print(f"  {warning}", file=sys.stderr)
    return 1 if failed == len(jobs) else 0


def depth_warning(path: Path) -> list[str]:
    """What to say of a PNG with 16 bits a channel, which everything here rounds to 8."""
    with path.open("rb") as file:
        head = file.read(25)
    return [DEEP] if head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:] == b"\x10" else []


def save_picture(picture: Image.Image, out: Path) -> list[str]:
    """Write a picture beside its target first; warnings of the format.

    A JPEG has no alpha: what is transparent is laid on white.
    """
    from PIL import Image

    lossy = out.suffix.lower() in (".jpg", ".jpeg")
    if lossy and "A" in picture.getbands():
        ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")
    part = out.with_name(f".{out.name}.part")
    try:
        if lossy:
            picture.save(part, format="JPEG", quality=95, subsampling=0)
        else:
            picture.save(part, format="PNG")
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return [LOSSY] if lossy else []
