"""`bench tryon --data`: what a try-on model paints on mannequins that it never saw."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ._progress import ProgressLine

if TYPE_CHECKING:
    from ...unifashion_core.tryon.checkpoint import TryOnModel
    from ...unifashion_core.tryon.sampling import SamplerSettings

_SEEDS = (0, 1, 2, 3)


def run(args: argparse.Namespace, model: TryOnModel, settings: SamplerSettings) -> int:
    """Train the judges, paint, measure and print; with --out write the sheet."""
    import torch

    from ...unifashion_core.evaluation.tryon_judges import (
        judge_patterns,
        read_targets,
        train_outline_judge,
        train_pattern_judge,
    )
    from ...unifashion_core.evaluation.tryon_painter import RecordPainter
    from ...unifashion_core.evaluation.tryon_quality import measure, paint_all
    from ...unifashion_core.evaluation.tryon_sheet import write_sheet
    from ...unifashion_core.pocket import CLIP_MERGES
    from ...unifashion_core.tryon.tokens import ClipTokenizer

    size = model.config.size
    shown = read_targets(args.data, "train", size, args.judge_records)
    steps = args.judge_steps
    line = ProgressLine("judges")
    patterns = train_pattern_judge(shown, steps=steps, on_step=line)
    outlines = train_outline_judge([j.record for j in shown], steps=steps, on_step=line)
    records = read_targets(args.data, "test", size, args.records)
    painter = RecordPainter(model, ClipTokenizer(CLIP_MERGES), settings, ProgressLine("painting"))
    painted = paint_all(records, painter, painter.ceiling(records), _SEEDS[: args.seeds])
    figures = measure(records, painted, patterns, outlines)
    if args.out is not None:
        worn = torch.stack([j.record.worn * j.record.mask for j in records])
        judged = judge_patterns(patterns, painted.garment[0], worn)
        page = write_sheet(Path(args.out), records, painted, figures, judged)
        print(f"sheet: {page}", file=sys.stderr)
    if args.json:
        print(json.dumps(figures))
    else:
        for part, values in figures.items():
            print(f"{part}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
    return 0
