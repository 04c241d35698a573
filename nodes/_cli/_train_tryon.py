"""The stages of `train` that make a try-on model."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._training_line import TrainingLine

if TYPE_CHECKING:
    from ...unifashion_core.attention import AttentionBackend


def draw_pairs(args: argparse.Namespace) -> int:
    """Draw mannequins in garments; 0 when it is done."""
    from ...unifashion_core.training.wardrobe_pairs import PairsConfig, build_pairs

    line = TrainingLine("persons")
    report = build_pairs(
        args.out,
        args.count,
        PairsConfig(seed=args.seed or 0, changed=args.changed),
        split=args.split,
        on_step=line.counted,
    )
    line.end()
    return _told(args, report)


def train_tryon_stage(args: argparse.Namespace) -> int:
    """Train the autoencoder or the try-on model; 0 when it is done."""
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.training.stages import read_stage_config

    config: Any = read_stage_config(args.config, args.stage)
    changes = {k: getattr(args, k) for k in ("steps", "seed") if getattr(args, k) is not None}
    config = replace(config, **changes)
    attention = choose_attention(args.attention)
    started = time.monotonic()
    train = {"autoencoder": _autoencoder, "tryon": _tryon, "decoder": _decoder}[args.stage]
    folder = train(args, config, attention)
    seconds = round(time.monotonic() - started, 1)
    return _told(args, {args.stage: str(folder), "seconds": seconds})


def _autoencoder(args: argparse.Namespace, config: Any, attention: AttentionBackend) -> Path:
    from ...unifashion_core.training.autoencoder import train_autoencoder
    from ...unifashion_core.tryon.parts import load_autoencoder

    line = TrainingLine("pictures")
    start = load_autoencoder(args.start, attention) if args.start else None
    folder = train_autoencoder(
        args.data,
        args.out,
        config,
        attention,
        start=start,
        on_step=line.counted,
        on_progress=line.progress,
    )
    line.end()
    return folder


def _tryon(args: argparse.Namespace, config: Any, attention: AttentionBackend) -> Path:
    from ...unifashion_core.pocket import CLIP_MERGES
    from ...unifashion_core.training.tryon import TryOnPaths, train_tryon
    from ...unifashion_core.tryon.checkpoint import load_tryon
    from ...unifashion_core.tryon.parts import load_autoencoder

    line = TrainingLine("records")
    folder = train_tryon(
        TryOnPaths(args.data, args.out, CLIP_MERGES),
        config,
        attention,
        autoencoder=load_autoencoder(args.autoencoder, attention) if args.autoencoder else None,
        start=load_tryon(args.start, attention=attention) if args.start else None,
        on_step=line.counted,
        on_progress=line.progress,
    )
    line.end()
    return folder


def _decoder(args: argparse.Namespace, config: Any, attention: AttentionBackend) -> Path:
    from ...unifashion_core.errors import InputError
    from ...unifashion_core.pocket import CLIP_MERGES
    from ...unifashion_core.training.decoder import train_decoder
    from ...unifashion_core.training.tryon import TryOnPaths
    from ...unifashion_core.tryon.checkpoint import load_tryon

    start: Path | None = args.start
    if start is None:
        raise InputError("train decoder needs --start MODEL, a try-on model.")
    line = TrainingLine("records")
    folder = train_decoder(
        TryOnPaths(args.data, args.out, CLIP_MERGES),
        config,
        load_tryon(start, attention=attention),
        on_step=line.counted,
        on_progress=line.progress,
    )
    line.end()
    return folder


def _told(args: argparse.Namespace, report: dict[str, Any]) -> int:
    text = "\n".join(f"{name}: {value}" for name, value in report.items())
    print(json.dumps(report) if args.json else text)
    return 0
