"""Many pictures through a captioner: decoded ahead in threads, said in batches, each failing alone.

Nothing is read or written here; `folder` and `gallery_captions` do that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from PIL import Image

from ..errors import InputError, UniFashionError
from ..types import Captioner, GarmentAttributes, OnStep

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")

READ_ERRORS = (UniFashionError, ValueError, OSError, MemoryError)
"""What one picture's file can raise in a worker; everything else ends the run."""


@dataclass(frozen=True)
class StreamOptions:
    """How many at once, and what drawing starts from.

    Attributes:
        batch_size: Pictures that a captioner gets together.
        workers: Threads that read and decode.
        seed: For captioners that draw their words.
    """

    batch_size: int = 16
    workers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 1:
            raise InputError(
                f"Captions: batch size {self.batch_size} and {self.workers} workers, wanted 1 or "
                "more of each. Raise that number."
            )


@dataclass(frozen=True)
class Said:
    """What a captioner said of one picture; attributes are None where it knows none."""

    caption: str
    attributes: GarmentAttributes | None


@runtime_checkable
class _Sized(Protocol):
    """A captioner that says how large it looks at a picture."""

    @property
    def input_size(self) -> int: ...


def decoding_size(captioner: Captioner) -> int | None:
    """Shorter side in pixels below which a photo should not be decoded; None where unknown."""
    return captioner.input_size if isinstance(captioner, _Sized) else None


def key_of(captioner: Captioner, seed: int) -> str:
    """What has to be the same for a caption to be the same: the fingerprint, and a seed."""
    return f"{captioner.fingerprint}-seed{seed}" if seed else captioner.fingerprint


def say(
    captioner: Captioner,
    images: Sequence[Image.Image],
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> list[Said | UniFashionError]:
    """Caption and attributes of each picture, or what was wrong with it alone.

    Args:
        captioner: With or without attributes.
        images: Upright RGB pictures.
        seed: For captioners that draw their words.
        on_step: Called after each step of the captioner; may raise to cancel.
    """
    if not images:
        return []
    try:
        captions = captioner.caption(images, seed=seed, on_step=on_step)
        if "attributes" not in captioner.abilities:
            return [Said(caption, None) for caption in captions]
        known = captioner.describe(images, on_step=on_step)
        return [Said(*pair) for pair in zip(captions, known, strict=True)]
    except UniFashionError as e:
        if len(images) == 1:
            return [e]
    found: list[Said | UniFashionError] = []
    for image in images:
        found += say(captioner, [image], seed=seed, on_step=on_step)
    return found


def ahead(
    items: Iterable[Item], prepare: Callable[[Item], Prepared], options: StreamOptions
) -> Generator[Prepared]:
    """Prepare items in worker threads, in order, at most two batches ahead."""
    pending: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(options.workers, thread_name_prefix="unifashion-caption") as pool:
        try:
            for item in items:
                pending.append(pool.submit(prepare, item))
                if len(pending) > 2 * options.batch_size:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
