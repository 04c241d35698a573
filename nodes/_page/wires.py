"""Which wires of a template pass behind nodes, and places of the nodes where none does."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

Box = tuple[int, int, int, int]
"""x, y, width and height of a node without its title."""

Wire = tuple[str, int, str, int]
"""Source, how far down its wire starts, target, how far down it ends."""

TITLE = 30
_CLEAR = 12  # pixels that a wire keeps from a node
_APART = 50  # and nodes from each other
_IN, _OUT = 10, 9  # how far inside a node its sockets are
_T = np.linspace(0, 1, 41)[:, None]
_BEZIER = ((1 - _T) ** 3, 3 * (1 - _T) ** 2 * _T, 3 * (1 - _T) * _T**2, _T**3)
_STEPS, _TRIES = 4000, 6
_BEHIND, _DEEP = 2500, 400  # what a wire behind a node, and a point of it, cost in pixels of wire
_LOWEST = 2400


def behind(boxes: Mapping[str, Box], wires: Sequence[Wire]) -> list[tuple[Wire, str]]:
    """Wires with a node that they pass behind and that they don't belong to.

    Args:
        boxes: By node.
        wires: As the page draws them: curves that leave and arrive level.
    """
    found = _Board(boxes, wires)
    return [(wires[w], found.names[n]) for w, n in np.argwhere(found.covered(found.places))]


def freed(boxes: dict[str, Box], wires: Sequence[Wire]) -> dict[str, Box]:
    """The same nodes, moved as little as lets every wire pass beside them, where that is found.

    Args:
        boxes: None lies over another.
        wires: From left to right.
    """
    board = _Board(boxes, wires)
    best, least = board.places, board.cost(board.places)
    for attempt in range(_TRIES if board.covered(best).any() else 0):
        places, cost = _settle(board, random.Random(attempt))
        if cost < least:
            best, least = places, cost
        if not board.covered(best).any():
            break
    best = best - best.min(0)
    return {
        name: (int(x), int(y), *boxes[name][2:])
        for name, (x, y) in zip(board.names, best, strict=True)
    }


class _Board:
    """Nodes and wires as arrays."""

    def __init__(self, boxes: Mapping[str, Box], wires: Sequence[Wire]):
        self.names = list(boxes)
        number = {name: n for n, name in enumerate(self.names)}
        table = np.array([boxes[name] for name in self.names], dtype=np.int64).reshape(-1, 4)
        self.places, self.sizes = table[:, :2], table[:, 2:]
        ends = [(number[s], down, number[t], to) for s, down, t, to in wires]
        self.source, self.down, self.target, self.to = (
            np.array(ends, dtype=np.int64).reshape(-1, 4).T
        )
        self.own = np.zeros((len(wires), len(self.names)), dtype=bool)
        self.own[np.arange(len(wires)), self.source] = True
        self.own[np.arange(len(wires)), self.target] = True

    def ends(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        start, end = places[self.source], places[self.target]
        right = self.sizes[self.source, 0] - _OUT
        return (
            np.stack([start[:, 0] + right, start[:, 1] + self.down], 1),
            np.stack([end[:, 0] + _IN, end[:, 1] + self.to], 1),
        )

    def covered(self, places: np.ndarray) -> np.ndarray:
        """How many points of each wire lie behind each node."""
        start, end = self.ends(places)
        reach = np.sqrt(((end - start) ** 2).sum(1, keepdims=True)) / 4 * [1, 0]
        points = (start, start + reach, end - reach, end)
        drawn = np.stack([b[:, None] * p for b, p in zip(_BEZIER, points, strict=True)])
        curve = drawn.sum(0)[:, :, None]
        low = places - [_CLEAR, _CLEAR + TITLE]
        high = places + self.sizes + _CLEAR
        return ((curve > low) & (curve < high)).all(-1).sum(0) * ~self.own

    def cost(self, places: np.ndarray) -> int:
        start, end = self.ends(places)
        extent = int(((places + self.sizes).max(0) - places.min(0)).sum())
        moved = int(np.abs(places - self.places).sum()) // 4
        steep = int(np.abs(end - start).sum())
        covered = self.covered(places)
        hidden = _BEHIND * int((covered > 0).sum()) + _DEEP * int(covered.sum())
        return hidden + 2 * extent + moved + steep

    def fits(self, places: np.ndarray, node: int) -> bool:
        """Whether a node lies over no other, right of its sources and left of its readers."""
        low, high = places, places + self.sizes
        apart = [_APART, _APART + TITLE]
        over = ((low[node] < high + apart) & (low < high[node] + apart)).all(1)
        over[node] = False
        if over.any() or places[node].min() < 0 or high[node, 1] > _LOWEST:
            return False
        before, after = self.source[self.target == node], self.target[self.source == node]
        return bool(
            (high[before, 0] < low[node, 0]).all() and (high[node, 0] < low[after, 0]).all()
        )


def _settle(board: _Board, chance: random.Random) -> tuple[np.ndarray, int]:
    """Moves at random that are kept while they cost little; the costlier ones only at first."""
    places = board.places.copy()
    now = least = board.cost(places)
    best = places
    for step in range(_STEPS):
        tried = places.copy()
        changed = _move(board, tried, chance)
        if not all(board.fits(tried, node) for node in changed):
            continue
        cost = board.cost(tried)
        if cost - now < 1500 * (1 - step / _STEPS) ** 2 * chance.random():
            places, now = tried, cost
            if now < least:
                best, least = places, now
    return best, least


def _move(board: _Board, places: np.ndarray, chance: random.Random) -> tuple[int, ...]:
    """Move a node up, down or to another column, let two change places, or move all below."""
    node, kind = chance.randrange(len(places)), chance.random()
    if kind < 0.5:
        places[node, 1] += 20 * chance.randint(-20, 20)
    elif kind < 0.6:
        places[node] = [chance.choice(places)[0], 20 * chance.randint(0, 60)]
    elif kind < 0.8:
        other = chance.randrange(len(places))
        places[[node, other]] = places[[other, node]]
        return node, other
    elif kind < 0.9:
        right = places[:, 0] >= places[node, 0]
        places[right, 0] += 20 * chance.randint(-8, 8)
        return tuple(int(n) for n in np.flatnonzero(right))
    else:
        column = (places[:, 0] == places[node, 0]) & (places[:, 1] >= places[node, 1])
        places[column, 1] += 20 * chance.randint(-20, 20)
        return tuple(int(n) for n in np.flatnonzero(column))
    return (node,)
