"""Which records make up a step: a function of seed and step alone, so a resumed run draws what the
unbroken one drew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Indices = npt.NDArray[np.int64]


class Sampler(Protocol):
    """Draws the records of a step."""

    def __call__(self, step: int, rng: np.random.Generator) -> Indices:
        """Indices into the records, one batch."""
        ...


class EpochSampler:
    """Every record once a round, in a new order each round; the short rest of a round is left
    out."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if count < 1:
            raise InputError("Training data: there are no records. Add lines to the JSONL file.")
        self._count, self._seed = count, seed
        self._batch = min(batch_size, count)
        self.steps_per_epoch = count // self._batch

    def __call__(self, step: int, rng: np.random.Generator) -> Indices:
        del rng  # the order belongs to the round, not to the step
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self._seed, 101, epoch]).permutation(self._count)
        return order[place * self._batch : (place + 1) * self._batch].astype(np.int64)


class SharedSampler:
    """Draws with replacement: sources in fixed shares, and within a source the groups alike.

    Args:
        sources: Of each record.
        groups: Of each record, such as its category; None = no balance.
        shares: Source -> share; sources that are not named are not drawn.
        batch_size: Records a step.

    Raises:
        InputError: If no record has a named source.
    """

    def __init__(
        self,
        sources: Sequence[str],
        groups: Sequence[str] | None,
        shares: Mapping[str, float],
        batch_size: int,
    ) -> None:
        cells: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, source in enumerate(sources):
            cells[source][groups[i] if groups else ""].append(i)
        self._cells = [
            [np.asarray(members, dtype=np.int64) for _, members in sorted(cells[name].items())]
            for name in shares
            if name in cells
        ]
        weights = np.array([share for name, share in shares.items() if name in cells])
        if not self._cells or weights.sum() <= 0:
            raise InputError(
                f"Training config: shares name {list(shares)}, the records have "
                f"{sorted(set(sources))}. "
                "Name sources that the data has."
            )
        self._counts = _apportion(weights / weights.sum(), batch_size)

    def __call__(self, step: int, rng: np.random.Generator) -> Indices:
        del step
        chosen: list[int] = []
        for groups, count in zip(self._cells, self._counts, strict=True):
            # Groups in turn from a random start: nearer to balance than independent draws.
            first = int(rng.integers(len(groups)))
            for k in range(count):
                members = groups[(first + k) % len(groups)]
                chosen.append(int(members[rng.integers(len(members))]))
        return np.asarray(chosen, dtype=np.int64)


def _apportion(shares: npt.NDArray[np.float64], total: int) -> list[int]:
    """Whole numbers in proportion that add up, by largest remainder."""
    exact = shares * total
    counts = np.floor(exact).astype(int)
    rest = total - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:rest]] += 1
    return [int(c) for c in counts]


def step_generator(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step."""
    return np.random.default_rng([seed, 7, step])
