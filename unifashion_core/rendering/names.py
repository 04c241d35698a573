"""Names of made pictures: a template's words filled in, and never a path that leaves its folder."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

from ..errors import InputError

FIELDS = ("index", "counter", "person", "garment", "region", "prompt", "seed", "date", "id", "id8")
DEFAULT_TEMPLATE = "{index:05}_{person}_{garment}_{seed}"

_FIELD = re.compile(r"\{(\w*)(?::0?(\d{1,2})d?)?\}")
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*%{}]+')
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}
_LONGEST_VALUE, _LONGEST_PART = 48, 150  # letters; systems allow names of 255 bytes


def check_template(template: str) -> str:
    """A template that can name files.

    Args:
        template: Words and `{field}`s of `FIELDS`; `{index:05}` pads with zeros, / makes folders.

    Raises:
        InputError: If it names an unknown field, is absolute or climbs.
    """
    for name, _ in _FIELD.findall(template):
        if name not in FIELDS:
            raise InputError(
                f"file name '{template}': no field {{{name}}}. Use {', '.join(FIELDS)}."
            )
    rest = _FIELD.sub("x", template)
    windows = PureWindowsPath(rest)
    if (
        not rest.strip()
        or re.search(r"[{}]", rest)
        or windows.drive
        or windows.root
        or rest.endswith(("/", "\\"))
        or ".." in windows.parts
        or "\0" in rest
    ):
        raise InputError(
            f"file name '{template}': wanted words and {{fields}}, with / for folders below the "
            "output, such as '{person}/{garment}_{seed}'. Correct it."
        )
    return template


def file_name(template: str, values: Mapping[str, str | int], suffix: str) -> str:
    """A picture's path below its folder, with forward slashes.

    Two items never share a name: their id's first letters come last, unless the template has them.

    Args:
        template: As in `check_template`.
        values: Of `FIELDS`; those that are missing are empty.
        suffix: Such as ".png".

    Raises:
        InputError: As in `check_template`.
    """
    check_template(template)
    known = dict(values)
    known["counter"] = known.get("counter", known.get("index", ""))
    known["id8"] = str(known.get("id", ""))[:8]
    if not any(name in ("id", "id8") for name, _ in _FIELD.findall(template)):
        template = f"{template}_{{id8}}"

    def fill(match: re.Match[str]) -> str:
        value = known.get(match[1], "")
        if match[2] and isinstance(value, int):
            return f"{value:0{int(match[2])}d}"
        return plain_words(str(value)) if match[1] != "id" else str(value)

    parts = [part for part in re.split(r"[/\\]", template) if part not in ("", ".")]
    names = [_one_name(_FIELD.sub(fill, part)) for part in parts]
    return "/".join(names) + suffix


def plain_words(text: str) -> str:
    """A value that may stand in a file's name on every system; "" where nothing is left."""
    words = _NOT_IN_NAMES.sub("-", unicodedata.normalize("NFC", text))
    words = re.sub(r"\s+", " ", words).strip(" .-")
    return words[:_LONGEST_VALUE].strip(" .-")


def _one_name(name: str) -> str:
    name = re.sub(r"_{2,}", "_", _NOT_IN_NAMES.sub("-", name)).strip(" ._")
    if len(name) > _LONGEST_PART:  # the end holds what tells items apart
        name = f"{name[: _LONGEST_PART - 60].rstrip()}_{name[-59:].lstrip(' ._')}"
    if not name or name.split(".")[0].lower() in _DEVICES:
        name = f"x{name}"
    return name


def inside(folder: Path, name: str) -> Path:
    """The file of a name that stands in a manifest.

    Raises:
        InputError: If it is no path below the folder.
    """
    windows = PureWindowsPath(name)
    if not name or "\0" in name or windows.drive or windows.root or ".." in windows.parts:
        raise InputError(f"{folder}: the file name '{name[:80]}' leaves the folder. Correct it.")
    return folder.joinpath(*windows.parts)
