"""Plans as files: tables of items, lists to combine, and plans that were saved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ..caption.sidecars import write_whole
from ..errors import InputError
from ..imaging import iter_images
from ..types import Scalar
from .plan import (
    COLUMNS,
    DEFAULT_REGION,
    PICTURE_COLUMNS,
    SETTINGS,
    Picture,
    Plan,
    PlanItem,
    PlanLists,
    Seeds,
)
from .prompts import one_prompt
from .rows import Row, parse_json, read_rows, read_text, rows_of

_FORMAT = "unifashion_plan"
_LISTS = ("persons", "garments", "sketches", "regions", "prompts")
_KEYS = {*_LISTS, "seeds", "settings", "lists", "combine"}


def read_plan(path: Path, *, every: bool = False) -> Plan:
    """Read a plan.

    Args:
        path: `.csv` or `.jsonl`: an item a line, with the columns person, garment, sketch (files,
            relative to this one), region, prompt, seed, and settings such as steps. `.json`: a list
            of the same, a saved plan, or lists to combine: {"persons": [...], "garments": [...],
            "prompts": [...], "seeds": {"kind": "counted", "base": 0, "repeats": 2}, "lists":
            {"colours": [...]}, "settings": {...}, "combine": "product" or "pairs"}. In lists, and
            with `every`, a folder stands for all its pictures.
        every: Combine every value of each column with every other, instead of line by line.

    Raises:
        InputError: If it can't be read; the text names the line and what is wrong.
    """
    if path.suffix.lower() != ".json":
        return _from_rows(path, read_rows(path), {}, every)
    value = parse_json(read_text(path), str(path))
    if isinstance(value, list):
        return _from_rows(path, list(rows_of(path, cast("object", value))), {}, every)
    if not isinstance(value, dict):
        raise InputError(f"{path}: neither a list nor an object. Write a plan's JSON.")
    table = cast("dict[str, object]", value)
    if "items" in table:
        settings = _settings(f"{path}, settings", _object(path, table, "settings"))
        return _from_rows(path, list(rows_of(path, table["items"])), settings, every)
    return _from_lists(path, table)


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan that `read_plan` reads; pixels without a file are saved beside it.

    Raises:
        FolderError: If the disk refuses.
    """
    kept: dict[int, str] = {}
    items: list[dict[str, Scalar]] = []
    for item in plan.items:
        cells = item.values()
        for column, picture in item.pictures().items():
            cells[column] = _place(picture, path, kept)
        items.append(cells)
    text = json.dumps(
        {_FORMAT: 1, "settings": dict(plan.settings), "items": items}, ensure_ascii=False, indent=1
    )
    write_whole(path, text.encode())


def _place(picture: Picture, plan: Path, kept: dict[int, str]) -> str:
    """A picture's path as the plan's file names it."""
    if picture.path is not None:
        whole, folder = picture.path.absolute(), plan.absolute().parent
        near = whole.is_relative_to(folder)
        return whole.relative_to(folder).as_posix() if near else str(whole)
    key = id(picture.image)
    if key not in kept:
        folder = plan.parent / f"{plan.stem}_pictures"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{picture.content()[:16]}.png"
        part = file.with_name(f".{file.name}.part")
        picture.open().save(part, format="PNG")
        os.replace(part, file)
        kept[key] = f"{folder.name}/{file.name}"
    return kept[key]


class _Pictures:
    """A file's pictures: one value a path, named apart where two files share a stem."""

    def __init__(self, table: Path):
        self.folder = table.absolute().parent
        self.known: dict[Path, Picture] = {}
        self.names: set[str] = set()

    def one(self, text: str) -> Picture:
        path = Path(os.path.normpath(self.folder / Path(text).expanduser()))
        if path not in self.known:
            name, number = path.stem, 1
            while name in self.names:
                number += 1
                name = f"{path.stem} {number}"
            self.names.add(name)
            self.known[path] = Picture(name, path)
        return self.known[path]

    def many(self, texts: Sequence[str]) -> list[Picture]:
        found: list[Picture] = []
        for text in texts:
            picture = self.one(text)
            assert picture.path is not None
            if picture.path.is_dir():
                found += [self.one(str(path)) for path in iter_images(picture.path)]
            else:
                found.append(picture)
        return found


def _from_rows(
    path: Path, rows: Sequence[Row], settings: Mapping[str, Scalar], every: bool
) -> Plan:
    if not rows:
        raise InputError(f"{path}: no item in it. Write at least one line.")
    for row in rows:
        for name in row.values:
            if name not in COLUMNS and name not in SETTINGS:
                raise InputError(
                    f"{row.where}: no column '{name}' is known. Use "
                    f"{', '.join((*COLUMNS, *SETTINGS))}."
                )
    pictures = _Pictures(path)
    if every:
        return _every(rows, pictures, settings)
    return Plan(tuple(_item(row, pictures) for row in rows), dict(settings))


def _item(row: Row, pictures: _Pictures) -> PlanItem:
    cells = row.values
    seed = _seed(row.where, cells.get("seed", 0))
    found = {
        name: pictures.one(str(cells[name])) if name in cells else None for name in PICTURE_COLUMNS
    }
    return PlanItem(
        found["person"],
        found["garment"],
        str(cells.get("region", DEFAULT_REGION)),
        one_prompt(str(cells.get("prompt", "")), seed),
        found["sketch"],
        seed,
        _settings(row.where, {n: v for n, v in cells.items() if n in SETTINGS}),
    )


def _every(rows: Sequence[Row], pictures: _Pictures, settings: Mapping[str, Scalar]) -> Plan:
    columns: dict[str, list[Scalar]] = {
        name: list(dict.fromkeys(row.values[name] for row in rows if name in row.values))
        for name in (*COLUMNS, *SETTINGS)
    }
    where = rows[0].where
    common = dict(settings)
    for name in SETTINGS:
        if len(columns[name]) > 1:
            raise InputError(
                f"{where}: column '{name}' has {len(columns[name])} values, which can't be "
                "combined. Give one, or leave --product out."
            )
        if columns[name]:
            common |= _settings(where, {name: columns[name][0]})
    texts = {name: [str(v) for v in columns[name]] for name in COLUMNS}
    plan = PlanLists(
        persons=pictures.many(texts["person"]),
        garments=pictures.many(texts["garment"]),
        regions=texts["region"] or (DEFAULT_REGION,),
        prompts=texts["prompt"],
        sketches=pictures.many(texts["sketch"]),
        settings=common,
    ).product()
    seeds = [_seed(where, value) for value in columns["seed"]] or [0]
    return replace(plan, items=tuple(replace(i, seed=s) for i in plan.items for s in seeds))


def _from_lists(path: Path, table: Mapping[str, object]) -> Plan:
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise InputError(
            f"{path}: no key '{unknown[0]}' is known. Use {', '.join(sorted(_KEYS))} or 'items'."
        )
    pictures = _Pictures(path)
    texts = {name: _texts(path, table, name) for name in _LISTS}
    combine = table.get("combine", "product")
    if combine not in ("product", "pairs"):
        raise InputError(f"{path}: combine is {combine!r}, wanted 'product' or 'pairs'.")
    named = _object(path, table, "lists")
    choices = {name: _texts(path, named, name) for name in named}
    wanted = PlanLists(
        persons=pictures.many(texts["persons"]),
        garments=pictures.many(texts["garments"]),
        regions=texts["regions"] or (DEFAULT_REGION,),
        prompts=texts["prompts"],
        sketches=pictures.many(texts["sketches"]),
        seeds=_seeds(path, table.get("seeds", 0)),
        settings=_settings(f"{path}, settings", _object(path, table, "settings")),
        choices=choices,
    )
    return wanted.product() if combine == "product" else wanted.pairs()


def _object(path: Path, table: Mapping[str, object], name: str) -> dict[str, object]:
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise InputError(f'{path}: "{name}" is no object. Write {{"name": value}}.')
    return cast("dict[str, object]", value)


def _texts(path: Path, table: Mapping[str, object], name: str) -> list[str]:
    value = table.get(name, [])
    entries: list[Any] = [value] if isinstance(value, str) else cast("list[Any]", value)
    if not isinstance(cast(object, entries), list) or not all(isinstance(e, str) for e in entries):
        raise InputError(f'{path}: "{name}" is no list of texts. Write ["…", "…"].')
    return entries


def _seeds(path: Path, value: object) -> Seeds:
    if isinstance(value, int) and not isinstance(value, bool):
        return Seeds(base=value)
    table = cast("dict[str, Any]", value) if isinstance(value, dict) else {"kind": None}
    kind, base, repeats = table.get("kind", "fixed"), table.get("base", 0), table.get("repeats", 1)
    if kind not in ("fixed", "counted", "hash") or set(table) - {"kind", "base", "repeats"}:
        raise InputError(
            f'{path}: "seeds" wanted as a number, or as {{"kind": "fixed", "counted" or "hash", '
            '"base": 0, "repeats": 1}. Correct it.'
        )
    if not isinstance(repeats, int) or repeats < 1:
        raise InputError(f'{path}: "repeats" is {repeats!r}, wanted 1 or more. Correct it.')
    return Seeds(kind, _seed(str(path), base), repeats)


def _seed(where: str, value: object) -> int:
    try:
        seed = int(str(value))
    except ValueError:
        seed = -1
    if isinstance(value, bool) or not 0 <= seed < 2**64:
        raise InputError(
            f"{where}: seed {value!r}, wanted a whole number of 0 or more. Correct it."
        )
    return seed


def _settings(where: str, values: Mapping[str, object]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, value in values.items():
        if name not in SETTINGS:
            raise InputError(f"{where}: no setting '{name}'. Use {', '.join(SETTINGS)}.")
        found[name] = _cast(where, name, value)
    return found


def _cast(where: str, name: str, value: object) -> Scalar:
    text = str(value).strip()
    if SETTINGS[name] is bool:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{where}: {name} is {value!r}, wanted true or false. Correct it.")
        return text.lower() == "true"
    try:
        return SETTINGS[name](text)
    except ValueError as e:
        raise InputError(f"{where}: {name} is {value!r}, wanted a number. Correct it.") from e
