"""Sheets: what stands where, on how many pages, and what a missing picture looks like."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from unifashion_core.errors import InputError
from unifashion_core.rendering.sheets import (
    Card,
    Grid,
    SheetStyle,
    cards_sheet,
    grid_sheet,
    hits_sheet,
    strip_sheet,
)
from unifashion_core.types import Hit, Query, QueryPart

STYLE = SheetStyle(columns=3, cell=64)
RED, BLUE, GREEN = (200, 0, 0), (0, 0, 200), (0, 160, 0)


def plain(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (20, 30), colour)


def cell(style: SheetStyle, x: int, y: int, lines: int) -> tuple[int, int]:
    """The middle of a card's picture, where each row above has so many lines of words."""
    left = style.gap + x * (style.cell + style.gap) + style.cell // 2
    return left, style.head_height + y * (style.card_height(lines) + style.gap) + style.cell // 2


def colour_at(
    page: Image.Image, x: int, y: int, style: SheetStyle = STYLE, lines: int = 1
) -> object:
    return page.getpixel(cell(style, x, y, lines))


def test_cards_go_from_left_to_right_and_on_to_further_pages():
    cards = [Card(plain(c)) for c in (RED, BLUE, GREEN, RED, BLUE)]
    (page,) = cards_sheet(cards, STYLE, "all")
    assert [colour_at(page, x, 0) for x in range(3)] == [RED, BLUE, GREEN]
    assert [colour_at(page, x, 1, lines=0) for x in range(2)] == [RED, BLUE]
    pages = cards_sheet(cards, SheetStyle(columns=2, cell=64, rows=1), "all")
    assert len(pages) == 3
    assert colour_at(pages[1], 0, 0) == GREEN


def test_a_row_is_as_high_as_its_words_need():
    long = "a pink floral sundress with straps"
    rows = [Card(plain(RED)), Card(plain(RED), "1", "a top"), Card(plain(RED), "1", long)]
    style = SheetStyle(columns=1, cell=64)
    heights = [cards_sheet([card], style, "x")[0].height for card in rows]
    assert heights == [style.head_height + style.card_height(n) + style.gap for n in (0, 2, 3)]
    (page,) = cards_sheet(rows, style, "x")
    assert page.height == sum(heights) - 2 * style.head_height
    (silent,) = cards_sheet(rows, SheetStyle(columns=1, cell=64, captions=False), "x")
    lines = [style.card_height(n) + style.gap for n in (0, 1, 1)]
    assert silent.height == style.head_height + sum(lines)


def grid(persons: int, garments: int) -> Grid:
    rows = {f"p{n}": Card(plain(RED), f"person {n}") for n in range(persons)}
    columns = {f"g{n}": Card(plain(BLUE), f"garment {n}") for n in range(garments)}
    cells = {(r, c): [Card(plain(GREEN), "0.91")] for r in rows for c in columns}
    return Grid(rows, columns, cells, "a run")


def test_a_grid_has_persons_down_and_garments_across():
    (page,) = grid_sheet(grid(2, 3), STYLE)
    assert [colour_at(page, x, 0) for x in range(1, 4)] == [BLUE] * 3
    assert [colour_at(page, 0, y) for y in range(1, 3)] == [RED] * 2
    assert {colour_at(page, x, y) for x in range(1, 4) for y in range(1, 3)} == {GREEN}


def test_each_page_of_a_grid_has_its_heads():
    style = SheetStyle(columns=2, cell=64, rows=2)
    pages = grid_sheet(grid(3, 3), style)
    assert len(pages) == 4  # two parts of garments, two of persons
    for page in pages:
        assert colour_at(page, 1, 0, style) == BLUE
        assert colour_at(page, 0, 1, style) == RED


def test_a_pair_with_two_seeds_takes_two_lines():
    one = grid(1, 2)
    several = {("p0", "g0"): [Card(plain(GREEN)), Card(plain(RED))]}
    (page,) = grid_sheet(Grid(one.rows, one.columns, several), STYLE)
    assert [colour_at(page, 1, y) for y in (1, 2)] == [GREEN, RED]
    assert colour_at(page, 2, 1) != GREEN


def test_strips_show_before_and_after():
    strips = [[Card(plain(RED), "before"), Card(plain(GREEN), "after")]] * 2
    (page,) = strip_sheet(strips, STYLE, "a run")
    assert [colour_at(page, x, y) for y in range(2) for x in range(2)] == [RED, GREEN] * 2


def test_an_empty_sheet_and_a_missing_picture_are_pages_too():
    assert len(cards_sheet([], STYLE, "nothing")) == 1
    assert len(grid_sheet(grid(0, 0), STYLE)) == 1
    (page,) = cards_sheet([Card(None, instead="failed: no person in the photo")], STYLE, "x")
    inside = page.crop((STYLE.gap, STYLE.head_height, page.width - STYLE.gap, page.height))
    assert len(inside.getcolors(100_000) or []) > 4  # the words


def test_a_page_that_is_too_large_is_refused():
    many = [Card(None, "x")] * 900
    with pytest.raises(InputError, match="fewer rows a page"):
        cards_sheet(many, SheetStyle(columns=4, cell=1024), "x")


def test_what_was_made_stands_beside_its_hit(tmp_path):
    for name in ("a", "b"):
        plain(BLUE).save(tmp_path / f"{name}.png")
    hits = [Hit(n + 1, n, tmp_path / f"{x}.png", f"{x}.png", 0.5) for n, x in enumerate("ab")]
    hits.append(Hit(3, 3, Path("gone.png"), "gone.png", 0.4))
    query = Query((QueryPart(torch.zeros(1, 4), "text", text="blue"),))
    style = SheetStyle(columns=2, cell=64)
    (page,) = hits_sheet(query, hits, style, None, [plain(GREEN), plain(RED)])
    row = [colour_at(page, x, y, style, lines=2) for y in range(2) for x in range(2)]
    assert row == [BLUE, GREEN, BLUE, RED]
