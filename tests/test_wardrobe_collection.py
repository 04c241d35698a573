"""A wardrobe: balanced, varied, and saved with its metadata."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from unifashion_core.errors import InputError
from unifashion_core.wardrobe import (
    CATEGORIES,
    METADATA,
    collection,
    name,
    renew_collection,
    save_collection,
)


def test_a_collection_holds_every_category_as_often():
    counted = Counter(g.category for g in collection(1, 60))
    assert set(counted) == set(CATEGORIES)
    assert set(counted.values()) == {6}


def test_a_collection_repeats_itself_and_another_seed_differs():
    assert collection(3, 20) == collection(3, 20)
    assert collection(3, 20) != collection(4, 20)


def test_a_longer_collection_starts_with_the_shorter_one():
    assert collection(3, 40)[:15] == collection(3, 15)


def test_a_wardrobe_has_no_two_of_one_look():
    looks = [(g.subtype, g.colours, g.pattern) for g in collection(5, 60)]
    assert len(set(looks)) == 60


def test_chosen_categories_only():
    chosen = collection(1, 7, ("skirt", "hat"))
    assert [g.category for g in chosen[:3]] == ["skirt", "hat", "skirt"]


def test_names_are_safe_for_files_and_differ():
    names = [name(g, i) for i, g in enumerate(collection(2, 80))]
    assert len(set(names)) == 80
    for one in names:
        assert re.fullmatch(r"[0-9]{3}-[a-z0-9-]+", one), one


def test_saving_writes_pictures_and_their_metadata(tmp_path: Path):
    steps: list[tuple[int, int]] = []
    paths = save_collection(tmp_path / "w", 1, 4, 32, on_step=lambda d, t: steps.append((d, t)))
    rows = [json.loads(line) for line in (tmp_path / "w/metadata.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == [p.name for p in paths]
    assert {"category", "colours", "pattern", "sleeve", "neckline", "length", "caption"} <= set(
        rows[0]
    )
    assert steps[-1] == (4, 4)
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (32, 32)
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == sorted(
        [*(p.name for p in paths), "metadata.jsonl"]
    )


def test_saving_twice_gives_the_same_bytes(tmp_path: Path):
    first = save_collection(tmp_path, 2, 2, 32, extension=".jpg")
    before = [p.read_bytes() for p in first]
    assert [p.read_bytes() for p in save_collection(tmp_path, 2, 2, 32, extension=".jpg")] == before


def test_a_cancelled_save_leaves_no_partial_files(tmp_path: Path):
    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_collection(tmp_path, 1, 3, 32, on_step=cancel)
    assert not list(tmp_path.glob(".*"))
    assert len(list(tmp_path.glob("*.png"))) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"count": 0}, "count 0 is outside"),
        ({"count": 3, "categories": ("sock",)}, "unknown category 'sock'"),
    ],
)
def test_wrong_wishes_are_errors(arguments, text: str):
    with pytest.raises(InputError, match=text):
        collection(1, **arguments)


def test_an_unknown_extension_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="unknown extension"):
        save_collection(tmp_path, 1, 1, 32, extension=".gif")


def test_a_folder_that_holds_the_collection_is_not_drawn_again(tmp_path):
    first = renew_collection(tmp_path / "w", 3, 4, 32)
    drawn: list[int] = []
    again = renew_collection(tmp_path / "w", 3, 4, 32, on_step=lambda d, t: drawn.append(d))
    assert again == first
    assert not drawn


def test_another_seed_replaces_the_earlier_collection(tmp_path):
    renew_collection(tmp_path / "w", 3, 4, 32)
    now = renew_collection(tmp_path / "w", 4, 2, 48)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "w"]
    assert {p.name for p in (tmp_path / "w").iterdir()} == {METADATA, *(p.name for p in now)}


def test_a_stop_between_the_moves_is_mended_by_the_next_call(tmp_path):
    renew_collection(tmp_path / "w", 3, 4, 32)
    sorted((tmp_path / "w").glob("*.png"))[0].unlink()
    assert len(renew_collection(tmp_path / "w", 3, 4, 32)) == 4
    assert len(list((tmp_path / "w").glob("*.png"))) == 4


def test_a_cancelled_drawing_leaves_the_earlier_collection_whole(tmp_path):
    first = renew_collection(tmp_path / "w", 3, 4, 32)

    def cancel(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        renew_collection(tmp_path / "w", 5, 4, 32, on_step=cancel)
    assert renew_collection(tmp_path / "w", 3, 4, 32) == first
    assert len(renew_collection(tmp_path / "w", 5, 4, 32)) == 4


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "photo.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        renew_collection(tmp_path, 1, 1, 32)
