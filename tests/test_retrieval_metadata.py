"""Metadata files: what is read, which lines are refused, how names are matched."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from unifashion_core.errors import InputError
from unifashion_core.retrieval.columns import flat, from_json, to_json
from unifashion_core.retrieval.metadata import match_files, read_metadata


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_jsonl_keeps_types_lists_and_any_column(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "m.jsonl",
        '\ufeff{"file": "a.jpg", "colours": ["red", "navy"], "price": 9.5, '
        '"sale": true, "x": null}\n'
        '\n{"file":"b/ä.png","caption":"größer \u2028 als"}\r\n',
    )

    first, second = read_metadata(path)

    assert (first.line, first.file) == (1, "a.jpg")
    assert first.columns == {"colours": ["red", "navy"], "price": 9.5, "sale": True}
    assert (second.line, second.file) == (3, "b/ä.png")
    assert second.columns == {"caption": "größer \u2028 als"}


def test_csv_reads_quotes_lists_and_empty_cells(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "m.CSV",
        "\ufeffcategory, file ,colours,caption\r\n"
        'dress,a.jpg,"[""red"", ""navy""]","two\nlines, really"\r\n'
        "\r\n"
        "hat,b.jpg,red,\r\n",
    )

    first, second = read_metadata(path)

    assert first.columns == {
        "category": "dress",
        "colours": ["red", "navy"],
        "caption": "two\nlines, really",
    }
    assert second.line == 5
    assert second.columns == {"category": "hat", "colours": "red"}


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("m.jsonl", '{"file": "a.jpg"}\n{"file": \n', r"m\.jsonl, line 2: not JSON"),
        ("m.jsonl", "[1]\n", "line 1: not an object"),
        ("m.jsonl", '\n{"category": "hat"}', "line 2: no 'file'"),
        ("m.jsonl", '{"file": 3}', "line 1: no 'file'"),
        ("m.jsonl", '{"file": " "}', "line 1: no 'file'"),
        ("m.jsonl", '{"file": "a", "x": {"y": 1}}', "line 1: column 'x' holds an object"),
        ("m.jsonl", '{"file": "a", "x": [[1]]}', "line 1: column 'x' holds a list inside"),
        ("m.jsonl", '{"file": "a", "x": NaN}', "line 1: not JSON .NaN"),
        ("m.jsonl", '{"file": "a", "x": 1e999}', "line 1: column 'x' holds inf"),
        ("m.jsonl", '{"file": "a", "x": "\\ud800"}', "line 1: column 'x' holds half of a surr"),
        ("m.jsonl", '{"file": "a", " ": 1}', "line 1: a column without a name"),
        ("m.jsonl", '{"file": "a"}\n{"file": "a"}', "line 2: 'a' stands on line 1 already"),
        ("m.jsonl", b'{"file": "a"}\n{"file": "\xff"}', "line 2: not UTF-8"),
        ("m.jsonl", "[" * 100_000, "line 1: (not JSON|JSON that is nested)"),
        ("m.csv", "name,category\na,b\n", "line 1: the header is"),
        ("m.csv", "file;category\na;b\n", "line 1: the header is"),
        ("m.csv", "", "line 1: the header is"),
        ("m.csv", "file,x,x\na,b,c\n", "line 1: the header is"),
        ("m.csv", "file,x\na,b\nc\n", "line 3: 1 cells, the header has 2"),
        ("m.csv", "file,x\na,b,c\n", "line 2: 3 cells, the header has 2"),
        ("m.csv", 'file,x\na,"[1"\n', "line 2: column 'x' begins like a JSON list"),
        ("m.csv", 'file,x\na,"b\n', "not CSV"),
        ("m.txt", "file\na\n", r"kind '\.txt', wanted \.jsonl, \.ndjson, \.csv"),
    ],
)
def test_a_wrong_line_is_an_error_that_names_it(
    tmp_path: Path, name: str, text: str | bytes, wanted: str
) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(InputError, match=wanted):
        read_metadata(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="metadata can't be read"):
        read_metadata(tmp_path / "none.csv")


def test_names_match_across_systems(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "ä.jpg")
    files = ["sub/a b.jpg", decomposed, "c.jpg", "odd\\name.jpg"]
    lines = ["sub\\\\a b.jpg", "ä.jpg", "./c.jpg", "odd\\\\name.jpg", "../c.jpg", "C.jpg"]
    path = written(
        tmp_path, "m.jsonl", "\n".join(f'{{"file": "{line}", "n": 1}}' for line in lines)
    )

    found, unknown = match_files(read_metadata(path), files)

    assert set(found) == set(files)
    assert [row.file for row in unknown] == ["../c.jpg", "C.jpg"]


def test_columns_survive_json_in_a_fixed_order() -> None:
    columns = {"b": ["x", 1, True], "a": "ä", "none": None, "empty": "", "zero": 0, "no": False}

    text = to_json(columns)  # type: ignore[arg-type]

    assert text == '{"a":"ä","b":["x",1,true],"no":false,"zero":0}'
    assert from_json(text) == {"a": "ä", "b": ["x", 1, True], "no": False, "zero": 0}
    assert flat(["x", 1, True]) == "x, 1, true"
