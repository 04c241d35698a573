"""The words of attributes: what an encoder is asked, what a text says, what a template writes.

The data is `vocabulary.json`; a file of the user's in the same form may take its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from ..errors import InputError
from ..types import ATTRIBUTES, COLOURS

VOCABULARY = Path(__file__).with_name("vocabulary.json")

_SPACES = re.compile(r"\s+")
_OUTSIDE = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Value:
    """One value of an attribute.

    Attributes:
        name: As it stands in a record.
        say: As a template writes it.
        prompts: Phrases that ask an encoder for it; they fill a question's {0}.
        words: Phrases by which a text says it.
    """

    name: str
    say: str
    prompts: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """One attribute with its values.

    Attributes:
        templates: Texts around a prompt: {0} is the prompt, {noun} the garment.
        values: Which one is it.
        categories: Where the attribute has a meaning; empty = everywhere.
        none: Texts for "none of these"; empty where one of the values always holds.
    """

    templates: tuple[str, ...]
    values: tuple[Value, ...]
    categories: tuple[str, ...] = ()
    none: tuple[str, ...] = ()

    def texts(self, value: Value, noun: str) -> list[str]:
        """Every text that asks an encoder for a value."""
        return [t.format(p, noun=noun) for t in self.templates for p in value.prompts]

    def none_texts(self, noun: str) -> list[str]:
        """Every text that asks for none of the values."""
        return [t.format("", noun=noun) for t in self.none]

    def value(self, name: str) -> Value | None:
        """A value by its name."""
        return next((v for v in self.values if v.name == name), None)


@dataclass(frozen=True)
class AttributeVocabulary:
    """All attributes.

    Attributes:
        attributes: By field of `GarmentAttributes`; "category" is always there.
        details: Any number of its values may hold at once.
        colours: Words of each of `COLOURS`.
        source: The data it was made from, for a fingerprint.
    """

    attributes: Mapping[str, Question]
    details: Question
    colours: Mapping[str, tuple[str, ...]]
    source: str

    @cached_property
    def phrases(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Every phrase, with the (attribute, value) pairs that it says."""
        found: dict[str, dict[tuple[str, str], None]] = {}
        for name, question in {**self.attributes, "details": self.details}.items():
            for value in question.values:
                for word in value.words:
                    found.setdefault(plain(word), {})[name, value.name] = None
        for colour, words in self.colours.items():
            for word in words:
                found.setdefault(plain(word), {})["colours", colour] = None
        return {phrase: tuple(said) for phrase, said in found.items()}

    def read(self, text: str) -> list[tuple[str, str, str]]:
        """What a text says, in its order: (attribute, value, phrase).

        The longest phrase counts, so that "t-shirt" is no "shirt".
        """
        words = plain(text).split()
        longest = max(len(p.split()) for p in self.phrases)
        found: list[tuple[str, str, str]] = []
        at = 0
        while at < len(words):
            for length in range(min(longest, len(words) - at), 0, -1):
                phrase = " ".join(words[at : at + length])
                if phrase in self.phrases:
                    found += [(a, v, phrase) for a, v in self.phrases[phrase]]
                    at += length - 1
                    break
            at += 1
        return found


def plain(text: str) -> str:
    """Lower case, single spaces, everything but letters and digits a space."""
    return _SPACES.sub(" ", _OUTSIDE.sub(" ", text.lower())).strip()


def load_vocabulary(path: Path | None = None) -> AttributeVocabulary:
    """Read a vocabulary.

    Args:
        path: A file of the form of `VOCABULARY`, which None takes.

    Raises:
        InputError: If it can't be read, or holds something else; the text names the entry.
    """
    path = VOCABULARY if path is None else path
    where = f"attribute vocabulary {path.name}"
    try:
        text = path.read_text(encoding="utf-8")
        content: object = json.loads(text)
    except (OSError, ValueError) as e:
        raise InputError(f"{where}: can't be read ({e}). Start from a copy of ours.") from e
    reader = _Reader(where)
    top = reader.table(content, "the file", ("attributes", "details", "colours"))
    attributes = reader.table(top.get("attributes"), "attributes", ATTRIBUTES)
    if "category" not in attributes:
        raise reader.wrong("attributes", "no 'category'")
    colours = reader.table(top.get("colours"), "colours", COLOURS)
    return AttributeVocabulary(
        {name: reader.question(entry, name) for name, entry in attributes.items()},
        reader.question(top.get("details"), "details"),
        {name: reader.phrases(words, f"colours.{name}") for name, words in colours.items()},
        text,
    )


class _Reader:
    """Checks a file's content piece by piece; every error names the entry."""

    def __init__(self, where: str) -> None:
        self.where = where

    def wrong(self, entry: str, problem: str) -> InputError:
        return InputError(f"{self.where}: {entry}: {problem}. Correct that entry.")

    def table(
        self, content: object, entry: str, known: Sequence[str] | None = None
    ) -> dict[str, Any]:
        if not isinstance(content, dict) or not content:
            kind = _kind(cast(object, content))
            raise self.wrong(entry, f"got {kind}, wanted an object with entries")
        table = cast("dict[str, Any]", content)
        strange = [] if known is None else [name for name in table if name not in known]
        if strange:
            raise self.wrong(entry, f"{strange[0]!r} is none of {', '.join(known or ())}")
        return table

    def phrases(self, content: object, entry: str, *, empty: bool = False) -> tuple[str, ...]:
        items: list[object] = cast("list[object]", content) if isinstance(content, list) else []
        if (not items and not empty) or not all(isinstance(i, str) and i.strip() for i in items):
            kind = _kind(cast(object, content))
            raise self.wrong(entry, f"got {kind}, wanted a list of words")
        return tuple(str(i) for i in items)

    def question(self, content: object, entry: str) -> Question:
        known = ("templates", "values", "categories", "none")
        table = self.table(content, entry, known)
        values = self.table(table.get("values"), f"{entry}.values")
        return Question(
            self._templates(table.get("templates"), f"{entry}.templates", "{0}"),
            tuple(self._value(v, name, f"{entry}.values.{name}") for name, v in values.items()),
            self.phrases(table.get("categories", []), f"{entry}.categories", empty=True),
            self._templates(table.get("none", []), f"{entry}.none", ""),
        )

    def _templates(self, content: object, entry: str, needed: str) -> tuple[str, ...]:
        found = self.phrases(content, entry, empty=not needed)
        for text in found:
            try:
                text.format("", noun="")
            except (ValueError, LookupError, AttributeError) as e:
                raise self.wrong(entry, f"{text!r} is no template of {{0}} and {{noun}}") from e
            if needed not in text:
                raise self.wrong(entry, f"{text!r} lacks {needed}")
        return found

    def _value(self, content: object, name: str, entry: str) -> Value:
        table = self.table(content, entry, ("say", "prompts", "words"))
        say = table.get("say", name)
        if not isinstance(say, str) or not say.strip():
            raise self.wrong(f"{entry}.say", f"got {_kind(say)}, wanted a word")
        prompts = self.phrases(table.get("prompts"), f"{entry}.prompts")
        return Value(name, say, prompts, self.phrases(table.get("words"), f"{entry}.words"))


def _kind(content: object) -> str:
    return "nothing" if content is None else f"{type(content).__name__} {str(content)[:40]!r}"
