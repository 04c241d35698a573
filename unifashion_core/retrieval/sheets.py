"""Contact sheets: the hits of a query on one page, with ranks, scores and captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..errors import ImageError
from ..imaging import open_image
from ..types import Hit, Query

_PAGE, _CARD, _INK, _SOFT, _ACCENT = "#f6f4f1", "#ffffff", "#22201d", "#77716a", "#8c3b2e"
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class SheetStyle:
    """How a contact sheet looks.

    Attributes:
        columns: Pictures in a row.
        cell: Side of a picture in pixels.
        captions: Whether caption or file name stand under each picture.
    """

    columns: int = 4
    cell: int = 256
    captions: bool = True

    @property
    def gap(self) -> int:
        """Pixels between cards."""
        return max(8, self.cell // 16)

    @property
    def text_size(self) -> int:
        """Height of the small letters' font in pixels."""
        return max(11, self.cell // 16)

    @property
    def card_height(self) -> int:
        """Of a picture with the lines under it."""
        lines = 3 if self.captions else 1
        return self.cell + int(lines * self.text_size * 1.45) + self.gap


def hits_sheet(
    query: Query, hits: Sequence[Hit], style: SheetStyle, picture: Image.Image | None = None
) -> Image.Image:
    """Draw the hits of one query.

    Args:
        query: What was asked; its words stand in the page's head.
        hits: In the order to show.
        style: Sizes.
        picture: The picture that was searched with; it becomes the first card.

    Returns:
        The page, RGB. A hit whose file can't be read is a card that says so.
    """
    cards = len(hits) + (picture is not None)
    columns = max(1, min(style.columns, cards or 1))
    rows = max(1, math.ceil(cards / columns))
    head = int(style.text_size * 3.2)
    width = style.gap + columns * (style.cell + style.gap)
    page = Image.new("RGB", (width, head + rows * (style.card_height + style.gap)), _PAGE)
    draw = ImageDraw.Draw(page)
    title_font = ImageFont.load_default(style.text_size * 1.25)
    title = _fit(draw, _title(query, len(hits)), title_font, width - 2 * style.gap)
    draw.text((style.gap, head // 2), title, fill=_INK, font=title_font, anchor="lm")
    first = 0
    if picture is not None:
        _card(page, style, _place(0, columns, style, head), picture, "the query", "", _ACCENT)
        first = 1
    for number, hit in enumerate(hits, start=first):
        place = _place(number, columns, style, head)
        words = str(hit.columns.get("caption") or hit.file)
        _card(page, style, place, _picture(hit), _head(hit), words, _INK)
    return page


def _place(number: int, columns: int, style: SheetStyle, head: int) -> tuple[int, int]:
    row, column = divmod(number, columns)
    return (
        style.gap + column * (style.cell + style.gap),
        head + row * (style.card_height + style.gap),
    )


def _card(
    page: Image.Image,
    style: SheetStyle,
    place: tuple[int, int],
    picture: Image.Image | None,
    head: str,
    words: str,
    ink: str,
) -> None:
    draw = ImageDraw.Draw(page)
    x, y = place
    box = (x, y, x + style.cell - 1, y + style.card_height - 1)
    draw.rounded_rectangle(box, radius=style.gap // 2, fill=_CARD)
    font = ImageFont.load_default(style.text_size)
    if picture is None:
        centre = (x + style.cell // 2, y + style.cell // 2)
        draw.text(centre, "file not readable", fill=_SOFT, font=font, anchor="mm")
    else:
        margin = max(2, style.gap // 4)
        side = style.cell - 2 * margin
        fitted = ImageOps.pad(picture.convert("RGB"), (side, side), color=_CARD)
        page.paste(fitted, (x + margin, y + margin))
    room = style.cell - style.gap
    shown = [head, *_wrap(draw, words, font, room)] if style.captions else [head]
    for number, text in enumerate(shown):
        top = y + style.cell + int(number * style.text_size * 1.45)
        draw.text((x + style.gap // 2, top), text, fill=ink if number == 0 else _SOFT, font=font)


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
