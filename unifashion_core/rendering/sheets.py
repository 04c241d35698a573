"""Contact sheets: hits of a query, persons x garments with what was made of them, before and after.

Pages are RGB pictures. A picture that can't be read is a card that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..errors import ImageError, InputError
from ..imaging import open_image
from ..types import Hit, Query

_PAGE, _CARD, _INK, _SOFT, _ACCENT = "#f6f4f1", "#ffffff", "#22201d", "#77716a", "#8c3b2e"
_LINE = 1.45  # heights of the letters from one line to the next
_MOST_PIXELS = 120_000_000  # of a page
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class SheetStyle:
    """How a contact sheet looks.

    Attributes:
        columns: Pictures in a row.
        cell: Side of a picture in pixels.
        captions: Whether caption or file name stand under each picture.
        rows: Rows on a page at most; 0: all on one page.
    """

    columns: int = 4
    cell: int = 256
    captions: bool = True
    rows: int = 0

    @property
    def gap(self) -> int:
        """Pixels between cards."""
        return max(8, self.cell // 16)

    @property
    def text_size(self) -> int:
        """Height of the small letters' font in pixels."""
        return max(11, self.cell // 16)

    def card_height(self, lines: int) -> int:
        """Of a picture with so many lines under it."""
        return self.cell + int(lines * self.text_size * _LINE) + self.gap // 2

    @property
    def head_height(self) -> int:
        """Of the line over a page."""
        return int(self.text_size * 3.2)


@dataclass(frozen=True)
class Card:
    """A picture of a sheet with its words.

    Attributes:
        picture: None: it says that there is nothing to see.
        head: The first line under it, such as a score.
        words: Up to two more lines.
        accent: Whether it stands out.
        instead: What stands in the place of a missing picture.
    """

    picture: Image.Image | None
    head: str = ""
    words: str = ""
    accent: bool = False
    instead: str = "file not readable"

    @property
    def empty(self) -> bool:
        """Whether nothing is drawn: an empty place of a grid."""
        return self.picture is None and not self.instead


def hits_sheet(
    query: Query,
    hits: Sequence[Hit],
    style: SheetStyle,
    picture: Image.Image | None = None,
    made: Sequence[Image.Image] = (),
) -> list[Image.Image]:
    """Draw the hits of one query.

    Args:
        query: What was asked; its words stand in the page's head.
        hits: In the order to show.
        style: Sizes.
        picture: The picture that was searched with; it becomes the first card.
        made: What was made from each hit, in the same order; it stands beside its hit.

    Returns:
        The pages; one unless the style limits the rows.
    """
    cards = [] if picture is None else [Card(picture, "the query", accent=True)]
    for place, hit in enumerate(hits):
        words = str(hit.columns.get("caption") or hit.file)
        cards.append(Card(_picture(hit), _head(hit), words))
        if place < len(made):
            cards.append(Card(made[place], f"{hit.rank}   made from it", words, accent=True))
    return cards_sheet(cards, style, _title(query, len(hits)))


def cards_sheet(cards: Sequence[Card], style: SheetStyle, title: str) -> list[Image.Image]:
    """Lay cards out in rows.

    Args:
        cards: In reading order.
        style: Sizes.
        title: Of every page.

    Returns:
        The pages; one unless the style limits the rows.
    """
    columns = max(1, min(style.columns, len(cards) or 1))
    rows = [cards[i : i + columns] for i in range(0, len(cards), columns)] or [[]]
    pages = _split(rows, style.rows)
    return [
        _page(page, columns, style, _numbered(title, number, len(pages)))
        for number, page in enumerate(pages)
    ]


@dataclass(frozen=True)
class Grid:
    """A table of pictures: a row a person, a column a garment.

    Attributes:
        rows: Head card of each row, by its key.
        columns: Head card of each column, by its key.
        cells: Cards by row and column key; several where a pair has several seeds or prompts.
        title: Over every page.
    """

    rows: Mapping[str, Card]
    columns: Mapping[str, Card]
    cells: Mapping[tuple[str, str], Sequence[Card]] = field(
        default_factory=dict[tuple[str, str], Sequence[Card]]
    )
    title: str = ""


def grid_sheet(grid: Grid, style: SheetStyle) -> list[Image.Image]:
    """Draw a grid with its heads.

    A pair with several pictures takes as many lines of the grid as its row needs. Where there are
    more columns than the style has, or more rows, the grid goes on on further pages, each with its
    heads.

    Args:
        grid: What to show.
        style: Sizes; `columns` are garments a page.

    Returns:
        The pages.
    """
    columns = list(grid.columns)
    parts = [columns[i : i + style.columns] for i in range(0, len(columns), style.columns)] or [[]]
    pages: list[tuple[list[Sequence[Card]], int]] = []
    for part in parts:
        head = [Card(None, grid.title, instead=""), *(grid.columns[c] for c in part)]
        lines = [line for key in grid.rows for line in _lines(grid, key, part)]
        for page in _split(lines, style.rows):
            whole: list[Sequence[Card]] = [head, *page]
            pages.append((whole, len(part) + 1))
    return [
        _page(rows, width, style, _numbered(grid.title, number, len(pages)))
        for number, (rows, width) in enumerate(pages)
    ]


def strip_sheet(
    strips: Sequence[Sequence[Card]], style: SheetStyle, title: str
) -> list[Image.Image]:
    """Before and after: one strip a row, such as person, garment, result.

    Args:
        strips: Cards of each strip.
        style: Sizes; `columns` does not count.
        title: Of every page.

    Returns:
        The pages; one unless the style limits the rows.
    """
    width = max((len(strip) for strip in strips), default=1)
    pages = _split([list(strip) for strip in strips] or [[]], style.rows)
    return [
        _page(page, width, style, _numbered(title, number, len(pages)))
        for number, page in enumerate(pages)
    ]


def _lines(grid: Grid, key: str, part: Sequence[str]) -> list[list[Card]]:
    """A row of the grid: its head, then as many lines as its fullest pair has pictures."""
    cells = [list(grid.cells.get((key, column), ())) for column in part]
    nothing = Card(None, instead="")
    found: list[list[Card]] = []
    for number in range(max([1, *map(len, cells)])):
        head = grid.rows[key] if number == 0 else nothing
        found.append([head, *(c[number] if number < len(c) else nothing for c in cells)])
    return found


def _split(rows: Sequence[Sequence[Card]], limit: int) -> list[list[Sequence[Card]]]:
    size = limit or max(1, len(rows))
    return [list(rows[i : i + size]) for i in range(0, len(rows), size)] or [[]]


def _numbered(title: str, number: int, count: int) -> str:
    return title if count == 1 else f"{title}   page {number + 1} of {count}"


def _page(
    rows: Sequence[Sequence[Card]], columns: int, style: SheetStyle, title: str
) -> Image.Image:
    font = ImageFont.load_default(style.text_size)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    said = [[_said(ruler, card, font, style) for card in row] for row in rows]
    # A row has room for the words of its wordiest card.
    heights = [style.card_height(max(map(len, row), default=0)) for row in said]
    width = style.gap + columns * (style.cell + style.gap)
    height = style.head_height + sum(heights) + len(rows) * style.gap
    if width * height > _MOST_PIXELS:
        raise InputError(
            f"Contact sheet: a page of {width:,} x {height:,} pixels. Take fewer rows a page, "
            "fewer columns, or a smaller cell."
        )
    page = Image.new("RGB", (width, height), _PAGE)
    draw = ImageDraw.Draw(page)
    large = ImageFont.load_default(style.text_size * 1.25)
    over = _fit(draw, title, large, width - 2 * style.gap)
    draw.text((style.gap, style.head_height // 2), over, fill=_INK, font=large, anchor="lm")
    top = style.head_height
    for row, lines, tall in zip(rows, said, heights, strict=True):
        for x, card in enumerate(row):
            left = style.gap + x * (style.cell + style.gap)
            box = (left, top, left + style.cell - 1, top + tall - 1)
            _draw_card(page, style, box, card, lines[x])
        top += tall + style.gap
    return page


def _said(draw: ImageDraw.ImageDraw, card: Card, font: _Font, style: SheetStyle) -> list[str]:
    """The lines under a card's picture, each fitted to its width."""
    if card.empty:
        return []
    room = style.cell - style.gap
    words = _wrap(draw, card.words, font, room) if style.captions and card.words else []
    return [_fit(draw, card.head, font, room), *words] if card.head or words else []


def _draw_card(
    page: Image.Image,
    style: SheetStyle,
    box: tuple[int, int, int, int],
    card: Card,
    lines: Sequence[str],
) -> None:
    if card.empty:
        return
    draw = ImageDraw.Draw(page)
    x, y = box[:2]
    draw.rounded_rectangle(box, radius=style.gap // 2, fill=_CARD)
    font = ImageFont.load_default(style.text_size)
    if card.picture is None:
        centre = (x + style.cell // 2, y + style.cell // 2)
        instead = "\n".join(_wrap(draw, card.instead, font, style.cell - style.gap))
        draw.text(centre, instead, fill=_SOFT, font=font, anchor="mm", align="center")
    else:
        margin = max(2, style.gap // 4)
        side = style.cell - 2 * margin
        fitted = ImageOps.pad(card.picture.convert("RGB"), (side, side), color=_CARD)
        page.paste(fitted, (x + margin, y + margin))
    for number, text in enumerate(lines):
        top = y + style.cell + int(number * style.text_size * _LINE)
        ink = _SOFT if number else _ACCENT if card.accent else _INK
        draw.text((x + style.gap // 2, top), text, fill=ink, font=font)


def _title(query: Query, count: int) -> str:
    wanted: list[str] = []
    for part in query.parts:
        said = f"'{part.text}'" if part.text else "a picture"
        said = f"a picture + {said}" if part.kind == "composed" else said
        wanted.append(f"not {said}" if part.weight < 0 else said)
    return f"{' + '.join(wanted)}: {count} hit{'s' if count != 1 else ''}"


def _head(hit: Hit) -> str:
    itm = "" if hit.itm is None else f"   itm {hit.itm:.2f}"
    return f"{hit.rank}   {hit.score:.3f}{itm}"


def _picture(hit: Hit) -> Image.Image | None:
    try:
        return open_image(hit.path, min_side=256)
    except ImageError:
        return None


def _fit(draw: ImageDraw.ImageDraw, text: str, font: _Font, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font=font) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _wrap(draw: ImageDraw.ImageDraw, text: str, font: _Font, width: int) -> list[str]:
    """The text in at most two lines of `width` pixels; what is left over ends in an ellipsis."""
    words, first = text.split(), ""
    while words and draw.textlength(f"{first} {words[0]}".strip(), font=font) <= width:
        first = f"{first} {words.pop(0)}".strip()
    if not first:
        return [_fit(draw, text, font, width)]
    return [first, _fit(draw, " ".join(words), font, width)] if words else [first]
