"""Put a garment on a person.

  run.py tryon --person photo.jpg --garment shirt.jpg --out worn.png
  run.py tryon --person photo.jpg --garment shirt.jpg skirt.jpg --region upper lower --out both.png
  run.py tryon --person photo.jpg --garment dress.jpg --mask mask.png --text "red dress" --out o.png

The result goes back into the photo at its full size: outside the mask every pixel stays as it was.
Several garments are put on one after the other, each on its region. The pocket model that ships is
small: it paints 128 x 128 pixels and knows drawn mannequins. For photos of people give a try-on
checkpoint with --model.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    from ._tryon import add_model_arguments, add_person_arguments

    parser.add_argument(
        "--person", type=Path, required=True, metavar="P", help="photo of a person (jpg, png, webp)"
    )
    parser.add_argument(
        "--garment",
        type=Path,
        nargs="+",
        required=True,
        metavar="G",
        help="garment, best flat on a plain ground; several are put on in turn",
    )
    parser.add_argument(
        "--region",
        nargs="+",
        metavar="R",
        help="upper, lower, dress or full; one a garment (default: upper, or what --mask marks)",
    )
    parser.add_argument("--text", default="", metavar="T", help="what the garment is, in words")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="O.png", help="the picture to write"
    )
    add_person_arguments(parser)
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prepare, paint, save."""
    if args.region is None:
        args.region = ["" if args.mask is not None else "upper"] * len(args.garment)
        if len(args.garment) > 1:
            args.parser.error(f"{len(args.garment)} garments: name a --region for each")
    if len(args.region) != len(args.garment):
        args.parser.error(f"{len(args.garment)} garments and {len(args.region)} regions")
    if len(args.garment) > 1 and (args.mask is not None or args.pose is not None):
        args.parser.error("--mask and --pose are of one garment; leave them out for several")

    from ...unifashion_core.rendering.item import (
        TryOnItem,
        Turn,
        prepare_garment,
        render_in_turn,
        render_items,
    )
    from ._progress import ProgressLine
    from ._tryon import finish, load_tools, open_picture, prepared, settings_of

    started = time.monotonic()
    photo, pictures = open_picture(args.person), [open_picture(g) for g in args.garment]
    tools, settings, step = (
        load_tools(args.model, args.attention, args.lora),
        settings_of(args),
        ProgressLine("painting"),
    )
    hints = [prepare_garment(tools, picture) for picture in pictures]
    if len(hints) == 1:
        person = prepared(tools, args, args.region[0], photo)
        item = TryOnItem(person, hints[0], args.text, args.seed)
        made = render_items(tools, [item], settings, on_step=step)
    else:
        turns = [Turn(h, r, args.text) for h, r in zip(hints, args.region, strict=True)]
        made = render_in_turn(tools, [photo], turns, settings, [args.seed], on_step=step)
    return finish(args, tools, made.results[0], made, started)
