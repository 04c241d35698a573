"""Pictures that lie elsewhere than before, and galleries that get another encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from retrieval_encoder import ProjectionEncoder, save_pictures
from test_retrieval_index import Wardrobe, counts

from unifashion_core.errors import GalleryError
from unifashion_core.retrieval.reembed import reembed
from unifashion_core.retrieval.validate import validate


@pytest.fixture
def wardrobe(tmp_path: Path) -> Wardrobe:
    return Wardrobe(tmp_path)


def test_a_renamed_file_keeps_its_item_and_its_metadata(wardrobe: Wardrobe) -> None:
    first, second = save_pictures(wardrobe.photos, 2)
    wardrobe.describe(item00={"season": "spring", "caption": "a red dress"})
    wardrobe.index()
    wardrobe.metadata.unlink()
    before, encoded = wardrobe.items()[first.name], wardrobe.encoder.encoded_images
    (wardrobe.photos / "new").mkdir()
    first.rename(wardrobe.photos / "new" / "name.png")

    report = wardrobe.index(prune=True)

    assert (counts(report), report.moved, report.total) == ((0, 0, 1, 0), 1, 2)
    after = wardrobe.items()["new/name.png"]
    assert (after.item_id, after.columns, after.caption_row) == (
        before.item_id,
        {"season": "spring", "caption": "a red dress"},
        before.caption_row,
    )
    assert wardrobe.encoder.encoded_images == encoded
    assert report.revision == wardrobe.gallery.revision


def test_a_moved_folder_is_found_by_content(wardrobe: Wardrobe, tmp_path: Path) -> None:
    save_pictures(wardrobe.photos, 4)
    wardrobe.index()
    ids = {name: item.item_id for name, item in wardrobe.items().items()}
    wardrobe.photos = wardrobe.photos.rename(tmp_path / "moved")

    report = wardrobe.index()

    assert (counts(report), report.moved, report.total) == ((0, 0, 0, 0), 4, 4)
    assert {name: item.item_id for name, item in wardrobe.items().items()} == ids
    assert {item.path.parent for item in wardrobe.items().values()} == {tmp_path / "moved"}
    assert counts(wardrobe.index()) == (0, 0, 4, 0)


def test_a_copy_is_a_second_item_and_not_a_move(wardrobe: Wardrobe) -> None:
    (path,) = save_pictures(wardrobe.photos, 1)
    wardrobe.index()
    (wardrobe.photos / "copy.png").write_bytes(path.read_bytes())
    report = wardrobe.index()
    assert (counts(report), report.moved, report.total) == ((1, 0, 1, 0), 0, 2)


def test_another_encoder_encodes_everything_again(wardrobe: Wardrobe) -> None:
    paths = save_pictures(wardrobe.photos, 5)
    (wardrobe.photos / "copy.png").write_bytes(paths[0].read_bytes())
    wardrobe.describe(item01={"season": "spring", "caption": "a red dress"})
    wardrobe.index()
    before, opened = wardrobe.items(), wardrobe.gallery
    paths[4].unlink()
    wardrobe.encoder = ProjectionEncoder(seed=9)
    wardrobe.encoder.name = "other"  # type: ignore[attr-defined] # what a loaded encoder has

    gallery, failed = reembed(opened.path, wardrobe.encoder, batch_size=2)  # type: ignore[arg-type]

    assert [failure.path.name for failure in failed] == ["item04.png"]
    assert (gallery.fingerprint, gallery.encoder_name) == (wardrobe.encoder.fingerprint, "other")
    with pytest.raises(GalleryError, match="another encoder while it was open"):
        _ = opened.count
    wardrobe.gallery = gallery
    after = wardrobe.items()
    assert {n: (i.item_id, i.columns) for n, i in after.items()} == {
        n: (i.item_id, i.columns) for n, i in before.items() if n != "item04.png"
    }
    assert after["copy.png"].token_row == after["item00.png"].token_row
    for path in paths[:4]:
        pixels = wardrobe.encoder.preprocess(Image.open(path).convert("RGB"))
        alone = wardrobe.encoder.encode_pixels(pixels[None]).tokens[0].numpy()
        assert wardrobe.stored(path.name) == pytest.approx(alone, abs=1e-3)
    assert wardrobe.caption("item01.png") is not None
    assert validate(gallery.path).ok
    assert counts(wardrobe.index()) == (0, 0, 5, 0)


def test_a_stopped_change_of_encoder_changes_nothing(wardrobe: Wardrobe) -> None:
    save_pictures(wardrobe.photos, 5)
    wardrobe.index()
    other = ProjectionEncoder(seed=9)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reembed(wardrobe.gallery.path, other, on_step=stop)  # type: ignore[arg-type]
    assert validate(wardrobe.gallery.path).ok
    assert counts(wardrobe.index()) == (0, 0, 5, 0)
