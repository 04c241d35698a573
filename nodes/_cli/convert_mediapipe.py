"""Make the person networks of the pocket anew from MediaPipe's files (for maintainers).

The files come with the npm packages that unifashion_core/pocket/mediapipe/CARD.md names. Each is
recognised by its convolutions, and written in float16, which is how it stores them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from ...unifashion_core.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="pose_solution_packed_assets.data, pose_landmark_lite.tflite or "
        "pose_landmark_full.tflite, selfie_segmentation.tflite",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder to write to (default: the pocket's)"
    )


def run(args: argparse.Namespace) -> int:
    """Convert each file."""
    from ...unifashion_core.pocket import MEDIAPIPE
    from ...unifashion_core.prepare.networks.convert import convert_network
    from ...unifashion_core.weights import write_safetensors

    folder = args.out or MEDIAPIPE
    made: dict[str, Path] = {}
    for file in args.files:
        name, state = convert_network(file)
        if name in made:
            raise InputError(
                f"convert-mediapipe: {made[name]} and {file} are both {name}. Give one of them."
            )
        made[name] = file
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.safetensors"
        write_safetensors(path, state)
        line = {
            "path": str(path),
            "sha256": _sha256(path),
            "source": str(file),
            "source_sha256": _sha256(file),
            "parameters": sum(tensor.numel() for tensor in state.values()),
        }
        text = " ".join(f"{key} {value}" for key, value in line.items())
        print(json.dumps(line) if args.json else text)
    return 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
