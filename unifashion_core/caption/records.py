"""Attribute records from elsewhere: an LLM's JSON, a caption's words, and two records in one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from ..errors import InputError
from ..types import ATTRIBUTES, COLOURS, Attribute, ColourShare, GarmentAttributes
from .vocabulary import AttributeVocabulary, plain

_LONGEST_VALUE = 40
_SPELLINGS = {"colors": "colours", "color": "colours", "colour": "colours", "neck": "neckline"}
_UNKNOWN = frozenset({"", "unknown", "none", "null", "n a", "not visible", "unclear"})
_QUOTED = re.compile(r"(?<=[{\[,:])\s*'([^'\n]*)'\s*(?=[}\],:])")
_TRAILING_COMMA = re.compile(r",\s*(?=[}\]])")
_PYTHON_WORDS = ((re.compile(r"\bNone\b"), "null"), (re.compile(r"\bTrue\b"), "true"))

AttributeSource = Literal["captioner", "encoder", "both"]
"""Who says the attributes: what writes the captions, the encoder, or both, the captioner first."""

JSON_REQUEST = (
    "Describe the garment as one JSON object with the keys category, colours, pattern, material, "
    "sleeve, neckline, length, fit and details. colours and details are lists of words, every "
    "other value is one word or null. Colours are among {colours}; category is one of "
    "{categories}. Write the JSON object and nothing else."
)
"""What an LLM is asked with; `json_request` fills it."""


def json_request(vocabulary: AttributeVocabulary) -> str:
    """The question that makes an LLM answer with a record."""
    categories = ", ".join(v.name for v in vocabulary.attributes["category"].values)
    return JSON_REQUEST.format(colours=", ".join(COLOURS), categories=categories)


def attributes_from_json(text: str, vocabulary: AttributeVocabulary) -> GarmentAttributes:
    """Read an LLM's answer: parsed, repaired once where that fails, and checked.

    Words are mapped to the vocabulary's values ("jeans" is the category pants, "crimson" the
    colour red); a pattern, material and so on that the vocabulary does not know stays as it was
    written. A value without a confidence of its own has confidence 1, colours without shares share
    equally.

    Args:
        text: The answer; words and code fences around the JSON object do not count.
        vocabulary: The words of values.

    Raises:
        InputError: If there is no object in it even after the repair, or an entry is not of the
            form; the text names the entry.
    """
    record = {_SPELLINGS.get(plain(k), plain(k)): v for k, v in _parsed(text).items()}
    strange = [k for k in record if k not in (*ATTRIBUTES, "colours", "details")]
    if strange:
        raise _wrong(strange[0], "no such attribute")
    single = {name: _attribute(record.get(name), name, vocabulary) for name in ATTRIBUTES}
    return GarmentAttributes(
        **single,
        colours=_colours(record.get("colours"), vocabulary),
        details=_details(record.get("details"), vocabulary),
    )


def attributes_from_text(caption: str, vocabulary: AttributeVocabulary) -> GarmentAttributes:
    """What a caption's own words say; confidence 1, colours with equal shares."""
    said = vocabulary.read(caption)
    single: dict[str, Attribute] = {}
    for attribute, value, _ in said:
        if attribute in ATTRIBUTES and attribute not in single:
            single[attribute] = Attribute(value, 1.0)
    colours = list(dict.fromkeys(v for a, v, _ in said if a == "colours"))
    details = dict.fromkeys(v for a, v, _ in said if a == "details")
    return GarmentAttributes(**single, colours=_shared(colours), details=tuple(details))


def merge_attributes(first: GarmentAttributes, second: GarmentAttributes) -> GarmentAttributes:
    """One record of two: what `first` knows, and where it does not, what `second` does.

    Colours are taken from one of them whole, since shares of two sources don't add up; details are
    those of both.
    """
    single = {name: getattr(first, name) or getattr(second, name) for name in ATTRIBUTES}
    details = tuple(dict.fromkeys((*first.details, *second.details)))
    return replace(first, **single, colours=first.colours or second.colours, details=details)


def _parsed(text: str) -> dict[str, Any]:
    """The first JSON object of a text."""
    start = text.find("{")
    if start < 0:
        raise InputError(
            f"attributes: no JSON object in the answer {text.strip()[:60]!r}. Ask again, or take a "
            "model that follows the request."
        )
    for candidate in (text[start:], _repaired(text[start:])):
        try:
            found, _ = json.JSONDecoder().raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return cast("dict[str, Any]", found)
    raise InputError(
        f"attributes: the answer {text[start : start + 60]!r} is no JSON, repaired neither. Ask "
        "again, or raise max_tokens where it was cut."
    )


def _repaired(text: str) -> str:
    """What LLMs get wrong: single quotes, Python's words, commas before a bracket, a cut end."""
    text = text.split("```")[0]
    text = _QUOTED.sub(lambda m: json.dumps(m.group(1)), text)
    for word, right in _PYTHON_WORDS:
        text = word.sub(right, text)
    text = _TRAILING_COMMA.sub("", text)
    open_brackets: list[str] = []
    inside = escaped = False
    for letter in text:
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            inside = True
        elif letter in "{[":
            open_brackets.append("}" if letter == "{" else "]")
        elif letter in "}]" and open_brackets:
            open_brackets.pop()
            if not open_brackets:
                break
    closed = text.rstrip() + ('"' if inside else "")
    return _TRAILING_COMMA.sub("", closed.rstrip(", ") + "".join(reversed(open_brackets)))


def _attribute(entry: object, name: str, vocabulary: AttributeVocabulary) -> Attribute | None:
    confidence: object = 1.0
    if isinstance(entry, dict):
        table = cast("dict[str, object]", entry)
        entry, confidence = table.get("value"), table.get("confidence", 1.0)
    if isinstance(entry, list):
        items = cast("list[object]", entry)
        entry = items[0] if len(items) == 1 else items
    if entry is None:
        return None
    if not isinstance(entry, str) or len(entry) > _LONGEST_VALUE:
        raise _wrong(name, f"got {str(cast(object, entry))[:60]!r}, wanted one word or null")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float):
        raise _wrong(name, f"confidence {confidence!r}, wanted a number in 0..1")
    if not 0 <= confidence <= 1:
        raise _wrong(name, f"confidence {confidence}, wanted a number in 0..1")
    value = _value(plain(entry), name, vocabulary)
    return None if value is None else Attribute(value, float(confidence))


def _value(text: str, name: str, vocabulary: AttributeVocabulary) -> str | None:
    """The vocabulary's name for a value; other words stay, but for the category."""
    question = vocabulary.attributes.get(name)
    names = {plain(v.name): v.name for v in question.values} if question else {}
    if text in names:
        return names[text]
    if text in _UNKNOWN:
        return None
    said = [v for a, v, _ in vocabulary.read(text) if a == name]
    if said:
        return said[-1] if name == "category" else said[0]  # "shirt dress" ends in its noun
    if name == "category":
        raise _wrong(name, f"{text!r} is none of {', '.join(names.values())}")
    return text


def _colours(entry: object, vocabulary: AttributeVocabulary) -> tuple[ColourShare, ...]:
    if entry is None:
        return ()
    items = [entry] if isinstance(entry, str) else entry
    if not isinstance(items, list):
        raise _wrong("colours", f"got {str(cast(object, entry))[:60]!r}, wanted a list of names")
    shares: dict[str, float | None] = {}
    for item in cast("list[object]", items):
        table = cast("dict[str, object]", item) if isinstance(item, dict) else {"name": item}
        name, share = table.get("name"), table.get("share")
        said = [v for a, v, _ in vocabulary.read(str(name)) if a == "colours"]
        if not isinstance(name, str) or not said:
            raise _wrong("colours", f"{str(name)[:40]!r} is none of {', '.join(COLOURS)}")
        if share is not None and (not isinstance(share, int | float) or not 0 <= share <= 1):
            raise _wrong("colours", f"share {share!r}, wanted a number in 0..1")
        for colour in said:
            shares.setdefault(colour, None if share is None else float(share))
    if not shares or any(s is None for s in shares.values()):
        return _shared(list(shares))
    found = [ColourShare(n, s) for n, s in shares.items() if s is not None]
    return tuple(sorted(found, key=lambda c: -c.share))


def _shared(names: Sequence[str]) -> tuple[ColourShare, ...]:
    return tuple(ColourShare(name, 1 / len(names)) for name in names)


def _details(entry: object, vocabulary: AttributeVocabulary) -> tuple[str, ...]:
    if entry is None:
        return ()
    items = [entry] if isinstance(entry, str) else entry
    if not isinstance(items, list) or not all(
        isinstance(i, str) and len(i) <= _LONGEST_VALUE for i in cast("list[object]", items)
    ):
        raise _wrong("details", f"got {str(cast(object, entry))[:60]!r}, wanted a list of words")
    found: dict[str, None] = {}
    for item in cast("list[str]", items):
        said = [v for a, v, _ in vocabulary.read(item) if a == "details"]
        for word in said or [plain(item)]:
            if word not in _UNKNOWN:
                found[word] = None
    return tuple(found)


def _wrong(entry: str, problem: str) -> InputError:
    return InputError(f"attributes: {entry}: {problem}. Ask again, or correct the JSON.")
