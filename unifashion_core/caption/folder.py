"""Caption pictures into their folder: a text beside each, and `captions.jsonl`; resumable.

What stands in the listing for the same image, captioner and style is not made again. A text that
captioning did not write is kept and reported.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from PIL import Image

from ..errors import FolderError, InputError, UniFashionError
from ..imaging import decode_image, read_file
from ..types import Captioner, GarmentAttributes, OnStep
from .sidecars import (
    CaptionListing,
    CaptionRecord,
    attributes_from,
    text_sha256,
    write_whole,
)
from .stream import READ_ERRORS, Said, StreamOptions, ahead, decoding_size, key_of, say
from .targets import CaptionResult, Picture, Target, relative_path

WRITES = ("txt", "jsonl")
"""What can be written: a text beside each picture (the listing goes with it), or the listing."""

_WINDOW = 64  # results at most that wait for a batch to be full


class TextStyle(Protocol):
    """How a caption is written; see `styles`."""

    @property
    def key(self) -> str:
        """Style and options in one line: the same one writes the same text."""
        ...

    def apply(self, caption: str, attributes: GarmentAttributes | None) -> str:
        """The text of what a captioner said."""
        ...


def caption_folder(
    target: Target,
    captioner: Captioner,
    style: TextStyle,
    *,
    write: Sequence[str] = WRITES,
    overwrite: bool = False,
    options: StreamOptions | None = None,
    on_step: OnStep | None = None,
) -> Generator[CaptionResult]:
    """Caption the pictures of a target, in order.

    Args:
        target: From `find_targets`.
        captioner: What writes.
        style: How its words are written.
        write: Of `WRITES`; the listing is written with either. None of them: nothing is written
            or read beside the pictures.
        overwrite: Whether texts that captioning did not write are replaced.
        options: Batch size, threads, seed.
        on_step: Called with (pictures done, pictures); what it raises ends the run, with everything
            whole that was written.

    Yields:
        What became of each picture, when its text is on the disk.

    Raises:
        InputError: If `write` names something else, or the folder's listing isn't ours.
        OSError: If the disk refuses the listing.
    """
    unknown = sorted(set(write) - set(WRITES))
    if unknown:
        raise InputError(
            f"Captions: can't write {', '.join(unknown)}, wanted {' or '.join(WRITES)}."
            " Choose one of them, or both."
        )
    run = _Run(target, captioner, style, frozenset(write), overwrite, options, on_step)
    yield from run.results()


def _ignore_step(done: int, total: int) -> None:
    pass


@dataclass
class _Item:
    """A picture on its way: read by a worker, and either known, decoded or failed."""

    picture: Picture
    path: str  # relative, as the listing has it
    sha256: str = ""
    known: CaptionRecord | None = None
    image: Image.Image | None = None
    error: str | None = None


class _Run:
    def __init__(
        self,
        target: Target,
        captioner: Captioner,
        style: TextStyle,
        write: frozenset[str],
        overwrite: bool,
        options: StreamOptions | None,
        on_step: OnStep | None,
    ) -> None:
        self.target, self.captioner, self.style = target, captioner, style
        self.write, self.overwrite = write, overwrite
        self.options = options or StreamOptions()
        self.on_step: OnStep = on_step or _ignore_step
        self.listing = CaptionListing(target.folder) if write else None
        self.records = self.listing.records if self.listing is not None else {}
        self.key = key_of(captioner, self.options.seed)
        self.side = decoding_size(captioner)
        self.owners = self._owners() if "txt" in write else {}
        self.done = 0

    def _owners(self) -> dict[str, Path]:
        """Whose each text file is: the picture that it was written for, else the first of it."""
        folder = self.target.folder
        written = {
            os.path.normcase(record.text): Path(os.path.abspath(folder / record.path))
            for record in self.records.values()
            if record.text is not None
        }
        owners = {text: path for text, path in written.items() if path.is_file()}
        for picture in self.target.pictures:
            owners.setdefault(os.path.normcase(picture.text), picture.path)
        return owners

    def results(self) -> Iterator[CaptionResult]:
        window: list[_Item] = []
        prepared = ahead(self.target.pictures, self._prepare, self.options)
        with contextlib.closing(prepared):
            for item in prepared:
                window.append(item)
                decoded = sum(one.image is not None for one in window)
                if decoded >= self.options.batch_size or len(window) >= _WINDOW:
                    yield from self._flush(window)
                    window = []
            yield from self._flush(window)
        if self.listing is not None:
            self.listing.tidy()

    def _prepare(self, picture: Picture) -> _Item:
        """Read one picture, and decode it where its words aren't known; runs in a worker."""
        item = _Item(picture, relative_path(picture.path, self.target.folder))
        try:
            self._check(item)
            data = read_file(picture.path)
            item.sha256 = hashlib.sha256(data).hexdigest()
            known = self.records.get(item.path)
            if known is not None and (known.image_sha256, known.captioner) == (
                item.sha256,
                self.key,
            ):
                item.known = known
            else:
                item.image = decode_image(data, str(picture.path), min_side=self.side)
        except READ_ERRORS as e:
            item.error = str(e) or f"{picture.path}: not enough memory. Scale it down."
        return item

    def _check(self, item: _Item) -> None:
        path = item.picture.path
        try:
            item.path.encode()
        except UnicodeEncodeError as e:
            raise FolderError(
                f"{os.fsencode(path).decode('utf-8', 'replace')}: its name is not Unicode text. "
                "Rename it."
            ) from e
        owner = self.owners.get(os.path.normcase(item.picture.text), path)
        if owner != path:
            raise FolderError(
                f"{path}: its text would be {item.picture.text}, which is the text of "
                f"{owner.name}. Rename one of the two pictures."
            )

    def _flush(self, window: Sequence[_Item]) -> list[CaptionResult]:
        """Caption what needs it, then the listing, then the texts."""
        fresh = [item for item in window if item.image is not None]
        images = [item.image for item in fresh if item.image is not None]
        said = say(self.captioner, images, seed=self.options.seed, on_step=self._step_inside)
        words = {id(item): found for item, found in zip(fresh, said, strict=True)}
        outcomes = [self._outcome(item, words.get(id(item))) for item in window]
        if self.listing is not None:
            self.listing.append(o.record for o in outcomes if o.record is not None and o.new)
        results = [self._finish(outcome) for outcome in outcomes]
        self.done += len(window)
        self.on_step(self.done, len(self.target.pictures))
        return results

    def _step_inside(self, _done: int, _total: int) -> None:
        self.on_step(self.done, len(self.target.pictures))

    def _outcome(self, item: _Item, said: Said | UniFashionError | None) -> _Outcome:
        """What an item's record becomes, and whether its text has to be written."""
        if item.error is not None:
            return _Outcome(item, error=item.error)
        if isinstance(said, UniFashionError):
            return _Outcome(item, error=f"{item.picture.path}: {said}")
        before = self.records.get(item.path)
        try:
            record = self._record(item, said)
        except UniFashionError as e:
            return _Outcome(item, error=f"{item.picture.path}: {e}")
        if before is not None:  # a text that we wrote stays ours, whatever becomes of it now
            record = replace(record, text=before.text, text_sha256=before.text_sha256)
        outcome = _Outcome(item, record, new=record != before)
        return self._with_text(outcome) if "txt" in self.write else outcome

    def _record(self, item: _Item, said: Said | None) -> CaptionRecord:
        known = item.known
        if said is None and known is not None and known.style == self.style.key:
            return known
        if said is None:  # only the style differs: the words are known
            assert known is not None
            attributes = None if known.attributes is None else attributes_from(known.attributes)
            said = Said(known.raw, attributes)
        return CaptionRecord(
            path=item.path,
            caption=self.style.apply(said.caption, said.attributes),
            attributes=None if said.attributes is None else said.attributes.to_dict(),
            raw=said.caption,
            image_sha256=item.sha256,
            captioner=self.key,
            style=self.style.key,
        )

    def _with_text(self, outcome: _Outcome) -> _Outcome:
        record, text = outcome.record, outcome.item.picture.text
        assert record is not None
        assert self.listing is not None
        path = self.target.folder / text
        wanted = hashlib.sha256(record.caption.encode()).hexdigest()
        try:
            there = text_sha256(path)
        except UniFashionError as e:
            return replace(outcome, record=None, error=str(e))
        if there not in (None, wanted) and not (
            self.overwrite or self.listing.is_ours(text, there)
        ):
            reason = f"{path}: holds a text that captioning did not write, which was kept"
            return replace(outcome, kept=reason)
        written = replace(record, text=text, text_sha256=wanted)
        before = self.records.get(record.path)
        return replace(outcome, record=written, new=written != before, text=there != wanted)

    def _finish(self, outcome: _Outcome) -> CaptionResult:
        """Write the text, and say what was done."""
        path, record = outcome.item.picture.path, outcome.record
        if record is None:
            return CaptionResult(path, error=outcome.error)
        if outcome.text:
            assert record.text is not None
            try:
                write_whole(self.target.folder / record.text, record.caption.encode())
            except FolderError as e:
                return CaptionResult(path, error=str(e))
        attributes = None if record.attributes is None else dict(record.attributes)
        made = outcome.item.known is None or outcome.new
        return CaptionResult(path, record.caption, attributes, made, kept=outcome.kept)


@dataclass(frozen=True)
class _Outcome:
    """What is to be written for an item.

    Attributes:
        item: The item.
        record: Its line; None where it failed.
        new: Whether the line has to be added to the listing.
        text: Whether the text has to be written.
        error: Why it failed.
        kept: Which text is kept.
    """

    item: _Item
    record: CaptionRecord | None = None
    new: bool = False
    text: bool = False
    error: str | None = None
    kept: str | None = None
