"""Look after a gallery, move it, or connect one on a server.

  run.py gallery info --gallery summer
  run.py gallery validate --gallery summer       are all files as they were committed? (exit 1: no)
  run.py gallery repair --gallery summer         go on without what is damaged
  run.py gallery compact --gallery summer        give room of removed pictures back
  run.py gallery duplicates --gallery summer [--threshold 0.99]
  run.py gallery remove --gallery summer --path a.jpg | --where "season=2019"
  run.py gallery facets --gallery summer --column colours
  run.py gallery export --gallery summer --out summer.safetensors
  run.py gallery import summer.safetensors --gallery copy
  run.py gallery connect --gallery store --url http://localhost:6333
  run.py gallery push store --gallery summer     to the server gallery "store"
  run.py gallery pull store --gallery summer     and back

Pictures are never changed or deleted. A server's key is read from UNIFASHION_QDRANT_KEY.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._galleries import add_gallery_arguments, galleries_folder, gallery_path, typed_paths

if TYPE_CHECKING:
    from ...unifashion_core.retrieval.server import ServerGallery
    from ...unifashion_core.retrieval.store import Gallery

Values = dict[str, Any]

_OPERANDS = {"import": "FILE", "push": "NAME", "pull": "NAME"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("action", choices=list(_ACTIONS), metavar="ACTION", help="see above")
    parser.add_argument("operand", nargs="?", metavar="FILE|NAME", help="of import, push and pull")
    add_gallery_arguments(parser)
    parser.add_argument(
        "--path", action="append", metavar="P", help="remove: a picture's path; may be repeated"
    )
    parser.add_argument(
        "--where", action="append", metavar="FILTER", help="remove, facets: only these pictures"
    )
    parser.add_argument("--column", metavar="C", help="facets: the column to count")
    parser.add_argument("--out", type=Path, metavar="F", help="export: a .safetensors file")
    parser.add_argument("--url", metavar="U", help="connect: the server's address")
    parser.add_argument("--collection", metavar="NAME", help="connect: default: the name")
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="duplicates: least likeness (default: 0.99)"
    )


def run(args: argparse.Namespace) -> int:
    """Do one action; 0 when it ended, 1 from `validate` where committed data is damaged."""
    _check_usage(args)
    values, text = _ACTIONS[args.action](args)
    if args.json:
        print(json.dumps(values, ensure_ascii=False))
    else:
        print(text)
    return 0 if values.get("ok", True) else 1


def _check_usage(args: argparse.Namespace) -> None:
    wanted = _OPERANDS.get(args.action)
    if (args.operand is not None) != (wanted is not None):
        args.parser.error(f"{args.action} takes {wanted or 'no FILE or NAME'}")
    if args.action == "remove" and not (args.path or args.where):
        args.parser.error("remove takes --path or --where")
    for action, name in (("facets", "column"), ("export", "out"), ("connect", "url")):
        if args.action == action and getattr(args, name) is None:
            args.parser.error(f"{action} takes --{name}")


def _local(args: argparse.Namespace) -> Gallery:
    """The gallery on this machine."""
    from ...unifashion_core.errors import GalleryError
    from ...unifashion_core.retrieval.store import open_gallery

    path = gallery_path(args)
    if path.is_file():
        raise GalleryError(
            f"Gallery '{path.stem}': lies on a server, which looks after its own files. Pull it "
            "first, or use info, facets, remove or search."
        )
    return open_gallery(path)


def _either(args: argparse.Namespace) -> Gallery | ServerGallery:
    from ...unifashion_core.retrieval.connections import open_any

    return open_any(gallery_path(args))


# ---- looking


def _info(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.info import gallery_info

    values = gallery_info(_either(args))
    width = max(map(len, values))
    lines = [f"{name:<{width}}  {_shown(value)}" for name, value in values.items()]
    return values, "\n".join(lines)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _validate(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.validate import validate
    from ._progress import ProgressLine

    found = validate(gallery_path(args), on_step=ProgressLine("checking"))
    problems = [{"kind": p.kind, "path": str(p.path), "detail": p.detail} for p in found.problems]
    values: Values = {
        "ok": found.ok,
        "problems": problems,
        "recovered": list(found.recovered),
        "revision": found.revision,
    }
    lines = [f"{p.kind}: {p.path}: {p.detail}" for p in found.problems]
    lines += [f"recovered: {text}" for text in found.recovered]
    end = "all files are as committed" if found.ok else "`gallery repair` goes on without these"
    return values, "\n".join([*lines, end])


def _facets(args: argparse.Namespace) -> tuple[Values, str]:
    found = _facet_counts(args)
    values = {
        "column": found.column,
        "values": [{"value": value, "count": count} for value, count in found.values],
        "without": found.without,
        "revision": found.revision,
    }
    lines = [f"{count:8d}  {value}" for value, count in found.values]
    return values, "\n".join([*lines, f"{found.without:8d}  (none)"])


def _facet_counts(args: argparse.Namespace) -> Any:
    from ...unifashion_core.retrieval.facets import count_values

    return count_values(_either(args), args.column, where=args.where)


def _duplicates(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.duplicates import THRESHOLD, find_duplicates
    from ._progress import ProgressLine

    threshold = THRESHOLD if args.threshold is None else args.threshold
    step = ProgressLine("comparing")
    found = find_duplicates(_local(args), threshold=threshold, on_step=step)
    groups = [
        {
            "items": [
                {"path": str(item.path), "file": item.file, "likeness": round(alike, 6)}
                for item, alike in zip(group.items, group.likeness, strict=True)
            ]
        }
        for group in found.groups
    ]
    values = {"groups": groups, "threshold": threshold, "revision": found.revision}
    blocks = [
        "\n".join(f"{entry['likeness']:.3f}  {entry['path']}" for entry in group["items"])
        for group in groups
    ]
    return values, "\n\n".join(blocks) or "no two pictures are so alike"


# ---- changing


def _repair(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.repair import repair
    from ._progress import ProgressLine

    report = repair(_local(args), on_step=ProgressLine("repairing"))
    values: Values = {
        "removed": [str(path) for path in report.removed],
        "captions": report.captions,
        "rebuilt": report.rebuilt,
        "recovered": list(report.recovered),
        "revision": report.revision,
    }
    lines = [f"rebuilt: {text}" for text in report.rebuilt]
    lines += [f"removed: {path}" for path in report.removed]
    lines += [f"{report.captions} captions lost their vector"] if report.captions else []
    if report.removed or report.captions:
        lines.append("Index the folder again: it brings back what was lost.")
    return values, "\n".join(lines) or "nothing was damaged"


def _compact(args: argparse.Namespace) -> tuple[Values, str]:
    from dataclasses import asdict

    from ...unifashion_core.retrieval.compact import compact
    from ...unifashion_core.retrieval.writer import open_writer
    from ._progress import ProgressLine

    with open_writer(_local(args)) as writer:
        report = compact(writer, on_step=ProgressLine("compacting"))
    text = (
        f"{report.rows} vectors kept, {report.removed} dropped: "
        f"{report.bytes_before:,} -> {report.bytes_after:,} bytes"
    )
    return asdict(report), text


def _remove(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.removal import remove_items

    paths = typed_paths(args.path)
    removed, revision = remove_items(_either(args), paths=paths, where=args.where)
    return {"removed": removed, "revision": revision}, f"{removed} pictures removed"


# ---- moving


def _export(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.transfer import ITEMS_SUFFIX, export_gallery
    from ._progress import ProgressLine

    out = args.out.expanduser().absolute()
    revision = export_gallery(_local(args), out, on_step=ProgressLine("exporting"))
    items = out.with_suffix(ITEMS_SUFFIX)
    return {"files": [str(out), str(items)], "revision": revision}, f"{out}\n{items}"


def _import(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.transfer import import_gallery
    from ._progress import ProgressLine

    step = ProgressLine("importing")
    file = Path(args.operand).expanduser().absolute()
    gallery, added, replaced = import_gallery(_new_path(args), file, on_step=step)
    values = {"added": added, "updated": replaced, "total": gallery.count}
    text = f"{gallery.count} pictures: {added} added, {replaced} replaced"
    return {**values, "revision": gallery.revision}, text


def _new_path(args: argparse.Namespace) -> Path:
    """Where a gallery is made that may not exist: by name in the galleries folder."""
    from ._galleries import is_path

    path = gallery_path(args)
    if path.exists() or is_path(args.gallery):
        return path
    return galleries_folder(args) / args.gallery


def _connect(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.connections import connect_gallery

    folder = galleries_folder(args)
    file = connect_gallery(folder, args.gallery, args.url, args.collection)
    values = {"file": str(file), "url": args.url, "collection": args.collection or args.gallery}
    return {**values, "revision": None}, str(file)


def _push(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.connections import open_server, push
    from ._progress import ProgressLine

    server = open_server(gallery_path(args, args.operand))
    count = push(_local(args), server, on_step=ProgressLine("pushing"))
    return {"items": count, "revision": server.revision}, f"{count} pictures on the server"


def _pull(args: argparse.Namespace) -> tuple[Values, str]:
    from ...unifashion_core.retrieval.connections import open_server, pull
    from ._progress import ProgressLine

    server = open_server(gallery_path(args, args.operand))
    gallery = pull(server, _new_path(args), on_step=ProgressLine("pulling"))
    values = {"items": gallery.count, "revision": gallery.revision}
    return values, f"{gallery.count} pictures in {gallery.path}"


_ACTIONS: dict[str, Callable[[argparse.Namespace], tuple[Values, str]]] = {
    "info": _info,
    "validate": _validate,
    "repair": _repair,
    "compact": _compact,
    "duplicates": _duplicates,
    "remove": _remove,
    "facets": _facets,
    "export": _export,
    "import": _import,
    "connect": _connect,
    "push": _push,
    "pull": _pull,
}
