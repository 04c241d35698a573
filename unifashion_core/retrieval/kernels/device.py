"""Scans on a device such as a GPU: the eight-bit copies stay there where they fit, else they pass
through it in chunks. The best token is taken chunk by chunk, so no tensor of all products exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import torch

from ..layout import Rows
from ..placement import Placement, Stored
from ..quantise import LEVELS, Floats
from . import Kernel
from .queries import RoundedQueries, round_queries

CHUNK_BYTES = 1 << 25
LEAST_COLUMNS, LEAST_ROWS = 8, 32  # what a GPU's product of bytes takes


@dataclass(frozen=True)
class DeviceQueries(RoundedQueries):
    """Query vectors on the device.

    Attributes:
        factors: (D, padded P), int8.
    """

    factors: torch.Tensor = field(default_factory=lambda: torch.empty(0))


class DeviceCopies(torch.nn.Module):
    """The copies of a revision's items, as whoever manages a device's memory moves them.

    Args:
        placement: Where they are.
        device: Where they are put first.

    Attributes:
        copies: (N, T, D), int8.
        scales: (N, T).
    """

    copies: torch.Tensor
    scales: torch.Tensor

    def __init__(self, placement: Placement, device: torch.device) -> None:
        super().__init__()
        count, (tokens, width) = len(placement), placement.copies.shape
        copies = torch.empty(count, tokens, width, dtype=torch.int8, device=device)
        scales = torch.empty(count, tokens, device=device)
        step = max(1, CHUNK_BYTES // (tokens * width))
        for start in range(0, count, step):
            places = np.arange(start, min(start + step, count))
            copies[start : start + step] = torch.as_tensor(placement.copies.gather(places))
            scales[start : start + step] = torch.as_tensor(placement.scales.gather(places))
        self.register_buffer("copies", copies)
        self.register_buffer("scales", scales)


class Held(Protocol):
    """Copies under a manager of memory."""

    def ready(self, memory_bytes: int) -> None:
        """Bring them onto the device, with so much room beside them."""
        ...


Hold: TypeAlias = Callable[[DeviceCopies], Held]


@dataclass(frozen=True)
class _Resident:
    """Copies that stay on a device as long as its memory is not wanted for something else."""

    module: DeviceCopies
    device: torch.device
    held: Held | None


_RESIDENT = "copies on a device"


class DeviceKernel:
    """Scans on a device; exact scores by another kernel, from the stored vectors.

    Copies that fit stay with the revision's items: the next search need not move them.

    Args:
        device: Where to scan.
        budget_bytes: Memory that it may take there, from what the host says is free.
        exact: Scores what a scan can't exclude.
        hold: Puts copies under a manager of the device's memory; they are on their own when None.

    Attributes:
        name: For results.
        is_resident: Whether the last scan's copies stay on the device.
    """

    coarse = None

    def __init__(
        self, device: torch.device, budget_bytes: int, exact: Kernel, hold: Hold | None = None
    ) -> None:
        self.name = str(device.type)
        self._device = device
        self._budget = budget_bytes
        self._host = exact
        self._hold = hold
        self.is_resident = False

    def prepare(self, vectors: Floats) -> DeviceQueries:
        """Round query vectors to bytes.

        Args:
            vectors: (P, D).
        """
        whole, rounded = round_queries(vectors, LEVELS)
        columns = -(-len(vectors) // LEAST_COLUMNS) * LEAST_COLUMNS
        factors = torch.zeros(vectors.shape[1], columns, dtype=torch.int8)
        factors[:, : len(vectors)] = torch.as_tensor(whole.astype(np.int8)).T
        return DeviceQueries(rounded.scales, rounded.errors, factors.to(self._device))

    @torch.inference_mode()
    def scan(self, placement: Placement, places: Rows, queries: DeviceQueries, out: Floats) -> None:
        """Score eight-bit copies.

        Args:
            placement: Where the images' copies are.
            places: Which images, (n,).
            queries: From `prepare`.
            out: For the best of each image for each vector, (P, n).
        """
        steps = torch.as_tensor(queries.scales).to(self._device)[:, None]
        for here, copies, scales in self._chunks(placement, places, queries.factors.shape[1]):
            products = _multiply(copies.flatten(0, 1), queries.factors)
            by_image = products.view(*scales.shape, -1)[..., : len(out)] * scales[..., None]
            out[:, here] = (by_image.amax(1).T * steps).cpu().numpy()

    def exact(
        self, values: Stored, places: Rows, firsts: Rows, lasts: Rows, vectors: Floats
    ) -> Floats:
        """Score stored vectors in the fixed order, by the other kernel."""
        return self._host.exact(values, places, firsts, lasts, vectors)

    def _chunks(
        self, placement: Placement, places: Rows, columns: int
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        tokens, width = placement.copies.shape
        # A chunk holds copies, products of 32 bits and the same again scaled.
        entry = tokens * (width + 8 * columns + 4)
        many = max(1, min(CHUNK_BYTES, self._budget // 4) // entry)
        kept = self._resident(placement, many * entry)
        whole = kept is not None and len(places) == len(placement)
        for start in range(0, len(places), many):
            here = slice(start, min(start + many, len(places)))
            if kept is None:
                copies = torch.as_tensor(placement.copies.gather(places[here]))
                scales = torch.as_tensor(placement.scales.gather(places[here]))
                yield here, copies.to(self._device), scales.to(self._device)
            elif (
                whole
                and places[here.start] == here.start
                and places[here.stop - 1] == here.stop - 1
            ):
                yield here, kept.copies[here], kept.scales[here]
            else:
                chosen = torch.as_tensor(places[here]).to(self._device)
                yield here, kept.copies[chosen], kept.scales[chosen]

    def _resident(self, placement: Placement, chunk_bytes: int) -> DeviceCopies | None:
        """The copies on the device, moved there if they fit beside a chunk."""
        derived = placement.items.derived
        kept = derived.get(_RESIDENT)
        if not isinstance(kept, _Resident) or kept.device != self._device:
            derived.pop(_RESIDENT, None)
            tokens, width = placement.copies.shape
            count = len(placement)
            self.is_resident = False
            if not count or count * tokens * (width + 4) + chunk_bytes > self._budget:
                return None
            first = self._device if self._hold is None else torch.device("cpu")
            module = DeviceCopies(placement, first)
            held = None if self._hold is None else self._hold(module)
            derived[_RESIDENT] = kept = _Resident(module, self._device, held)
        if kept.held is not None:
            kept.held.ready(chunk_bytes)
        self.is_resident = True
        return kept.module


def _multiply(rows: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Products of bytes, (rows, padded P), float32: whole numbers below 2^24, so exact."""
    width, columns = factors.shape
    fits = len(rows) >= LEAST_ROWS and width % 8 == 0 and columns % 8 == 0
    if rows.is_cuda and fits and hasattr(torch, "_int_mm"):
        return torch._int_mm(rows, factors).float()  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage] # torch has no public product of bytes
    return torch.mm(rows.float(), factors.float())
