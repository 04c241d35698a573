"""Measure an encoder on labelled pictures.

  bench encoder --data FOLDER    how well it finds what it should, on photos that no training saw

FOLDER is the unpacked clothing-dataset-small (CC0); the held-out photos, their labels and the
prompts are the committed ones. Every figure comes with its n; a class, cell or target counts when
at least ten photos are relevant.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("what", choices=("encoder",), help="what to measure")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="folder with the photos"
    )
    parser.add_argument(
        "--encoder",
        default="pocket",
        metavar="PATH",
        help="'pocket' or a checkpoint (default: pocket)",
    )
    parser.add_argument(
        "--tower", type=Path, metavar="PATH", help="its tower, where the checkpoint holds none"
    )
    parser.add_argument(
        "--attention",
        choices=("auto", "xformers", "sdpa", "math"),
        default="auto",
        help="attention that the network computes with (default: auto)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when the measuring ended."""
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.encoder.checkpoint import load_encoder
    from ...unifashion_core.encoder.encoder import MultimodalEncoder
    from ...unifashion_core.errors import AbilityError
    from ...unifashion_core.evaluation.encoder import evaluate_encoder
    from ...unifashion_core.pocket import BERT_VOCABULARY, EFFICIENTNET_LITE0, ENCODER
    from ...unifashion_core.pocket.photos import check_folder, read_photos

    photos = [p for p in read_photos() if p.held_out]
    check_folder(args.data, photos)
    pocket = args.encoder == "pocket"
    encoder = load_encoder(
        ENCODER if pocket else Path(args.encoder),
        tower=EFFICIENTNET_LITE0 if pocket and args.tower is None else args.tower,
        attention=choose_attention(args.attention),
        bert_vocabulary=BERT_VOCABULARY,
    )
    if not isinstance(encoder, MultimodalEncoder):
        raise AbilityError(
            f"bench encoder {args.encoder}: a single-vector model has no composed mode. "
            "Give a multimodal encoder."
        )
    report = evaluate_encoder(encoder, args.data, photos, on_step=_show)
    report["fingerprint"] = encoder.fingerprint
    print(json.dumps(report, indent=1) if args.json else "\n".join(_lines(report)))
    return 0


def _show(done: int, total: int) -> None:
    if sys.stderr.isatty() or done == total:
        sys.stderr.write(f"\rencoded {done}/{total}{chr(10) if done == total else ''}")
        sys.stderr.flush()


def _lines(report: dict[str, Any]) -> list[str]:
    """A line a figure, without the long tables."""
    lines: list[str] = []
    for name, value in report.items():
        if isinstance(value, dict):
            shown = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
            parts = (
                f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()
            )
            lines.append(f"{name}: {', '.join(parts)}")
        else:
            lines.append(f"{name}: {value}")
    return lines
