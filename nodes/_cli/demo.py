"""Search a wardrobe in three ways, try on what was found, and design from a sketch and words.

Runs the pack's own workflows (01 index, 02 text search, 03 composed search, 09 design) on the
weights that ship with it, captions what was found, puts it on two drawn persons, and writes
DIR/report.html with its pictures. Without --images the wardrobe is drawn by the pack itself.

  run.py demo
  run.py demo --images ~/photos/clothes --out my-demo
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from .._host import Folders, Host
    from ._demo_worn import Designed, Wearing
    from ._report import Search

_GALLERY = "demo"
_HITS = 8
_TEXT, _UNWANTED = "a red dress", "floral"
_CHANGE = "in red, with long sleeves"
_DESIGN, _DESIGNS = "a navy t-shirt", 3
_START = "a t-shirt"  # what to look for among the user's own pictures to start from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="your own pictures (jpg, png, webp)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where report, pictures and gallery go (default: unifashion-demo in this "
        "folder, or in your data directory if this one is the pack's own or can't be written)",
    )


def run(args: argparse.Namespace) -> int:
    """Index, search three ways, try on, design, report."""
    from . import _homes
    from ._report import write_report

    started = time.monotonic()
    out: Path = (args.out or _homes.output_folder("unifashion-demo", args.pack)).absolute()
    out.mkdir(parents=True, exist_ok=True)
    demo = _Demo(args.pack, out, args.images)
    indexed = demo.index()
    searches = demo.captioned(demo.search())
    wearing, designed = demo.try_on(searches), demo.design()
    report = write_report(out, indexed, searches, wearing, designed, own=args.images is not None)
    seconds = round(time.monotonic() - started, 1)
    if args.json:
        summary = {
            "report": str(report),
            "gallery": str(demo.gallery),
            "indexed": indexed,
            "searches": [search.to_json() for search in searches],
            "try_on": wearing.to_json(),
            "design": designed.to_json(),
            "seconds": seconds,
        }
        print(json.dumps(summary, ensure_ascii=False))
    else:
        print(
            f"{indexed['total']} pictures indexed, {len(searches)} searches, "
            f"{len(wearing.items)} try-ons, {len(designed.images)} designs, {seconds} s"
        )
        print(report)
    return 0


class _Demo:
    """The demo's host and graphs."""

    def __init__(self, pack: Path, out: Path, images: Path | None):
        self.pack, self.out, self.images = pack, out, images
        self.gallery = out / "galleries" / _GALLERY
        self.host = self._host()

    def _host(self, picture: Path | None = None) -> Host:
        from ._embedded import make_host

        def typed(folders: Folders) -> Folders:
            folders = folders.with_gallery(self.gallery)[0]
            if self.images is not None:
                folders = folders.with_images(self.images)
            return folders if picture is None else folders.with_input(picture)[0]

        return make_host(self.out / "host", typed)

    def _graph(self, name: str) -> dict[str, Any]:
        """One of our graphs, on this demo's gallery and pictures."""
        from ._embedded import read_workflow

        graph = read_workflow(self.pack, name)
        index = _one(graph, "UniFashion_IndexFolder")["inputs"]
        index["gallery"] = _GALLERY
        if self.images is not None:
            index["folder"] = str(self.images.absolute())
            _drop(graph, "1")
        return graph

    def index(self) -> dict[str, Any]:
        """Run workflow 01; the index node's report."""
        from ...unifashion_core.errors import FolderError

        if self.images is not None and not self.images.is_dir():
            raise FolderError(f"{self.images}: no such folder. Check --images.")
        graph = self._graph("01_index_a_folder")
        started = time.monotonic()
        result = self._run(graph)
        report = result.ui["3"]["report"][0]
        report["seconds"] = round(time.monotonic() - started, 2)
        for failure in report["failed"]:
            print(f"left out: {failure['reason']}", file=sys.stderr)
        return report

    def search(self) -> list[Search]:
        """Workflows 02 and 03, and 03 with the picture alone."""
        from ._report import Search

        start, host = self._start()
        by_text = self._graph("02_search_by_text")
        by_text["4"]["inputs"] |= {"text": _TEXT, "exclude": _UNWANTED}
        by_text["5"]["inputs"]["top_k"] = _HITS
        result = self._run(by_text)
        found = [Search("text", f"{_TEXT}, not {_UNWANTED}", None, result.value("5").rows[0])]
        for kind, text in (("picture", ""), ("picture and text", _CHANGE)):
            graph = self._composed(start, text)
            result = self._run(graph, host)
            (picture,) = result.value("4")
            found.append(Search(kind, text, picture, result.value("6").rows[0]))
        return found

    def captioned(self, searches: list[Search]) -> list[Search]:
        """The searches with captions of what they found; a picture that fails has none."""
        from ...unifashion_core.caption.stream import Said, decoding_size, say
        from ...unifashion_core.errors import ImageError
        from ...unifashion_core.imaging import open_image
        from ._progress import ProgressLine

        value = self._loaded("04_caption_a_folder", "LoadCaptioner")
        pictures: dict[Path, Image.Image] = {}
        for path in dict.fromkeys(hit.path for search in searches for hit in search.hits):
            with contextlib.suppress(ImageError):  # the report says that it is not readable
                pictures[path] = open_image(path, min_side=decoding_size(value.captioner))
        with self.host.active():
            captioner = value.ready()
        said = say(captioner, list(pictures.values()), on_step=ProgressLine("Caption"))
        captions = {
            path: found.caption
            for path, found in zip(pictures, said, strict=True)
            if isinstance(found, Said)
        }
        return [replace(search, captions=captions) for search in searches]

    def _loaded(self, workflow: str, loader: str) -> Any:
        """What a loader of one of our graphs gives."""
        from ._embedded import read_workflow

        graph = read_workflow(self.pack, workflow)
        load = {key: node for key, node in graph.items() if loader in node["class_type"]}
        (key,) = load
        show = {"class_type": "PreviewAny", "inputs": {"source": [key, 1]}}
        return self._run({**load, "show": show}).value(key)

    def try_on(self, searches: list[Search]) -> Wearing:
        """The garments that were found on two persons."""
        from ._demo_worn import try_on

        value = self._loaded("03_search_by_picture_and_text", "LoadEncoder")
        with self.host.active():
            encoder = value.ready()
        return try_on(self.out, searches, encoder)

    def design(self) -> Designed:
        """Workflow 09 with our words."""
        from ._demo_worn import Designed
        from ._embedded import read_workflow

        started = time.monotonic()
        graph = read_workflow(self.pack, "09_design_from_sketch_and_text")
        (key,) = (k for k, node in graph.items() if "DesignGarment" in node["class_type"])
        graph[key]["inputs"] |= {"text": _DESIGN, "count": _DESIGNS}
        sketch, _ = graph[key]["inputs"]["sketch"]
        result = self._run(graph)
        seconds = round(time.monotonic() - started, 1)
        return Designed(_DESIGN, result.value(sketch)[0], result.value(key), seconds)

    def _composed(self, start: dict[str, Any], text: str) -> dict[str, Any]:
        graph = self._graph("03_search_by_picture_and_text")
        graph["4"] = start
        graph["6"]["inputs"]["top_k"] = _HITS
        if text:
            graph["5"]["inputs"]["text"] = text
            return graph
        seen = {"encoder": graph["5"]["inputs"]["encoder"], "images": ["4", 0]}
        graph["5"] = {"class_type": "UniFashion_EncodeImages", "inputs": seen}
        _drop(graph, "8")  # shows notes, which an image query has none of
        return graph

    def _start(self) -> tuple[dict[str, Any], Host]:
        """The node with the picture to start from, and the host that may read it."""
        if self.images is None:
            return self._graph("03_search_by_picture_and_text")["4"], self.host
        graph = self._graph("02_search_by_text")
        graph["4"]["inputs"]["text"] = _START
        (hit, *_) = self._run(graph).value("5").rows[0]
        host = self._host(hit.path)
        return {"class_type": "LoadImage", "inputs": {"image": hit.path.name}}, host

    def _run(self, graph: dict[str, Any], host: Host | None = None) -> Any:
        from ._progress import ProgressLine

        lines: dict[str, ProgressLine] = {}

        def progress(node_id: str, done: int, total: int) -> None:
            title = graph[node_id]["class_type"].removeprefix("UniFashion_")
            lines.setdefault(node_id, ProgressLine(title))(done, total)

        return (host or self.host).run(graph, on_progress=progress)


def _one(graph: dict[str, Any], class_type: str) -> dict[str, Any]:
    (node,) = (node for node in graph.values() if node["class_type"] == class_type)
    return node


def _drop(graph: dict[str, Any], node_id: str) -> None:
    """Remove a node, and what only shows what came from it."""
    graph.pop(node_id, None)
    for other in [k for k, node in graph.items() if node["class_type"].startswith("Preview")]:
        if any(v[0] == node_id for v in graph[other]["inputs"].values() if isinstance(v, list)):
            del graph[other]
