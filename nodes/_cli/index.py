"""Put a folder of pictures into a gallery, or bring a gallery up to date with it.

The gallery is made where there is none. Only what is new or changed is encoded; stopping with
Ctrl-C keeps what is done. Files are never changed or deleted.

  run.py index --gallery summer --images ~/photos/summer
  run.py index --gallery summer --images ~/photos/summer --metadata summer.csv --prune
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ._encoder import add_encoder_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--gallery", type=Path, required=True, metavar="DIR", help="the gallery's folder"
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="pictures to index, also in the folders below it (jpg, png, webp)",
    )
    parser.add_argument(
        "--metadata",
        type=Path,
        metavar="FILE",
        help=".jsonl or .csv with a column 'file' (relative to FOLDER) and any others, such as "
        "category, colours, caption",
    )
    parser.add_argument(
        "--prune", action="store_true", help="remove pictures whose file is gone from the gallery"
    )
    parser.add_argument(
        "--reembed",
        action="store_true",
        help="if the gallery is of another encoder, encode everything again with this one",
    )
    add_encoder_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Index; 0 when the run ended, also with pictures that failed."""
    from ...unifashion_core.retrieval.index import index_folder
    from ...unifashion_core.retrieval.reembed import reembed
    from ...unifashion_core.retrieval.source import read_source
    from ...unifashion_core.retrieval.store import gallery_for
    from ...unifashion_core.retrieval.writer import open_writer
    from ..gallery import describe, report_json
    from ._encoder import load_chosen_encoder
    from ._progress import ProgressLine

    source = read_source(args.images, args.metadata)  # refuses bad input before anything is made
    encoder = load_chosen_encoder(args)
    path = args.gallery.absolute()
    if args.reembed and path.is_dir():
        for failure in reembed(path, encoder, on_step=ProgressLine("encoding again"))[1]:
            print(f"taken out: {failure.reason}", file=sys.stderr)
    with open_writer(gallery_for(path, encoder)) as writer:
        report = index_folder(
            writer,
            source,
            encoder,
            text_encoder=encoder,
            prune=args.prune,
            on_step=ProgressLine("indexing"),
        )
    if args.json:
        print(json.dumps(report_json(report)))
    else:
        print(describe(report))
    if report.failed and not report.added + report.updated + report.skipped:
        print("run.py: nothing could be indexed.", file=sys.stderr)
        return 1
    return 0
