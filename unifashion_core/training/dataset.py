"""Builds the pocket encoder's training folder: photos, recoloured copies, renders, captions,
triplets.

Only photos of the training split are ever opened.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..imaging import open_image
from ..pocket.photos import COLOURS, Photo, check_folder, read_photos
from ..types import OnStep
from ..wardrobe.garment import Garment, sample_garment
from ..wardrobe.render import Style, render
from .describe import AMBIGUOUS_KINDS, Known, garment_attributes, photo_attributes
from .edits import Picture, pair_triplet, photo_triplets, wardrobe_pairs
from .grammar import full_caption, random_caption
from .photos import ColourSamples, garment_and_ground, garment_mask, recolour
from .records import PHASE1_FILE, PHASE2_FILE, write_jsonl
from .vocabulary import write_vocabulary

_AMATEUR_SHARE = 0.75  # of the renders; what is searched later are amateurs' photos


@dataclass(frozen=True)
class DatasetConfig:
    """How much of what.

    Attributes:
        seed: Of every draw.
        recolours: Coloured copies of each photo that has a credible mask and one colour.
        renders: Wardrobe garments; half of them come as pairs that differ in one or two attributes.
        captions: Random captions a photo; recoloured copies and renders get a third of it.
        triplets: Lines of phase2.jsonl from photos.
        render_size: Side of a render in pixels.
        plain: Share of the drawn garments that are plain whatever their seed says, before their
            counterparts are made.
    """

    seed: int = 0
    recolours: int = 6
    renders: int = 3000
    captions: int = 24
    triplets: int = 16000
    render_size: int = 256
    plain: float = 0.9


def build_dataset(
    photos_folder: Path,
    out: Path,
    config: DatasetConfig,
    *,
    photos: Sequence[Photo] | None = None,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Check the photos, make the pictures, write phase1.jsonl, phase2.jsonl and vocab.txt.

    Args:
        photos_folder: The unpacked clothing-dataset-small.
        out: Folder to fill; the pictures are copied or made there.
        config: How much of what.
        photos: The list to go by, the committed one if not given.
        on_step: Called with (pictures done, pictures in all).

    Returns:
        Counts by kind, and the config.

    Raises:
        FolderError: If a photo is missing or differs from the list.
        MissingPackageError: Without opencv (extra `train`).
    """
    listed = read_photos() if photos is None else tuple(photos)
    check_folder(photos_folder, listed)
    training = [p for p in listed if not p.held_out]
    total = len(training) + config.renders
    step = _Counter(total, on_step)
    real = list(_photo_pictures(photos_folder, training, out, config, step))
    pairs = wardrobe_pairs(_garments(config), config.seed)
    drawn, edits = _render_pairs(pairs, out, config, step)
    rng = np.random.default_rng([config.seed, 2])
    lines = [_phase1_line(p, config, rng) for p in (*real, *drawn)]
    triplets = [asdict(t) for t in photo_triplets(real, config.triplets, config.seed)]
    triplets += [asdict(t) for t in edits]
    write_jsonl(out / PHASE1_FILE, lines)
    write_jsonl(out / PHASE2_FILE, triplets)
    texts = [c for line in lines for c in line["captions"]]
    texts += [t for line in triplets for t in (line["text"], line["target_caption"])]
    words = write_vocabulary(texts, out / "vocab.txt")
    counts = _count(lines, "source") | {
        f"edit_{k}": n for k, n in _count(triplets, "source").items()
    }
    return {"config": asdict(config), "pictures": len(lines), "words": words, **counts}


class _Counter:
    def __init__(self, total: int, on_step: OnStep | None) -> None:
        self._total, self._done, self._on_step = total, 0, on_step

    def __call__(self) -> None:
        self._done += 1
        if self._on_step is not None:
            self._on_step(self._done, self._total)


@dataclass(frozen=True)
class _Cut:
    """The garment of a photo of one colour.

    Attributes:
        mask: (H, W), bool.
        lab: Median Lab of garment and ground, (2, 3).
    """

    mask: npt.NDArray[np.bool_]
    lab: npt.NDArray[Any]


def _photo_pictures(
    folder: Path,
    photos: Sequence[Photo],
    out: Path,
    config: DatasetConfig,
    step: Callable[[], None],
) -> Iterator[Picture]:
    """Each photo, and its coloured copies."""
    cuts = {p.sha256: _cut(folder, p) for p in photos} if config.recolours else {}
    samples = ColourSamples(
        (p.colours[0], cut.lab) for p in photos if (cut := cuts.get(p.sha256)) is not None
    )
    for photo in photos:
        known = photo_attributes(photo)
        target = out / "photos" / photo.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / photo.file, target)
        yield Picture(target.relative_to(out).as_posix(), known, "photo", photo.sha256)
        cut = cuts.get(photo.sha256)
        if cut is not None:
            image = open_image(folder / photo.file)
            yield from _coloured_copies(image, photo, cut, samples, out, config)
        step()


def _cut(folder: Path, photo: Photo) -> _Cut | None:
    """The garment of a photo whose colour has one name; None where it can't be told."""
    if len(photo.colours) != 1:
        return None
    image = open_image(folder / photo.file)
    mask = garment_mask(image)
    return None if mask is None else _Cut(mask, garment_and_ground(image, mask))


def _coloured_copies(
    image: Image.Image,
    photo: Photo,
    cut: _Cut,
    samples: ColourSamples,
    out: Path,
    config: DatasetConfig,
) -> Iterator[Picture]:
    # The photo's own hash seeds its draws: one photo or label more or less changes few other
    # pictures.
    key = int(photo.sha256[:12], 16)
    order = np.random.default_rng([config.seed, key]).permutation(len(COLOURS))
    others = [int(i) for i in order if COLOURS[i] not in photo.colours]
    for i in others[: config.recolours]:
        path = out / "recoloured" / f"{Path(photo.file).stem}_{COLOURS[i]}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([config.seed, key, i])
        target = samples.draw(COLOURS[i], cut.lab[1], rng)
        recolour(image, cut.mask, target).save(path, quality=92)
        attributes: Known = {**photo_attributes(photo), "colours": [COLOURS[i]]}
        yield Picture(path.relative_to(out).as_posix(), attributes, "recoloured", photo.sha256)


def _garments(config: DatasetConfig) -> list[Garment]:
    """Garments by consecutive seeds, ambiguous kinds left out; each will get a counterpart."""
    found: list[Garment] = []
    seed = config.seed * 1_000_003
    rng = np.random.default_rng([config.seed, 6])
    while len(found) < config.renders // 2:
        pattern = "plain" if rng.random() < config.plain else None
        garment = sample_garment(seed, pattern=pattern)
        seed += 1
        if garment.subtype not in AMBIGUOUS_KINDS:
            found.append(garment)
    return found


def _render_pairs(
    pairs: Sequence[tuple[Garment, Garment, str]],
    out: Path,
    config: DatasetConfig,
    step: Callable[[], None],
) -> tuple[list[Picture], list[Any]]:
    pictures: list[Picture] = []
    triplets: list[Any] = []
    folder = out / "wardrobe"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([config.seed, 5])
    for number, (first, second, text) in enumerate(pairs):
        style: Style = "amateur" if rng.random() < _AMATEUR_SHARE else "studio"
        two: list[Picture] = []
        for name, garment in (("a", first), ("b", second)):
            path = folder / f"{number:05d}{name}.jpg"
            render(garment, config.render_size, style=style).save(path, quality=92)
            relative = path.relative_to(out).as_posix()
            two.append(Picture(relative, garment_attributes(garment), "wardrobe", str(number)))
            step()
        pictures += two
        triplets.append(pair_triplet(two[0], two[1], text))
    return pictures, triplets


def _phase1_line(
    picture: Picture, config: DatasetConfig, rng: np.random.Generator
) -> dict[str, Any]:
    count = config.captions if picture.source == "photo" else max(config.captions // 3, 1)
    captions = dict.fromkeys(random_caption(picture.attributes, rng) for _ in range(count))
    return {
        "image": picture.path,
        "captions": [full_caption(picture.attributes), *captions],
        "attributes": picture.attributes,
        "source": picture.source,
        "origin": picture.origin,
    }


def _count(lines: Sequence[dict[str, Any]], name: str) -> dict[str, int]:
    counts: defaultdict[str, int] = defaultdict(int)
    for line in lines:
        counts[line[name]] += 1
    return dict(counts)
