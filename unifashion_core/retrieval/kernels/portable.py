"""Kernels without machine code of ours: torch alone, and numkong's products of small integers.

Both gather a bounded chunk of images into one piece, score it, and go on with the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...deps import require
from ..layout import Rows
from ..placement import Placement, Stored
from ..quantise import LEVELS, Floats
from .fixed import late_interaction
from .queries import RoundedQueries, round_queries

STREAM_BYTES = 1 << 23
"""Bytes of a chunk that is read where it lies; each costs a dozen calls."""
CHUNK_BYTES = 1 << 20
"""Bytes of a chunk that is widened or copied: what caches hold."""
EXACT_BYTES = 1 << 20
FEW = 2  # query vectors up to which torch multiplies bytes; more are faster as float32
COARSE = 2.0**-8  # a rounding to bfloat16, to nearest or not


@dataclass(frozen=True)
class FloatQueries(RoundedQueries):
    """Query vectors for torch.

    Attributes:
        factors: (P, D) float32; or (2 P, D) bfloat16, the vectors and what their rounding left.
    """

    factors: torch.Tensor = field(default_factory=lambda: torch.empty(0))


class TorchExact:
    """Exact scores by torch."""

    @torch.inference_mode()
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
        queries = torch.as_tensor(vectors)
        out = np.empty(len(places), np.float32)
        for first, last in np.unique(np.stack([firsts, lasts], 1), axis=0).tolist():
            chosen = np.flatnonzero((firsts == first) & (lasts == last))
            for here, chunk in _chunks(values, places[chosen], EXACT_BYTES):
                wide = torch.as_tensor(chunk).float()
                out[chosen[here]] = late_interaction(queries[first:last], wide).numpy()
        return out


class TorchKernel(TorchExact):
    """Scans and exact scores by torch alone.

    Attributes:
        name: For results.
    """

    name = "torch"
    coarse = None

    def prepare(self, vectors: Floats) -> FloatQueries:
        """Round query vectors for scans.

        Args:
            vectors: (P, D).
        """
        whole = torch.as_tensor(vectors)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        scales = np.ones(len(vectors), np.float32)
        # torch's product of bytes reads past the end of other widths.
        whole_steps = vectors.shape[1] % 64 == 0 and hasattr(torch, "_weight_int8pack_mm")
        if len(vectors) > FEW or not whole_steps:
            coarse = 0.0 if torch.get_float32_matmul_precision() == "highest" else 1.0
            # As in bfloat16 both factors are rounded.
            return FloatQueries(scales, 2 * COARSE * coarse * lengths, whole)
        high = whole.bfloat16()
        low = (whole - high.float()).bfloat16()
        left = whole.double() - high.double() - low.double()
        # The product comes back in bfloat16, that of the small rest too.
        errors = np.linalg.norm(left.numpy(), axis=1) + COARSE * lengths * (1 + COARSE)
        return FloatQueries(scales, errors * 1.01, torch.cat([high, low]))

    @torch.inference_mode()
    def scan(self, placement: Placement, places: Rows, queries: FloatQueries, out: Floats) -> None:
        """Score eight-bit copies.

        Args:
            placement: Where the images' copies are.
            places: Which images, (n,).
            queries: From `prepare`.
            out: For the best of each image for each vector, (P, n).
        """
        count, (tokens, width) = len(out), placement.copies.shape
        factors = queries.factors
        pack = factors.dtype == torch.bfloat16
        size = STREAM_BYTES if pack else CHUNK_BYTES
        ones = torch.ones(size // width + tokens, dtype=torch.bfloat16)
        # Fresh memory is slow: every chunk is widened in the same place.
        room = torch.empty(0 if pack else len(ones), width)
        for here, chunk in _chunks(placement.copies, places, size):
            flat = torch.as_tensor(chunk).flatten(0, 1)
            scales = torch.as_tensor(placement.scales.gather(places[here])).flatten()
            if pack:
                both = torch._weight_int8pack_mm(factors, flat, ones[: len(flat)]).float()  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage] # torch has no public product of bytes
                products = both[:count] + both[count:]
            else:
                products = torch.mm(factors, room[: len(flat)].copy_(flat).T)
            best = (products * scales).view(count, -1, tokens).amax(2)
            out[:, here] = best.numpy()


@dataclass(frozen=True)
class ByteQueries(RoundedQueries):
    """Query vectors for numkong.

    Attributes:
        packed: They, as numkong packs them.
    """

    packed: Any = None


class NumkongKernel(TorchExact):
    """Scans by numkong's products of bytes; exact scores by torch.

    Args:
        threads: Threads that share the work.

    Attributes:
        name: For results.
    """

    name = "numkong"
    coarse = None

    def __init__(self, threads: int) -> None:
        self._numkong: Any = require("numkong")
        self._threads = threads

    def prepare(self, vectors: Floats) -> ByteQueries:
        """Round query vectors to bytes.

        Args:
            vectors: (P, D).
        """
        whole, rounded = round_queries(vectors, LEVELS)
        packed = self._numkong.dots_pack(whole.astype(np.int8))
        return ByteQueries(rounded.scales, rounded.errors, packed)

    def scan(self, placement: Placement, places: Rows, queries: ByteQueries, out: Floats) -> None:
        """Score eight-bit copies; as `TorchKernel.scan`."""
        tokens, width = placement.copies.shape
        share = -(-len(places) // self._threads) if self._threads > 1 else len(places)

        def work(start: int) -> None:
            mine = places[start : start + share]
            many = max(1, STREAM_BYTES // 2 // (tokens * max(width, 4 * len(out))))
            rooms: dict[int, Any] = {}  # fresh memory is slow, and the room has to fit exactly
            for here, chunk in _chunks(placement.copies, mine, many * tokens * width):
                flat = np.reshape(chunk, (-1, width))
                if len(flat) not in rooms:
                    rooms[len(flat)] = self._numkong.zeros((len(flat), len(out)), dtype="int32")
                room = rooms[len(flat)]
                self._numkong.dots_packed(flat, queries.packed, out=room)
                scales = torch.as_tensor(placement.scales.gather(mine[here]))
                products = torch.as_tensor(np.asarray(room)).float()
                by_image = products.view(*scales.shape, -1).mul_(scales[..., None])
                best = by_image.amax(1).T.numpy() * queries.scales[:, None]
                out[:, start + here.start : start + here.stop] = best

        if share < len(places):
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(work, range(0, len(places), share)))
        elif len(places):
            work(0)


def _chunks(stored: Stored, places: Rows, size: int) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Entries of some images in pieces of about `size` bytes, with their place in `places`."""
    entry = max(1, stored.parts[0][:0].itemsize * int(np.prod(stored.shape)))
    many = max(1, size // entry)
    # A chunk ends with its segment, so that it need not be copied.
    ends = np.flatnonzero(np.diff(stored.part_of[places])) + 1
    for first, last in pairwise([0, *ends.tolist(), len(places)]):
        for start in range(first, last, many):
            here = slice(start, min(start + many, last))
            yield here, stored.gather(places[here])
