"""Say in words what pictures show; write it beside them, or into a gallery.

  run.py caption --images dress.jpg shirt.jpg
  run.py caption --images ~/photos/summer --write txt --style lora --trigger ohwx
  run.py caption --images ~/photos/summer --write txt,jsonl --out captions
  run.py caption --gallery summer

A line an image: {"path", "caption", "attributes"} or {"path", "error"}. With --write, a text file
beside each picture (txt) and captions.jsonl with all of them; a second run makes only what is new
or changed, and keeps texts that it did not write.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._encoder import add_encoder_arguments

if TYPE_CHECKING:
    from ...unifashion_core.caption.chosen_style import ChosenStyle
    from ...unifashion_core.caption.stream import StreamOptions
    from ...unifashion_core.types import Captioner, FashionEncoder

POCKET = "pocket"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--images",
        type=Path,
        nargs="+",
        metavar="FILE|FOLDER",
        help="pictures, or folders with pictures in them and below them (jpg, png, webp)",
    )
    what.add_argument(
        "--gallery", type=Path, metavar="DIR", help="caption the pictures of this gallery"
    )
    parser.add_argument(
        "--write",
        type=lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
        default=(),
        metavar="txt,jsonl",
        help="txt: a text beside each picture, with captions.jsonl; jsonl: captions.jsonl alone",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write there instead of beside the pictures"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="also replace captions that are not ours"
    )
    parser.add_argument(
        "--style", default="sentence", metavar="S", help="sentence, tags, title, try-on or lora"
    )
    parser.add_argument("--styles", type=Path, metavar="FILE", help="styles of your own (JSON)")
    parser.add_argument("--trigger", default="", metavar="WORD", help="a LoRA's word, for lora")
    parser.add_argument("--prefix", default="", help="stands before every caption")
    parser.add_argument("--suffix", default="", help="stands after every caption")
    parser.add_argument(
        "--replace", action="append", default=[], metavar="OLD->NEW", help="replace a word"
    )
    parser.add_argument(
        "--captioner",
        default=POCKET,
        metavar="pocket|PATH",
        help="what writes: the encoder's own head, or a model's folder (default: pocket)",
    )
    parser.add_argument(
        "--decoding", choices=("greedy", "beam", "nucleus"), help="default: as the weights say"
    )
    parser.add_argument("--beams", type=int, metavar="N", help="captions of a beam search")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="length of a caption")
    parser.add_argument("--prompt", metavar="TEXT", help="what a model is asked (default: its own)")
    parser.add_argument(
        "--attributes-from",
        choices=("captioner", "encoder", "both"),
        default="captioner",
        help="who says category, colours and so on (default: what writes the captions)",
    )
    parser.add_argument("--seed", type=int, default=0, help="for nucleus (default: 0)")
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="pictures at once (default: 8)"
    )
    parser.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help="attributes of your own (JSON)"
    )
    add_encoder_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Caption; 0 when the run ended, also with pictures that failed."""
    from ...unifashion_core.caption.folder import WRITES

    wrong = sorted(set(args.write) - set(WRITES))
    if wrong:
        args.parser.error(f"--write takes {' and '.join(WRITES)}, not {', '.join(wrong)}")
    if args.gallery is not None and (args.write or args.out):
        args.parser.error("--write and --out go with --images; a gallery keeps its own captions")
    if args.out is not None and not args.write:
        args.parser.error("--out needs --write txt, jsonl or both")
    if args.batch_size < 1:
        args.parser.error("--batch-size takes 1 or more")
    return _gallery(args) if args.gallery is not None else _images(args)


def _images(args: argparse.Namespace) -> int:
    from ...unifashion_core.caption.folder import caption_folder
    from ...unifashion_core.caption.targets import find_targets
    from ..caption_many import describe
    from ._progress import ProgressLine

    style = _style(args)
    targets, results = find_targets(args.images, args.out)  # refuses bad input before loading
    for result in results:
        _print_line(result.to_json(), args.json)
    captioner, _ = _load(args)
    for target in targets:
        progress = ProgressLine("captioning") if len(target.pictures) > 1 else None
        for result in caption_folder(
            target,
            captioner,
            style,
            write=args.write,
            overwrite=args.overwrite,
            options=_options(args),
            on_step=progress,
        ):
            _print_line(result.to_json(), args.json)
            results.append(result)
    print(describe(results), file=sys.stderr)
    if all(result.error is not None for result in results):
        print("run.py: nothing could be captioned.", file=sys.stderr)
        return 1
    return 0


def _gallery(args: argparse.Namespace) -> int:
    from ...unifashion_core.caption.gallery_captions import caption_gallery
    from ...unifashion_core.retrieval.store import open_gallery
    from ...unifashion_core.retrieval.writer import open_writer
    from ..caption_many import describe_gallery
    from ._progress import ProgressLine

    style = _style(args)
    gallery = open_gallery(args.gallery.absolute())
    captioner, encoder = _load(args)
    gallery.require_encoder(encoder.fingerprint)
    with open_writer(gallery) as writer, gallery.snapshot() as snapshot:
        done = caption_gallery(
            writer,
            snapshot.items(snapshot.item_rows().ids.tolist()),
            captioner,
            style,
            encoder,
            overwrite=args.overwrite,
            options=_options(args),
            on_step=ProgressLine("captioning"),
        )
    print(json.dumps(done.to_json(), ensure_ascii=False) if args.json else describe_gallery(done))
    if done.failed and done.captioned + done.skipped == 0:
        print("run.py: nothing could be captioned.", file=sys.stderr)
        return 1
    return 0


def _print_line(values: dict[str, Any], as_json: bool) -> None:
    """A result on stdout as soon as it is there."""
    if as_json:
        print(json.dumps(values, ensure_ascii=False), flush=True)
    elif "error" not in values:  # those are in the summary
        print(f"{values['path']}: {values['caption']}", flush=True)


def _style(args: argparse.Namespace) -> ChosenStyle:
    from ...unifashion_core.caption.chosen_style import choose_style
    from ...unifashion_core.caption.styles import StyleOptions, parse_replacements
    from ...unifashion_core.caption.vocabulary import load_vocabulary

    replacements = parse_replacements("\n".join(args.replace))
    options = StyleOptions(args.trigger, args.prefix, args.suffix, replacements)
    words = load_vocabulary(args.vocabulary)
    return choose_style(args.style, options, styles=args.styles, vocabulary=words)


def _options(args: argparse.Namespace) -> StreamOptions:
    from ...unifashion_core.caption.stream import StreamOptions

    return StreamOptions(args.batch_size, seed=args.seed)


def _load(args: argparse.Namespace) -> tuple[Captioner, FashionEncoder]:
    """The captioner that was asked for, and the encoder that goes with it."""
    from ...unifashion_core.attention import choose_attention
    from ...unifashion_core.caption.choice import (
        CaptionerChoice,
        CaptionerPlace,
        encoder_captioner,
        folder_captioner,
    )
    from ...unifashion_core.caption.vocabulary import load_vocabulary
    from .._host.models import best_device
    from ._encoder import load_chosen_encoder

    choice = CaptionerChoice(
        args.decoding,
        args.beams,
        args.max_tokens,
        args.batch_size,
        args.prompt,
        args.attributes_from,
        load_vocabulary(args.vocabulary),
    )
    if args.captioner == POCKET:
        encoder = load_chosen_encoder(args)
        return encoder_captioner(encoder, choice), encoder
    path = Path(args.captioner).absolute()
    if _is_encoder(path):
        reader = load_chosen_encoder(argparse.Namespace(**{**vars(args), "encoder": str(path)}))
        encoder = load_chosen_encoder(args) if args.gallery is not None else reader
        return encoder_captioner(reader, choice), encoder
    encoder = load_chosen_encoder(args)
    device = best_device()
    place = CaptionerPlace(choose_attention(args.attention, device), device)
    return folder_captioner(path, place, choice, encoder)[0], encoder


def _is_encoder(path: Path) -> bool:
    """Whether a path holds an encoder, whose own head captions."""
    from ...unifashion_core.caption.loading import recognise_captioner
    from ...unifashion_core.encoder.layouts import recognise
    from ...unifashion_core.errors import CheckpointError
    from ...unifashion_core.weights import read_weights

    try:
        recognise_captioner(path)
    except CheckpointError as no_captioner:
        try:
            recognise(read_weights(path))
        except CheckpointError:
            raise no_captioner from None
        return True
    return False
