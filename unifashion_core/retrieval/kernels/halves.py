"""A first scan of four bits a value for one query vector, and a second one of the tokens that are
left, by machine code."""

from __future__ import annotations

from functools import lru_cache
from struct import pack

import numpy as np
import numpy.typing as npt

from ..bounds import ScoredPart, margin_of
from ..layout import Rows
from ..machine.compiling import Program, address, compiled
from ..machine.instructions import Instructions
from ..placement import Coarse, Placement
from ..quantise import LEVELS, Floats
from ..segments import SegmentView
from .coarse import (
    HALVE_DECLARED,
    MIDDLE,
    SECOND_DECLARED,
    coarse_program,
    copy_bytes,
    halve_program,
    images_together,
    record_bytes,
    second_program,
    stride_of,
    takes,
)
from .columns import turn, turned_program, turns
from .programs import Shape
from .queries import pack_queries, round_queries
from .shared import share

TOGETHER_BYTES = 1 << 17
"""Of coarse copies that are made and then turned, before others push them out of the cache."""


class CoarseScan:
    """Scans of coarse copies and of single tokens.

    Args:
        how: Instructions that this CPU has.
        threads: Threads that share the work.
    """

    def __init__(self, how: Instructions, threads: int) -> None:
        self._how = how
        self._threads = threads

    def copies(self, placement: Placement) -> Coarse | None:
        """The coarse copies of a placement, where it has some."""
        shape = Shape(*placement.copies.shape)
        return placement.coarse(record_bytes(shape), write_records) if takes(shape) else None

    def uppers(
        self, placement: Placement, coarse: Coarse, places: Rows, part: ScoredPart
    ) -> tuple[Floats, Floats]:
        """Upper bounds of the scores of all tokens, and of the images, by four bits a value.

        Args:
            placement: Where the images' scales are.
            coarse: Its coarse copies.
            places: Which images, (n,).
            part: The query, of one vector.

        Returns:
            (n, T and minus infinity up to a multiple of a group), in a room of `coarse` that is
            given back by `done`, and (n,).
        """
        shape, many = Shape(*placement.copies.shape), len(places)
        whole, rounded = round_queries(part.tokens.numpy(), LEVELS)
        margin = margin_of([part], [rounded.errors])
        query = aligned(whole.astype(np.int8))
        offset = -MIDDLE * int(whole.sum())
        packed = pack("=fffi", rounded.scales[0] / 2, margin.slope, margin.base, offset)
        numbers = np.frombuffer(packed, np.float32)
        size = many * stride_of(shape)
        room = coarse.rooms.pop() if coarse.rooms else np.empty(0, np.float32)
        if len(room) < size:
            room = np.empty(size, np.float32)
        uppers = np.reshape(room[:size], (many, -1))
        best = np.empty(many, np.float32)
        records = placement.addresses(coarse.records, places)
        arguments = [*map(address, (records, query, numbers, uppers, best))]
        step = max(1, min(256, many // (8 * self._threads)))
        share(_first(self._how, shape), arguments, many, step, self._threads)
        return uppers, best

    def done(self, coarse: Coarse, uppers: Floats) -> None:
        """Let the next search use the array that `uppers` gave."""
        if uppers.base is not None and not coarse.rooms:
            coarse.rooms.append(np.reshape(uppers, -1))

    def second(
        self,
        placement: Placement,
        places: Rows,
        part: ScoredPart,
        first: tuple[Floats, Floats],
        floor: float,
    ) -> Floats:
        """Upper bounds of the images' scores, by eight bits of the tokens that reach a floor.

        Args:
            placement: Where the images' copies are.
            places: Which images, (n,).
            part: The query, of one vector.
            first: What `uppers` gave.
            floor: What a token has to reach.

        Returns:
            (n,); minus infinity where no token reaches the floor.
        """
        shape, many = Shape(*placement.copies.shape), len(places)
        queries = pack_queries(part.tokens.numpy(), self._how, 1)
        margin = margin_of([part], [queries.errors])
        numbers = np.array([floor, queries.scales[0], margin.slope, margin.base], np.float32)
        lists = [placement.addresses(one, places) for one in (placement.copies, placement.scales)]
        bounds = placement.bounds if places is placement.every else placement.bounds[places]
        found = np.empty(many, np.float32)
        values = (*lists, bounds, queries.factors, queries.offsets, numbers)
        blocks = -(-many // images_together(shape))
        step = max(1, min(16, blocks // (8 * self._threads)))
        arguments = [*map(address, (*values, *first, found)), many]
        share(_second(self._how, shape), arguments, blocks, step, self._threads)
        return found


def write_records(view: SegmentView, out: npt.NDArray[np.uint8]) -> None:
    """Write the records of a segment's images, (N, bytes): what the first scan reads of them."""
    count, tokens, width = view.int8.shape
    size = copy_bytes(Shape(tokens, width))
    run = compiled(halve_program("program", width), HALVE_DECLARED)
    squares = np.empty((count, tokens), np.int32)
    many = max(1, TOGETHER_BYTES // size)
    copies = np.empty((many, tokens, width // 2), np.uint8)
    for start in range(0, count, many):
        here = slice(start, min(start + many, count))
        run(*map(address, (view.int8[here], copies, squares[here])), len(squares[here]) * tokens)
        made, place = copies[: len(squares[here])], out[here, :size]
        if turns(Shape(tokens, width)):
            turn(made, place)
        else:
            place[...] = np.reshape(made, (len(made), size))
    lost = np.sqrt(squares.astype(np.float32))
    errors = lost * (view.scales * np.float32(0.5)) + view.bounds[:, None]
    errors *= np.float32(1.0 + 2.0**-20)
    numbers = np.concatenate([view.scales, errors], 1)
    out[:, size:] = np.reshape(np.frombuffer(numbers.data, np.uint8), (count, -1))


def aligned(values: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """A copy that begins where a register may be loaded from."""
    room = np.zeros(values.nbytes + 64, np.int8)
    start = -room.ctypes.data % 64
    copy = np.reshape(room[start : start + values.nbytes], values.shape)
    copy[...] = values
    return copy


@lru_cache(maxsize=8)
def _first(how: Instructions, shape: Shape) -> Program:
    how = how.batch or how
    write = turned_program if turns(shape) else coarse_program
    return compiled(write("program", shape, how), how.declaration)


@lru_cache(maxsize=8)
def _second(how: Instructions, shape: Shape) -> Program:
    declared = f"{how.declaration}\n{SECOND_DECLARED}"
    return compiled(second_program("program", shape, how), declared)
