"""Design a garment from words, and from a sketch where there is one.

  run.py design --text "a blue dress with white dots" --out dress.png
  run.py design --text "a red shirt" --sketch drawing.png --person photo.jpg --out worn.png
  run.py design --text "a green skirt" --region lower --out skirt.png

Without --person a neutral mannequin wears it, and the notes say so; with --pose alone the whole
picture is made after that pose map.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...unifashion_core.rendering.item import PreparedPerson, TryOnTools

_GUIDANCE = 4.0  # the core's DESIGN_GUIDANCE; to import it here would slow --help down


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    from ._tryon import add_model_arguments, add_person_arguments

    parser.add_argument(
        "--text", required=True, metavar="T", help="what to design: kind, colours, pattern"
    )
    parser.add_argument(
        "--sketch", type=Path, metavar="S", help="drawing to follow; its colours come from the text"
    )
    parser.add_argument("--person", type=Path, metavar="P", help="photo of who wears it")
    parser.add_argument(
        "--region",
        metavar="R",
        help="upper, lower, dress or full (default: told by the text, else upper)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="O.png", help="the picture to write"
    )
    add_person_arguments(parser)
    add_model_arguments(parser, _GUIDANCE)


def run(args: argparse.Namespace) -> int:
    """Prepare, paint, save."""
    if args.mask is not None and args.person is None:
        args.parser.error("--mask marks a photo: give --person too")
    if not args.text.strip():
        args.parser.error("--text is empty: say what to design")

    from ...unifashion_core.rendering.item import TryOnItem, prepare_garment, render_items
    from ._progress import ProgressLine
    from ._tryon import finish, load_tools, open_picture, settings_of

    started = time.monotonic()
    sketch = None if args.sketch is None else open_picture(args.sketch)
    tools, settings = load_tools(args.model, args.attention, args.lora), settings_of(args)
    hint = None if sketch is None else prepare_garment(tools, sketch, "sketch")
    item = TryOnItem(_who(tools, args), hint, args.text, args.seed)
    made = render_items(tools, [item], settings, on_step=ProgressLine("painting"))
    return finish(args, tools, made.results[0], made, started)


def _who(tools: TryOnTools, args: argparse.Namespace) -> PreparedPerson:
    """The person, a page in a pose, or the mannequin."""
    from ...unifashion_core.errors import InputError
    from ...unifashion_core.rendering.mannequin import prepare_mannequin
    from ...unifashion_core.rendering.prepared import prepare_canvas
    from ._tryon import open_picture, prepared, read_pose, region_of

    region = args.region or region_of(args.text)
    if args.person is not None:
        if args.mask is not None:
            region = args.region or ""
        return prepared(tools, args, region, open_picture(args.person))
    if args.pose is None:
        return prepare_mannequin(tools, region)
    pose = read_pose(args.pose).get("pose")
    if pose is None:
        raise InputError(
            f"{args.pose}: keypoints and no photo of a person. Give --person, or a pose map's "
            "picture."
        )
    return prepare_canvas(tools, pose)
