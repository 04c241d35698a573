"""Compare the networks with reference vectors of the paper's own code.

Finds every reference set in FOLDER by its files (NAME_io.safetensors, NAME_meta.json,
NAME_weights.safetensors), computes its outputs with our networks on the CPU in float32, and prints
one line a set: the largest error and the tolerance. A set holds only when every output tensor was
compared. Exit 0 when all sets hold, else 1.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, replace
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with reference sets")
    parser.add_argument(
        "--only",
        metavar="KINDS",
        help="kinds to compare, such as eva_vit,qformer,losses,preprocess; others are left out",
    )
    parser.add_argument(
        "--attention",
        choices=("auto", "xformers", "sdpa", "math"),
        default="auto",
        help="attention that the networks compute with (default: auto)",
    )


def run(args: argparse.Namespace) -> int:
    """Compare and print; 0 when every set holds."""
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.evaluation.parity import check_folder
    from ...unifashion_core.evaluation.reference_sets import SetResult

    def show(result: SetResult) -> None:
        if not args.json:
            print(result.line(), flush=True)

    only = None
    if args.only is not None:
        only = [kind.strip() for kind in args.only.split(",") if kind.strip()]
    attention = choose_attention(args.attention)
    results = check_folder(args.folder, attention, only=only, on_result=show)
    ok = all(result.ok for result in results)
    if args.json:
        # NaN is no JSON; `problems` names it.
        sets = [asdict(replace(r, error=r.error if _is_number(r.error) else None)) for r in results]
        print(json.dumps({"ok": ok, "sets": sets}, indent=1))
    return 0 if ok else 1


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
