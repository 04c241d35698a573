"""The filter language on metadata columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unifashion_core.errors import InputError
from unifashion_core.retrieval.filters import parse_where
from unifashion_core.retrieval.store import Gallery, create_gallery
from unifashion_core.retrieval.writer import GalleryWriter


def filtered(gallery: Gallery, where: str | list[str]) -> list[int]:
    with gallery.snapshot() as snapshot:
        return snapshot.item_rows(parse_where(where)).ids.tolist()


@pytest.fixture
def wardrobe(tmp_path: Path) -> Gallery:
    gallery = create_gallery(
        tmp_path / "spring", fingerprint="f", tokens_per_image=1, width=2, encoder_name="tiny"
    )
    rows: list[dict[str, object]] = [
        {"category": "Dress", "colours": ["red", "navy"], "price": 12.5, "date": "2026-05-01"},
        {"category": "dress", "colours": ["black"], "price": 40, "sku": "00123", "sale": True},
        {"category": "hat", "colours": "red", "price": "7", "date": "2026-06-30"},
        {"category": "Überrock", "note": 'a=b "quoted" AND more', "sku": "123"},
        {},
    ]
    with GalleryWriter(gallery) as writer:
        root = writer.root_id("/photos")
        (token_row,) = writer.append("tokens", np.array([[[1.0, 0.0]]]))
        for number, row in enumerate(rows):
            item_id = writer.put_image(
                root, f"sub dir/{number}.png", 1, 1, bytes(32), token_row=int(token_row)
            )
            writer.put_columns(item_id, row)  # type: ignore[arg-type]
    return gallery


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("category=dress", [1, 2]),
        ("category = DRESS", [1, 2]),
        ("category=überrock", [4]),
        ("category!=dress", [3, 4, 5]),
        ("colours=red", [1, 3]),
        ("colours=navy", [1]),
        ("colours!=red", [2, 4, 5]),
        ("colours~a", [1, 2]),
        ("price<12.5", [3]),
        ("price<=12.5", [1, 3]),
        ("price>12.5", [2]),
        ("price>=7.0", [1, 2, 3]),
        ("price=40.0", [2]),
        ("price=7", [3]),
        ("price!=7", [1, 2, 4, 5]),
        ("date>=2026-06", [3]),
        ("date<2026-06", [1]),
        ("sku=123", [4]),
        ("sku=00123", [2]),
        ("sale=true", [2]),
        ("category=", [5]),
        ("category!=", [1, 2, 3, 4]),
        ('note="a=b \\"quoted\\" AND more"', [4]),
        ('note~"QUOTED\\""', [4]),
        ("category=dress AND price<20", [1]),
        ("category=dress\nprice>20\n", [2]),
        ("  ", [1, 2, 3, 4, 5]),
        ("file~sub dir/3", [4]),
        ("file=sub dir/0.png", [1]),
        ("file!=sub dir/0.png", [2, 3, 4, 5]),
        (["category=dress", "colours=red"], [1]),
        ("category=nothing", []),
    ],
)
def test_filters_find(wardrobe: Gallery, where: str | list[str], found: list[int]) -> None:
    assert filtered(wardrobe, where) == found


def test_an_unknown_column_lists_the_columns(wardrobe: Gallery) -> None:
    with pytest.raises(
        InputError,
        match="no column 'colour' to filter on. Its columns are: category, colours, date, note",
    ):
        filtered(wardrobe, "category=dress AND colour=red")


@pytest.mark.parametrize(
    "where", ["dress", "=dress", "a=b=c", "a~", "a<", 'a="b', "a=b, c=d", '"a"b=c']
)
def test_a_filter_that_cannot_be_read_shows_the_form(where: str) -> None:
    with pytest.raises(InputError, match=r"Write it as column=value"):
        parse_where(where)
