"""Write a checkpoint in this pack's own form: a folder with config.json and model.safetensors.

  run.py convert VITONHD.ckpt --out models/unifashion_tryon/viton --verify
  run.py convert blip2.pth --tower eva_vit_g.pth --out models/unifashion_encoders/blip2

What the file holds (a try-on model, or an encoder) is told by its content. The folder loads faster,
can't execute anything, and needs no second file. A try-on model is converted one tensor at a time.
--verify reads the folder again and compares every weight with the checkpoint's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file or folder")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the folder to make"
    )
    parser.add_argument(
        "--verify", action="store_true", help="read it again and compare every weight"
    )
    parser.add_argument(
        "--dtype",
        choices=("own", "float32", "float16", "bfloat16"),
        default="own",
        help="type of the weights in the folder (default: own, as in the checkpoint)",
    )
    parser.add_argument(
        "--heads",
        type=int,
        metavar="N",
        help="attention heads of a try-on model of unusual width, which its file can't tell",
    )
    parser.add_argument(
        "--tower",
        type=Path,
        metavar="PATH",
        help="second file with an encoder's vision tower, where the checkpoint holds none",
    )


def run(args: argparse.Namespace) -> int:
    """Recognise, convert, verify."""
    from ...unifashion_core.errors import InputError
    from ...unifashion_core.weights import read_weights

    source, out = args.checkpoint.absolute(), args.out.absolute()
    if source == out:
        raise InputError(
            f"convert {out}: it would overwrite its own checkpoint. Give another --out."
        )
    names = read_weights(source).tensors
    is_tryon = any(name.startswith("model.diffusion_model.") for name in names)
    report = _tryon(args, source, out) if is_tryon else _encoder(args, source, out)
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{out}: {report['layout']}")
        dropped = report["dropped"]
        print(f"  {report['weights']} weights written, {len(dropped)} not used by anything")
        if args.verify:
            print(f"  verified: {report['verified']}")
    return 0


def _dtype(args: argparse.Namespace) -> torch.dtype | None:
    import torch

    return None if args.dtype == "own" else getattr(torch, args.dtype)


def _tryon(args: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    from ...unifashion_core.tryon.checkpoint import convert_tryon

    state = convert_tryon(source, out, dtype=_dtype(args), heads=args.heads)
    count = sum(len(part) for part in state.parts.values()) + (state.free is not None)
    verified = _compare_tryon(args, state, out) if args.verify else None
    return _report("try-on", out, state.layout, count, state.dropped, verified)


def _compare_tryon(args: argparse.Namespace, state: Any, out: Path) -> str:
    """Every weight of the folder against the checkpoint's, one at a time."""
    import torch

    from ...unifashion_core.errors import CheckpointError
    from ...unifashion_core.tryon.layouts import recognise
    from ...unifashion_core.weights import read_weights

    made = recognise(read_weights(out))
    if made.config != state.config:
        raise CheckpointError(f"convert {out}: its config is not the checkpoint's. Run it again.")
    parts = {**state.parts, "free": {} if state.free is None else {"": state.free}}
    others = {**made.parts, "free": {} if made.free is None else {"": made.free}}
    dtype, count = _dtype(args), 0
    for part, tensors in parts.items():
        for name, stored in tensors.items():
            wanted = stored.read()
            if dtype is not None and wanted.is_floating_point():
                wanted = wanted.to(dtype)
            if not torch.equal(others[part][name].read(), wanted):
                raise CheckpointError(
                    f"convert {out}: {part} {name} is not the checkpoint's. The disk may be "
                    "faulty: run it again."
                )
            count += 1
    return f"all {count} weights are equal"


def _encoder(args: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    import torch

    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.encoder.checkpoint import Placement, open_encoder, save_encoder
    from ...unifashion_core.encoder.encoder import MultimodalEncoder
    from ...unifashion_core.errors import CheckpointError, InputError
    from ...unifashion_core.pocket import BERT_VOCABULARY

    attention = choose_attention("sdpa")
    kind = _stored_dtype(source)
    place = Placement(attention, "cpu", kind)
    found = open_encoder(source, place, tower=args.tower, bert_vocabulary=BERT_VOCABULARY)
    encoder = found.encoder
    if not isinstance(encoder, MultimodalEncoder):
        raise InputError(
            f"convert {source}: a CLIP or SigLIP folder, which loads as it is. Nothing to convert."
        )
    save_encoder(out, encoder, dtype=_dtype(args))
    verified = None
    if args.verify:
        again = open_encoder(out, Placement(attention, "cpu", torch.float32),
                             bert_vocabulary=BERT_VOCABULARY)  # fmt: skip
        if again.encoder.fingerprint != encoder.fingerprint and args.dtype in ("own", "float32"):
            raise CheckpointError(
                f"convert {out}: its fingerprint {again.encoder.fingerprint[:8]} is not the "
                f"checkpoint's {encoder.fingerprint[:8]}. Run it again."
            )
        verified = f"fingerprint {again.encoder.fingerprint[:8]}"
    count = len(encoder.model.state_dict())
    report = found.report
    return _report("encoder", out, report.layout, count, report.dropped, verified)


def _stored_dtype(source: Path) -> torch.dtype:
    """The widest floating-point type in a checkpoint, so that none of it is lost."""
    import torch

    from ...unifashion_core.weights import read_weights

    found = {stored.dtype for stored in read_weights(source).tensors.values()}
    return torch.float16 if found <= {torch.float16, torch.int64} else torch.float32


def _report(
    kind: str, out: Path, layout: str, count: int, dropped: Any, verified: str | None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "out": str(out),
        "layout": layout,
        "weights": count,
        "dropped": list(dropped),
        "verified": verified,
    }
