"""`bench retrieval`: how long an exact search takes beside other ways to do it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._progress import ProgressLine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The measure's own arguments."""
    parser.add_argument(
        "--images", type=int, default=50_000, metavar="N", help="retrieval: images (default: 50000)"
    )
    parser.add_argument(
        "--k", type=int, default=100, metavar="K", help="retrieval: hits of a query (default: 100)"
    )
    parser.add_argument(
        "--kernel", metavar="NAME", help="retrieval: what scans, such as torch (default: fastest)"
    )
    parser.add_argument(
        "--room", type=Path, metavar="DIR", help="retrieval: where large files may be made"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when the measuring ended."""
    from ...unifashion_core.errors import InputError
    from ...unifashion_core.evaluation.retrieval import (
        measure_retrieval,
        need_bytes,
        on_disk,
        peak_bytes,
    )
    from ...unifashion_core.evaluation.store_bench import measure_store

    room = Path(args.room or tempfile.gettempdir())
    free, wanted = shutil.disk_usage(room).free, need_bytes(args.images)
    if on_disk(args.images) and free < wanted:
        raise InputError(
            f"bench retrieval: {args.images:,} images take {wanted / 1e9:.0f} GB, {room} has "
            f"{free / 1e9:.0f} GB free. Give another folder by --room, or fewer --images."
        )
    figures = measure_retrieval(
        args.images,
        args.k,
        kernel=args.kernel,
        folder=room,
        store_figures=measure_store,
        on_step=ProgressLine("measuring"),
    )
    print(json.dumps(figures) if args.json else "\n".join(_lines(figures)))
    peak = peak_bytes()
    if peak is not None:
        print(f"peak memory: {peak / 1e9:.1f} GB", file=sys.stderr)
    return 0


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    for name, value in figures.items():
        if not isinstance(value, dict):
            yield f"{name}: {value}"
            continue
        yield f"{name}:"
        for inner, number in value.items():
            yield f"  {inner}: {'not measured' if number is None else f'{number:.3g}'}"
