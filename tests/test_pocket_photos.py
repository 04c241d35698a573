"""The committed photo list, and what may be read with it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from unifashion_core.errors import FolderError, InputError
from unifashion_core.pocket.photos import (
    CLASSES,
    Photo,
    check_folder,
    held_out,
    read_photos,
    write_photos,
)


def sample(folder: Path) -> Photo:
    (folder / "dress").mkdir()
    (folder / "dress" / "a.jpg").write_bytes(b"picture")
    digest = hashlib.sha256(b"picture").hexdigest()
    return Photo(
        "dress/a.jpg", digest, "dress", ("red", "white"), "stripes", "long", "gown", ("lace",)
    )


def test_list_comes_back_as_written(tmp_path: Path) -> None:
    photo = sample(tmp_path)
    write_photos([photo], tmp_path / "list.csv")
    assert read_photos(tmp_path / "list.csv") == (photo,)


def test_unchanged_folder_passes(tmp_path: Path) -> None:
    check_folder(tmp_path, [sample(tmp_path)])


def test_changed_photo_is_named(tmp_path: Path) -> None:
    photo = sample(tmp_path)
    (tmp_path / photo.file).write_bytes(b"other")
    with pytest.raises(FolderError, match="1 files differ from the list, the first is dress/a.jpg"):
        check_folder(tmp_path, [photo])


def test_missing_photo_is_named(tmp_path: Path) -> None:
    photo = replace(sample(tmp_path), file="dress/b.jpg")
    with pytest.raises(FolderError, match="1 of 1 listed files are missing"):
        check_folder(tmp_path, [photo])


def test_unknown_colour_in_the_list_is_an_error(tmp_path: Path) -> None:
    write_photos([replace(sample(tmp_path), colours=("mauve",))], tmp_path / "list.csv")
    with pytest.raises(InputError, match="mauve"):
        read_photos(tmp_path / "list.csv")


def test_split_is_by_hash_alone() -> None:
    assert held_out("00" * 32)
    assert held_out("70" + "0" * 62)
    assert not held_out("71" + "0" * 62)


def test_committed_list_has_the_whole_set() -> None:
    photos = read_photos()
    assert len(photos) == 1559
    assert sum(p.held_out for p in photos) == 691
    assert {p.label for p in photos} == set(CLASSES)
    assert all(p.colours for p in photos)


def test_colours_of_held_out_photos_are_by_eye() -> None:
    assert {p.labelled_by for p in read_photos() if p.held_out} == {"eye"}
