"""What a run has made: `job.json`, `manifest.jsonl` and the pictures, whole after any kill.

A picture is written beside its place, to the disk, and renamed; then comes its item's line, to the
disk. So only what was in flight is made twice, and no finished line is without its files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from ..caption.sidecars import text_sha256, write_whole
from ..errors import FolderError, GalleryBusyError, InputError, UniFashionError
from ..imaging import open_image
from ..retrieval.lock import WriterLock
from .names import inside

JOB_FILE, LISTING, _LOCK = "job.json", "manifest.jsonl", ".render.lock"
_FORMAT = 1


@dataclass(frozen=True)
class Job:
    """What a folder is made by: everything but the items.

    Attributes:
        key: Its hash, hex.
        kind: "plan" or "workflow".
        about: For people: the file, the model, the settings.
    """

    key: str
    kind: str
    about: dict[str, Any]


@dataclass(frozen=True)
class MadeFile:
    """A picture of an item.

    Attributes:
        node: The workflow's node that saved it; None for a plan.
        file: Its path below the run's folder, with forward slashes.
        sha256: Of its bytes, hex.
    """

    node: str | None
    file: str
    sha256: str


@dataclass(frozen=True)
class Line:
    """An item of the manifest.

    Attributes:
        id: The item's id.
        index: Its place in the plan when it was made.
        state: "done" or "failed".
        files: Its pictures.
        seconds: How long it took.
        seed: Its seed; None where it has none, or several.
        scores: Measured on its picture, by name.
        error: Why it failed.
    """

    id: str
    index: int
    state: str
    files: tuple[MadeFile, ...] = ()
    seconds: float = 0.0
    seed: int | None = None
    scores: dict[str, float] | None = None
    error: str | None = None

    def to_line(self) -> bytes:
        """The line with its end."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"


class Manifest:
    """One run's folder, held by one process: `with Manifest.open(folder, job) as manifest: …`.

    Attributes:
        folder: The folder.
        lines: The newest line of each id.
        begun: Day on which the job was begun, for file names.
    """

    def __init__(self, folder: Path, lines: dict[str, Line], begun: str, lock: WriterLock | None):
        self.folder, self.lines, self.begun = folder, lines, begun
        self._lock = lock

    @classmethod
    def open(cls, folder: Path, job: Job, *, fresh: bool = False) -> Manifest:
        """Begin a job in a folder, or go on with it.

        Args:
            folder: Made when absent.
            job: What is made.
            fresh: Only begin: the folder has to be empty.

        Raises:
            FolderError: If it is another job's, `fresh` and not empty, or in use.
            InputError: If a line of its manifest can't be read.
        """
        held = list(folder.iterdir()) if folder.is_dir() else []
        if fresh and held:
            raise FolderError(
                f"{folder}: not empty, and --fresh begins in an empty folder. Give another one, or "
                "leave --fresh out to go on."
            )
        begun = _check_job(folder, job)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = WriterLock(folder / _LOCK, folder.name)
        except GalleryBusyError as e:
            raise FolderError(
                f"{folder}: another process renders into it. Wait until it has ended, or give "
                "another folder."
            ) from e
        try:
            if begun is None:
                begun = date.today().isoformat()
                text = json.dumps(
                    {"format": _FORMAT, "job": job.key, "kind": job.kind, "begun": begun}
                    | {"about": job.about},
                    ensure_ascii=False,
                    indent=1,
                )
                write_whole(folder / JOB_FILE, text.encode())
            lines, end = _read_lines(folder / LISTING)
            _cut(folder / LISTING, end)
            return cls(folder, lines, begun, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def look(cls, folder: Path, job: Job) -> Manifest:
        """The same without writing anything: what a dry run sees.

        Raises:
            FolderError, InputError: As in `open`.
        """
        begun = _check_job(folder, job)
        lines, _ = _read_lines(folder / LISTING)
        return cls(folder, lines, begun or date.today().isoformat(), None)

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            self._lock.release()

    def finished(self, ids: Iterable[str]) -> set[str]:
        """Which of these are done, with every file as it was written."""
        wanted = ((i, self.lines[i]) for i in ids if i in self.lines)
        return {i for i, line in wanted if line.state == "done" and self._intact(line)}

    def _intact(self, line: Line) -> bool:
        return all(text_sha256(inside(self.folder, f.file)) == f.sha256 for f in line.files)

    def forget(self, ids: Iterable[str]) -> None:
        """Drop the `done` lines of items that have to be made again: no id gets two of them."""
        gone = {i for i in ids if i in self.lines and self.lines[i].state == "done"}
        if not gone:
            return
        path = self.folder / LISTING
        kept: list[bytes] = []
        for text in path.read_bytes().splitlines(keepends=True):
            line = _parse(text)
            if line is not None and not (line.id in gone and line.state == "done"):
                kept.append(text)
        write_whole(path, b"".join(kept))
        for name in gone:
            del self.lines[name]

    def adopt(self, item: str, index: int, file: str, node: str | None, seed: int | None) -> bool:
        """Take a picture that was finished before its line was written.

        Only for an item of this single picture. A file that doesn't decode whole is left, to be
        replaced.

        Args:
            item: The item's id.
            index: Its place in the plan.
            file: Where its picture would be.
            node: As in `MadeFile`.
            seed: As in `Line`.
        """
        path = inside(self.folder, file)
        listed = {f.file for line in self.lines.values() for f in line.files}
        if file in listed or not path.is_file():
            return False
        try:
            open_image(path)
        except UniFashionError:
            return False
        digest = text_sha256(path)
        assert digest is not None
        self.add(Line(item, index, "done", (MadeFile(node, file, digest),), 0.0, seed))
        return True

    def save(self, pictures: Sequence[tuple[str | None, str, bytes]]) -> tuple[MadeFile, ...]:
        """Write an item's pictures, the first one last: alone, it is the whole item's.

        Args:
            pictures: Node, file and content of each.

        Raises:
            FolderError: If the disk refuses.
        """
        for number, (_, file, data) in reversed(list(enumerate(pictures))):
            path = inside(self.folder, file)
            if number == 0 and len(pictures) > 1:
                _sync_folder(path.parent)
            write_whole(path, data)
        return tuple(
            MadeFile(node, file, hashlib.sha256(data).hexdigest()) for node, file, data in pictures
        )

    def add(self, line: Line) -> None:
        """Append an item's line; it is on the disk when this returns.

        Raises:
            FolderError: If the disk refuses.
        """
        before = self.lines.get(line.id)
        if before is not None and before.state == line.state == "done":
            raise InputError(f"{self.folder}: item {line.id[:8]} is done already. Forget it first.")
        try:
            with open(self.folder / LISTING, "ab") as file:
                file.write(line.to_line())
                file.flush()
                os.fsync(file.fileno())
        except OSError as e:
            raise FolderError(
                f"{self.folder / LISTING}: can't be written ({e.strerror or e}). Make room, or "
                "choose a folder that may be written."
            ) from e
        self.lines[line.id] = line


def _check_job(folder: Path, job: Job) -> str | None:
    """The day a folder's job was begun; None where there is none yet.

    Raises:
        FolderError: If it is another job.
    """
    path = folder / JOB_FILE
    if not path.is_file():
        if (folder / LISTING).exists():
            raise FolderError(
                f"{folder}: has a {LISTING} and no {JOB_FILE}, so nobody knows what made it. Give "
                "another folder."
            )
        return None
    try:
        found = json.loads(path.read_bytes())
        key, begun = str(found["job"]), str(found["begun"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise FolderError(f"{path}: can't be read as a job ({e}). Give another folder.") from e
    if key != job.key:
        raise FolderError(
            f"{folder}: holds another job ({found.get('kind')}, {key[:8]}; this one is {job.kind}, "
            f"{job.key[:8]}): the workflow, the model or its settings differ. Give another folder."
        )
    return begun


def _read_lines(path: Path) -> tuple[dict[str, Line], int]:
    """The newest line of each id, and how many bytes of the file are whole lines."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}, 0
    lines: dict[str, Line] = {}
    texts = data.splitlines(keepends=True)
    end = 0
    for number, text in enumerate(texts, start=1):
        line = _parse(text)
        if line is None and number == len(texts):
            break  # a kill cut it off
        if line is None and text.strip():
            raise InputError(
                f"{path}, line {number}: not a line that render wrote. Remove it: its item is then "
                "made again."
            )
        end += len(text)
        if line is not None and not (line.id in lines and lines[line.id].state == "done"):
            lines[line.id] = line
    return lines, end


def _cut(path: Path, end: int) -> None:
    """Remove a torn last line, and end the last whole one."""
    with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.truncate(end)
        file.seek(max(end - 1, 0))
        if end and file.read(1) != b"\n":
            file.write(b"\n")
        elif size == end:
            return
        file.flush()
        os.fsync(file.fileno())


def _parse(text: bytes) -> Line | None:
    try:
        values = json.loads(text)
        files = tuple(MadeFile(**file) for file in values.pop("files"))
        line = Line(files=files, **values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    texts: list[object] = [
        line.id,
        line.state,
        *(f.file for f in files),
        *(f.sha256 for f in files),
    ]
    sound = all(isinstance(t, str) for t in texts) and isinstance(cast(object, line.index), int)
    return line if sound and line.state in ("done", "failed") else None


def _sync_folder(folder: Path) -> None:
    """Let the names of a folder be on the disk, where the system can say so."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
