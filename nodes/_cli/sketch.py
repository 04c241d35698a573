"""Draw garments as lines, or clean sketches that were drawn by hand.

  run.py sketch --garment shirt.jpg --out shirt_sketch.png
  run.py sketch --garment photos --out sketches --detail 0.8 --thickness 2
  run.py sketch --garment drawing.jpg --drawing --out drawing.png

Lines are white on black, as sketch models read them; the picture is as large as the photo as it is
displayed, with 8 bits of grey. On a plain ground the garment is cut out first, so that its outline
is whole.
A line a picture: {"path", "out", "source", "size", "warnings"} or {"path", "error"}.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--garment",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE|FOLDER",
        help="photos of garments, or drawings (jpg, png, webp), or folders of them",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.png|DIR",
        help="one sketch, or a folder for <stem>_sketch.png of each",
    )
    parser.add_argument(
        "--drawing", action="store_true", help="the pictures are drawings: clean their lines"
    )
    parser.add_argument(
        "--thickness",
        type=float,
        default=3.0,
        metavar="PIXELS",
        help="width of the lines in a picture of 1024, 0.5 to 16; 0 keeps a drawing's own lines "
        "(default: 3)",
    )
    parser.add_argument(
        "--detail",
        type=float,
        default=0.5,
        metavar="D",
        help="0 = outline and main seams, 1 = every fold and print (default: 0.5)",
    )
    parser.add_argument("--black-on-white", action="store_true", help="dark lines on a light page")


def run(args: argparse.Namespace) -> int:
    """Draw; 1 only when every picture failed."""
    from ._jobs import picture_jobs, run_jobs

    jobs = picture_jobs(args.garment, args.out, "_sketch")
    return run_jobs(jobs, lambda path, out: _draw(args, path, out), args.json)


def _draw(args: argparse.Namespace, path: Path, out: Path) -> dict[str, Any]:
    """Write one sketch; what to tell of it."""
    from ...unifashion_core.imaging import open_image, to_pil, to_tensor
    from ...unifashion_core.prepare.sketch import SketchStyle, on_paper, sketch
    from ._jobs import save_picture

    image = to_tensor(open_image(path))
    mask = None if args.drawing else _garment(image)
    kind = "drawing" if args.drawing else "photo"
    lines = sketch(image, mask, SketchStyle(args.thickness, args.detail), kind)
    picture = to_pil(on_paper(lines, args.black_on_white)).convert("L")
    source = "drawing" if args.drawing else "garment" if mask is not None else "whole picture"
    return {
        "source": source,
        "size": list(picture.size),
        "warnings": save_picture(picture, out),
    }


def _garment(image: torch.Tensor) -> torch.Tensor | None:
    """The garment's mask where its ground is plain."""
    from ...unifashion_core.prepare.background import garment_region
    from ...unifashion_core.prepare.garment import cut_region

    region = garment_region(image)
    return None if region is None else cut_region(image, region, "plain ground").mask
