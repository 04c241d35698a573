"""Metadata of a folder's images, from a JSON-lines or a CSV file with a column `file`."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..errors import InputError
from .columns import Columns, ColumnValue, column_value

FILE_COLUMN = "file"


@dataclass(frozen=True)
class MetadataRow:
    """One line.

    Attributes:
        line: Its number in the file, from 1.
        file: Path of its image as written, relative to the indexed folder.
        columns: Its other columns.
    """

    line: int
    file: str
    columns: Columns


def read_metadata(path: Path) -> list[MetadataRow]:
    """Read a whole metadata file.

    A list in JSON stays a list; in CSV a cell that begins with `[` is read as a JSON list. An empty
    cell, null and an empty text are no value.

    Args:
        path: `.jsonl` or `.ndjson`, or `.csv` with commas and a header line; UTF-8, with or without
            a BOM.

    Returns:
        Its lines, in order.

    Raises:
        InputError: If the file can't be read or a line is wrong; the text names the line.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"{path}: metadata of kind '{path.suffix}', wanted {', '.join(_READERS)}. Save it as "
            "one of these."
        )
    rows = list(read(path, _text(path)))
    seen: dict[str, int] = {}
    for row in rows:
        if row.file in seen:
            raise _wrong(path, row.line, f"'{row.file}' stands on line {seen[row.file]} already")
        seen[row.file] = row.line
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise InputError(
            f"{path}: metadata can't be read ({e.strerror or e}). Check that it is there and may "
            "be read."
        ) from e
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise _wrong(path, data[: e.start].count(b"\n") + 1, "not UTF-8 text") from e


def _wrong(path: Path, line: int, what: str) -> InputError:
    return InputError(f"{path}, line {line}: {what}. Correct this line.")


def _jsonl(path: Path, text: str) -> Iterator[MetadataRow]:
    # Not splitlines(): JSON texts may hold U+2028 and its like.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_constant=_no_constant)
        except ValueError as e:
            raise _wrong(path, number, f"not JSON ({e})") from e
        except RecursionError as e:
            raise _wrong(path, number, "JSON that is nested too deep") from e
        if not isinstance(value, dict):
            raise _wrong(
                path, number, 'not an object such as {"file": "a.jpg", "category": "dress"}'
            )
        yield _row(path, number, cast("dict[str, object]", value))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _csv(path: Path, text: str) -> Iterator[MetadataRow]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, list[str]())]
        if FILE_COLUMN not in header or "" in header or len(set(header)) < len(header):
            raise _wrong(
                path,
                1,
                f"the header is {header}, wanted different names with '{FILE_COLUMN}' among them "
                "and commas between",
            )
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                what = f"{len(cells)} cells, the header has {len(header)}"
                raise _wrong(path, reader.line_num, what)
            values = {
                name: _cell(path, reader.line_num, name, cell)
                for name, cell in zip(header, cells, strict=True)
            }
            yield _row(path, reader.line_num, values)
    except csv.Error as e:
        raise _wrong(path, reader.line_num, f"not CSV ({e})") from e


def _cell(path: Path, line: int, name: str, cell: str) -> object:
    cell = cell.strip()
    if name == FILE_COLUMN or not cell.startswith("["):
        return cell
    try:
        return json.loads(cell, parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        what = f"column '{name}' begins like a JSON list and is none ({e})"
        raise _wrong(path, line, what) from e


def _row(path: Path, line: int, values: dict[str, object]) -> MetadataRow:
    file = values.get(FILE_COLUMN)
    if not isinstance(file, str) or not file.strip():
        raise _wrong(path, line, f"no '{FILE_COLUMN}' with the path of an image")
    columns: Columns = {}
    for name, value in values.items():
        if name == FILE_COLUMN:
            continue
        if not name.strip():
            raise _wrong(path, line, "a column without a name")
        try:
            checked = _valid(column_value(value))
        except ValueError as e:
            raise _wrong(path, line, f"column '{name}' {e}") from e
        if checked not in (None, "", []):
            columns[name.strip()] = checked
    return MetadataRow(line, file, columns)


def _valid(value: ColumnValue) -> ColumnValue:
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str) and any("\ud800" <= sign <= "\udfff" for sign in entry):
            raise ValueError("holds half of a surrogate pair, wanted Unicode text")
    return value


_READERS: dict[str, Callable[[Path, str], Iterator[MetadataRow]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
}


def match_files(
    rows: list[MetadataRow], files: Collection[str]
) -> tuple[dict[str, Columns], list[MetadataRow]]:
    """Join metadata with a folder's files.

    A name counts as the same with backslashes for slashes, with a leading `./`, and in either
    Unicode form (macOS writes names decomposed).

    Args:
        rows: Lines of the metadata file.
        files: Paths below the folder, with forward slashes.

    Returns:
        Columns by file, and the lines whose file isn't there.
    """
    exact = set(files)
    composed = {unicodedata.normalize("NFC", file): file for file in files}
    found: dict[str, Columns] = {}
    unknown: list[MetadataRow] = []
    for row in rows:
        file = row.file if row.file in exact else composed.get(_plain(row.file))
        if file is None:
            unknown.append(row)
        else:
            found[file] = row.columns
    return found, unknown


def _plain(file: str) -> str:
    name = unicodedata.normalize("NFC", file.strip()).replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    return name
