"""Make the templates of workflows/ from their API twins in workflows/api and their notes.

Each NAME.json gets its nodes laid out from left to right, no wire behind a node that it has no part
in, with a note node of notes/NAME.md. A twin that lacks a widget which its node has now gets it,
with the default that the page would send. With --thumbnails the graphs are run, and what each shows
last becomes NAME.jpg. The subgraph blueprints of subgraphs/ are made too.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._host import Folders

Graph = dict[str, Any]

_THUMBNAIL, _THUMBNAIL_ACROSS = 512, 4  # its longer side, and how many pictures beside each other
_THUMBNAILS = ("SaveImage", "UniFashion_ContactSheet")  # whose picture is shown, the later first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--thumbnails", action="store_true", help="run the graphs and renew the .jpg files too"
    )


def run(args: argparse.Namespace) -> int:
    """Write all templates."""
    import tempfile

    from .._page.graph import completed, to_template
    from ._blueprints import BLUEPRINTS, to_blueprint
    from ._embedded import make_host

    folder = args.pack / "workflows"
    with tempfile.TemporaryDirectory() as base:
        host = make_host(Path(base))
        info = host.object_info()
        for twin in sorted((folder / "api").glob("*.json")):
            prompt = completed(json.loads(twin.read_text("utf-8")), info)
            twin.write_text(json.dumps(prompt, indent=1, ensure_ascii=False) + "\n", "utf-8")
            note = (folder / "notes" / f"{twin.stem}.md").read_text("utf-8")
            graph = to_template(prompt, info, note)
            text = json.dumps(graph, indent=1, ensure_ascii=False) + "\n"
            (folder / twin.name).write_text(text, "utf-8")
            if args.thumbnails:
                pictures = _shown(prompt, host.run(prompt), host.folders)
                _thumbnail(pictures, folder / f"{twin.stem}.jpg")
            print(folder / twin.name)
        for blueprint in BLUEPRINTS:
            path = args.pack / "subgraphs" / f"{blueprint.name}.json"
            path.parent.mkdir(exist_ok=True)
            text = json.dumps(to_blueprint(blueprint, info), indent=1, ensure_ascii=False)
            path.write_text(text + "\n", "utf-8")
            print(path)
    return 0


def _shown(prompt: Graph, result: Any, folders: Folders) -> list[Path]:
    """A run's contact sheet, else its first saved picture, else those that it showed last."""

    def path(file: Graph) -> Path:
        root = folders.output if file["type"] == "output" else folders.temp
        return root / file["subfolder"] / file["filename"]

    def rank(node: str) -> tuple[int, int]:
        kind, last = prompt[node]["class_type"], path(result.ui[node]["images"][-1])
        return _THUMBNAILS.index(kind) if kind in _THUMBNAILS else -1, last.stat().st_mtime_ns

    chosen = max((node for node, ui in result.ui.items() if ui.get("images")), key=rank)
    shown = [path(file) for file in result.ui[chosen]["images"]]
    return shown[:1] if prompt[chosen]["class_type"] in _THUMBNAILS else shown


def _thumbnail(paths: list[Path], target: Path) -> None:
    """One picture; of many, squares side by side, as many as fill whole rows."""
    from PIL import Image, ImageOps

    across = min(_THUMBNAIL_ACROSS, math.isqrt(len(paths)))
    side = _THUMBNAIL // across
    tiles: list[Image.Image] = []
    for path in paths[: across * across]:
        with Image.open(path) as picture:
            tiles.append(ImageOps.contain(picture.convert("RGB"), (side, side)))
    page = tiles[0]
    if across > 1:
        page = Image.new("RGB", (across * side, across * side), "white")
        for number, tile in enumerate(tiles):
            down, right = divmod(number, across)
            page.paste(tile, (right * side, down * side))
    page.save(target, quality=88)
