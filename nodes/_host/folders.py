"""The folders that an embedded host works in, as one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...unifashion_core.errors import FolderError
from .paths import check_gallery_name, is_inside, parts_of

_LONGEST = 200  # bytes of a name; systems take 255, and a number comes behind
_ANNOTATIONS = ("output", "input", "temp")


@dataclass(frozen=True)
class Folders:
    """Every place that a graph may read or write.

    Attributes:
        models: Root of the model folders; kind `k` lies in `models/k`.
        input: Pictures that LoadImage offers.
        output: What SaveImage writes.
        temp: Previews; the caller removes it.
        user: Settings and, in `__unifashion/galleries`, galleries.
        galleries: Where galleries lie, if not below `user`.
        image_folders: Further folders that may be indexed.
        extra_models: Further folders of a kind, looked in first.
        extra_inputs: Further files that LoadImage offers, by name.
    """

    models: Path
    input: Path
    output: Path
    temp: Path
    user: Path
    galleries: Path | None = None
    image_folders: tuple[Path, ...] = ()
    extra_models: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    extra_inputs: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def under(cls, base: Path) -> Folders:
        """The five folders side by side below one."""
        return cls(
            models=base / "models",
            input=base / "input",
            output=base / "output",
            temp=base / "temp",
            user=base / "user",
        )

    def with_images(self, folder: Path) -> Folders:
        """Also let `folder` be indexed."""
        return replace(self, image_folders=(*self.image_folders, folder.absolute()))

    def with_gallery(self, path: Path) -> tuple[Folders, str]:
        """Work in the folder that holds this gallery; the name to give a node comes with it.

        Raises:
            FolderError: If the folder's name can't name a gallery.
        """
        whole = path.absolute()
        return replace(self, galleries=whole.parent), check_gallery_name(whole.name)

    def with_model(self, kind: str, path: Path) -> tuple[Folders, str]:
        """Also offer this model file or folder; the name to give a node comes with it."""
        whole = path.absolute()
        known = self.extra_models.get(kind, ())
        extra = {**self.extra_models, kind: (whole.parent, *known)}
        return replace(self, extra_models=extra), whole.name

    def with_input(self, path: Path) -> tuple[Folders, str]:
        """Also offer this picture to LoadImage; the name to give the node comes with it."""
        whole, name, number = path.absolute(), path.name, 1
        while self.extra_inputs.get(name, whole) != whole:
            number += 1
            name = f"{path.stem} {number}{path.suffix}"
        return replace(self, extra_inputs={**self.extra_inputs, name: whole}), name

    def make(self) -> None:
        """Create the folders that nodes expect to be there."""
        for folder in (self.output, self.temp):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def gallery_root(self) -> Path:
        """Where galleries lie."""
        return self.galleries or self.user / "__unifashion" / "galleries"

    def model_folders(self, kind: str) -> list[Path]:
        """Folders of a kind, in the order they are searched."""
        return [*self.extra_models.get(kind, ()), self.models / kind]

    def image_roots(self) -> list[tuple[str, Path]]:
        """Label and path of each folder that may be indexed."""
        extra = [(folder.name, folder) for folder in self.image_folders]
        return [("input", self.input), ("output", self.output), *extra]

    def input_files(self) -> list[str]:
        """Names that LoadImage offers."""
        found = [p.name for p in self.input.iterdir() if p.is_file()] if self.input.is_dir() else []
        return sorted({*found, *self.extra_inputs})

    def annotated(self, name: str) -> Path:
        """Path of a file named as LoadImage does: `name`, `sub/name`, `name [output]`.

        Raises:
            FolderError: If it leaves its folder.
        """
        if name in self.extra_inputs:
            return self.extra_inputs[name]
        root, plain = self.input, name
        for kind in _ANNOTATIONS:
            if name.endswith(f"[{kind}]"):
                root, plain = getattr(self, kind), name[: -len(kind) - 2].rstrip()
        path = root.joinpath(*parts_of(plain, f"Input file {name!r}"))
        if not is_inside(path, root):
            raise FolderError(f"Input file {name!r}: it links out of {root}. Copy the file there.")
        return path

    def save_place(self, prefix: str, root: Path) -> tuple[Path, str, int, str]:
        """Where the next picture of a prefix goes.

        Returns:
            The folder (created), the file's stem, the next free number, the subfolder.

        Raises:
            FolderError: If the prefix leaves `root`.
        """
        *sub, stem = parts_of(prefix, f"Filename prefix {prefix!r}") or ("",)
        if any(len(os.fsencode(part)) > _LONGEST for part in (*sub, stem)):
            raise FolderError(
                f"Filename prefix {prefix[:60]!r}: a part is longer than {_LONGEST} bytes. Use a "
                "shorter one."
            )
        folder = root.joinpath(*sub)
        if not is_inside(folder, root):
            raise FolderError(f"Filename prefix {prefix!r}: it leaves {root}. Use a relative one.")
        folder.mkdir(parents=True, exist_ok=True)
        numbers = (_number(name, stem) for name in os.listdir(folder))
        return folder, stem, max(numbers, default=0) + 1, "/".join(sub)


def _number(name: str, stem: str) -> int:
    """The counter in `stem_00012_.png`, 0 for any other name."""
    if not name.startswith(f"{stem}_"):
        return 0
    digits = name[len(stem) + 1 :].split("_")[0]
    return int(digits) if digits.isdecimal() else 0
