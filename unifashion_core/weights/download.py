"""Download known weights into a models folder: only what the list names, only when asked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import DownloadError
from ..types import OnStep
from .known import KnownFile, KnownWeights
from .receipts import SeenFile, read_seen, receipt_path, write_receipt
from .transfer import OnBytes, Wanted, check_address, fetch_file, file_sha256

MIRROR = "UNIFASHION_MIRROR"
"""Environment variable with an address that stands for the hub's."""


@dataclass(frozen=True)
class Downloaded:
    """What a download did.

    Attributes:
        weights: The entry.
        path: The file or folder, as a loader takes it.
        name: How a loader's list calls it.
        files: All of its files.
        fetched: Names of those that were not there before.
        receipt: Where all of this is kept.
    """

    weights: KnownWeights
    path: Path
    name: str
    files: tuple[SeenFile, ...]
    fetched: tuple[str, ...]
    receipt: Path

    def lines(self) -> list[str]:
        """All that the user should know, a line each."""
        state = "downloaded" if self.fetched else "already there"
        head = f"{self.weights.title}: {state}, {self.path}"
        rows = [
            f"{file.name}: {file.size:,} bytes, SHA-256 {file.sha256}, "
            + ("as known" if file.checked else "seen now and kept; no source gave one to compare")
            for file in self.files
        ]
        note = [self.weights.note] if self.weights.note else []
        return [head, self.weights.licence_line, self.weights.pin, *rows, *note]


def download_weights(
    weights: KnownWeights,
    models: Path,
    *,
    mirror: str | None = None,
    on_step: OnStep = lambda done, total: None,
) -> Downloaded:
    """Fetch the files of an entry that are not there yet, check all, and keep what was seen.

    Args:
        weights: The entry.
        models: The models folder of its kind; made where it is missing.
        mirror: Address that stands for the hub's; the environment's where None.
        on_step: Called with (bytes done, bytes in all, as far as known); may raise to cancel, and
            what came is gone on from the next time.

    Raises:
        DownloadError: If it can't be fetched, does not fit on the disk, another file lies in its
            place, or it is not the known one. The text has folder and names to place it by hand.
    """
    mirror = mirror or os.environ.get(MIRROR) or None
    if mirror is not None:
        check_address(mirror)
    folder = models / weights.folder if weights.folder else models
    folder.mkdir(parents=True, exist_ok=True)
    earlier = read_seen(weights, models)
    files: list[SeenFile] = []
    fetched: list[str] = []
    for file in weights.files:
        target = folder / file.save_as
        if target.exists():
            files.append(_there(file, target, earlier.get(file.save_as)))
            continue
        count = _counter(weights, files, file, on_step)
        try:
            files.append(_fetch(weights, file, target, mirror, count))
        except DownloadError as e:
            raise DownloadError(f"{e}\n{by_hand(weights, models, mirror)}") from e
        fetched.append(file.save_as)
    receipt = receipt_path(weights, models)
    if fetched or not receipt.is_file():
        write_receipt(weights, models, files)
    path = folder if weights.folder else folder / weights.files[0].save_as
    name = path.relative_to(models).as_posix()
    return Downloaded(weights, path, name, tuple(files), tuple(fetched), receipt)


def by_hand(weights: KnownWeights, models: Path, mirror: str | None = None) -> str:
    """How to place the files of an entry without this program: folder, names, addresses."""
    folder = models / weights.folder if weights.folder else models
    rows = [f"  {file.save_as}  from {weights.url(file, mirror)}" for file in weights.files]
    return "\n".join([f"To place {weights.title} by hand, put into {folder}:", *rows])


def _fetch(
    weights: KnownWeights, file: KnownFile, target: Path, mirror: str | None, count: OnBytes
) -> SeenFile:
    url = weights.url(file, mirror)
    wanted = Wanted(url, target, file.size, file.sha256, file.expected_bytes)
    seen = fetch_file(wanted, count)
    return SeenFile(file.save_as, target.stat().st_size, seen, file.sha256 is not None)


def _there(file: KnownFile, target: Path, earlier: SeenFile | None) -> SeenFile:
    """A file that lies there already: it has to be the known one, and is never replaced."""
    size = target.stat().st_size
    if earlier is not None and earlier.size == size:  # hashed when it came
        seen = earlier.sha256
    else:
        seen = file_sha256(target)
    if (file.size is not None and size != file.size) or file.sha256 not in (None, seen):
        raise DownloadError(
            f"download {file.save_as}: another file lies at {target} (SHA-256 {seen}, {size:,} "
            f"bytes; {file.sha256} wanted). Move it away, then run it again."
        )
    return SeenFile(file.save_as, size, seen, file.sha256 is not None)


def _counter(
    weights: KnownWeights, files: list[SeenFile], file: KnownFile, on_step: OnStep
) -> OnBytes:
    """Bytes of one file as a share of the whole entry."""
    before = sum(seen.size for seen in files)
    names = {seen.name for seen in files} | {file.save_as}
    after = sum(other.expected_bytes for other in weights.files if other.save_as not in names)

    def count(done: int, total: int) -> None:
        whole = before + max(done, total or file.expected_bytes) + after
        on_step(before + done, whole)

    return count
