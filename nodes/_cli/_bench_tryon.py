"""`bench tryon`: how fast try-on sampling is beside the reference's way, and how alike the pictures
of few steps are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _bench_tryon_quality
from ._progress import ProgressLine
from ._tryon import load_tools

if TYPE_CHECKING:
    from ...unifashion_core.evaluation.tryon_bench import BenchGarment, BenchPerson
    from ...unifashion_core.rendering.tools import TryOnTools

_PERSONS, _GARMENTS = 4, 4
_SETTINGS = ("solver", "steps", "spacing", "garment_guidance")
_REGION, _HEIGHT = "upper", 320
_FIRST_PERSON, _FIRST_GARMENT = 77_001, 78_001  # far from what training draws


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The measure's own arguments."""
    parser.add_argument(
        "--model",
        default="pocket",
        metavar="PATH",
        help="tryon: 'pocket', a checkpoint or a folder of ours (default: pocket)",
    )
    parser.add_argument("--solver", metavar="NAME", help="tryon: few-step solver to measure")
    parser.add_argument("--steps", type=int, metavar="N", help="tryon: its steps")
    parser.add_argument("--spacing", metavar="NAME", help="tryon: how its time steps lie")
    parser.add_argument(
        "--garment-guidance",
        type=float,
        metavar="G",
        help="tryon --data: how strongly the garment leads (default: the model's own)",
    )
    parser.add_argument(
        "--seeds", type=int, default=4, metavar="N", help="tryon: seeds an item (default: 4)"
    )
    parser.add_argument(
        "--records",
        type=int,
        default=64,
        metavar="N",
        help="tryon --data: held-out garments to paint (default: 64)",
    )
    parser.add_argument(
        "--judge-records",
        type=int,
        metavar="N",
        help="tryon --data: true renders that the judges learn from at most (default: 3000)",
    )
    parser.add_argument(
        "--judge-steps",
        type=int,
        metavar="N",
        help="tryon --data: training steps of each judge (default: 4500 and 2600)",
    )
    parser.add_argument(
        "--judges",
        type=Path,
        metavar="FOLDER",
        help="tryon --data: where trained judges are kept for the next time (default: the user's "
        "cache)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when the measuring ended."""
    from ...unifashion_core.evaluation.tryon_bench import measure_tryon
    from ...unifashion_core.pocket import CLIP_MERGES
    from ...unifashion_core.tryon.sampling import SamplerSettings
    from ...unifashion_core.tryon.tokens import ClipTokenizer

    given = {name: getattr(args, name) for name in _SETTINGS}
    settings = SamplerSettings(**{k: v for k, v in given.items() if v is not None})
    tools = load_tools(args.model, args.attention)
    model = tools.model
    if args.data is not None:
        return _bench_tryon_quality.run(args, model, settings)
    figures = measure_tryon(
        model,
        ClipTokenizer(CLIP_MERGES),
        _persons(tools),
        _garments(tools),
        settings,
        seeds=args.seeds,
        on_step=ProgressLine("measuring"),
    )
    print(json.dumps(figures) if args.json else "\n".join(_lines(figures)))
    return 0


def _persons(tools: TryOnTools) -> list[BenchPerson]:
    """Drawn persons, prepared as photos are."""
    from ...unifashion_core.evaluation.tryon_bench import BenchPerson
    from ...unifashion_core.imaging import to_tensor
    from ...unifashion_core.rendering.prepared import prepare_person
    from ...unifashion_core.wardrobe.person import sample_person
    from ...unifashion_core.wardrobe.person_render import render_person

    found: list[BenchPerson] = []
    for seed in range(_FIRST_PERSON, _FIRST_PERSON + _PERSONS):
        photo = to_tensor(render_person(sample_person(seed, framing="full"), _HEIGHT).image)
        made = prepare_person(tools, photo, _REGION)
        found.append(BenchPerson(made.crop, made.crop_mask, made.pose))
    return found


def _garments(tools: TryOnTools) -> list[BenchGarment]:
    """Flat tops of the wardrobe on white, each with its caption."""
    from ...unifashion_core.evaluation.tryon_bench import BenchGarment
    from ...unifashion_core.imaging import to_tensor
    from ...unifashion_core.rendering.prepared import prepare_garment
    from ...unifashion_core.training.describe import garment_attributes
    from ...unifashion_core.training.grammar import full_caption
    from ...unifashion_core.wardrobe.garment import sample_garment
    from ...unifashion_core.wardrobe.person import sample_person
    from ...unifashion_core.wardrobe.person_render import render_person

    found: list[BenchGarment] = []
    patterns = ("plain", "stripes", "dots", "checks")
    for seed, pattern in enumerate(patterns[:_GARMENTS], _FIRST_GARMENT):
        garment = sample_garment(seed, category="longsleeve", pattern=pattern)
        drawn = render_person(sample_person(seed, garment), _HEIGHT)
        hint = prepare_garment(tools, to_tensor(drawn.flat[_REGION])).hint
        found.append(BenchGarment(hint, full_caption(garment_attributes(garment))))
    return found


def _lines(figures: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines.append(name + ": " + ", ".join(f"{k} {v:.3g}" for k, v in value.items()))
        else:
            lines.append(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    return lines
