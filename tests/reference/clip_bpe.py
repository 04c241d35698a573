"""CLIP's byte-pair encoding in the slow, obvious way: one merge at a time, the best rank first."""

from __future__ import annotations

import unicodedata
from pathlib import Path

CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def byte_letters() -> dict[int, str]:
    letters: dict[int, str] = {}
    for byte in range(256):
        letter = chr(byte)
        if letter.isprintable() and not letter.isspace() and byte != 0xAD:
            letters[byte] = letter
    spare = 0
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + spare)
            spare += 1
    return letters


def kind(letter: str) -> str:
    if letter.isspace():
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(letter)[0], "other")


def pieces(text: str) -> list[str]:
    text = unicodedata.normalize("NFC", text).lower()
    found: list[str] = []
    at = 0
    while at < len(text):
        short = next((c for c in CONTRACTIONS if text.startswith(c, at)), "")
        if short:
            end = at + len(short)
        else:
            end = at + 1
            while kind(text[at]) in ("letter", "other") and end < len(text):
                if kind(text[end]) != kind(text[at]):
                    break
                end += 1
        if kind(text[at]) != "space":
            found.append(text[at:end])
        at = end
    return found


class SlowBpe:
    def __init__(self, path: Path) -> None:
        merges = [tuple(line.split()) for line in path.read_text("utf-8").splitlines()]
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.letters = byte_letters()
        ordered = [chr(b) for b in sorted(b for b, c in self.letters.items() if ord(c) == b)]
        ordered += sorted(c for b, c in self.letters.items() if ord(c) != b)
        words = [*ordered, *(c + "</w>" for c in ordered), *("".join(m) for m in merges)]
        self.ids = {word: i for i, word in enumerate(words)}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in pieces(text):
            parts = [self.letters[b] for b in piece.encode("utf-8")]
            parts[-1] += "</w>"
            while True:
                pairs = list(zip(parts, parts[1:], strict=False))
                known = [self.ranks[p] for p in pairs if p in self.ranks]
                if not known:
                    break
                at = next(i for i, p in enumerate(pairs) if self.ranks.get(p) == min(known))
                parts[at : at + 2] = ["".join(parts[at : at + 2])]
            ids += [self.ids[p] for p in parts]
        return ids
