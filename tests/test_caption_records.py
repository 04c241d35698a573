"""Attribute records: an LLM's JSON, a caption's words, two records in one, and the vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unifashion_core.caption.records import (
    attributes_from_json,
    attributes_from_text,
    json_request,
    merge_attributes,
)
from unifashion_core.caption.vocabulary import VOCABULARY, load_vocabulary
from unifashion_core.errors import InputError
from unifashion_core.types import CATEGORIES, Attribute, ColourShare, GarmentAttributes

WORDS = load_vocabulary()
GOOD = (
    '{"category": "t-shirt", "colours": ["navy", "white"], "pattern": "striped", "material": '
    '"cotton", "sleeve": "short sleeves", "neckline": null, "length": "unknown", '
    '"details": ["a zipper", "tassels"]}'
)


def read(text: str) -> GarmentAttributes:
    return attributes_from_json(text, WORDS)


def test_words_become_the_vocabularys_values_and_unknown_becomes_none():
    found = read(GOOD)
    assert found.category == Attribute("t-shirt", 1.0)
    assert found.pattern == Attribute("stripes", 1.0)
    assert found.material == Attribute("cotton", 1.0)
    assert found.sleeve == Attribute("short", 1.0)
    assert (found.neckline, found.length, found.fit) == (None, None, None)
    assert found.colours == (ColourShare("navy", 0.5), ColourShare("white", 0.5))
    assert found.details == ("zip", "tassels")


def test_the_written_form_is_read_back():
    record = GarmentAttributes(
        category=Attribute("dress", 0.75),
        fit=Attribute("slim", 0.5),
        colours=(ColourShare("red", 0.7), ColourShare("black", 0.2)),
        details=("logo",),
    )
    assert read(json.dumps(record.to_dict())) == record


@pytest.mark.parametrize(
    "text",
    [
        f"Here you are:\n```json\n{GOOD}\n```\nAnything else?",
        GOOD.replace('"details": ["a zipper", "tassels"]}', '"details": ["a zipper", "tassels"],}'),
        GOOD.replace('"', "'").replace("null", "None"),
        GOOD[:-2],
        GOOD[:-3],
    ],
    ids=["fenced", "comma", "python", "cut", "cut in a word"],
)
def test_usual_faults_are_repaired(text: str):
    found = read(text)
    assert found.category == Attribute("t-shirt", 1.0)
    assert found.details[0] == "zip"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red dress", "no JSON object in the answer"),
        ('{"category" "dress"}', "is no JSON, repaired neither"),
        ('{"category": "spoon"}', "category: 'spoon' is none of dress"),
        ('{"colours": ["mauve-ish"]}', "colours: 'mauve-ish' is none of black"),
        ('{"colours": 3}', "colours: got '3', wanted a list"),
        ('{"details": [1]}', "details: got"),
        ('{"size": "M"}', "size: no such attribute"),
        ('{"pattern": {"value": "dots", "confidence": 3}}', "pattern: confidence 3"),
        ('{"sleeve": ["long", "short"]}', "sleeve: got"),
    ],
)
def test_a_wrong_answer_is_an_error_that_names_the_entry(text: str, message: str):
    with pytest.raises(InputError, match=message):
        read(text)


def test_nouns_and_shades_are_mapped():
    found = read('{"category": "Jeans", "colors": [{"name": "dark blue", "share": 0.9}]}')
    assert found.category == Attribute("pants", 1.0)
    assert found.colours == (ColourShare("navy", 0.9),)


def test_a_caption_says_attributes_by_its_words():
    found = attributes_from_text("A white polka-dot T-shirt with short sleeves and a logo", WORDS)
    assert found.category == Attribute("t-shirt", 1.0)
    assert found.pattern == Attribute("dots", 1.0)
    assert found.sleeve == Attribute("short", 1.0)
    assert found.details == ("logo",)


def test_the_longest_phrase_counts():
    said = WORDS.read("a long sleeve top with a dark blue polo shirt")
    assert ("category", "longsleeve", "long sleeve top") in said
    assert ("colours", "navy", "dark blue") in said
    assert ("category", "shirt", "polo shirt") in said
    assert not [s for s in said if s[1] in ("blue", "long")]


def test_merging_prefers_the_first_and_fills_from_the_second():
    first = GarmentAttributes(
        category=Attribute("dress", 1.0), material=Attribute("silk", 1.0), details=("bow",)
    )
    second = GarmentAttributes(
        category=Attribute("skirt", 0.9),
        sleeve=Attribute("long", 0.8),
        colours=(ColourShare("red", 1.0),),
        details=("logo", "bow"),
    )
    found = merge_attributes(first, second)
    assert found.category == Attribute("dress", 1.0)
    assert found.material == Attribute("silk", 1.0)
    assert found.sleeve == Attribute("long", 0.8)
    assert found.colours == (ColourShare("red", 1.0),)
    assert found.details == ("bow", "logo")


def test_the_request_names_categories_and_colours():
    text = json_request(WORDS)
    assert all(word in text for word in (*CATEGORIES, "purple"))


def test_a_vocabulary_of_the_user_is_read(tmp_path: Path):
    content = json.loads(VOCABULARY.read_text("utf-8"))
    content["attributes"]["material"]["values"]["tweed"] = {
        "prompts": ["tweed"],
        "words": ["tweed"],
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    found = attributes_from_text("a tweed jacket", load_vocabulary(path))
    assert found.material == Attribute("tweed", 1.0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["attributes"].pop("category"), "attributes: no 'category'"),
        (lambda c: c["attributes"].update(size={}), "'size' is none of category"),
        (lambda c: c["attributes"]["sleeve"].pop("templates"), "sleeve.templates: got nothing"),
        (
            lambda c: c["attributes"]["sleeve"].update(templates=["a {noun}"]),
            r"'a \{noun\}' lacks \{0\}",
        ),
        (
            lambda c: c["attributes"]["sleeve"].update(templates=["a {0} {size}"]),
            "is no template",
        ),
        (
            lambda c: c["details"]["values"]["zip"].update(words="zip"),
            "details.values.zip.words: got str",
        ),
        (lambda c: c["colours"].update(teal=["teal"]), "'teal' is none of black"),
    ],
)
def test_a_wrong_vocabulary_is_an_error_that_names_the_entry(tmp_path: Path, change, text: str):
    content = json.loads(VOCABULARY.read_text("utf-8"))
    change(content)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=text):
        load_vocabulary(path)


def test_a_vocabulary_that_is_no_json_is_an_error(tmp_path: Path):
    path = tmp_path / "mine.json"
    path.write_text("{")
    with pytest.raises(InputError, match="attribute vocabulary mine.json: can't be read"):
        load_vocabulary(path)
