"""Measure how well an encoder finds, how well masks fit, and how fast search and try-on are.

  bench encoder --data FOLDER    how well it finds what it should, on photos that no training saw
  bench caption --data FOLDER    what it says of those photos: captions, attributes, fused search
  bench masks --data FOLDER      agnostic masks of photos whose parse maps are known; with --out DIR
                                 a sheet of every mask, pose map, cut-out and sketch to look at
  bench retrieval                an exact search of 50,000 images beside other ways to do it
  bench tryon                    16 try-ons in a batch beside one by one, and few steps beside 50
  bench tryon --data FOLDER      how well garments arrive on mannequins that it never saw; FOLDER is
                                 made by `train pairs` (train, and test with --changed 1: persons
                                 who wore something else before); with --out DIR a sheet

FOLDER is the unpacked clothing-dataset-small (CC0); the held-out photos, their labels and the
prompts are the committed ones. For masks it holds bundles (person.jpg, parse.png and keypoints);
with --out any photos of persons and garments will do. Every figure comes with its n; a class, cell
or target counts when at least ten photos are relevant. `bench retrieval` makes its features itself,
and lets all engines take turns in one process; a million images take 26 GB of disk for a while.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from . import _bench_retrieval, _bench_tryon


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "what",
        choices=("encoder", "caption", "masks", "retrieval", "tryon"),
        help="what to measure",
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder with the photos")
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
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="of masks and of tryon --data: a sheet to look at"
    )
    _bench_retrieval.add_arguments(parser)
    _bench_tryon.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when the measuring ended."""
    if args.what in ("retrieval", "tryon"):
        return (_bench_retrieval if args.what == "retrieval" else _bench_tryon).run(args)
    if args.data is None:
        args.parser.error(f"bench {args.what} needs --data FOLDER")
    return _run_masks(args) if args.what == "masks" else _run_photos(args)


def _run_masks(args: argparse.Namespace) -> int:
    import torch

    from ...unifashion_core.evaluation.masks import evaluate_masks, has_bundles
    from ...unifashion_core.pocket import MEDIAPIPE
    from ...unifashion_core.prepare.person import find_person, load_networks

    networks = load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)
    report: dict[str, Any] = {}
    if args.out is None or has_bundles(args.data):
        report = evaluate_masks(args.data, lambda im: find_person(im, networks), on_step=_show)
    if args.json:
        print(json.dumps(report, indent=1), flush=True)
    else:
        _print_masks(report)
    if args.out is not None:
        from ._prepare_sheet import write_sheet
        from ._progress import ProgressLine

        page = write_sheet(args.data, args.out, networks, report, ProgressLine("preparing"))
        print(f"sheet: {page}", file=sys.stderr)
    return 0


def _print_masks(report: dict[str, Any]) -> None:
    for name, table in report.items():
        figures = table.get("mean") or {k: v["no_person"] for k, v in table.items()}
        shown = ", ".join(f"{key} {value:.3f}" for key, value in figures.items())
        print(f"{name}: {shown}", flush=True)


def _run_photos(args: argparse.Namespace) -> int:
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.encoder.checkpoint import load_encoder
    from ...unifashion_core.encoder.encoder import MultimodalEncoder
    from ...unifashion_core.errors import AbilityError
    from ...unifashion_core.evaluation.caption_bench import evaluate_captions
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
            f"bench {args.what} {args.encoder}: a single-vector model has no composed mode. "
            "Give a multimodal encoder."
        )
    measure = evaluate_captions if args.what == "caption" else evaluate_encoder
    report = measure(encoder, args.data, photos, on_step=_show)
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
