"""Tables that artists write: CSV with a header, JSON lines, or a JSON list, read alike."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import InputError
from ..types import Scalar

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        where: File and line, for messages.
        values: Its cells by column; empty ones are left out. A CSV's are all texts.
    """

    where: str
    values: Mapping[str, Scalar]


def read_rows(path: Path) -> list[Row]:
    """Read a table.

    Args:
        path: `.csv` (commas, a header line), `.jsonl` / `.ndjson` (an object a line) or `.json` (a
            list of objects); UTF-8, with or without a BOM.

    Raises:
        InputError: If it can't be read, or a line is wrong; the text names the line.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path}: a table of kind '{suffix}', wanted {', '.join(SUFFIXES)}. Save it as one of "
            "these."
        )
    text = read_text(path)
    if suffix == ".csv":
        return list(_csv(path, text))
    if suffix == ".json":
        return list(rows_of(path, parse_json(text, f"{path}")))
    return list(_lines(path, text))


def read_text(path: Path) -> str:
    """A text file's content.

    Raises:
        InputError: If it can't be read or isn't UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise InputError(
            f"{path}: can't be read ({e.strerror or e}). Check that it is there and may be read."
        ) from e
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: not UTF-8 text. Save it as UTF-8.") from e


def parse_json(text: str, where: str) -> object:
    """A JSON value.

    Raises:
        InputError: If it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InputError(f"{where}: not JSON ({e}). Correct it.") from e


def rows_of(path: Path, value: object) -> Iterator[Row]:
    """The rows of a JSON list.

    Raises:
        InputError: If it is no list of objects.
    """
    if not isinstance(value, list):
        raise InputError(f"{path}: wanted a list of objects. Write [{{…}}, {{…}}].")
    for number, entry in enumerate(cast("list[object]", value), start=1):
        yield _row(f"{path}, entry {number}", entry)


def _csv(path: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, list[str]())]
        if not header or "" in header or len(set(header)) < len(header):
            raise InputError(
                f"{path}, line 1: the header is {header}, wanted different names with commas "
                "between. Correct this line."
            )
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{where}: {len(cells)} cells, the header has {len(header)}. Correct this line "
                    "(a text with a comma goes in double quotes)."
                )
            pairs = zip(header, (cell.strip() for cell in cells), strict=True)
            yield Row(where, {name: cell for name, cell in pairs if cell})
    except csv.Error as e:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({e}). Correct it.") from e


def _lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _row(where, parse_json(line, where))


def _row(where: str, entry: object) -> Row:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: wanted an object with columns. Correct this line.")
    values: dict[str, Scalar] = {}
    for name, value in cast("dict[str, object]", entry).items():
        if value is not None and not isinstance(value, str | int | float):
            raise InputError(
                f"{where}: column '{name}' holds a list or an object, wanted a text, a number, "
                "true or false. Correct it."
            )
        if value not in (None, ""):
            values[name.strip()] = value
    return Row(where, values)
