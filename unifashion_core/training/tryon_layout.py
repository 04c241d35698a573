"""VITON-HD's folders as records of tensors, read and written."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type, and torch's from_numpy has none)

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import FolderError, InputError
from ..imaging import open_image
from ..tryon.condition import GREY

IMAGE, AGNOSTIC, AGNOSTIC_MASK = "image", "agnostic-v3.2", "agnostic-mask"
POSE, CLOTH, CLOTH_MASK = "image-densepose", "cloth", "cloth-mask"
WORN, SKETCH, PLACES = "gt_cloth_warped_mask", "cloth-sketch", "gt_cloth_places"
FOLDERS = (IMAGE, AGNOSTIC, AGNOSTIC_MASK, POSE, CLOTH, CLOTH_MASK, WORN, SKETCH, PLACES)
"""VITON-HD's folders of a split; the last two are ours and may be absent."""

PAIRS_FILE, CAPTIONS_FILE, ATTRIBUTES_FILE = "pairs.txt", "captions.json", "attributes.json"
_MASKED_FROM = 128 / 255  # as the reference reads masks: grey of 128 and more is 1


@dataclass(frozen=True)
class Record:
    """A person in a garment, and the garment.

    Attributes:
        name: File name without its ending.
        image: The person in the garment, (H, W, 3), 0..1.
        mask: 1 = to be painted anew, (H, W).
        pose: Pose map, (H, W, 3), 0..1.
        garment: The flat garment on white, (H, W, 3), 0..1.
        garment_mask: (H, W), 0..1.
        sketch: The garment as dark lines on white, (H, W, 3), 0..1; None where there is none.
        worn: The worn garment, (H, W), 0..1.
        places: Where each worn pixel is on `garment`: x and y as shares of its sides, and 1 where
            known, (H, W, 3); None where there is none.
    """

    name: str
    image: Tensor
    mask: Tensor
    pose: Tensor
    garment: Tensor
    garment_mask: Tensor
    sketch: Tensor | None
    worn: Tensor
    places: Tensor | None

    @property
    def agnostic(self) -> Tensor:
        """The person with grey where the mask is, (H, W, 3)."""
        share = self.mask[..., None]
        return self.image * (1 - share) + GREY * share

    def save(self, folder: Path) -> None:
        """Write the pictures into a split's folders."""
        pictures = {
            IMAGE: self.image,
            AGNOSTIC: self.agnostic,
            POSE: self.pose,
            CLOTH: self.garment,
            WORN: self.worn,
            CLOTH_MASK: self.garment_mask,
            SKETCH: self.sketch,
            PLACES: self.places,
        }
        for name, picture in pictures.items():
            if picture is not None:
                save_picture(picture, folder / name / f"{self.name}.png")
        save_picture(self.mask, folder / AGNOSTIC_MASK / f"{self.name}_mask.png")


def save_picture(picture: Tensor, path: Path) -> None:
    """Save values of 0..1, (H, W) or (H, W, 3), as an 8-bit PNG."""
    levels: Any = (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
    Image.fromarray(levels).save(path, compress_level=1)


def read_pairs(root: Path, split: str) -> list[tuple[str, str]]:
    """Person and garment names of a split, without their endings.

    Raises:
        FolderError: If the folder has no list of pairs.
    """
    lists = sorted(root.glob(f"{split}_{PAIRS_FILE}*"))
    if not lists:
        raise FolderError(
            f"Try-on data {root}: no {split}_{PAIRS_FILE}. Give a folder in the layout of VITON-HD "
            "(README, Train)."
        )
    pairs: list[tuple[str, str]] = []
    for file in lists:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            names = line.split()
            if len(names) != 2:
                raise InputError(f"{file}, line {number}: '{line[:60]}', wanted two file names.")
            pairs.append((Path(names[0]).stem, Path(names[1]).stem))
    return pairs


def read_texts(root: Path, split: str, file: str) -> dict[str, Any]:
    """captions.json or attributes.json of a split, by garment; empty where there is none."""
    found: dict[str, Any] = {}
    for path in sorted((root / split).glob(f"{file}*")):
        try:
            found |= cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as e:
            raise InputError(f"{path}: can't be read ({e}). Give a JSON object.") from e
    return found


def read_record(root: Path, split: str, person: str, size: tuple[int, int]) -> Record:
    """The paired record of a person: in the garment of the same name, as the reference trains.

    Args:
        root: Folder in VITON-HD's layout.
        split: "train" or "test".
        person: Name without its ending.
        size: Height and width to resize to.

    Raises:
        FolderError: If a picture is missing.
        ImageError: If one can't be read.
    """
    folder = root / split
    sketch, places = _find(folder, SKETCH, person), _find(folder, PLACES, person)
    image, mask, worn = read_worn(root, split, person, size)
    return Record(
        name=person,
        image=image,
        mask=mask,
        pose=_picture(folder, POSE, person, size),
        garment=_picture(folder, CLOTH, person, size),
        garment_mask=_picture(folder, CLOTH_MASK, person, size).mean(-1),
        sketch=None if sketch is None else _read(sketch, size),
        worn=worn,
        places=None if places is None else _read(places, size, nearest=True),
    )


def read_worn(
    root: Path, split: str, person: str, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a record what shows the worn garment: "image", "mask" and "worn" of `read_record`."""
    folder = root / split
    mask = _picture(folder, AGNOSTIC_MASK, f"{person}_mask", size).mean(-1)
    worn = _picture(folder, WORN, person, size).mean(-1)
    image = _picture(folder, IMAGE, person, size)
    return image, (mask >= _MASKED_FROM).float(), (worn >= _MASKED_FROM).float()


def worn_files(root: Path, split: str, person: str) -> list[Path]:
    """The files that `read_worn` reads; one that is missing is left out."""
    names = ((IMAGE, person), (AGNOSTIC_MASK, f"{person}_mask"), (WORN, person))
    found = [_find(root / split, name, stem) for name, stem in names]
    return [path for path in found if path is not None]


def _find(folder: Path, name: str, stem: str) -> Path | None:
    places = [folder / name / f"{stem}{ending}" for ending in (".png", ".jpg", ".jpeg")]
    return next((place for place in places if place.is_file()), None)


def _picture(folder: Path, name: str, stem: str, size: tuple[int, int]) -> Tensor:
    path = _find(folder, name, stem)
    if path is None:
        raise FolderError(
            f"Try-on data {folder}: {name}/{stem} is missing. VITON-HD's layout is needed."
        )
    return _read(path, size)


def _read(path: Path, size: tuple[int, int], *, nearest: bool = False) -> Tensor:
    image = open_image(path)
    if (image.height, image.width) != size:
        how = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
        image = image.resize((size[1], size[0]), how)
    return torch.from_numpy(np.asarray(image, np.float32) / np.float32(255))
