"""The encoder that a command was asked for; the parser's part needs the standard library alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...unifashion_core.encoder.dual import DualEncoder
    from ...unifashion_core.encoder.encoder import MultimodalEncoder

POCKET = "pocket"


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """--encoder, --tower and --attention."""
    parser.add_argument(
        "--encoder",
        default=POCKET,
        metavar="pocket|PATH",
        help="the encoder that ships, or a checkpoint file or folder (default: pocket)",
    )
    parser.add_argument(
        "--tower",
        type=Path,
        metavar="PATH",
        help="second file with the vision tower, where the checkpoint holds none",
    )
    parser.add_argument(
        "--attention",
        choices=("auto", "xformers", "sdpa", "math"),
        default="auto",
        help="what every attention goes through (default: auto)",
    )


def load_chosen_encoder(args: argparse.Namespace) -> MultimodalEncoder | DualEncoder:
    """Load it onto the best device."""
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.encoder.checkpoint import load_encoder
    from ...unifashion_core.pocket import BERT_VOCABULARY, EFFICIENTNET_LITE0, ENCODER
    from .._host.models import best_device
    from ._homes import data_folder

    pocket = args.encoder == POCKET
    device = best_device()
    return load_encoder(
        ENCODER if pocket else Path(args.encoder).absolute(),
        tower=EFFICIENTNET_LITE0 if pocket and args.tower is None else args.tower,
        device=device,
        attention=choose_attention(args.attention, device),
        bert_vocabulary=BERT_VOCABULARY,
        cache=data_folder() / "cache",
    )
