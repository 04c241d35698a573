"""Indexing a folder: what is encoded, what is kept, what is reported."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from retrieval_encoder import TOKENS, WIDTH, ProjectionEncoder, save_pictures

from unifashion_core.errors import FolderError, GalleryError, InputError
from unifashion_core.retrieval import index
from unifashion_core.retrieval.index import IndexReport, index_folder, read_source
from unifashion_core.retrieval.items import StoredItem
from unifashion_core.retrieval.store import Gallery, create_gallery
from unifashion_core.retrieval.writer import GalleryWriter


class Wardrobe:
    """A folder, a gallery and an encoder."""

    def __init__(self, folder: Path) -> None:
        self.photos = folder / "my photos"
        self.encoder = ProjectionEncoder()
        self.gallery: Gallery = create_gallery(
            folder / "spring",
            fingerprint=self.encoder.fingerprint,
            tokens_per_image=TOKENS,
            width=WIDTH,
            encoder_name="projection",
        )
        self.metadata = folder / "m.jsonl"

    def describe(self, **rows: dict[str, object]) -> None:
        lines = [json.dumps({"file": f"{name}.png", **row}) for name, row in rows.items()]
        self.metadata.write_text("\n".join(lines), encoding="utf-8")

    def index(self, **options: object) -> IndexReport:
        options = {"text_encoder": self.encoder, **options}
        if self.metadata.exists():
            options.setdefault("metadata", self.metadata)
        with GalleryWriter(self.gallery) as writer:
            return index_folder(writer, self.photos, self.encoder, **options)  # type: ignore[arg-type]

    def items(self) -> dict[str, StoredItem]:
        with self.gallery.snapshot() as snapshot:
            items = snapshot.items(snapshot.item_rows().ids.tolist())
        return {item.file: item for item in items}

    def stored(self, file: str) -> np.ndarray:
        row = self.items()[file].token_row
        with self.gallery.snapshot() as snapshot:
            return snapshot.vectors("tokens").gather(np.array([row]))[0]

    def caption(self, file: str) -> np.ndarray | None:
        row = self.items()[file].caption_row
        with self.gallery.snapshot() as snapshot:
            return None if row is None else snapshot.vectors("captions").gather(np.array([row]))[0]


@pytest.fixture
def wardrobe(tmp_path: Path) -> Wardrobe:
    return Wardrobe(tmp_path)


def counts(report: IndexReport) -> tuple[int, ...]:
    return astuple(report)[:4]


def test_every_image_gets_its_own_vectors(wardrobe: Wardrobe) -> None:
    paths = save_pictures(wardrobe.photos, 7)
    save_pictures(wardrobe.photos / "ü b" / "c", 2, seed=1)

    report = wardrobe.index(batch_size=3)

    assert (counts(report), report.failed, report.total) == ((9, 0, 0, 0), (), 9)
    items = wardrobe.items()
    assert list(items) == sorted(items)
    assert "ü b/c/item01.png" in items
    for path in paths:
        pixels = wardrobe.encoder.preprocess(Image.open(path).convert("RGB"))
        alone = wardrobe.encoder.encode_pixels(pixels[None]).tokens[0].numpy()
        assert wardrobe.stored(path.name) == pytest.approx(alone, abs=1e-3)
        assert items[path.name].path == path.resolve()


def test_a_second_run_encodes_nothing(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 5)
    wardrobe.index()
    encoded, revision = wardrobe.encoder.encoded_images, wardrobe.gallery.revision

    report = wardrobe.index()

    assert (counts(report), report.total) == ((0, 0, 5, 0), 5)
    assert wardrobe.encoder.encoded_images == encoded
    assert wardrobe.gallery.revision == revision


def test_changed_content_is_encoded_again_under_the_same_id(wardrobe: Wardrobe) -> None:
    path = save_pictures(wardrobe.photos, 3)[1]
    wardrobe.index()
    before, old = wardrobe.items()[path.name], wardrobe.stored(path.name)
    Image.new("RGB", (9, 9), (250, 10, 10)).save(path)

    report = wardrobe.index()

    assert (counts(report), report.total) == ((0, 1, 2, 0), 3)
    assert wardrobe.items()[path.name].item_id == before.item_id
    assert not np.allclose(wardrobe.stored(path.name), old, atol=0.01)


def test_content_changed_at_equal_size_is_seen_by_its_time(wardrobe: Wardrobe) -> None:
    path = save_pictures(wardrobe.photos, 1, suffix=".webp")[0]
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path, format="PNG", compress_level=0)
    wardrobe.index()
    size = path.stat().st_size
    Image.new("RGB", (8, 8), (200, 2, 3)).save(path, format="PNG", compress_level=0)
    os.utime(path, ns=(1, 1))

    assert path.stat().st_size == size
    assert counts(wardrobe.index()) == (0, 1, 0, 0)


def test_a_touched_file_is_skipped_and_not_hashed_again(wardrobe: Wardrobe) -> None:
    path = save_pictures(wardrobe.photos, 2)[0]
    wardrobe.index()
    os.utime(path, ns=(10**18, 10**18))

    assert counts(wardrobe.index()) == (0, 0, 2, 0)
    assert wardrobe.items()[path.name].mtime_ns == 10**18
    revision = wardrobe.gallery.revision
    assert counts(wardrobe.index()) == (0, 0, 2, 0)
    assert wardrobe.gallery.revision == revision
    assert wardrobe.encoder.encoded_images == 2


def test_equal_content_is_two_items_encoded_once(wardrobe: Wardrobe) -> None:
    path = save_pictures(wardrobe.photos, 1)[0]
    (wardrobe.photos / "sub").mkdir()
    (wardrobe.photos / "sub" / "copy.png").write_bytes(path.read_bytes())

    assert counts(wardrobe.index()) == (2, 0, 0, 0)
    (wardrobe.photos / "late.png").write_bytes(path.read_bytes())
    assert counts(wardrobe.index()) == (1, 0, 2, 0)

    assert wardrobe.encoder.encoded_images == 1
    assert len(wardrobe.items()) == 3
    assert {item.token_row for item in wardrobe.items().values()} == {0}


def test_vanished_files_stay_until_they_are_pruned(wardrobe: Wardrobe) -> None:
    paths = save_pictures(wardrobe.photos, 4)
    wardrobe.index()
    data = paths[0].read_bytes()
    paths[0].unlink()
    paths[1].unlink()

    report = wardrobe.index()
    assert (counts(report), report.total) == ((0, 0, 2, 2), 4)
    assert wardrobe.items()["item00.png"].missing
    paths[0].write_bytes(data)
    os.utime(paths[0], ns=(5, 5))
    report = wardrobe.index()
    assert (counts(report), report.total) == ((0, 0, 3, 1), 4)
    assert not wardrobe.items()["item00.png"].missing
    report = wardrobe.index(prune=True)
    assert (counts(report), report.total) == ((0, 0, 3, 1), 3)
    assert "item01.png" not in wardrobe.items()


def test_another_root_is_not_missing(wardrobe: Wardrobe, tmp_path: Path) -> None:
    save_pictures(wardrobe.photos, 2)
    wardrobe.index()
    save_pictures(tmp_path / "other", 2, seed=9)
    wardrobe.photos = tmp_path / "other"

    report = wardrobe.index(prune=True)

    assert (counts(report), report.total) == ((2, 0, 0, 0), 4)


def test_bad_files_are_reported_and_the_others_are_indexed(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 5)
    (wardrobe.photos / "item01.png").write_bytes(b"")
    good = (wardrobe.photos / "item02.png").read_bytes()
    (wardrobe.photos / "item02.png").write_bytes(good[: len(good) // 2])
    (wardrobe.photos / "item03.png").write_text("no picture")

    report = wardrobe.index()

    assert (counts(report), report.total) == ((2, 0, 0, 0), 2)
    assert [failure.path.name for failure in report.failed] == [f"item0{n}.png" for n in (1, 2, 3)]
    assert all(failure.path.is_absolute() for failure in report.failed)
    for failure, reason in zip(report.failed, ("empty", "truncated", "not a picture"), strict=True):
        assert reason in failure.reason


def test_a_file_that_breaks_later_keeps_its_item(wardrobe: Wardrobe) -> None:
    path = save_pictures(wardrobe.photos, 2)[0]
    wardrobe.index()
    before = wardrobe.items()
    path.write_bytes(b"broken")

    for _ in range(2):
        report = wardrobe.index()
        assert (counts(report), report.total) == ((0, 0, 1, 0), 2)
        assert [failure.path.name for failure in report.failed] == [path.name]
    assert wardrobe.items() == before


@pytest.mark.skipif(os.name == "nt", reason="such names exist on Linux alone")
def test_a_name_that_is_not_unicode_is_reported(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    odd = os.fsencode(wardrobe.photos) + b"/\xff.png"
    try:
        Path(os.fsdecode(odd)).write_bytes((wardrobe.photos / "item00.png").read_bytes())
    except OSError:
        pytest.skip("this file system refuses such names")

    report = wardrobe.index()

    assert report.total == 1
    assert "not Unicode text" in report.failed[0].reason
    report.failed[0].reason.encode()
    str(report.failed[0].path).encode()


def test_empty_and_missing_folders_are_errors_and_touch_nothing(wardrobe: Wardrobe) -> None:
    with pytest.raises(FolderError, match="no such folder"):
        wardrobe.index()
    wardrobe.photos.mkdir()
    (wardrobe.photos / "note.txt").touch()
    with pytest.raises(FolderError, match=r"no picture in it or below it, wanted \.jpg"):
        wardrobe.index()
    assert wardrobe.gallery.revision == 0


def test_an_emptied_folder_prunes_nothing(wardrobe: Wardrobe) -> None:
    for path in save_pictures(wardrobe.photos, 2):
        wardrobe.index()
        path.unlink()

    with pytest.raises(FolderError):
        wardrobe.index(prune=True)
    assert len(wardrobe.items()) == 2


def test_another_encoder_is_refused(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    wardrobe.encoder = ProjectionEncoder(seed=1)

    with pytest.raises(GalleryError, match="Re-index, or load the matching encoder"):
        wardrobe.index()


# ---- metadata


def test_metadata_is_kept_and_updates_without_encoding(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 3)
    wardrobe.describe(item00={"category": "dress", "colours": ["red"]}, item01={"price": 3})
    assert counts(wardrobe.index()) == (3, 0, 0, 0)
    wardrobe.describe(item00={"category": "skirt"}, item01={"price": 3})

    report = wardrobe.index()

    assert counts(report) == (0, 1, 2, 0)
    assert wardrobe.encoder.encoded_images == 3
    assert [item.columns for item in wardrobe.items().values()] == [
        {"category": "skirt"},
        {"price": 3},
        {},
    ]
    assert wardrobe.gallery.columns == ("category", "price")


def test_a_run_without_metadata_keeps_what_is_stored(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    wardrobe.describe(item00={"category": "dress", "caption": "a red dress"})
    wardrobe.index()
    wardrobe.metadata.unlink()

    assert counts(wardrobe.index()) == (0, 0, 1, 0)
    assert wardrobe.items()["item00.png"].columns["category"] == "dress"
    assert wardrobe.caption("item00.png") is not None


def test_metadata_of_unknown_files_is_reported(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    wardrobe.describe(item00={"n": 1}, gone={"n": 2})

    report = wardrobe.index()

    assert report.total == 1
    assert report.failed[0].path == wardrobe.photos.resolve() / "gone.png"
    assert "line 2: 'gone.png' is not among" in report.failed[0].reason


def test_a_wrong_metadata_line_stops_the_run_before_anything_is_written(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    wardrobe.metadata.write_text("{")

    with pytest.raises(InputError, match="line 1: not JSON"):
        wardrobe.index()
    assert wardrobe.gallery.revision == 0


def test_a_caption_is_encoded_when_set_or_changed_and_only_then(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 3)
    wardrobe.describe(item00={"caption": "a red dress"}, item01={"caption": "a red dress"})
    wardrobe.index()
    assert wardrobe.encoder.encoded_texts == ["a red dress"]
    first = wardrobe.caption("item00.png")
    wanted = wardrobe.encoder.encode_texts(["a red dress"]).vectors[0].numpy()
    assert first == pytest.approx(wanted, abs=1e-3)
    assert wardrobe.caption("item02.png") is None

    wardrobe.encoder.encoded_texts.clear()
    wardrobe.describe(item00={"caption": "a red dress", "n": 1}, item01={"caption": "a blue hat"})
    assert counts(wardrobe.index()) == (0, 2, 1, 0)
    assert wardrobe.encoder.encoded_texts == ["a blue hat"]
    assert not np.array_equal(wardrobe.caption("item01.png"), first)  # type: ignore[arg-type]

    wardrobe.describe(item00={"n": 1}, item01={"caption": "a blue hat"})
    assert counts(wardrobe.index()) == (0, 1, 2, 0)
    assert wardrobe.caption("item00.png") is None


def test_a_changed_picture_keeps_the_vector_of_its_caption(wardrobe: Wardrobe) -> None:
    path = save_pictures(wardrobe.photos, 1)[0]
    wardrobe.describe(item00={"caption": "a red dress"})
    wardrobe.index()
    Image.new("RGB", (9, 9), (1, 200, 3)).save(path)

    assert counts(wardrobe.index()) == (0, 1, 0, 0)
    assert wardrobe.caption("item00.png") is not None
    assert wardrobe.encoder.encoded_texts == ["a red dress"]


def test_a_caption_that_fails_is_reported_and_the_image_kept(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 4)
    wardrobe.describe(
        item00={"caption": "word " * 1001},
        item01={"caption": "qqa qqb"},
        item02={"caption": "a red dress"},
        item03={"caption": ["two", "texts"]},
    )

    report = wardrobe.index()

    assert (counts(report), report.total) == ((4, 0, 0, 0), 4)
    assert {failure.path.name for failure in report.failed} == {
        f"item0{number}.png" for number in (0, 1, 3)
    }
    assert "kept without its caption: Text: 1001 words" in report.failed[1].reason
    assert wardrobe.caption("item02.png") is not None
    again = wardrobe.index()
    assert (counts(again), len(again.failed)) == ((0, 0, 4, 0), 3)


def test_a_changed_caption_that_fails_leaves_no_stale_vector(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    wardrobe.describe(item00={"caption": "a red dress"})
    wardrobe.index()
    wardrobe.describe(item00={"caption": "qqq"})

    report = wardrobe.index()

    assert (counts(report), len(report.failed)) == ((0, 1, 0, 0), 1)
    assert wardrobe.caption("item00.png") is None


def test_captions_indexed_without_a_text_encoder_get_vectors_later(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    wardrobe.describe(item00={"caption": "a red dress"})
    wardrobe.index(text_encoder=None)
    assert wardrobe.caption("item00.png") is None

    assert counts(wardrobe.index()) == (0, 1, 0, 0)
    assert wardrobe.caption("item00.png") is not None


def test_an_empty_caption_is_none_and_changes_nothing_twice(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    wardrobe.describe(item00={"caption": "", "category": None})
    wardrobe.index()
    revision = wardrobe.gallery.revision

    report = wardrobe.index()

    assert (counts(report), report.failed) == ((0, 0, 1, 0), ())
    assert wardrobe.gallery.revision == revision


def test_a_cut_caption_is_noted(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 1)
    wardrobe.describe(item00={"caption": "word " * 60})

    report = wardrobe.index()

    assert report.failed == ()
    assert "1 captions were cut" in report.notes[0]


# ---- cancelling, threads, speed


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt])
def test_cancelling_keeps_what_was_encoded_and_ends_the_threads(
    wardrobe: Wardrobe, error: type[BaseException]
) -> None:
    save_pictures(wardrobe.photos, 30)
    steps: list[tuple[int, int]] = []

    def on_step(done: int, total: int) -> None:
        steps.append((done, total))
        if done >= 8:
            raise error

    with pytest.raises(error):
        wardrobe.index(batch_size=4, on_step=on_step)

    assert steps == [(4, 30), (8, 30)]
    assert list(wardrobe.items()) == [f"item{n:02d}.png" for n in range(8)]
    assert not [t for t in threading.enumerate() if t.name.startswith("unifashion-index")]
    assert counts(wardrobe.index()) == (22, 0, 8, 0)


def test_a_crash_of_the_encoder_keeps_earlier_batches(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 10)
    encode = wardrobe.encoder.encode_pixels

    def fail(pixels: torch.Tensor):  # type: ignore[no-untyped-def]
        if wardrobe.encoder.encoded_images >= 4:
            raise RuntimeError("out of memory")
        return encode(pixels)

    wardrobe.encoder.encode_pixels = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="out of memory"):
        wardrobe.index(batch_size=4)

    assert len(wardrobe.items()) == 4


def test_progress_counts_every_image(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 9)
    (wardrobe.photos / "item04.png").write_bytes(b"")
    steps: list[tuple[int, int]] = []

    wardrobe.index(batch_size=4, on_step=lambda done, total: steps.append((done, total)))

    assert steps[-1] == (9, 9)
    assert steps == sorted(steps)


def test_batches_are_full_and_bounded(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 10)

    wardrobe.index(batch_size=4)

    assert wardrobe.encoder.batches == [4, 4, 2]


def test_decoding_overlaps_encoding_and_runs_a_bounded_way_ahead(
    wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(wardrobe.photos, 24)
    prepared: list[str] = []
    real = index.decode_image

    def decode(data: bytes, where: str, *, min_side: int | None = None) -> Image.Image:
        prepared.append(threading.current_thread().name)
        return real(data, where, min_side=min_side)

    monkeypatch.setattr(index, "decode_image", decode)
    ahead: list[int] = []
    encode = wardrobe.encoder.encode_pixels

    def slow(pixels: torch.Tensor):  # type: ignore[no-untyped-def]
        time.sleep(0.05)
        ahead.append(len(prepared) - wardrobe.encoder.encoded_images)
        return encode(pixels)

    wardrobe.encoder.encode_pixels = slow  # type: ignore[method-assign]
    wardrobe.index(batch_size=4, workers=2)

    assert all(name.startswith("unifashion-index") for name in prepared)
    assert max(ahead) > 4  # while a batch is encoded, the next ones are decoded
    assert max(ahead) <= 4 + 2 * 4 + 1


def test_order_and_vectors_do_not_depend_on_workers(wardrobe: Wardrobe, tmp_path: Path) -> None:
    save_pictures(wardrobe.photos, 12)
    wardrobe.index(workers=1, batch_size=5)
    other = Wardrobe(tmp_path / "other")
    other.photos = wardrobe.photos
    other.index(workers=4, batch_size=5)

    one, two = wardrobe.items(), other.items()
    assert [(i.item_id, i.file, i.token_row) for i in one.values()] == [
        (i.item_id, i.file, i.token_row) for i in two.values()
    ]
    for file in one:
        assert np.array_equal(wardrobe.stored(file), other.stored(file))


def test_a_source_that_was_read_first_indexes_the_same(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 2)
    wardrobe.describe(item00={"category": "hat"})
    source = read_source(wardrobe.photos, wardrobe.metadata)

    with GalleryWriter(wardrobe.gallery) as writer:
        report = index_folder(writer, source, wardrobe.encoder, text_encoder=None)

    assert counts(report) == (2, 0, 0, 0)
    assert wardrobe.items()["item00.png"].columns == {"category": "hat"}
    with GalleryWriter(wardrobe.gallery) as writer, pytest.raises(InputError, match="read already"):
        index_folder(
            writer, source, wardrobe.encoder, text_encoder=None, metadata=wardrobe.metadata
        )
