"""Download known weights: `download list` shows them, `download NAME` fetches one.

Only what the list names is fetched, only by this command or the node Download Weights. A stopped
download goes on where it was; files that you placed by hand are checked and kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...unifashion_core.weights.known import KnownWeights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("name", metavar="list|NAME", help="list, or the name of weights")
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="the models folder, such as ComfyUI/models; files go into DIR/unifashion_encoders and "
        "so on (default: UNIFASHION_HOME/models)",
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="fetch from this https address instead of the hub's (also: UNIFASHION_MIRROR)",
    )


def run(args: argparse.Namespace) -> int:
    """List, or download one."""
    from ...unifashion_core.weights.download import download_weights
    from ...unifashion_core.weights.known import find_known, known_weights
    from ._homes import data_folder
    from ._progress import ProgressLine

    if args.name == "list":
        _show(list(known_weights().values()), args.json)
        return 0
    known = find_known(args.name)
    models = (args.to or data_folder() / "models").absolute() / known.kind
    print(f"{known.licence_line}; {known.pin}", file=sys.stderr)
    step = ProgressLine(f"downloading {known.name}")
    done = download_weights(known, models, mirror=args.mirror, on_step=step)
    if args.json:
        files = [vars(file) for file in done.files]
        value = {"name": known.name, "path": str(done.path), "fetched": list(done.fetched)}
        value |= {"licence": known.licence, "sold": known.sold, "pin": known.pin, "files": files}
        print(json.dumps(value))
    else:
        print("\n".join(done.lines()))
    return 0


def _show(entries: list[KnownWeights], as_json: bool) -> None:
    if as_json:
        print(json.dumps([_row(entry) for entry in entries]))
        return
    for entry in entries:
        size = f"{entry.expected_bytes / 1e9:.2f} GB" if entry.expected_bytes else "size not known"
        print(f"{entry.name}: {size}, into {entry.kind}\n  {entry.licence_line}\n  {entry.pin}")
        if entry.note:
            print(f"  {entry.note}")


def _row(entry: KnownWeights) -> dict[str, Any]:
    files = [{**vars(file), "url": entry.url(file)} for file in entry.files]
    return {**vars(entry), "files": files, "pin": entry.pin}
