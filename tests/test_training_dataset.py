"""The pocket encoder's training folder: what is in it, the same again, nothing held out in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="opencv comes with the extra `train`")

from unifashion_core.errors import FolderError
from unifashion_core.pocket.photos import Photo
from unifashion_core.text import Tokenizer
from unifashion_core.training.claims import YES, ClaimReader, ClaimTable
from unifashion_core.training.dataset import DatasetConfig, build_dataset
from unifashion_core.training.records import read_phase1, read_phase2
from unifashion_core.wardrobe import render, sample_garment

SMALL = DatasetConfig(recolours=2, renders=8, captions=6, triplets=60, render_size=64)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Photo]]:
    """Renders as if they were photos, 16 of them, some held out."""
    folder = tmp_path_factory.mktemp("photos")
    listed: list[Photo] = []
    for seed in range(16):
        category = ("t-shirt", "longsleeve", "dress", "pants")[seed % 4]
        garment = sample_garment(seed, category=category, pattern="plain")
        path = folder / category / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        render(garment, 96, style="amateur").save(path)
        listed.append(
            Photo(
                f"{category}/{seed}.png",
                hashlib.sha256(path.read_bytes()).hexdigest(),
                category,
                garment.colours,
                garment.pattern,
                garment.sleeve or "",
                category,
            )
        )
    return folder, listed


@pytest.fixture(scope="module")
def built(photos: tuple[Path, list[Photo]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    build_dataset(photos[0], out, SMALL, photos=photos[1])
    return out


@pytest.mark.slow
def test_no_held_out_photo_gets_in(photos: tuple[Path, list[Photo]], built: Path) -> None:
    held = {Path(p.file).stem for p in photos[1] if p.held_out}
    assert held
    names = {p.stem.split("_")[0] for p in built.rglob("*.*") if p.parent.name != "wardrobe"}
    assert not held & (names - {"phase1", "phase2", "vocab"})


@pytest.mark.slow
def test_every_source_and_kind_of_edit_is_there(built: Path) -> None:
    assert {r.source for r in read_phase1(built)} == {"photo", "recoloured", "wardrobe"}
    kinds = {t.source for t in read_phase2(built)}
    assert {"colour", "same", "category", "wardrobe"} <= kinds


@pytest.mark.slow
def test_captions_are_true_of_their_pictures_and_targets_of_theirs(built: Path) -> None:
    records = read_phase1(built)
    reader = ClaimReader()
    known = {r.image: r.attributes for r in records}
    pairs = [(c, r.attributes) for r in records for c in r.captions]
    pairs += [(t.target_caption or "", known[t.target]) for t in read_phase2(built)]
    table = ClaimTable([reader.claims(c) for c, _ in pairs], [a for _, a in pairs])
    places = np.arange(len(pairs))
    verdicts = [table.verdicts(places[i : i + 1], places[i : i + 1])[0, 0] for i in places]
    assert [pairs[i][0] for i in places if verdicts[i] != YES] == []


@pytest.mark.slow
def test_target_never_is_its_own_reference(built: Path) -> None:
    assert all(t.reference != t.target for t in read_phase2(built))


@pytest.mark.slow
def test_vocabulary_knows_every_word(built: Path) -> None:
    tokenizer = Tokenizer.from_file(built / "vocab.txt")
    texts = [c for r in read_phase1(built) for c in r.captions]
    texts += [t.text for t in read_phase2(built)]
    assert {w for words in tokenizer.encode(texts).unknown_words for w in words} == set()
    assert tokenizer.encode(["a zyzzyva dress"]).unknown_words == (("zyzzyva",),)


@pytest.mark.slow
def test_same_seed_same_folder(
    photos: tuple[Path, list[Photo]], built: Path, tmp_path: Path
) -> None:
    build_dataset(photos[0], tmp_path, SMALL, photos=photos[1])
    files = sorted(p.relative_to(built) for p in built.rglob("*.*"))
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.*"))
    assert [f for f in files if (built / f).read_bytes() != (tmp_path / f).read_bytes()] == []


def test_changed_photo_stops_it(photos: tuple[Path, list[Photo]], tmp_path: Path) -> None:
    other = [Photo(p.file, "0" * 64, p.label, p.colours) for p in photos[1]]
    with pytest.raises(FolderError, match="differ from the list"):
        build_dataset(photos[0], tmp_path, SMALL, photos=other)


@pytest.mark.slow
def test_lines_are_plain_json(built: Path) -> None:
    line = json.loads((built / "phase1.jsonl").read_text().splitlines()[0])
    assert set(line) == {"image", "captions", "attributes", "source", "origin"}
