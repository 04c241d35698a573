"""Make the words of the nodes anew from their schemas: translations, and tables of help pages.

locales/en/nodeDefs.json holds the schemas' own words. Another language has a file phrases.json with
a translation of each English text; its nodeDefs.json is made from it. A page web/docs/NODE_ID.md is
written by hand, except the tables between its marks. What is missing is told, with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

Words = dict[str, Any]

PREFIX = "UniFashion_"
START, END = "<!-- tables: made by `run.py pages` -->", "<!-- end of tables -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--pictures", action="store_true", help="run the nodes and renew their pictures too"
    )


def run(args: argparse.Namespace) -> int:
    """Write translations and tables."""
    import tempfile

    from ._embedded import make_host

    with tempfile.TemporaryDirectory() as base:
        host = make_host(Path(base))
        info = host.object_info()
        if args.pictures:
            from ._page_pictures import write_pictures

            write_pictures(host, args.pack / "web" / "docs" / "pictures")
    english = node_words(info)
    write_words(args.pack / "locales" / "en", english)
    lacking: list[str] = []
    for folder in languages(args.pack / "locales"):
        made, unknown = translated(english, read_phrases(folder))
        write_words(folder, made)
        lacking += [f"{folder.name}: no translation of {text!r}" for text in unknown]
    for node_id in english:
        page = args.pack / "web" / "docs" / f"{node_id}.md"
        if not page.is_file():
            lacking.append(f"{page.name}: no such page")
            continue
        text = page.read_text("utf-8")
        if START not in text:
            lacking.append(f"{page.name}: no line {START}")
            continue
        page.write_text(with_tables(text, info[node_id]), "utf-8", newline="\n")
    print("\n".join(lacking) or "every node has its page and its words", file=sys.stderr)
    return 1 if lacking else 0


def languages(locales: Path) -> list[Path]:
    """Folders of the languages that are translated from phrases."""
    return sorted(path.parent for path in locales.glob("*/phrases.json"))


def read_phrases(folder: Path) -> dict[str, str]:
    """English texts with their translations."""
    return json.loads((folder / "phrases.json").read_text("utf-8"))


def write_words(folder: Path, words: Words) -> None:
    """A language's nodeDefs.json."""
    text = json.dumps(words, indent=1, ensure_ascii=False) + "\n"
    (folder / "nodeDefs.json").write_text(text, "utf-8", newline="\n")


def node_words(info: Words) -> Words:
    """The words of our nodes, as nodeDefs.json holds them.

    Args:
        info: `/object_info`.
    """
    return {name: _words(node) for name, node in info.items() if name.startswith(PREFIX)}


def _words(node: Words) -> Words:
    tips = node.get("output_tooltips") or [""] * len(node["output"])
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": {
            name: {"name": options.get("display_name") or name, "tooltip": options.get("tooltip")}
            for name, _, options, _ in inputs_of(node)
        },
        "outputs": {
            str(number): {"name": name, "tooltip": tip}
            for number, (name, tip) in enumerate(zip(node["output_name"], tips, strict=True))
        },
    }


def inputs_of(node: Words) -> list[tuple[str, Any, Words, bool]]:
    """Name, kind, options and whether it is optional, of each input that the page shows."""
    return [
        (name, entry[0], entry[1] if len(entry) > 1 else {}, group == "optional")
        for group in ("required", "optional")
        for name, entry in node["input"].get(group, {}).items()
    ]


def translated(words: Words, phrases: dict[str, str]) -> tuple[Words, list[str]]:
    """Words in another language, and the texts that have no translation, which stay English."""
    unknown: dict[str, None] = {}

    def each(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: each(inner) for key, inner in value.items()}
        if value and value not in phrases:
            unknown[value] = None
        return phrases.get(value, value)

    return each(words), list(unknown)


def with_tables(page: str, node: Words) -> str:
    """A help page with its tables made anew.

    Args:
        page: Its text, with the two marks.
        node: The node's entry of `/object_info`.
    """
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{tables(node)}{END}{after}"


def tables(node: Words) -> str:
    """Inputs and outputs of a node in Markdown."""
    lines = ["", "## Inputs", "", "| input | takes | what it does |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {_takes(kind, options, optional)} | {_cell(options.get('tooltip', ''))} |"
        for name, kind, options, optional in inputs_of(node)
    ]
    lines += ["", "## Outputs", "", "| output | gives | what it is |", "|---|---|---|"]
    tips = node.get("output_tooltips") or [""] * len(node["output"])
    lists = node["output_is_list"]
    rows = zip(node["output_name"], node["output"], lists, tips, strict=True)
    lines += [
        f"| `{name}` | {_kind(kind)}{', a list' if many else ''} | {_cell(tip)} |"
        for name, kind, many, tip in rows
    ]
    return "\n".join([*lines, "", ""])


_LARGEST = 2**53  # above it a range says nothing to anybody
_KINDS = {
    "INT": "whole number",
    "FLOAT": "number",
    "STRING": "text",
    "BOOLEAN": "on or off",
    "COMBO": "choice",
    "IMAGE": "image",
    "MASK": "mask",
    "LATENT": "latent",
}


def _kind(kind: Any) -> str:
    name = "COMBO" if isinstance(kind, list) else str(kind)
    return _KINDS.get(name) or name.removeprefix("UNIFASHION_").lower().replace("_", " ")


def _takes(kind: Any, options: Words, optional: bool) -> str:
    parts = [_kind(kind)]
    if "min" in options and "max" in options:
        most = f"{options['min']:g} to {options['max']:g}"
        parts.append(most if options["max"] < _LARGEST else f"{options['min']:g} or more")
    default = options.get("default")
    if default not in (None, "") and not isinstance(default, bool):
        parts.append(f"default {_cell(str(default))}")
    elif isinstance(default, bool):
        parts.append(f"default {'on' if default else 'off'}")
    if optional:
        parts.append("optional")
    return ", ".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ").replace("<", "&lt;")
