"""Caption styles: templates, kept as data, that turn a caption and attributes into a text.

A style is a list of parts with fields in braces. `[...]` stands only where all of its fields are
known; a part stands only where the fields outside of brackets are known; what stands twice is
written once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from ..errors import InputError
from ..types import ATTRIBUTES, GarmentAttributes
from .vocabulary import AttributeVocabulary, load_vocabulary

STYLES = Path(__file__).with_name("styles.json")
DEFAULT_STYLE = "sentence"

_FIELD = re.compile(r"\{(\w+)(:[^}]*)?\}")
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_CASES = ("as is", "sentence", "title")
_LISTS = ("colours", "details")
_PLAIN_WORDS = (*ATTRIBUTES[1:], "caption", "trigger", "noun", "category", "colour")
FIELDS = (*_PLAIN_WORDS, *_LISTS)
_SMALL = frozenset({"a", "an", "and", "with", "of", "in", "the", "or"})


@dataclass(frozen=True)
class Style:
    """One style.

    Attributes:
        name: What it is chosen by.
        about: What it is, for a list.
        parts: Templates; each becomes a phrase or nothing.
        otherwise: Templates where `parts` gave nothing.
        join: Stands between phrases.
        case: "as is", "sentence" (first letter large) or "title" (every word).
        end: Stands at the end, where the text does not end with it.
    """

    name: str
    about: str
    parts: tuple[str, ...]
    otherwise: tuple[str, ...] = ()
    join: str = " "
    case: str = "as is"
    end: str = ""


@dataclass(frozen=True)
class StyleOptions:
    """What a user adds to a style.

    Attributes:
        trigger: The word of a LoRA.
        prefix: In front of the text, as it stands.
        suffix: After it.
        replacements: (old, new) whole words or phrases, in any case, in order.
    """

    trigger: str = ""
    prefix: str = ""
    suffix: str = ""
    replacements: tuple[tuple[str, str], ...] = ()


def load_styles(path: Path | None = None) -> dict[str, Style]:
    """Read the styles by name.

    Args:
        path: A file of the form of `STYLES`, which None takes.

    Raises:
        InputError: If it can't be read, or holds something else; the text names the style.
    """
    path = STYLES if path is None else path
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(
            f"styles {path.name}: can't be read ({e}). Start from a copy of ours."
        ) from e
    if not isinstance(content, dict) or not content:
        raise InputError(f"styles {path.name}: no style in it. Start from a copy of ours.")
    entries = cast("dict[str, Any]", content)
    return {name: _style(name, entry, path.name) for name, entry in entries.items()}


def format_caption(
    style: Style,
    caption: str,
    attributes: GarmentAttributes | None = None,
    options: StyleOptions = StyleOptions(),
    *,
    vocabulary: AttributeVocabulary | None = None,
) -> str:
    """Write a caption in a style.

    Args:
        style: One of `load_styles`.
        caption: A captioner's, or "" where only the attributes are known.
        attributes: What is known of the garment; where they leave a field open, the caption's words
            fill it.
        options: Trigger, prefix, suffix and replacements.
        vocabulary: Whose words are written; None takes ours.

    Raises:
        InputError: If the style names a trigger and there is none, or nothing is left to write.
    """
    if options.trigger.strip() == "" and any("{trigger}" in p for p in style.parts):
        raise InputError(
            f"style '{style.name}': it begins with a trigger word and got none. "
            "Set trigger, or take another style."
        )
    words = load_vocabulary() if vocabulary is None else vocabulary
    fields = _fields(caption.strip(), attributes, options.trigger.strip(), words)
    phrases = _filled(style.parts, fields) or _filled(style.otherwise, fields)
    if not phrases:
        raise InputError(
            f"style '{style.name}': neither caption nor attributes fill it. "
            "Connect a caption, or take another style."
        )
    text = _cased(style.join.join(phrases), style.case)
    for old, new in options.replacements:
        text = _replaced(text, old, new)
    if style.end and not text.endswith(style.end):
        text += style.end
    return f"{options.prefix}{text}{options.suffix}"


def style_fingerprint(style: Style, options: StyleOptions = StyleOptions()) -> str:
    """Hex digest of all that shapes a text besides its caption and attributes."""
    content = json.dumps([asdict(style), asdict(options)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def parse_replacements(text: str) -> tuple[tuple[str, str], ...]:
    """Replacements from lines of the form `old -> new`; empty lines count for nothing.

    Raises:
        InputError: If a line has no arrow or nothing before it.
    """
    found: list[tuple[str, str]] = []
    for line in filter(str.strip, text.splitlines()):
        old, arrow, new = line.partition("->")
        if not arrow or not old.strip():
            raise InputError(
                f"replacements: line {line.strip()!r} is not of the form old -> new. "
                "Write one replacement a line."
            )
        found.append((old.strip(), new.strip()))
    return tuple(found)


def _fields(
    caption: str, attributes: GarmentAttributes | None, trigger: str, words: AttributeVocabulary
) -> dict[str, list[str]]:
    """What fills each field; an unknown one is empty."""
    said = words.read(caption)
    known = attributes or GarmentAttributes()
    fields: dict[str, list[str]] = {"caption": [caption], "trigger": [trigger]}
    for name in ATTRIBUTES:
        found = getattr(known, name)
        value = found.value if found else next((v for a, v, _ in said if a == name), None)
        question = words.attributes.get(name)
        entry = question.value(value) if question and value else None
        fields[name] = [entry.say if entry else value] if value else []
        if name == "category":
            fields["noun"] = _noun(fields["category"], value, said)
    if value := fields["pattern"]:
        fields["pattern"] = [] if value == ["plain"] else value
    colours = [c.name for c in known.colours] or [v for a, v, _ in said if a == "colours"]
    fields["colours"] = list(dict.fromkeys(colours))[:2]
    fields["colour"] = fields["colours"][:1]
    details = known.details or tuple(v for a, v, _ in said if a == "details")
    entries = [(words.details.value(d), d) for d in dict.fromkeys(details)]
    fields["details"] = [e.say if e else d for e, d in entries]
    return {name: [v for v in values if v] for name, values in fields.items()}


def _noun(say: list[str], category: str | None, said: list[tuple[str, str, str]]) -> list[str]:
    """The caption's own word for the category, such as "jeans", else the category's."""
    own = [phrase for a, v, phrase in said if a == "category" and v == category]
    return (
        [own[0].replace("t shirt", "t-shirt").replace("flip flops", "flip-flops")] if own else say
    )


def _filled(parts: tuple[str, ...], fields: Mapping[str, list[str]]) -> list[str]:
    """The phrases of the parts that are known; a word that a phrase has twice is said once."""
    phrases: list[str] = []
    for part in parts:
        noun = " ".join(fields["noun"]) if "{noun}" in part else ""
        text = _OPTIONAL.sub(lambda m, n=noun: _fill(m.group(1), fields, n) or "", part)
        phrase = _fill(text, fields, noun)
        if phrase and phrase not in phrases:
            phrases.append(phrase)
    return phrases


def _fill(template: str, fields: Mapping[str, list[str]], noun: str) -> str | None:
    """A template with its fields, or None where one is unknown or the noun says it already."""
    values: dict[str, str] = {}
    for name, how in _FIELD.findall(template):
        found = fields[name]
        if not found:
            return None
        value = ", ".join(found) if how == ":," else " and ".join(found)
        if name not in ("noun", "caption") and f" {value} " in f" {noun} ":
            return None
        values[f"{{{name}{how}}}"] = value
    for field, value in values.items():
        template = template.replace(field, value)
    return re.sub(r"\s{2,}", " ", template)


def _cased(text: str, case: str) -> str:
    text = text.strip()
    if case == "sentence":
        return text[:1].upper() + text[1:]
    if case == "title":
        words = text.split(" ")
        return " ".join(w if i and w in _SMALL else _title(w) for i, w in enumerate(words))
    return text


def _title(word: str) -> str:
    return "-".join(p[:1].upper() + p[1:] for p in word.split("-"))


def _replaced(text: str, old: str, new: str) -> str:
    pattern = rf"(?<!\w){re.escape(old)}(?!\w)"
    return re.sub(r"\s{2,}", " ", re.sub(pattern, lambda _: new, text, flags=re.IGNORECASE))


def _style(name: str, entry: object, file: str) -> Style:
    where = f"styles {file}: style '{name}'"
    values = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    strange = [k for k in values if k not in Style.__dataclass_fields__ or k == "name"]
    parts = {k: values.get(k, []) for k in ("parts", "otherwise")}
    if strange or not values.get("parts"):
        problem = f"unknown entry {strange[0]!r}" if strange else "no parts"
        raise InputError(f"{where}: {problem}. Correct it; ours show the form.")
    for key, templates in parts.items():
        if not isinstance(templates, list) or not all(
            isinstance(t, str) for t in cast("list[object]", templates)
        ):
            raise InputError(f"{where}: {key} is no list of texts. Correct it.")
        for template in cast("list[str]", templates):
            unknown = [n for n, _ in _FIELD.findall(template) if n not in FIELDS]
            if unknown:
                raise InputError(
                    f"{where}: there is no field {unknown[0]!r}, known are {', '.join(FIELDS)}. "
                    "Correct the template."
                )
    if values.get("case", _CASES[0]) not in _CASES:
        raise InputError(f"{where}: case {values['case']!r}, wanted {', '.join(_CASES)}.")
    return Style(
        name,
        str(values.get("about", "")),
        tuple(parts["parts"]),
        tuple(parts["otherwise"]),
        str(values.get("join", " ")),
        str(values.get("case", _CASES[0])),
        str(values.get("end", "")),
    )
