"""Train an encoder on your own pictures, or remake the pocket encoder.

  train phase1 --data FOLDER --out FOLDER    pictures and captions: FOLDER/phase1.jsonl
  train phase2 --data FOLDER --out FOLDER --start OUT1/encoder
                                             edits of pictures: FOLDER/phase2.jsonl
  train caption --data FOLDER --out FOLDER --llm FOLDER [--start ENCODER]
                                             a language model that writes captions: phase1.jsonl
  train data --photos FOLDER --out FOLDER    make the pocket encoder's own training folder
  train colours --photos FOLDER --out FOLDER make colours.safetensors, which names colours by pixels
  train average --start ENCODER --other ENCODER --out FOLDER
                                             the mean of encoders trained from the same weights
  train calibrate --photos FOLDER --out ENCODER
                                             measure how sure an encoder is, into its config.json
  train autoencoder --data FOLDER --out FOLDER
  train tryon --data FOLDER --out FOLDER --autoencoder OUT1/autoencoder | --start MODEL
                                             a try-on model, from a folder in VITON-HD's layout
  train decoder --data FOLDER --out FOLDER --start MODEL
                                             its decoder alone, on what its UNet guesses
  train pairs --out FOLDER --count N [--split test] [--changed SHARE]
                                             such a folder of mannequins in the wardrobe's garments

phase1.jsonl, one line a picture: {"image", "caption" or "captions": [...], "attributes"?: {...},
"source"?, "origin"?}; copies of a picture share their origin.
phase2.jsonl, one line an edit: {"reference", "target", "text", "target_caption"?,
"reference_caption"?}. Paths are relative to FOLDER. With attributes, such as {"category": "dress",
"colours": ["red"]}, every picture that a caption is true of counts as its own.

A run that was stopped goes on from its last checkpoint when the same command is given again. The
finished encoder is OUT/encoder, the finished captioner OUT/captioner: put it into
models/unifashion_captioners with the language model's folder beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ._train_tryon import draw_pairs, train_tryon_stage
from ._training_line import TrainingLine

if TYPE_CHECKING:
    from ...unifashion_core.encoder.encoder import MultimodalEncoder
    from ...unifashion_core.training.config import TrainConfig


_TRYON_STAGES = ("pairs", "autoencoder", "tryon", "decoder")
_ENCODER_STAGES = ("phase1", "phase2", "caption", "data", "colours", "average", "calibrate")
_STAGES = (*_ENCODER_STAGES, *_TRYON_STAGES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("stage", choices=_STAGES, help="what to do")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to fill")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="folder with the JSONL files, or in VITON-HD's layout",
    )
    parser.add_argument(
        "--photos",
        type=Path,
        metavar="FOLDER",
        help="data, colours, calibrate: the unpacked clothing-dataset-small (CC0); its hashes are "
        "checked",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="JSON with sizes, losses, sampling (default: the paper's; the pocket encoder's is "
        "unifashion_core/pocket/encoder/train.json)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="PATH",
        help="encoder to start from (default: fresh weights); caption: the encoder that is read "
        "(default: the pocket encoder)",
    )
    parser.add_argument(
        "--other",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="average: an encoder that was trained from the same weights; as often as you like",
    )
    parser.add_argument(
        "--llm",
        type=Path,
        metavar="FOLDER",
        help="caption: a causal language model that transformers reads, with its tokenizer",
    )
    parser.add_argument(
        "--tower",
        type=Path,
        metavar="PATH",
        help="weights of the frozen vision tower, where --start holds none (default: by the "
        "config; the pocket encoder's ships)",
    )
    parser.add_argument(
        "--autoencoder",
        type=Path,
        metavar="FOLDER",
        help="tryon: what `train autoencoder` made, for fresh weights",
    )
    parser.add_argument(
        "--count", type=int, default=6000, metavar="N", help="pairs: persons to draw (6000)"
    )
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="train",
        help="pairs: test draws persons and garments that training never shows",
    )
    parser.add_argument(
        "--changed",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="pairs: how many, 0 to 1, show the person with the mask of other clothes, as at run "
        "time (0)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="optimiser steps, over the config's")
    parser.add_argument("--seed", type=int, metavar="N", help="over the config's (data: 0)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads; 0 = torch's choice"
    )
    parser.add_argument(
        "--attention",
        choices=("auto", "xformers", "sdpa", "math"),
        default="auto",
        help="attention that the network computes with (default: auto)",
    )


def run(args: argparse.Namespace) -> int:
    """Make data or train; 0 when it is done."""
    import torch

    if args.threads > 0:
        torch.set_num_threads(args.threads)
    if args.stage == "data":
        return _make_data(args)
    if args.stage in ("colours", "calibrate"):
        return _measure_photos(args)
    if args.stage == "average":
        return _average(args)
    if args.stage == "pairs":
        return draw_pairs(args)
    if args.data is None:
        args.parser.error(f"{args.stage} needs --data FOLDER")
    if args.stage in _TRYON_STAGES:
        return train_tryon_stage(args)
    return _train_caption(args) if args.stage == "caption" else _train(args)


def _make_data(args: argparse.Namespace) -> int:
    from ...unifashion_core.training.dataset import DatasetConfig, build_dataset

    photos: Path | None = args.photos
    if photos is None:
        args.parser.error("data needs --photos FOLDER")
        return 2
    line = TrainingLine("pictures")
    config = DatasetConfig(seed=args.seed or 0)
    report = build_dataset(photos, args.out, config, on_step=line.counted)
    line.end()
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def _measure_photos(args: argparse.Namespace) -> int:
    """The stages that read the training photos' labels by eye."""
    from ...unifashion_core.pocket.photos import check_folder, read_photos

    folder: Path | None = args.photos
    if folder is None:
        args.parser.error(f"{args.stage} needs --photos FOLDER")
        return 2
    photos = [p for p in read_photos() if not p.held_out and p.colours and p.labelled_by == "eye"]
    check_folder(folder, photos)
    line = TrainingLine("pictures")
    if args.stage == "colours":
        from ...unifashion_core.caption.colours import COLOUR_WEIGHTS
        from ...unifashion_core.training.colours import sample_photos, save_namer, train_namer

        samples = sample_photos(folder, photos, on_step=line.counted)
        args.out.mkdir(parents=True, exist_ok=True)
        save_namer(train_namer(photos, samples, args.seed or 0), args.out / COLOUR_WEIGHTS.name)
        report = {"file": str(args.out / COLOUR_WEIGHTS.name), "photos": len(photos)}
    else:
        from ...unifashion_core.training.calibrate import calibrate, write_card

        report = calibrate(
            _load_encoder(args, args.out), folder, photos, seed=args.seed or 0, on_step=line.counted
        )
        write_card(args.out, report)
    line.end()
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def _average(args: argparse.Namespace) -> int:
    import torch

    from ...unifashion_core.encoder.checkpoint import save_encoder
    from ...unifashion_core.training.average import averaged
    from ...unifashion_core.training.phases import MODEL_FOLDER

    start: Path | None = args.start
    if start is None or not args.other:
        args.parser.error("average needs --start ENCODER and --other ENCODER")
        return 2
    encoders = [_load_encoder(args, path) for path in (start, *args.other)]
    own = encoders[0].tokenizer if encoders[0].config.text.tokenizer == "folder" else None
    save_encoder(
        args.out / MODEL_FOLDER,
        averaged(encoders),
        encoders[0].config,
        vocabulary=own,
        dtype=torch.float16,
        tower=False,
    )
    report = {"encoder": str(args.out / MODEL_FOLDER), "of": len(encoders)}
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def _load_encoder(args: argparse.Namespace, path: Path) -> MultimodalEncoder:
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.encoder.checkpoint import load_encoder
    from ...unifashion_core.encoder.encoder import MultimodalEncoder
    from ...unifashion_core.errors import AbilityError
    from ...unifashion_core.pocket import BERT_VOCABULARY

    encoder = load_encoder(
        path,
        tower=_tower_of(args, path),
        attention=choose_attention(args.attention),
        bert_vocabulary=BERT_VOCABULARY,
    )
    if not isinstance(encoder, MultimodalEncoder):
        raise AbilityError(
            f"{args.stage} {path}: a single-vector model has no Q-Former. Give a multimodal "
            "encoder."
        )
    return encoder


def _train(args: argparse.Namespace) -> int:
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.pocket import BERT_VOCABULARY
    from ...unifashion_core.training.config import read_config
    from ...unifashion_core.training.phases import Paths, run_phase

    config = read_config(args.config, args.stage)
    changes = {k: getattr(args, k) for k in ("steps", "seed") if getattr(args, k) is not None}
    config = replace(config, **changes)
    paths = Paths(args.data, args.out, _tower(args, config), args.start, BERT_VOCABULARY)
    line = TrainingLine("tower features")
    started = time.monotonic()
    folder = run_phase(
        int(args.stage[-1]),
        paths,
        config,
        choose_attention(args.attention),
        on_features=line.counted,
        on_progress=line.progress,
    )
    line.end()
    report = {"encoder": str(folder), "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def _train_caption(args: argparse.Namespace) -> int:
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.pocket import BERT_VOCABULARY, ENCODER
    from ...unifashion_core.training.caption import CaptionPaths, run_caption
    from ...unifashion_core.training.caption_config import read_caption_config

    llm: Path | None = args.llm
    if llm is None:
        args.parser.error("caption needs --llm FOLDER")
        return 2
    config = read_caption_config(args.config)
    changes = {k: getattr(args, k) for k in ("steps", "seed") if getattr(args, k) is not None}
    encoder = args.start or ENCODER
    paths = CaptionPaths(
        args.data, args.out, encoder, llm, _tower_of(args, encoder), BERT_VOCABULARY
    )
    line = TrainingLine("pictures")
    started = time.monotonic()
    folder = run_caption(
        paths,
        replace(config, **changes),
        choose_attention(args.attention),
        on_progress=line.progress,
    )
    line.end()
    report = {"captioner": str(folder), "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def _tower_of(args: argparse.Namespace, encoder: Path) -> Path | None:
    """--tower, else the Lite0 that ships where the encoder's config names one."""
    from ...unifashion_core.pocket import EFFICIENTNET_LITE0
    from ...unifashion_core.weights import read_config

    config = (read_config(encoder) if encoder.is_dir() else None) or {}
    ships = config.get("tower", {}).get("kind") == "efficientnet_lite0"
    return args.tower or (EFFICIENTNET_LITE0 if ships else None)


def _tower(args: argparse.Namespace, config: TrainConfig) -> Path | None:
    """--tower, else what the config names; "pocket" is the Lite0 that ships."""
    from ...unifashion_core.pocket import EFFICIENTNET_LITE0

    if args.tower is not None:
        return args.tower
    if config.tower == "pocket":
        return EFFICIENTNET_LITE0
    return Path(config.tower) if config.tower else None


def _lines(report: dict[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in report.items())
