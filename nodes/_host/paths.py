"""Path checks that hold on every host: containment, gallery names, what counts as a model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath

from ...unifashion_core.errors import FolderError

WEIGHT_SUFFIXES = frozenset({".safetensors", ".pt", ".pth", ".ckpt", ".bin"})
_MAX_NAME = 64
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}
)
_NAME_CHARACTERS = re.compile(r"[\w][\w .()+-]*", re.UNICODE)


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path, links followed, lies in a folder, links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def parts_of(text: str, where: str) -> tuple[str, ...]:
    """A relative path's parts, whichever slash it is written with.

    Raises:
        FolderError: If it is absolute in any system's form, climbs, or holds a null character.
    """
    windows = PureWindowsPath(text)
    if "\0" in text or windows.drive or windows.root:
        raise FolderError(
            f"{where}: {text!r} is not a relative path. Give a path inside the folder."
        )
    parts = tuple(p for p in windows.parts if p != ".")
    if ".." in parts:
        raise FolderError(f"{where}: {text!r} climbs out with '..'. Give a path inside the folder.")
    return parts


def check_gallery_name(name: str) -> str:
    """A name that is one folder on every system.

    Raises:
        FolderError: If it has a separator, is reserved, too long, or starts or ends oddly.
    """
    stem = name.split(".")[0].strip().lower()
    if (
        not 0 < len(name) <= _MAX_NAME
        or not _NAME_CHARACTERS.fullmatch(name)
        or name[-1] in " ."
        or stem in _WINDOWS_DEVICES
    ):
        raise FolderError(
            f"Gallery name: {name[:80]!r} can't be a folder's name everywhere. Use 1 to "
            f"{_MAX_NAME} letters, digits, spaces or . ( ) + - _, starting with a letter or digit."
        )
    return name


def find_image_folder(text: str, roots: Sequence[tuple[str, Path]]) -> Path:
    """The folder that a text means: a root's label, a path below one, or an absolute path in one.

    Args:
        text: What the user typed.
        roots: Label and path of each folder that may be read; the first that has it wins.

    Raises:
        FolderError: If it lies outside all of them or is not a folder, also where no system would
            take such a name.
    """
    wanted = text.strip()
    where = f"Image folder {text!r}"
    if not wanted or "\0" in wanted:
        raise FolderError(f"{where}: no folder is named. Give one of: {_known(roots)}.")
    for candidate in _candidates(wanted, roots):
        if any(is_inside(candidate, root) for _, root in roots) and os.path.isdir(candidate):
            return Path(os.path.realpath(candidate))
    outside = _is_absolute(wanted) or ".." in PureWindowsPath(wanted).parts
    problem = "is outside the folders that may be read" if outside else "was not found"
    if outside and any(_is_below(wanted, root) for _, root in roots):
        problem = "is not a folder"
    raise FolderError(
        f"{where}: {problem}, which are {_known(roots)}. Move it there, or list it in "
        "extra_model_paths.yaml as a line 'unifashion_images: <its absolute path>'."
    )


def _candidates(text: str, roots: Sequence[tuple[str, Path]]) -> Iterator[Path]:
    if Path(text).is_absolute():
        yield Path(text)
        return
    windows = PureWindowsPath(text)
    if windows.drive or windows.root or ".." in windows.parts:
        return
    parts = [p for p in windows.parts if p != "."]
    for _, root in roots:
        if parts:
            yield root.joinpath(*parts)
    for label, root in roots:
        if not parts or parts[0] == label:
            yield root.joinpath(*parts[1:])


def _is_absolute(text: str) -> bool:
    windows = PureWindowsPath(text)
    return Path(text).is_absolute() or bool(windows.drive or windows.root)


def _is_below(text: str, root: Path) -> bool:
    return Path(text).is_absolute() and is_inside(Path(text), root)


def _known(roots: Sequence[tuple[str, Path]]) -> str:
    return ", ".join(f"{label} ({path})" for label, path in roots)


def list_models(folders: Iterable[Path]) -> list[str]:
    """Weight files and model folders (those with a config.json) below some folders, sorted."""
    found: set[str] = set()
    for root in folders:
        walked: set[str] = set()
        for here, names, files in os.walk(root, followlinks=True):
            folder = Path(here)
            real = os.path.realpath(here)
            if real in walked:  # a link to a folder above it
                names.clear()
                continue
            walked.add(real)
            if "config.json" in files and folder != root:
                found.add(folder.relative_to(root).as_posix())
                names.clear()  # its weights belong to it
                continue
            found.update(
                (folder / f).relative_to(root).as_posix()
                for f in files
                if Path(f).suffix.lower() in WEIGHT_SUFFIXES
            )
    return sorted(found)


def find_model(name: str, folders: Sequence[Path], where: str) -> Path:
    """The file or folder that a model's name means; the first folder that has it wins.

    Raises:
        FolderError: If no folder has it, or the name leaves them.
    """
    parts = parts_of(name, where)
    for root in folders:
        candidate = root.joinpath(*parts)
        if parts and os.path.exists(candidate):  # also of a name that is too long
            return candidate
    listed = ", ".join(map(str, folders)) or "no folder"
    raise FolderError(f"{where}: {name!r} was not found in {listed}. Choose one that is listed.")
