"""Run a workflow once for each line of a table, here or on ComfyUI servers; resumable.

  run.py render workflow.json --items shots.csv --out summer
  run.py render workflow.json --set "KSampler.steps=30" --items shots.csv --out summer
  run.py render workflow.json --items shots.csv --out summer --server http://127.0.0.1:8188
                              --server https://gpu.example.org/comfy --header "Authorization=…"

A workflow is any of ComfyUI's in API format (Workflow > Export (API)). The table (csv, jsonl or
json) has a column for each input that changes, named NODE.INPUT: NODE is the node's number or its
title, such as "3.seed" or "Load Image.image". An empty cell leaves the workflow's own value; files
are looked for beside the table.

What the workflow's output nodes save goes into DIR, named by the item's place, its id and the node,
each picture as it is made. DIR/manifest.jsonl says what was made, from which seed, and what failed
and why. Stop it whenever you like: the same command goes on where it was, and makes nothing twice
that is there and whole. Lines of the table may be added, changed or removed meanwhile. Exit code 1
only if nothing could be made.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("what", type=Path, metavar="WORKFLOW", help="a workflow in API format")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="change the workflow for all items; as often as you like",
    )
    parser.add_argument(
        "--items", type=Path, metavar="FILE", help="the table: csv, jsonl or json (default: once)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where it goes")
    parser.add_argument(
        "--only", metavar="I,J-K", help="only these lines of the table, counted from 0"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only count what is there, what is to make, and time"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="begin anew; DIR has to be empty or absent"
    )
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="URL",
        help="a ComfyUI to run it on; several share the work (default: this machine, in this "
        "process, with the pack's own nodes and the few core nodes that it brings)",
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="sent to every server, such as an Authorization",
    )
    here = parser.add_argument_group("on this machine")
    here.add_argument("--input", type=Path, metavar="DIR", help="ComfyUI's input folder")
    here.add_argument("--models", type=Path, metavar="DIR", help="ComfyUI's models folder")
    here.add_argument(
        "--galleries", type=Path, metavar="DIR", help="where galleries are looked up by name"
    )


def run(args: argparse.Namespace) -> int:
    """Render; 0 when the job ended, also with items that failed."""
    from ._render_workflow import run_workflow

    here = [name for name in ("input", "models", "galleries") if getattr(args, name) is not None]
    if args.server and here:
        args.parser.error(f"--{here[0]} is for this machine; a server has its own folders")
    if args.header and not args.server:
        args.parser.error("--header goes with --server")
    return run_workflow(args)
