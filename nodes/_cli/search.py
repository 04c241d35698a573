"""Search a gallery by text, by picture, or by a picture and what should be different.

  run.py search --gallery summer --text "a red dress"
  run.py search --gallery summer --image shirt.jpg
  run.py search --gallery summer --image shirt.jpg --text "in red, with long sleeves"
  run.py search --gallery summer --text "a dress" --not-text floral --where "colours!=red"
  run.py search --gallery summer --like a.jpg b.jpg --unlike c.jpg --offset 10
  run.py search --gallery summer --queries queries.jsonl

A line of a queries file is {"id", "text"?, "image"?, "not_text"?, "where"?}; a relative image lies
beside the file. A line of the answer, in the same order, is {"id", "hits"} or {"id", "error"}.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._encoder import add_encoder_arguments
from ._galleries import add_gallery_arguments, gallery_path, typed_paths

if TYPE_CHECKING:
    from ...unifashion_core.encoder.dual import DualEncoder
    from ...unifashion_core.encoder.encoder import MultimodalEncoder
    from ...unifashion_core.retrieval.server import ServerGallery
    from ...unifashion_core.retrieval.store import Gallery
    from ...unifashion_core.types import Embedding, Hit, Hits

_LINE_KEYS = {"id", "text", "image", "not_text", "where"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_gallery_arguments(parser)
    parser.add_argument("--text", help="what to look for, or what to change in the picture")
    parser.add_argument("--image", type=Path, metavar="FILE", help="a picture to start from")
    parser.add_argument("--not-text", metavar="TEXT", help="what must not be in it")
    parser.add_argument(
        "--where",
        action="append",
        metavar="FILTER",
        help='only pictures whose columns fit, such as "category=dress"; several must all hold',
    )
    parser.add_argument(
        "--like", nargs="+", metavar="P", help="pictures of the gallery that are wanted more of"
    )
    parser.add_argument(
        "--unlike", nargs="+", metavar="P", help="pictures of the gallery that are wanted less of"
    )
    parser.add_argument(
        "--offset", type=int, default=0, metavar="N", help="skip the best N hits: the next page"
    )
    parser.add_argument("--top-k", type=int, default=10, metavar="K", help="hits (default: 10)")
    parser.add_argument(
        "--rerank", type=int, default=0, metavar="N", help="look at the first N again with the text"
    )
    parser.add_argument(
        "--caption-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="how much captions of the gallery count, 0 to 2 (default: 0)",
    )
    parser.add_argument(
        "--queries", type=Path, metavar="FILE.jsonl", help="many queries, the model loaded once"
    )
    add_encoder_arguments(parser)


@dataclass(frozen=True)
class _Request:
    """One query, as typed."""

    text: str | None
    image: Path | None
    not_text: str | None
    where: tuple[str, ...]


def run(args: argparse.Namespace) -> int:
    """Search; 0 when the search ended."""
    from ...unifashion_core.retrieval.connections import open_any
    from ._encoder import load_chosen_encoder

    single = not (args.text is args.image is args.like is None)
    if single == (args.queries is not None):
        args.parser.error("give --text, --image or both, or --like, or --queries alone")
    if args.top_k < 1 or min(args.rerank, args.offset) < 0:
        args.parser.error("--top-k takes 1 or more, --rerank and --offset 0 or more")
    gallery = open_any(gallery_path(args))
    lines = _read_lines(args.queries) if args.queries is not None else []
    encoder = load_chosen_encoder(args)
    gallery.require_encoder(encoder.fingerprint)
    if args.queries is not None:
        for answer in _answers(lines, args, gallery, encoder):
            print(json.dumps(answer, ensure_ascii=False), flush=True)
        return 0
    request = _Request(args.text, args.image, args.not_text, tuple(args.where or ()))
    hits = _search(request, args, gallery, encoder)
    if args.json:
        print(json.dumps(_hits_json(hits), ensure_ascii=False))
    else:
        _print_hits(hits)
    return 0


def _search(
    request: _Request,
    args: argparse.Namespace,
    gallery: Gallery | ServerGallery,
    encoder: MultimodalEncoder | DualEncoder,
) -> Hits:
    from ...unifashion_core.errors import InputError
    from ...unifashion_core.imaging import open_image
    from ...unifashion_core.retrieval.query import (
        exclude,
        image_query,
        picture_and_text_query,
        text_query,
    )
    from ...unifashion_core.retrieval.rerank import rerank
    from ...unifashion_core.retrieval.search import search

    if request.image is not None:
        picture = open_image(request.image, min_side=encoder.input_size)
        query = image_query(encoder, [picture])
        if request.text is not None:
            query = picture_and_text_query(encoder, query, [request.text])
    elif request.text is not None:
        query = text_query(encoder, [request.text])
    elif args.like:
        query = None
    else:
        raise InputError("Query: neither text nor image. Give one of them, or both.")
    if args.like or args.unlike:
        query = _marked(gallery, args, query)
    assert query is not None
    if request.not_text is not None:
        query = exclude(query, text_query(encoder, [request.not_text]))
    hits = search(
        gallery,
        query,
        top_k=max(args.offset + args.top_k, args.rerank),
        where=request.where,
        caption_weight=args.caption_weight,
    )
    if args.rerank:
        hits = rerank(hits, encoder, args.rerank)
    page = slice(args.offset, args.offset + args.top_k)
    return replace(hits, rows=tuple(row[page] for row in hits.rows))


def _marked(
    gallery: Gallery | ServerGallery, args: argparse.Namespace, base: Embedding | None
) -> Embedding:
    """The query with the pictures that are marked as liked and not."""
    from ...unifashion_core.retrieval.marked import find_items, marked_query

    like, unlike = (find_items(gallery, typed_paths(paths)) for paths in (args.like, args.unlike))
    return marked_query(gallery, like, unlike, base=base)


def _hits_json(hits: Hits) -> dict[str, Any]:
    (query,), (row,) = hits.queries, hits.rows
    return {
        "hits": [_hit_json(hit) for hit in row],
        "truncated": query.truncated,
        "unknown_words": list(query.unknown_words),
        "notes": [*query.notes, *hits.notes],
        "revision": hits.revision,
        "exact": hits.exact,
        "candidates": hits.candidates[0],
        "kernel": hits.kernel,
    }


def _hit_json(hit: Hit) -> dict[str, Any]:
    return {
        "rank": hit.rank,
        "path": str(hit.path),
        "file": hit.file,
        "score": hit.score,
        "itm": hit.itm,
        "missing": hit.missing,
        "columns": dict(hit.columns),
    }


def _print_hits(hits: Hits) -> None:
    from ..search import describe

    print(describe(hits))
    for note in (*hits.queries[0].notes, *hits.notes):
        print(f"note: {note}", file=sys.stderr)


def _read_lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]


def _answers(
    lines: list[str],
    args: argparse.Namespace,
    gallery: Gallery | ServerGallery,
    encoder: MultimodalEncoder | DualEncoder,
) -> Iterator[dict[str, Any]]:
    from ...unifashion_core.errors import UniFashionError

    for number, line in enumerate(lines, start=1):
        name: Any = number
        try:
            values = _line_values(line, number)
            name = values.get("id", number)
            request = _line_request(values, number, args)
            yield {"id": name, **_hits_json(_search(request, args, gallery, encoder))}
        except UniFashionError as e:
            yield {"id": name, "error": str(e), "revision": gallery.revision}


def _line_values(line: str, number: int) -> dict[str, Any]:
    from ...unifashion_core.errors import InputError

    try:
        values = json.loads(line)
    except json.JSONDecodeError as e:
        raise InputError(f"Queries, line {number}: no JSON ({e.msg}). Write one object.") from e
    if not isinstance(values, dict):
        raise InputError(f"Queries, line {number}: {type(values).__name__}, wanted an object.")
    return values


def _line_request(values: dict[str, Any], number: int, args: argparse.Namespace) -> _Request:
    from ...unifashion_core.errors import InputError

    unknown = sorted(set(values) - _LINE_KEYS)
    if unknown:
        raise InputError(
            f"Queries, line {number}: unknown {', '.join(unknown)}. "
            f"Use {', '.join(sorted(_LINE_KEYS))}."
        )
    for key in ("text", "image", "not_text"):
        if not isinstance(values.get(key), str | None):
            raise InputError(f"Queries, line {number}: '{key}' is no text. Write it in quotes.")
    image = values.get("image")
    where = values.get("where") or []
    clauses = [where] if isinstance(where, str) else list(where)
    return _Request(
        values.get("text"),
        None if image is None else args.queries.parent / image,
        values.get("not_text"),
        (*(args.where or ()), *map(str, clauses)),
    )
