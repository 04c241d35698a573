"""`render --add-to`: what was made goes into a gallery, with captions and embeddings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ._render_report import warn

if TYPE_CHECKING:
    from ...unifashion_core.rendering.page import PageItem


def add_to_gallery(args: argparse.Namespace, folder: Path, items: Sequence[PageItem]) -> None:
    """Add a run's pictures to the gallery of --add-to; nothing without it.

    Args:
        args: With `add_to`, `galleries`, and what `add_encoder_arguments` adds.
        folder: The run's folder.
        items: What was made.
    """
    if args.add_to is None:
        return
    from ...unifashion_core.caption.choice import CaptionerChoice, encoder_captioner
    from ...unifashion_core.rendering.collect import add_run
    from ...unifashion_core.retrieval.store import gallery_for
    from ...unifashion_core.retrieval.writer import open_writer
    from ._encoder import load_chosen_encoder
    from ._galleries import gallery_path
    from ._progress import ProgressLine

    encoder = load_chosen_encoder(args)
    captioner = None
    if "lm" in encoder.abilities:
        captioner = encoder_captioner(encoder, CaptionerChoice())
    path = gallery_path(args, args.add_to)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(gallery_for(path, encoder)) as writer:
        step = ProgressLine("adding to the gallery")
        report = add_run(writer, folder, items, encoder, captioner, on_step=step)
    warn([f"{path.name}: {report.added} added, {report.skipped} were there"])
    warn([failure.reason for failure in report.failed])
