"""A try-on training folder of the wardrobe: mannequins in garments, in the layout of VITON-HD.

Masks and pose maps are drawn by `prepare` from the drawing's own joints, moved a little, so that
they are the ones of run time.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type, and torch's from_numpy has none)

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ..errors import FolderError, InputError
from ..prepare.colour_step import body_from_skeleton
from ..prepare.fit import Fit, fit
from ..prepare.garment import CutOut, frame_garment
from ..prepare.keypoints import Skeleton, from_landmarks
from ..prepare.posemap import draw_pose_map, fit_skeleton
from ..prepare.regions import Body, MaskOptions, Region, region_mask
from ..prepare.sketch import SketchStyle, on_paper, sketch
from ..types import OnStep
from ..wardrobe.garment import Garment, sample_garment
from ..wardrobe.person import LOWER, UPPER, Person, sample_person
from ..wardrobe.person_render import PersonPicture, region_of, render_person
from .describe import Known, garment_attributes
from .grammar import full_caption
from .tryon_layout import (
    ATTRIBUTES_FILE,
    CAPTIONS_FILE,
    FOLDERS,
    PAIRS_FILE,
    Record,
)

_CATEGORIES = (*UPPER, *LOWER, "dress")
_CATEGORY_SHARES = (0.14, 0.12, 0.1, 0.1, 0.11, 0.08, 0.13, 0.22)
_PATTERNS = ("plain", "stripes", "dots", "checks", "floral", "print")
_PATTERN_SHARES = (0.34, 0.2, 0.14, 0.14, 0.06, 0.12)
_SPLIT_SEEDS = {"train": 5_000_000, "test": 9_000_000}
"""Far from the seeds that people type: nobody's sample is a training picture."""
_SKETCH_SIDE = 256


@dataclass(frozen=True)
class PairsConfig:
    """How the pictures are made.

    Attributes:
        size: Side of the square pictures in pixels, a multiple of 64.
        height: Of the drawn persons in pixels.
        seed: Added to the seeds of persons and garments.
        joints: How far joints are moved, as a share of the torso (standard deviation).
        dilation: Least and largest dilation of the masks, percent of the torso.
        context: Least and largest share of the photo that is kept round the mask.
        filled: Least and largest share of its frame that a flat garment takes.
        changed: Share of the records whose mask and photo are of the same person in other clothes,
            as at run time: the new garment is shown inside the mask alone, and the mask tells
            nothing of it.
    """

    size: int = 128
    height: int = 256
    seed: int = 0
    joints: float = 0.02
    dilation: tuple[float, float] = (2.0, 6.0)
    context: tuple[float, float] = (0.04, 0.2)
    filled: tuple[float, float] = (0.7, 0.97)
    changed: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.changed <= 1.0:
            raise InputError(f"Wardrobe pairs: changed {self.changed}, wanted 0 to 1.")


def build_pairs(
    out: Path,
    count: int,
    config: PairsConfig | None = None,
    *,
    split: str = "train",
    part: tuple[int, int] = (0, 1),
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Draw persons and save what try-on training reads; what is already there is kept.

    Args:
        out: Folder to fill; each split in its own.
        count: Persons; each gives a record for each region that it wears a garment on.
        config: Sizes and draws.
        split: "train", or "test": other persons and garments.
        part: Number and count of the processes that share the work; each writes its own lists.
        on_step: Called with (persons done, persons of this part).

    Returns:
        Counts, for people and JSON.

    Raises:
        InputError: If the split is unknown.
        FolderError: If the folder can't be written.
    """
    config = config or PairsConfig()
    if split not in _SPLIT_SEEDS:
        raise InputError(f"Wardrobe pairs: split '{split}', wanted train or test.")
    folder = out / split
    try:
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise FolderError(f"Wardrobe pairs: {folder} can't be written ({e}).") from e
    numbers = range(part[0], count, part[1])
    names: list[str] = []
    known: dict[str, Known] = {}
    for done, number in enumerate(numbers, 1):
        for record, garment in _records(number, split, config):
            record.save(folder)
            names.append(record.name)
            known[record.name] = garment_attributes(garment)
        if on_step is not None:
            on_step(done, len(numbers))
    suffix = "" if part[1] == 1 else f".{part[0]}"
    pairs = "".join(f"{name} {name}\n" for name in names)
    (out / f"{split}_{PAIRS_FILE}{suffix}").write_text(pairs, encoding="utf-8")
    phrases = {name: [full_caption(values)] for name, values in known.items()}
    for file, values in ((CAPTIONS_FILE, phrases), (ATTRIBUTES_FILE, known)):
        text = json.dumps(values, indent=0)
        (folder / f"{file}{suffix}").write_text(text, encoding="utf-8")
    return {"folder": str(folder), "records": len(names), "config": asdict(config)}


def draw_garment(number: int, split: str, seed: int = 0) -> Garment:
    """The garment that the person of a number was dressed for."""
    seed = _SPLIT_SEEDS[split] + number + seed
    rng = np.random.default_rng([seed, 1])
    category = str(rng.choice(_CATEGORIES, p=_CATEGORY_SHARES))
    pattern = str(rng.choice(_PATTERNS, p=_PATTERN_SHARES))
    return sample_garment(seed, category=category, pattern=pattern)


def draw_person(number: int, split: str, seed: int = 0) -> Person:
    """The person of a number, in that garment and what goes with it."""
    garment = draw_garment(number, split, seed)
    return sample_person(_SPLIT_SEEDS[split] + number + seed, garment)


def _records(number: int, split: str, config: PairsConfig) -> Iterator[tuple[Record, Garment]]:
    seed = _SPLIT_SEEDS[split] + number + config.seed
    rng = np.random.default_rng([seed, 2])
    changes = np.random.default_rng([seed, 3])
    person = draw_person(number, split, config.seed)
    picture = render_person(person, config.height)
    skeleton = _jittered(from_landmarks(picture.landmarks), config.joints, rng)
    own = _Before(picture, _body(picture, skeleton, rng))
    for worn in person.garments:
        region: Any = region_of(worn.category)
        before = own
        if changes.random() < config.changed:
            other = render_person(_redressed(person, region, changes), config.height)
            before = _Before(other, _body(other, skeleton, changes))
        name = f"{2 * number + int(region == 'upper'):06d}_00"
        record = _record(name, region, picture, before, skeleton, config, rng)
        if record is not None:
            yield record, worn


def _record(
    name: str,
    region: Region,
    picture: PersonPicture,
    before: _Before,
    skeleton: Skeleton,
    config: PairsConfig,
    rng: np.random.Generator,
) -> Record | None:
    """A person in a garment, masked by what was worn before; None where hardly anything of that
    is to be seen."""
    options = MaskOptions(regions=(region,), dilation=float(rng.uniform(*config.dilation)))
    to_paint = region_mask(before.body, options)
    mask = torch.from_numpy(to_paint.astype(np.float32))
    if float(mask.sum()) < 0.01 * mask.numel():
        return None
    size = (config.size, config.size)
    # The new garment is to be seen where it is painted; its own photo shows it everywhere.
    shown = np.ones_like(to_paint) if before.picture is picture else to_paint
    after, since = _tensor(picture.image), _tensor(before.picture.image)
    photo = torch.where(torch.from_numpy(shown)[..., None], after, since)
    # The garment's share goes through the same resampling as the colours that show it.
    shares = torch.from_numpy(picture.coverage[region] * shown)[..., None]
    both = torch.cat([photo, shares], dim=-1)
    crop, inside, placed = fit(both, mask, size, float(rng.uniform(*config.context)))
    hint, flat_mask, places = _garment(picture, region, placed, shown, config, rng)
    return Record(
        name=name,
        image=crop[..., :3].contiguous(),
        mask=(inside > 0.5).float(),
        pose=draw_pose_map(fit_skeleton(skeleton, placed), *size),
        garment=hint,
        garment_mask=flat_mask,
        sketch=_drawn(picture, region, config, rng),
        worn=_half_covered(crop[..., 3], placed),
        places=places,
    )


@dataclass(frozen=True)
class _Before:
    """A person as the photo shows them, before the new garment.

    Attributes:
        picture: The photo.
        body: What `prepare` finds on it.
    """

    picture: PersonPicture
    body: Body


def _body(picture: PersonPicture, skeleton: Skeleton, rng: np.random.Generator) -> Body:
    silhouette = _outline(picture, rng)
    return body_from_skeleton(picture.image, skeleton, silhouette, source="drawing")


def _redressed(person: Person, region: Region, rng: np.random.Generator) -> Person:
    """The person before: in other clothes on the region and the same ones elsewhere, or in a
    dress."""

    def another(categories: Sequence[str]) -> Garment:
        return sample_garment(int(rng.integers(2**31)), category=str(rng.choice(categories)))

    kept = tuple(g for g in person.garments if region_of(g.category) != region)
    if rng.random() < (0.4 if region == "dress" else 0.15):
        return replace(person, garments=(another(("dress",)),))
    if region == "upper":
        return replace(person, garments=(*kept, another(UPPER)))
    upper = kept or (another(UPPER),)
    return replace(person, garments=(another(LOWER), *upper))


def _garment(
    picture: PersonPicture,
    region: Region,
    placed: Fit,
    shown: npt.NDArray[np.bool_],
    config: PairsConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """The framed flat garment, its mask, and where on it each shown pixel comes from."""
    flat, mask = _tensor(picture.flat[region]), torch.from_numpy(picture.flat_mask[region])
    filled = float(rng.uniform(*config.filled))
    side = config.size
    framed = frame_garment(CutOut(flat, mask, "drawing"), (side, side), deskew=False, filled=filled)
    rows, columns = (mask > 0.5).nonzero().float().unbind(1)
    top, bottom = float(rows.min()), float(rows.max()) + 1
    left, right = float(columns.min()), float(columns.max()) + 1
    scale = filled * min(side / (bottom - top), side / (right - left))
    x, y = picture.source[region][..., 0], picture.source[region][..., 1]
    known = ~np.isnan(x) & shown
    full = mask.shape[0]
    across = (np.nan_to_num(x) * full - (left + right) / 2) * scale / side + 0.5
    down = (np.nan_to_num(y) * full - (top + bottom) / 2) * scale / side + 0.5
    stacked = torch.from_numpy(
        np.stack([across * known, down * known, known], axis=-1).astype(np.float32)
    )
    return framed.image, framed.mask, _placed(stacked, placed)


def _half_covered(share: Tensor, placed: Fit) -> Tensor:
    """1 where at least half of the frame's pixel is garment; the padding shows none, (H, W)."""
    rows, columns = placed.content
    top, left = placed.offset
    content = (slice(top, top + rows), slice(left, left + columns))
    made = torch.zeros(*placed.size)
    made[content] = (share[content] >= 0.5).float()
    return made


def _placed(stacked: Tensor, placed: Fit) -> Tensor:
    """A field of the photo in the frame, by its nearest pixels: places can't be mixed."""
    left, top = placed.box[:2]
    rows, columns = placed.content
    high, wide = placed.box_size
    y = ((torch.arange(rows) + 0.5) * high / rows).long().clamp(max=high - 1) + top
    x = ((torch.arange(columns) + 0.5) * wide / columns).long().clamp(max=wide - 1) + left
    made = torch.zeros(*placed.size, 3)
    y0, x0 = placed.offset
    made[y0 : y0 + rows, x0 : x0 + columns] = stacked[y][:, x]
    return made


def _drawn(
    picture: PersonPicture, region: Region, config: PairsConfig, rng: np.random.Generator
) -> Tensor:
    """The garment as a sketch, dark lines on white, in the frame."""
    flat, mask = _tensor(picture.flat[region]), torch.from_numpy(picture.flat_mask[region])
    side = (_SKETCH_SIDE, _SKETCH_SIDE)
    framed = frame_garment(
        CutOut(flat, mask, "drawing"), side, deskew=False, filled=float(rng.uniform(*config.filled))
    )
    style = SketchStyle(float(rng.uniform(5.0, 12.0)), float(rng.uniform(0.2, 0.7)))
    paper = on_paper(sketch(framed.image, framed.mask, style), dark_on_light=True)
    planes = paper.permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(planes, (config.size, config.size), mode="area")
    return small[0].permute(1, 2, 0)


def _jittered(skeleton: Skeleton, share: float, rng: np.random.Generator) -> Skeleton:
    """Joints as a network finds them: none exactly where it is."""
    spread = share * (skeleton.torso() or 0.0)

    def moved(point: tuple[float, float]) -> tuple[float, float]:
        x, y = rng.normal(0.0, spread, 2)
        return point[0] + float(x), point[1] + float(y)

    joints = {name: moved(point) for name, point in skeleton.joints.items()}
    hands = {side: tuple(map(moved, points)) for side, points in skeleton.hands.items()}
    return Skeleton(joints, hands)


def _outline(picture: PersonPicture, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The person's outline as a network finds it: a little too wide or too narrow, and soft."""
    person = picture.parts > 0
    for worn in picture.worn.values():
        person = person | worn
    drawn = Image.fromarray(person.astype(np.uint8) * 255)
    change = int(rng.integers(-1, 2))
    if change:
        drawn = drawn.filter(ImageFilter.MaxFilter(3) if change > 0 else ImageFilter.MinFilter(3))
    soft = drawn.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.5))))
    made: npt.NDArray[np.float32] = np.asarray(soft, dtype=np.float32)
    return np.multiply(made, np.float32(1 / 255), dtype=np.float32)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / np.float32(255))
