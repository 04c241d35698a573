"""What pages and README quote of errors, looked up in the sources."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def messages() -> str:
    """Every text of the sources, for looking up what a page quotes."""
    texts: list[str] = []
    for path in [
        ROOT / "run.py",
        *(ROOT / "nodes").rglob("*.py"),
        *(ROOT / "unifashion_core").rglob("*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def unknown_quotes(text: str) -> list[str]:
    """Error texts in the first column of a table that no source has; … stands for what varies."""
    quoted = re.findall(r"^\| `([^`]+)`[^|]*\|", text, re.MULTILINE)
    parts = [part.strip() for quote in quoted for part in quote.split("…")]
    return [part for part in parts if part and part not in messages()]
