"""Kernels of the scorer: ways to scan eight-bit copies and to score stored vectors exactly.

Every one gives the same exact scores, to the bit; a scan's errors are its own, with a bound.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Protocol

import torch

from ...errors import InputError
from ..layout import Rows
from ..machine.compiling import available_instructions
from ..placement import Placement, Stored
from ..quantise import Floats
from .halves import CoarseScan
from .native import NativeKernel
from .portable import NumkongKernel, TorchKernel
from .queries import RoundedQueries


class Kernel(Protocol):
    """What the scorer needs of one."""

    @property
    def name(self) -> str:
        """For results."""
        ...

    @property
    def coarse(self) -> CoarseScan | None:
        """A first scan of fewer bits, if there is one."""
        ...

    def prepare(self, vectors: Floats) -> RoundedQueries:
        """Round query vectors, (P, D), for `scan`."""
        ...

    def scan(self, placement: Placement, places: Rows, queries: Any, out: Floats) -> None:
        """The best of each image's copy for each prepared vector, into `out`, (P, places).

        It differs from the copy's true best by no more than `queries.errors` and float32 rounding.
        """
        ...

    def exact(
        self, values: Stored, places: Rows, firsts: Rows, lasts: Rows, vectors: Floats
    ) -> Floats:
        """Scores of stored vectors in the fixed order, (places,): the mean over the query vectors
        firsts[i] to lasts[i] of the best token of places[i]."""
        ...


def kernel_names() -> tuple[str, ...]:
    """The kernels that can run here, fastest first."""
    native = [how.name for how in available_instructions()]
    return (*native, *(["numkong"] if find_spec("numkong") is not None else []), "torch")


def choose_kernel(name: str | None = None, *, threads: int | None = None) -> Kernel:
    """The fastest kernel of this machine, or a certain one.

    Args:
        name: One of `kernel_names`; None for the first.
        threads: Threads that share the work; torch's number when None.

    Raises:
        InputError: If the machine can't run that kernel, or there is none of that name.
    """
    names, threads = kernel_names(), threads or torch.get_num_threads()
    wanted = name or names[0]
    if wanted not in names:
        raise InputError(
            f"Search: kernel {wanted!r} can't run here. Choose one of {', '.join(names)}."
        )
    if wanted == "torch":
        return TorchKernel()
    if wanted == "numkong":
        return NumkongKernel(threads)
    return next(
        NativeKernel(how, threads) for how in available_instructions() if how.name == wanted
    )
