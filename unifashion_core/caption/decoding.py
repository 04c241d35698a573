"""From a step decoder's logits to token ids: greedy, beam and nucleus, as BLIP-2 generates.

A caption is a row of ids that starts with the begin id. Lengths count that id, as BLIP-2's do: the
end id may come once `min_tokens` ids stand there, and a row ends at `max_tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError
from ..types import CaptionState, OnStep

Strategy = Literal["greedy", "beam", "nucleus"]

_ARTICLES = ("a", "an", "the", "this", "that", "it", "its")
_LINKS = ("and", "or", "with", "without", "of", "in", "on", "at", "to", "for", "from", "by", "as")
FUNCTION_WORDS = frozenset((*_ARTICLES, *_LINKS, "is", "are", "has"))
"""Words that a caption may say twice; any other word with a letter or digit is a content word."""


@dataclass(frozen=True)
class DecodingSettings:
    """How a caption is searched for; the defaults are those of BLIP-2's captions.

    Attributes:
        strategy: The likeliest word after word, the likeliest of several whole captions, or drawn.
        beams: Captions that a beam search carries on.
        min_tokens: Ids, the begin id included, before the end may come.
        max_tokens: Ids, the begin id included, at most.
        top_p: Share of the probability that nucleus sampling draws from, in (0, 1].
        temperature: Divides the logits before drawing.
        repetition_penalty: 1 = none; larger makes ids that stand already less likely.
        length_penalty: A beam's score is its log probability / length ** this.
        repeat_words: Whether a content word may stand twice.
        colour_weight: How much the garment's measured colours count beside the decoder's own
            belief when it names one; 0 = they are not measured.

    Source: Li et al. 2023 (BLIP-2); the penalty is that of Keskar et al. 2019 (CTRL), section 4.1.
    """

    strategy: Strategy = "beam"
    beams: int = 3
    min_tokens: int = 10
    max_tokens: int = 30
    top_p: float = 0.9
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    repeat_words: bool = True
    colour_weight: float = 0.0

    def __post_init__(self) -> None:
        checks = {
            f"strategy {self.strategy!r}, wanted {', '.join(get_args(Strategy))}": (
                self.strategy in get_args(Strategy)
            ),
            f"beams {self.beams}, wanted 1 to 64": 1 <= self.beams <= 64,
            f"min_tokens {self.min_tokens} and max_tokens {self.max_tokens}, "
            "wanted 1 <= min_tokens <= max_tokens and 2 <= max_tokens": (
                1 <= self.min_tokens <= self.max_tokens and self.max_tokens >= 2
            ),
            f"top_p {self.top_p}, wanted above 0 and at most 1": 0 < self.top_p <= 1,
            f"temperature {self.temperature}, wanted above 0": self.temperature > 0,
            f"repetition_penalty {self.repetition_penalty}, wanted above 0": (
                self.repetition_penalty > 0
            ),
            f"colour_weight {self.colour_weight}, wanted 0 or more": self.colour_weight >= 0,
        }
        wrong = [text for text, right in checks.items() if not right]
        if wrong:
            raise InputError(f"caption settings: {'; '.join(wrong)}. Change that setting.")

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> DecodingSettings:
        """The settings under "caption" of an encoder's card; what it does not say is BLIP-2's.

        Raises:
            InputError: If it names a setting that there is none of, or a value out of range.
        """
        values: dict[str, Any] = dict(card.get("caption", {}))
        known: dict[str, Any] = {f.name: f.default for f in fields(cls)}
        strange = [n for n, v in values.items() if n not in known or not _fits(v, known[n])]
        if strange:
            listed = ", ".join(f"{n} {type(v).__name__}" for n, v in known.items())
            raise InputError(
                f"caption settings: the encoder's card has {', '.join(strange)} as no setting is; "
                f"known are {listed}. Correct its config.json."
            )
        return cls(**values)

    def changed(self, **values: Any) -> DecodingSettings:
        """These settings with some of them replaced."""
        return replace(self, **values)


def _fits(value: object, default: object) -> bool:
    """Whether a value of a JSON file has the type of a setting."""
    if isinstance(default, float) and type(value) is int:
        return True
    return type(value) is type(default)


class ContentWords:
    """Keeps a caption from saying a content word twice: bans the piece that would spell it again.

    A word is a piece of the vocabulary and the `##` pieces after it. A word of one piece can't be
    started again, so its other forms ("dress", "dress ##es") are kept out as well.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], function_words: Collection[str] = FUNCTION_WORDS
    ) -> None:
        self._pieces = {i: piece for piece, i in vocabulary.items()}
        self._function_words = frozenset(function_words)

    def banned(self, ids: Sequence[int]) -> set[int]:
        """Ids that may not follow `ids`."""
        words = self._words(ids)
        if not words:
            return set()
        spelled = {word for word in words if self._is_content(word)}
        last = words[-1]
        found = {word[0] for word in spelled if len(word) == 1}
        return found | {word[-1] for word in spelled if len(word) > 1 and word[:-1] == last}

    def _words(self, ids: Sequence[int]) -> list[tuple[int, ...]]:
        words: list[tuple[int, ...]] = []
        for i in ids:
            if words and self._pieces.get(i, "").startswith("##"):
                words[-1] = (*words[-1], i)
            else:
                words.append((i,))
        return words

    def _is_content(self, word: tuple[int, ...]) -> bool:
        text = "".join(self._pieces.get(i, "").removeprefix("##") for i in word)
        if text.startswith("["):  # a special token
            return False
        return any(c.isalnum() for c in text) and text not in self._function_words


@dataclass(frozen=True)
class Alphabet:
    """Which ids mean what.

    Attributes:
        begin: What every caption starts with.
        end: What ends it.
        never: Ids that no caption holds, such as padding.
        words: The rule against saying a word twice; unused where the settings allow it.
    """

    begin: int
    end: int
    never: tuple[int, ...] = ()
    words: ContentWords | None = None


@dataclass(frozen=True)
class Evidence:
    """What is known of each image about words that exclude each other, such as colours.

    Among these words the decoder's belief is multiplied by exp(`support`); how likely it is that
    one of them comes at all stays.

    Attributes:
        ids: The words.
        support: Log weight of each, (B, K).
    """

    ids: tuple[int, ...]
    support: Tensor

    def apply(self, logs: Tensor, row: Sequence[int], image: int) -> None:
        """Change log probabilities (V,) of what follows `row`, in place."""
        places = [k for k, i in enumerate(self.ids) if i not in row]
        ids = [self.ids[k] for k in places]
        if not ids:
            return
        held = logs[ids]
        weighed = held + self.support[image, places]
        logs[ids] = weighed + (held.logsumexp(dim=0) - weighed.logsumexp(dim=0))


@torch.inference_mode()
def decode(
    state: CaptionState,
    count: int,
    alphabet: Alphabet,
    settings: DecodingSettings,
    *,
    evidence: Evidence | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> list[list[int]]:
    """Caption a batch.

    Args:
        state: The decoder after it read `count` images.
        count: Images.
        alphabet: Of the decoder's vocabulary.
        settings: How to search.
        evidence: What else is known of the images.
        seed: Each image draws from a generator of its own with this seed, so that its caption does
            not depend on its neighbours.
        on_step: Called before each token with (tokens done, tokens at most).

    Returns:
        The ids of each caption, without begin and end.
    """
    rules = _Rules(alphabet, settings, evidence)
    if settings.strategy == "beam":
        return _beam(state, count, rules, on_step)
    generators = [torch.Generator().manual_seed(seed) for _ in range(count)]
    rows = [[alphabet.begin] for _ in range(count)]
    active = list(range(count))
    for step in range(1, settings.max_tokens):
        if not active:
            break
        if on_step is not None:
            on_step(step - 1, settings.max_tokens - 1)
        logits, state = state.advance(torch.tensor([rows[i][-1] for i in active]))
        scores = rules.apply(logits, [rows[i] for i in active], active)
        going: list[int] = []
        for place, i in enumerate(active):
            chosen = _choose(scores[place], settings, generators[i])
            if chosen is not None and chosen != alphabet.end:
                rows[i].append(chosen)
                going.append(place)
        if len(going) < len(active):
            state = state.select(torch.tensor(going, dtype=torch.int64))
            active = [active[place] for place in going]
    return [row[1:] for row in rows]


def _choose(scores: Tensor, settings: DecodingSettings, generator: torch.Generator) -> int | None:
    """The next id of one caption; None where every id is forbidden."""
    if settings.strategy == "greedy":
        best = int(scores.argmax())
        return best if math.isfinite(float(scores[best])) else None
    probabilities = (scores / settings.temperature).softmax(dim=-1)
    if not bool(probabilities.isfinite().all()):
        return None
    ordered, ids = probabilities.sort(descending=True, stable=True)
    before = ordered.cumsum(dim=0) - ordered
    kept = ordered[before < settings.top_p]
    mass = kept.cumsum(dim=0)
    draw = torch.rand((), generator=generator) * mass[-1]
    place = int(torch.searchsorted(mass, draw, right=True).clamp(max=len(kept) - 1))
    return int(ids[place])


class _Rules:
    """What a caption may not say next, applied to logits or log probabilities."""

    def __init__(
        self, alphabet: Alphabet, settings: DecodingSettings, evidence: Evidence | None
    ) -> None:
        self.alphabet = alphabet
        self.evidence = evidence
        self.settings = settings
        self.words = None if settings.repeat_words else alphabet.words

    def apply(self, scores: Tensor, rows: Sequence[Sequence[int]], images: Sequence[int]) -> Tensor:
        """Scores (R, V) of what may follow each row, of the image it belongs to; -inf =
        forbidden.
        """
        scores = scores.clone() if self.evidence is None else scores.log_softmax(dim=-1)
        scores[:, list(self.alphabet.never)] = -math.inf
        for score, row, image in zip(scores, rows, images, strict=True):
            if self.evidence is not None:
                self.evidence.apply(score, row, image)
            if self.settings.repetition_penalty != 1:
                seen = torch.tensor(sorted(set(row)))
                held, penalty = score[seen], self.settings.repetition_penalty
                score[seen] = torch.where(held < 0, held * penalty, held / penalty)
            if len(row) < self.settings.min_tokens:
                score[self.alphabet.end] = -math.inf
            if self.words is not None:
                score[sorted(self.words.banned(row))] = -math.inf
        return scores


@dataclass
class _Search:
    """The beam search of one image.

    Attributes:
        live: Captions that go on, best first, with their log probabilities.
        ended: Finished ones with their scores, at most as many as there are beams.
    """

    live: list[tuple[float, list[int]]]
    ended: list[tuple[float, list[int]]]
    done: bool = False

    def end(self, total: float, ids: list[int], length: int, settings: DecodingSettings) -> None:
        """Keep a finished caption if it is among the best."""
        self.ended.append((total / length**settings.length_penalty, ids))
        self.ended.sort(key=lambda found: found[0])
        del self.ended[: -settings.beams]

    def best(self) -> list[int]:
        return self.ended[-1][1][1:] if self.ended else []


def _beam(
    state: CaptionState, count: int, rules: _Rules, on_step: OnStep | None
) -> list[list[int]]:
    settings, begin = rules.settings, rules.alphabet.begin
    searches = [_Search([(0.0, [begin])], []) for _ in range(count)]
    for step in range(1, settings.max_tokens):
        going = [s for s in searches if not s.done]
        if not going:
            break
        if on_step is not None:
            on_step(step - 1, settings.max_tokens - 1)
        rows = [ids for s in going for _, ids in s.live]
        images = [i for i, s in enumerate(searches) if not s.done for _ in s.live]
        logits, state = state.advance(torch.tensor([ids[-1] for ids in rows]))
        scores = rules.apply(logits.log_softmax(dim=-1), rows, images)
        first, kept = 0, list[int]()
        for search in going:
            size = len(search.live)
            parents = _extend(search, scores[first : first + size], step, rules)
            if not search.done:
                kept += [first + p for p in parents]
            first += size
        state = state.select(torch.tensor(kept, dtype=torch.int64))
    for search in searches:
        for total, ids in [] if search.done else search.live:
            search.end(total, ids, len(ids) - 1, settings)
    return [s.best() for s in searches]


def _extend(search: _Search, scores: Tensor, step: int, rules: _Rules) -> list[int]:
    """One token for every live caption of an image; the places of those they go on from.

    Source: the beam search of transformers (Apache-2.0), written anew: twice as many candidates as
    beams, an end counts among the best `beams` only, and the search is over when no live caption
    can still beat the ended ones at its present length.
    """
    settings, size = rules.settings, scores.shape[1]
    totals = scores + torch.tensor([total for total, _ in search.live])[:, None]
    best, places = totals.flatten().topk(min(2 * settings.beams, totals.numel()))
    live: list[tuple[float, list[int]]] = []
    parents: list[int] = []
    top = -math.inf
    for rank in range(len(best)):
        total = float(best[rank])
        if total == -math.inf:
            break
        top = max(top, total)
        parent, chosen = divmod(int(places[rank]), size)
        ids = search.live[parent][1]
        if chosen == rules.alphabet.end:
            if rank < settings.beams:
                search.end(total, ids, step, settings)
        elif len(live) < settings.beams:
            live.append((total, [*ids, chosen]))
            parents.append(parent)
    if not live:  # nothing may follow: what stands there is the caption
        for total, ids in [] if search.ended else search.live:
            search.end(total, ids, step, settings)
        search.done = True
    elif len(search.ended) == settings.beams:
        search.done = search.ended[0][0] >= top / step**settings.length_penalty
    search.live = live
    return parents
