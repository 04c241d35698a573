"""Make a collection of pictures, here or on ComfyUI servers; resumable.

  run.py render workflow.json --items shots.csv --out summer
  run.py render workflow.json --set "KSampler.steps=30" --items shots.csv --out summer
  run.py render workflow.json --items shots.csv --out summer --server http://127.0.0.1:8188
                              --server https://gpu.example.org/comfy --header "Authorization=…"
  run.py render plan.csv --out lookbook --product
  run.py render --show lookbook/00003_ana_tee_7_1a2b3c4d.png

A WORKFLOW is any of ComfyUI's in API format (Workflow > Export (API)); it is run once for each line
of the table. The table (csv, jsonl or json) has a column for each input that changes, named
NODE.INPUT: NODE is the node's number or its title, such as "3.seed" or "Load Image.image". An empty
cell leaves the workflow's own value; files are looked for beside the table.

A PLAN is a table of try-ons: columns person, garment, sketch (files beside it), region, prompt,
seed, and settings such as steps; --product combines every value with every other. As .json it may
also be lists to combine: {"persons": [...], "garments": ["folder"], "prompts": ["in {red|blue}"],
"seeds": {"kind": "counted", "repeats": 2}}.

Pictures go into DIR, each as it is made. DIR/manifest.jsonl says what was made, from which seed,
and what failed and why; DIR/index.html shows it. Stop it whenever you like: the same command goes
on where it was, and makes nothing twice that is there and whole. Lines may be added, changed or
removed meanwhile. Each picture of a plan gets a score, how like its garment it is by the encoder:
the page sorts by it. Exit code 1 only if nothing could be made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ._encoder import add_encoder_arguments
from ._tryon import add_lora_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "what", type=Path, nargs="?", metavar="WORKFLOW|PLAN", help="what to make; see above"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where it goes")
    parser.add_argument(
        "--show", type=Path, metavar="PICTURE", help="print how a picture of a plan was made"
    )
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
    plan = parser.add_argument_group("with a plan")
    plan.add_argument("--product", action="store_true", help="combine every value with every other")
    plan.add_argument("--where", default="", metavar="FILTER", help="only items such as seed<5")
    plan.add_argument("--model", default="pocket", metavar="pocket|PATH", help="the try-on model")
    add_lora_argument(plan.add_argument)
    plan.add_argument(
        "--name",
        default="{index:05}_{person}_{garment}_{seed}",
        metavar="TEMPLATE",
        help="of the files; fields: index, person, garment, region, prompt, seed, date, id, id8; "
        "a / makes folders",
    )
    plan.add_argument("--format", default="png", choices=("png", "jpeg", "webp"))
    plan.add_argument(
        "--batch", type=int, default=8, metavar="N", help="pictures painted together at most"
    )
    plan.add_argument(
        "--no-scores",
        action="store_true",
        help="don't measure how like its garment each picture is",
    )
    parser.add_argument(
        "--add-to",
        metavar="GALLERY",
        help="also put what was made into this gallery, with captions, to search it",
    )
    add_encoder_arguments(parser)
    here = parser.add_argument_group("a workflow on this machine")
    here.add_argument("--input", type=Path, metavar="DIR", help="ComfyUI's input folder")
    here.add_argument("--models", type=Path, metavar="DIR", help="ComfyUI's models folder")
    here.add_argument(
        "--galleries", type=Path, metavar="DIR", help="where galleries are looked up by name"
    )


_WORKFLOW_ONLY = ("set", "items", "server", "header", "input", "models")
_PLAN_ONLY = ("product", "where", "lora", "no_scores")


def run(args: argparse.Namespace) -> int:
    """Render; 0 when the job ended, also with items that failed."""
    from ._render_plan import run_plan, show_picture
    from ._render_workflow import run_workflow
    from ._workflow import is_workflow

    if args.show is not None:
        return show_picture(args.show, args.json)
    if args.what is None or args.out is None:
        args.parser.error("give a workflow or a plan, and --out DIR")
        return 2
    workflow = args.items is not None or is_workflow(args.what)
    wrong = [n for n in (_PLAN_ONLY if workflow else _WORKFLOW_ONLY) if getattr(args, n)]
    if wrong:
        kind = "plan, and this is a workflow" if workflow else "workflow, and this is a plan"
        args.parser.error(f"--{wrong[0].replace('_', '-')} goes with a {kind}")
    if not workflow:
        if args.batch < 1:
            args.parser.error("--batch takes 1 or more")
        return run_plan(args)
    here = [name for name in ("input", "models") if getattr(args, name) is not None]
    if args.server and here:
        args.parser.error(f"--{here[0]} is for this machine; a server has its own folders")
    if args.header and not args.server:
        args.parser.error("--header goes with --server")
    return run_workflow(args)
