"""The kernel of machine code, which is made for this CPU when a search first needs it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..layout import Rows
from ..machine.compiling import Program, address, compiled
from ..machine.instructions import Instructions
from ..placement import Placement, Stored
from ..quantise import Floats
from .batch import batch_program
from .halves import CoarseScan
from .programs import BLOCK, Shape, exact_program, scan_program
from .queries import PackedQueries, pack_queries
from .shared import share

PAIR_VALUES = 1 << 13
"""Values of an image from which `exact` hands out images one by one; smaller ones go in groups."""
SHARED_VALUES = 1 << 20
"""Values below which one thread is faster than several."""


class NativeKernel:
    """Scans and exact scores by machine code.

    Args:
        how: Instructions that this CPU has.
        threads: Threads that share the work.

    Attributes:
        name: For results.
        coarse: A first scan of fewer bits.
    """

    def __init__(self, how: Instructions, threads: int) -> None:
        self.name = how.name
        self._how = how
        self._threads = threads
        self.coarse = CoarseScan(how, threads)

    def prepare(self, vectors: Floats) -> PackedQueries:
        """Round query vectors for scans.

        Args:
            vectors: (P, D).
        """
        if len(vectors) < self._how.tile:
            return pack_queries(vectors, self._how, 1)
        how = self._how.batch or self._how
        return pack_queries(vectors, how, how.turned)

    def scan(self, placement: Placement, places: Rows, queries: PackedQueries, out: Floats) -> None:
        """Score eight-bit copies.

        Args:
            placement: Where the images' copies are.
            places: Which images, (n,).
            queries: From `prepare`.
            out: For the best of each image for each vector, (P, n).
        """
        shape = Shape(*placement.copies.shape)
        # Of few tokens most lanes of a turned image would go to waste.
        turned = queries.tile > 1 and 2 * shape.tokens > queries.how.lanes
        tile = queries.tile if turned else min(queries.tile, queries.how.tile)
        run = _compiled(queries.how, shape, tile, turned)
        many, vectors = len(places), len(queries.offsets)
        copies = placement.addresses(placement.copies, places)
        scales = placement.addresses(placement.scales, places)
        found = out if vectors == len(out) and out.flags.c_contiguous else queries.room(many)
        arguments = (
            *map(address, (copies, scales, queries.factors, queries.offsets)),
            *(vectors // tile, address(found), many),
        )
        work = many * shape.tokens * shape.width * vectors
        step = max(1, min(256, many // (8 * self._threads)))
        share(run, arguments, many, step, self._threads_for(work))
        np.multiply(found[: len(out)], queries.scales[:, None], out=out)

    def exact(
        self, values: Stored, places: Rows, firsts: Rows, lasts: Rows, vectors: Floats
    ) -> Floats:
        """Score stored vectors in the fixed order.

        Args:
            values: Stored float16 tokens, (T, D) each.
            places: Which of them, (n,).
            firsts: First query vector of each, (n,).
            lasts: Query vector behind its last one, (n,).
            vectors: Query vectors, (P, D).

        Returns:
            Mean over a pair's query vectors of the best token, (n,).
        """
        shape = Shape(*values.shape)
        run = _compiled(self._how, shape, 0)
        padded = np.zeros((len(vectors), -(-shape.width // BLOCK) * BLOCK), np.float32)
        padded[:, : shape.width] = vectors
        out = np.empty(len(places), np.float32)
        images, size = values.addresses[places], shape.tokens * shape.width
        arguments = (
            address(images),
            address(firsts),
            address(lasts),
            address(padded),
            address(out),
        )
        step = max(1, PAIR_VALUES // size)
        share(run, arguments, len(places), step, self._threads_for(len(places) * size))
        return out

    def _threads_for(self, work: int) -> int:
        return self._threads if work > SHARED_VALUES else 1


@lru_cache(maxsize=32)
def _compiled(how: Instructions, shape: Shape, tile: int, turned: bool = False) -> Program:
    """A program for a shape: `exact` for tile 0, else a scan."""
    if tile == 0:
        text = exact_program("program", shape)
    elif turned:
        text = batch_program("program", shape, how, tile)
    else:
        text = scan_program("program", shape, how, tile)
    return compiled(text, how.declaration)
