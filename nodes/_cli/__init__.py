"""The commands of run.py: one file a command, found through the table below.

A command's module has two functions:

- `add_arguments(parser: argparse.ArgumentParser) -> None`. The module's imports at the top are the
  standard library alone, so that `--help` starts in a moment; `--python`, `--json` and `--verbose`
  are there already. The module's docstring is the help's text.
- `run(args: argparse.Namespace) -> int`. It imports what it needs and gives the exit code: 0 when
  the job ended (also with items that failed), 1 when nothing could be done. Results go to stdout,
  with `--json` as JSON and nothing else; everything else goes to stderr. A UniFashionError or an
  OSError that it lets through becomes one line on stderr and exit 1; Ctrl-C becomes 130; wrong
  usage found late is `args.parser.error(text)`, exit 2. `args.pack` is the pack's folder.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ...unifashion_core.errors import UniFashionError

INSIDE = "UNIFASHION_INSIDE"
"""The variable by which a process knows that its environment has been made ready for it."""


class Command(NamedTuple):
    """One line of the table."""

    module: str
    help: str
    sections: tuple[str, ...] = ("run",)  # of requirements.lock; none: runs in any Python
    passes_on: bool = False  # unknown arguments are handed on as `args.rest`
    hidden: bool = False  # for maintainers; not in the overview


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "demo", "set up, search a small wardrobe, try on what was found, write a report"
    ),
    "test": Command("run_tests", "check the code and run the tests", ("run", "test"), True),
    "index": Command("index", "put a folder of pictures into a gallery"),
    "search": Command("search", "search a gallery by text, by picture, or both"),
    "caption": Command("caption", "say what pictures show, beside them or in a gallery"),
    "gallery": Command("gallery", "check, repair, clean, count, move or connect a gallery"),
    "mask": Command("mask", "mark what a try-on model shall paint anew on a photo"),
    "sketch": Command("sketch", "draw garments as lines, or clean drawn sketches"),
    "cutout": Command("cutout", "cut garments out of their photos"),
    "tryon": Command("tryon", "put a garment on a person"),
    "design": Command("design", "design a garment from words and a sketch"),
    "convert": Command("convert", "write a checkpoint in this pack's own form"),
    "download": Command("download", "fetch known weights, or list them with their licences"),
    "render": Command("render", "make a collection: a workflow once a line, or a plan"),
    "train": Command("train", "train an encoder on your own pictures", ("run", "train")),
    "bench": Command("bench", "measure how well and how fast things work", ("run", "test")),
    "parity": Command("parity", "compare the networks with reference vectors"),
    "convert-mediapipe": Command(
        "convert_mediapipe", "make the person networks anew from MediaPipe's files", hidden=True
    ),
    "lock": Command("lock", "make requirements.lock anew", (), hidden=True),
    "pages": Command("pages", "make translations and help tables anew", hidden=True),
    "workflows": Command("workflows", "make the templates anew from their API twins", hidden=True),
}


def main(argv: list[str], folder: str) -> int:
    """Run one command line in the pack's folder; give the exit code."""
    pack = Path(folder)
    inside = os.environ.pop(INSIDE, "") == str(pack)
    try:
        return _main(argv, pack, inside)
    except KeyboardInterrupt:
        print("\nrun.py: stopped. What was finished is kept.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `run.py search … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UniFashionError as e:
        print(f"run.py: {e}", file=sys.stderr)
        return 1
    except OSError as e:
        print(f"run.py: {_say_os_error(e)}", file=sys.stderr)
        return 1


def command_parser(name: str) -> argparse.ArgumentParser:
    """The whole parser of one command, with its module's arguments."""
    module = _module(COMMANDS[name])
    parser = argparse.ArgumentParser(
        prog=f"run.py {name}",
        description=(module.__doc__ or COMMANDS[name].help).strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",
        allow_abbrev=not COMMANDS[name].passes_on,
    )
    parser.add_argument("--python", metavar="PATH", help=_PYTHON_HELP)
    parser.add_argument(
        "--json", action="store_true", help="print JSON, and nothing else, on stdout"
    )
    parser.add_argument("--verbose", action="store_true", help="more lines in the log (stderr)")
    module.add_arguments(parser)
    return parser


_PYTHON_HELP = (
    "use this Python's environment, such as ComfyUI's own, instead of a .venv; nothing is ever "
    "installed into it (also: UNIFASHION_PYTHON)"
)


def _main(argv: list[str], pack: Path, inside: bool) -> int:
    top = _top_parser()
    first = top.parse_args(argv)
    if first.command is None:
        top.print_help()
        return 0
    command = COMMANDS[first.command]
    parser = command_parser(first.command)
    if command.passes_on:
        args, args.rest = parser.parse_known_args(first.rest)
    else:
        args = parser.parse_args(first.rest)
    args.pack, args.parser = pack, parser
    if command.sections and not inside:
        from . import _environment  # not needed for --help, and not light

        python = args.python or first.python or os.environ.get("UNIFASHION_PYTHON")
        ready = _environment.prepare(pack, command.sections, python)
        return _environment.enter(ready, pack, argv, INSIDE)
    _log_to_stderr(args.verbose)
    return _module(command).run(args)


def _top_parser() -> argparse.ArgumentParser:
    shown = {name: c for name, c in COMMANDS.items() if not c.hidden}
    lines = "\n".join(f"  {name:<8} {c.help}" for name, c in shown.items())
    parser = argparse.ArgumentParser(
        prog="run.py",
        usage="python run.py [--python PATH] COMMAND [...]",
        description=f"UniFashion on the command line.\n\ncommands:\n{lines}",
        epilog="`run.py COMMAND --help` tells about one command. The first one sets everything up.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", metavar="PATH", help=_PYTHON_HELP)
    parser.add_argument(
        "command", nargs="?", choices=list(COMMANDS), help=argparse.SUPPRESS, metavar="COMMAND"
    )
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _module(command: Command) -> ModuleType:
    return importlib.import_module(f".{command.module}", __name__)


def _log_to_stderr(verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    log = logging.getLogger("unifashion")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


def _say_os_error(error: OSError) -> str:
    """One line for what the system refused: the file, the reason, and what helps."""
    where = error.filename if error.filename is not None else "this step"
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return f"{where}: the disk is full. Free some space, then run it again."
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"{where}: {reason}. Choose a place that you may write to."
    return f"{where}: {reason}. Check the path, then run it again."
