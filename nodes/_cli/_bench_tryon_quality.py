"""`bench tryon --data`: what a try-on model paints on mannequins that it never saw."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ._progress import ProgressLine

if TYPE_CHECKING:
    from ...unifashion_core.tryon.checkpoint import TryOnModel
    from ...unifashion_core.tryon.sampling import SamplerSettings

_SEEDS = (0, 1, 2, 3)
_JUDGES = 2


def run(args: argparse.Namespace, model: TryOnModel, settings: SamplerSettings) -> int:
    """Read or train the judges, paint, measure and print; with --out write the sheet."""
    import torch

    from ...unifashion_core.evaluation.tryon_judge_store import JudgeSchool, kept_judges
    from ...unifashion_core.evaluation.tryon_judges import judge_patterns, read_targets
    from ...unifashion_core.evaluation.tryon_painter import RecordPainter
    from ...unifashion_core.evaluation.tryon_quality import measure, paint_all
    from ...unifashion_core.evaluation.tryon_sheet import write_sheet
    from ...unifashion_core.pocket import CLIP_MERGES
    from ...unifashion_core.tryon.tokens import ClipTokenizer
    from ._homes import data_folder

    size = model.config.size
    school = JudgeSchool(args.data, size)
    given = {
        "records": args.judge_records,
        "pattern_steps": args.judge_steps,
        "outline_steps": args.judge_steps,
    }
    school = replace(school, **{k: v for k, v in given.items() if v is not None})
    folder = args.judges or data_folder() / "cache"
    judges = kept_judges(school, folder, ProgressLine("judges"))
    patterns, outlines = judges.patterns, judges.outlines
    for path in judges.read:
        print(f"judge read, trained before: {path}", file=sys.stderr)
    if len(judges.read) < _JUDGES:
        print(f"judges trained now and kept in {folder}", file=sys.stderr)
    records = read_targets(args.data, "test", size, args.records)
    painter = RecordPainter(model, ClipTokenizer(CLIP_MERGES), settings, ProgressLine("painting"))
    painted = paint_all(records, painter, painter.ceiling(records), _SEEDS[: args.seeds])
    figures = measure(records, painted, patterns, outlines)
    figures["judges"]["trained_now"] = float(_JUDGES - len(judges.read))
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
