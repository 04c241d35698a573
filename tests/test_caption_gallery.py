"""A gallery that captions itself: columns, vectors, what is kept, and the search that uses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caption_teller import Style, Teller, save_pictures
from retrieval_encoder import TOKENS, WIDTH, ProjectionEncoder

from unifashion_core.caption.gallery_captions import (
    CAPTION_BY,
    GalleryCaptions,
    caption_gallery,
)
from unifashion_core.caption.stream import StreamOptions
from unifashion_core.errors import InputError
from unifashion_core.retrieval.index import index_folder
from unifashion_core.retrieval.items import StoredItem
from unifashion_core.retrieval.query import text_query
from unifashion_core.retrieval.search import search
from unifashion_core.retrieval.store import create_gallery
from unifashion_core.retrieval.writer import open_writer
from unifashion_core.types import TextFeatures


class Closet:
    """A gallery of three pictures, the green one with a caption of its own."""

    def __init__(self, folder: Path) -> None:
        self.photos = folder / "photos"
        save_pictures(self.photos, "red-1.png", "blue-1.png", "green-1.png")
        self.metadata = folder / "m.jsonl"
        self.metadata.write_text(json.dumps({"file": "green-1.png", "caption": "my own words"}))
        self.encoder = ProjectionEncoder()
        self.gallery = create_gallery(
            folder / "closet",
            fingerprint=self.encoder.fingerprint,
            tokens_per_image=TOKENS,
            width=WIDTH,
            encoder_name="projection",
        )
        self.index(metadata=self.metadata)

    def index(self, **options: Any) -> None:
        with open_writer(self.gallery) as writer:
            index_folder(writer, self.photos, self.encoder, text_encoder=self.encoder, **options)

    def caption(self, teller: Teller | None = None, **options: Any) -> GalleryCaptions:
        with open_writer(self.gallery) as writer:
            style, encoder = options.pop("style", Style()), options.pop("encoder", self.encoder)
            items = list(self.items().values())
            return caption_gallery(writer, items, teller or Teller(), style, encoder, **options)

    def items(self) -> dict[str, StoredItem]:
        with self.gallery.snapshot() as snapshot:
            items = snapshot.items(snapshot.item_rows().ids.tolist())
        return {item.file: item for item in items}

    def captions(self) -> dict[str, Any]:
        return {file: item.columns.get("caption") for file, item in self.items().items()}


@pytest.fixture
def closet(tmp_path) -> Closet:
    return Closet(tmp_path)


def test_items_without_a_caption_get_one_with_its_vector(closet):
    report = closet.caption()
    assert report.to_json() == {"captioned": 2, "skipped": 1, "failed": [], "total": 3}
    assert report.kept == 1
    assert closet.captions() == {
        "red-1.png": "a red dress",
        "blue-1.png": "a blue dress",
        "green-1.png": "my own words",
    }
    with closet.gallery.snapshot() as snapshot:
        rows = np.array([item.caption_row for item in closet.items().values()])
        stored = snapshot.vectors("captions").gather(rows)
    wanted = closet.encoder.encode_texts(list(closet.captions().values())).vectors
    assert np.allclose(stored.astype(np.float32), wanted.numpy(), atol=1e-3)


def test_a_second_run_captions_nothing_and_makes_no_revision(closet):
    closet.caption()
    revision, teller = closet.gallery.revision, Teller()
    assert closet.caption(teller).to_json() == {
        "captioned": 0, "skipped": 3, "failed": [], "total": 3,
    }  # fmt: skip
    assert teller.told == []
    assert closet.gallery.revision == revision


@pytest.mark.parametrize("change", ["image", "captioner", "style", "seed"])
def test_a_caption_of_ours_is_renewed(closet, change):
    closet.caption()
    teller, options = Teller(), {}
    if change == "image":
        (closet.photos / "blue-1.png").write_bytes((closet.photos / "red-1.png").read_bytes())
        closet.index()
    elif change == "captioner":
        teller = Teller(version=2)
    elif change == "style":
        options["style"] = Style("prefix", "photo of ")
    else:
        options["options"] = StreamOptions(seed=1)
    report = closet.caption(teller, **options)
    assert report.captioned == (1 if change == "image" else 2)
    expected = {
        "image": "a red dress",
        "captioner": "a blue dress 2",
        "style": "photo of a blue dress",
        "seed": "a blue dress",
    }
    assert closet.captions()["blue-1.png"] == expected[change]
    assert closet.captions()["green-1.png"] == "my own words"


def test_a_caption_that_the_user_changed_is_kept_unless_overwritten(closet):
    closet.caption()
    rows = [
        {"file": file, **item.columns, "caption": f"mine, {file}"}
        for file, item in closet.items().items()
    ]
    closet.metadata.write_text("\n".join(map(json.dumps, rows)))
    closet.index(metadata=closet.metadata)
    assert closet.caption(Teller(version=2)).kept == 3
    assert closet.captions()["red-1.png"] == "mine, red-1.png"
    assert closet.caption(Teller(version=2), overwrite=True).captioned == 3
    assert closet.captions()["green-1.png"] == "a green dress 2"
    assert closet.caption(Teller(version=2), overwrite=True).captioned == 0  # ours and up to date


def test_other_columns_stay_and_the_source_can_be_filtered_by(closet):
    closet.metadata.write_text(json.dumps({"file": "red-1.png", "price": 3}))
    closet.index(metadata=closet.metadata)
    closet.caption()
    assert closet.items()["red-1.png"].columns["price"] == 3
    query = text_query(closet.encoder, ["a red dress"])
    hits = search(closet.gallery, query, top_k=9, where=f"{CAPTION_BY}~teller")
    assert {hit.file for hit in hits.rows[0]} == {"red-1.png", "blue-1.png"}


def test_changed_missing_and_black_pictures_fail_and_stay_as_they_were(closet):
    save_pictures(closet.photos, "black-1.png", "red-2.png", "red-3.png")
    closet.index()
    (closet.photos / "red-1.png").unlink()
    save_pictures(closet.photos, "red-2.png")
    (closet.photos / "red-2.png").write_bytes((closet.photos / "red-3.png").read_bytes())
    report = closet.caption()
    assert {path.name for path, _ in report.failed} == {"black-1.png", "red-1.png", "red-2.png"}
    assert all(str(path) in reason for path, reason in report.failed)
    assert report.captioned + report.skipped + len(report.failed) == report.total == 6
    assert closet.captions()["red-1.png"] is None
    assert closet.captions()["red-3.png"] == "a red dress"


class Deaf(ProjectionEncoder):
    """Knows no word for blue."""

    def encode_texts(self, texts: Any) -> TextFeatures:
        if any("blue" in text for text in texts):
            raise InputError("Text: no known word. Use other words.")
        return super().encode_texts(texts)


def test_a_caption_that_the_encoder_cannot_read_fails_alone(closet):
    report = closet.caption(encoder=Deaf())
    ((path, reason),) = report.failed
    assert path.name == "blue-1.png"
    assert "'a blue dress'" in reason
    assert closet.captions()["red-1.png"] == "a red dress"


class Stop(BaseException):
    """What a user's cancel raises."""


def test_cancelling_keeps_whole_batches(closet):
    def stop(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        closet.caption(options=StreamOptions(batch_size=1), on_step=stop)
    teller = Teller()
    assert closet.caption(teller).captioned == len(teller.told) == 1


def test_made_captions_count_in_the_search(closet):
    closet.caption()
    query = text_query(closet.encoder, ["a red dress"])
    alone = search(closet.gallery, query, top_k=3).rows[0]
    fused = search(closet.gallery, query, top_k=3, caption_weight=1.0).rows[0]
    scores = {hit.file: hit.score for hit in alone}
    assert fused[0].file == "red-1.png"
    for hit in fused:
        said = closet.encoder.encode_texts([str(hit.columns["caption"])]).vectors[0]
        asked = closet.encoder.encode_texts(["a red dress"]).vectors[0]
        assert hit.score == pytest.approx((scores[hit.file] + float(said @ asked)) / 2, abs=2e-3)
