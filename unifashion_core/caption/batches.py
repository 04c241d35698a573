"""Many pictures in batches that fit: a batch that runs out of memory is halved."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from ..errors import BackendError, InputError

_log = logging.getLogger("unifashion.caption")

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_batches(
    items: Sequence[Item],
    size: int,
    run: Callable[[Sequence[Item]], Sequence[Result]],
    where: str,
) -> list[Result]:
    """Run over all items, some at a time, in order.

    Args:
        items: What `run` takes.
        size: Items at a time; halved for the rest of the call each time memory runs out.
        run: One result an item.
        where: Who asks, for the message.

    Raises:
        InputError: If `size` is below 1.
        BackendError: If memory runs out on one item alone.
    """
    if size < 1:
        raise InputError(f"{where}: batch_size {size}, at least 1 is needed. Raise batch_size.")
    results: list[Result] = []
    while len(results) < len(items):
        part = items[len(results) : len(results) + size]
        try:
            results += run(part)
        except torch.OutOfMemoryError as e:
            if len(part) == 1:
                raise BackendError(
                    f"{where}: out of memory with one image at a time (batch_size 1). Lower "
                    "beams or max_tokens, take a smaller model, or free memory of the device."
                ) from e
            size = len(part) // 2
            _log.warning(
                "%s: out of memory with %d images, goes on with %d", where, len(part), size
            )
    return results
