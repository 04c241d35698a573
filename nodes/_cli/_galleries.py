"""Which gallery a command means: a folder, or a name in the galleries folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ._homes import data_folder


def add_gallery_arguments(parser: argparse.ArgumentParser) -> None:
    """--gallery and --galleries."""
    parser.add_argument(
        "--gallery", required=True, metavar="DIR|NAME", help="a gallery's folder, or its name"
    )
    parser.add_argument(
        "--galleries",
        type=Path,
        metavar="DIR",
        help="where names are looked up (default: UNIFASHION_HOME/galleries)",
    )


def galleries_folder(args: argparse.Namespace) -> Path:
    """Where names are looked up; it may not exist yet."""
    folder = args.galleries if args.galleries is not None else data_folder() / "galleries"
    return Path(folder).expanduser().absolute()


def gallery_path(args: argparse.Namespace, text: str | None = None) -> Path:
    """What a text means: a folder, or the file of a server gallery; it may not exist yet.

    Args:
        args: With `gallery` and `galleries`.
        text: What was typed; `args.gallery` when None.
    """
    text = str(args.gallery) if text is None else text
    typed = Path(text).expanduser().absolute()
    if typed.exists() or is_path(text):
        return typed
    named = galleries_folder(args) / text
    server = named.with_name(f"{text}.json")
    if server.is_file() and not named.is_dir():
        return server
    return named if named.is_dir() or args.galleries is not None else typed


def is_path(text: str) -> bool:
    """Whether it can't be a name."""
    return any(sign in text for sign in {os.sep, os.altsep or os.sep, "/"}) or text in (".", "..")


def typed_paths(texts: Sequence[str] | None) -> list[Path]:
    """Pictures that were typed: absolute where there is such a file, else as a gallery names it."""
    typed = [Path(text).expanduser() for text in texts or ()]
    return [path.resolve() if path.exists() else path for path in typed]
