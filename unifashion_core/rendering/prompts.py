"""Prompts with choices: `a {red|blue} dress`, and `{colours}` for a named list.

Choices may hold choices. A backslash before { | } or \\ takes the sign as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from ..errors import InputError

MAX_PROMPTS = 10_000
_SIGNS = "{|}\\"


@dataclass(frozen=True)
class _Choice:
    """One of several texts, each a sequence of parts."""

    ways: tuple[tuple[str | _Choice, ...], ...]


_Parts = tuple["str | _Choice", ...]


def every_prompt(text: str, lists: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """All prompts that a text with choices means, the last choice changing fastest.

    Args:
        text: The prompt.
        lists: Named lists; `{name}` is one of its entries, taken as written.

    Raises:
        InputError: If a brace has no partner, a name is unknown, or they are more than
            `MAX_PROMPTS`.
    """
    parts = _Reader(text, lists or {}).read()
    count = _count(parts)
    if count > MAX_PROMPTS:
        raise InputError(
            f"prompt '{text[:60]}': its choices make {count:,} prompts, at most {MAX_PROMPTS:,} "
            "are taken. Use fewer choices."
        )
    return list(dict.fromkeys(_texts(parts)))


def one_prompt(text: str, seed: int, lists: Mapping[str, Sequence[str]] | None = None) -> str:
    """One of the prompts that a text means, told by the seed: the same seed takes the same one.

    Raises:
        InputError: As in `every_prompt`.
    """
    parts = _Reader(text, lists or {}).read()
    draws = (
        int.from_bytes(hashlib.sha256(f"{seed}/{n}/{text}".encode()).digest()[:8], "big")
        for n in range(len(text) + 1)
    )
    return "".join(_chosen(parts, draws))


def _chosen(parts: _Parts, draws: Iterator[int]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        else:
            yield from _chosen(part.ways[next(draws) % len(part.ways)], draws)


def _count(parts: _Parts) -> int:
    count = 1
    for part in parts:
        count *= 1 if isinstance(part, str) else sum(_count(way) for way in part.ways)
    return count


def _texts(parts: _Parts) -> Iterator[str]:
    options = [
        [part] if isinstance(part, str) else [text for way in part.ways for text in _texts(way)]
        for part in parts
    ]
    return ("".join(words) for words in product(*options))


class _Reader:
    """Reads a prompt once, from left to right."""

    def __init__(self, text: str, lists: Mapping[str, Sequence[str]]):
        self.text, self.lists, self.at = text, lists, 0

    def read(self) -> _Parts:
        parts = self._parts(inside=False)
        if self.at < len(self.text):
            raise self._wrong("a } without its {")
        return parts

    def _parts(self, *, inside: bool) -> _Parts:
        parts: list[str | _Choice] = []
        words = ""
        while self.at < len(self.text):
            sign = self.text[self.at]
            if sign == "}" or (sign == "|" and inside):
                break
            self.at += 1
            if sign == "{":
                parts += [words, self._choice()]
                words = ""
            elif sign == "\\" and self.text[self.at : self.at + 1] in tuple(_SIGNS):
                words += self.text[self.at]
                self.at += 1
            else:
                words += sign
        return tuple(part for part in [*parts, words] if part != "")

    def _choice(self) -> _Choice:
        begin = self.at
        ways = [self._parts(inside=True)]
        while self.text[self.at : self.at + 1] == "|":
            self.at += 1
            ways.append(self._parts(inside=True))
        if self.at >= len(self.text):
            raise self._wrong("a { without its }")
        name = self.text[begin : self.at].strip()
        self.at += 1
        return _Choice(tuple(ways)) if len(ways) > 1 else self._named(name)

    def _named(self, name: str) -> _Choice:
        if name not in self.lists:
            known = ", ".join(self.lists) or "none"
            raise self._wrong(
                f"{{{name}}} is neither a choice such as {{a|b}} nor a list ({known})"
            )
        entries = list(self.lists[name])
        if not entries:
            raise self._wrong(f"the list '{name}' is empty")
        return _Choice(tuple((entry,) for entry in entries))

    def _wrong(self, what: str) -> InputError:
        return InputError(
            f"prompt '{self.text[:60]}': {what}. Correct it; write \\{{ for a plain brace."
        )
