"""Caption search written out: no cache, one caption at a time, sequences as plain lists.

Beam search is BLIP-2's (transformers' rules): twice as many candidates as beams, an end counts only
among the best `beams`, a hypothesis scores log probability / length ** penalty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

Logits = Callable[[Sequence[int]], torch.Tensor]
"""Ids so far, the begin id first, to logits of the next one, (V,)."""


def next_scores(
    ids: Sequence[int],
    scores: torch.Tensor,
    settings,
    end: int,
    never: Sequence[int],
    words: dict[int, str],
    functional: frozenset[str],
) -> list[float]:
    """What each id is worth next: penalty, least length, forbidden ids, no word twice."""
    found = [float(s) for s in scores]
    for i in range(len(found)):
        if i in never:
            found[i] = -math.inf
        elif i in ids and settings.repetition_penalty != 1:
            factor = settings.repetition_penalty
            found[i] = found[i] * factor if found[i] < 0 else found[i] / factor
        if i == end and len(ids) < settings.min_tokens:
            found[i] = -math.inf
        if not settings.repeat_words and spells_a_word_again([*ids, i], words, functional):
            found[i] = -math.inf
    return found


def spells_a_word_again(ids: Sequence[int], words: dict[int, str], functional) -> bool:
    """Whether the last id makes the last word one that stood before."""
    text: list[list[str]] = []
    for i in ids:
        piece = words[i]
        if piece.startswith("##") and text:
            text[-1].append(piece)
        else:
            text.append([piece])
    last = text[-1]
    spelled = "".join(last).replace("##", "")
    if spelled in functional or not any(c.isalnum() for c in spelled) or spelled.startswith("["):
        return False
    return last in text[:-1]


def greedy(logits: Logits, begin: int, end: int, settings, rules) -> list[int]:
    ids = [begin]
    while len(ids) < settings.max_tokens:
        scores = next_scores(ids, logits(ids), settings, end, *rules)
        best = max(range(len(scores)), key=lambda i: scores[i])
        if best == end:
            break
        ids.append(best)
    return ids[1:]


def nucleus(logits: Logits, begin: int, end: int, settings, rules, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    ids = [begin]
    while len(ids) < settings.max_tokens:
        scores = next_scores(ids, logits(ids), settings, end, *rules)
        weights = [math.exp(s / settings.temperature) for s in scores]
        chances = [w / sum(weights) for w in weights]
        order = sorted(range(len(chances)), key=lambda i: -chances[i])
        kept: list[int] = []
        mass = 0.0
        for i in order:
            if mass >= settings.top_p:
                break
            kept.append(i)
            mass += chances[i]
        draw = float(torch.rand((), generator=generator)) * mass
        total, chosen = 0.0, kept[-1]
        for i in kept:
            total += chances[i]
            if draw < total:
                chosen = i
                break
        if chosen == end:
            break
        ids.append(chosen)
    return ids[1:]


def beam(logits: Logits, begin: int, end: int, settings, rules) -> list[int]:
    live: list[tuple[float, list[int]]] = [(0.0, [begin])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, settings.max_tokens):
        candidates = []
        for total, ids in live:
            logs = logits(ids).log_softmax(dim=-1)
            scores = next_scores(ids, logs, settings, end, *rules)
            candidates += [(total + s, [*ids, i]) for i, s in enumerate(scores) if s > -math.inf]
        candidates.sort(key=lambda c: -c[0])
        candidates = candidates[: 2 * settings.beams]
        live = []
        for rank, (total, ids) in enumerate(candidates):
            if ids[-1] == end:
                if rank < settings.beams:
                    ended.append((total / length**settings.length_penalty, ids[:-1]))
                    ended = sorted(ended, key=lambda e: e[0])[-settings.beams :]
            elif len(live) < settings.beams:
                live.append((total, ids))
        if len(ended) == settings.beams:
            best = candidates[0][0] / length**settings.length_penalty
            if ended[0][0] >= best:
                return ended[-1][1][1:]
    for total, ids in live:
        ended.append((total / (len(ids) - 1) ** settings.length_penalty, ids))
    ended = sorted(ended, key=lambda e: e[0])[-settings.beams :]
    return ended[-1][1][1:]
