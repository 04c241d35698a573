"""Caption styles: templates of a caption and attributes, kept as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unifashion_core.caption.styles import (
    STYLES,
    StyleOptions,
    format_caption,
    load_styles,
    parse_replacements,
    style_fingerprint,
)
from unifashion_core.errors import InputError
from unifashion_core.types import Attribute, ColourShare, GarmentAttributes

TOP = GarmentAttributes(
    category=Attribute("longsleeve", 0.9),
    pattern=Attribute("stripes", 0.9),
    sleeve=Attribute("long", 0.8),
    neckline=Attribute("v-neck", 0.8),
    colours=(ColourShare("navy", 0.6), ColourShare("white", 0.4)),
    details=("logo", "zip"),
)
CAPTION = "a navy and white striped sweater with a logo"


def written(
    style: str, caption: str = CAPTION, attributes: GarmentAttributes | None = TOP, **options
) -> str:
    return format_caption(load_styles()[style], caption, attributes, StyleOptions(**options))


def test_a_sentence_is_the_caption_with_a_capital_and_a_stop():
    assert written("sentence") == "A navy and white striped sweater with a logo."
    assert written("sentence", "a hat.") == "A hat."


def test_tags_list_what_is_known_and_leave_out_what_is_not():
    assert written("tags") == "sweater, navy, white, striped, long sleeve, v-neck, logo, zip"
    assert written("tags", "a red dress", None) == "dress, red"


def test_a_title_is_capitalised_and_says_no_word_twice():
    assert written("title") == "Navy and White Striped V-Neck Long Sleeve Sweater"
    assert written("title", "", TOP) == "Navy and White Striped V-Neck Long Sleeve Top"


def test_a_try_on_prompt_is_phrases_as_in_viton_hd():
    assert (
        written("try-on")
        == "navy striped long sleeve sweater, v-neck navy sweater, long sleeve sweater"
    )
    assert written("try-on", "a red shirt", None) == "red shirt, shirt"


def test_a_trigger_word_stands_first_and_must_be_there():
    assert written("lora", trigger="sks") == f"sks, {CAPTION}"
    with pytest.raises(
        InputError, match="style 'lora': it begins with a trigger word and got none"
    ):
        written("lora")


def test_attributes_alone_make_a_sentence():
    assert written("sentence", "") == "Navy and white striped long sleeve top with logo and zip."


def test_without_anything_to_say_it_is_an_error():
    with pytest.raises(InputError, match="neither caption nor attributes fill it"):
        written("tags", "", GarmentAttributes())


def test_the_captions_own_noun_is_kept_where_it_fits_the_category():
    assert written("tags", "blue jeans", None) == "jeans, blue"
    pants = GarmentAttributes(category=Attribute("pants", 0.9))
    assert written("tags", "a blue dress", pants) == "pants, blue"


def test_prefix_suffix_and_replacements():
    found = written(
        "sentence",
        prefix="photo: ",
        suffix=" (studio)",
        replacements=(("sweater", "jumper"), ("a logo", "one logo"), ("strip", "x")),
    )
    assert found == "photo: A navy and white striped jumper with one logo. (studio)"


def test_replacements_are_written_a_line_each():
    assert parse_replacements("grey -> gray\n\nnavy->dark blue") == (
        ("grey", "gray"),
        ("navy", "dark blue"),
    )
    with pytest.raises(InputError, match="line 'grey gray' is not of the form old -> new"):
        parse_replacements("grey gray")


def test_a_fingerprint_changes_with_style_and_options():
    styles = load_styles()
    found = {
        style_fingerprint(styles["tags"]),
        style_fingerprint(styles["title"]),
        style_fingerprint(styles["tags"], StyleOptions(prefix="x")),
        style_fingerprint(styles["tags"], StyleOptions(replacements=(("a", "b"),))),
    }
    assert len(found) == 4
    assert style_fingerprint(styles["tags"]) == style_fingerprint(load_styles()["tags"])


def test_a_users_file_replaces_ours(tmp_path: Path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"short": {"parts": ["{colour} {noun}!"]}}))
    assert format_caption(load_styles(path)["short"], "a red dress") == "red dress!"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "can't be read"),
        ("[]", "no style in it"),
        ('{"a": {"parts": ["{size}"]}}', "style 'a': there is no field 'size'"),
        ('{"a": {"part": ["{noun}"]}}', "style 'a': unknown entry 'part'"),
        ('{"a": {"parts": "{noun}"}}', "style 'a': parts is no list of texts"),
        ('{"a": {"parts": ["{noun}"], "case": "loud"}}', "style 'a': case 'loud'"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_style(tmp_path: Path, content: str, text: str):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(InputError, match=text):
        load_styles(path)


def test_every_style_of_ours_works_on_a_caption_alone():
    styles = load_styles(STYLES)
    assert set(styles) == {"sentence", "tags", "title", "try-on", "lora"}
    for style in styles.values():
        assert (
            "shirt"
            in format_caption(style, "a white shirt", None, StyleOptions(trigger="sks")).lower()
        )
