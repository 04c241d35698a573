"""What there is to index: a folder's pictures and their metadata, listed before a gallery is "
"touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import FolderError
from ..imaging import SUFFIXES, iter_images
from .columns import Columns
from .metadata import match_files, read_metadata


@dataclass(frozen=True)
class Failure:
    """A file or a caption that couldn't be used.

    Attributes:
        path: Absolute path of the image.
        reason: What was wrong, in our form.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageFile:
    """A picture that was found.

    Attributes:
        path: Where it is.
        file: Path below the indexed folder, with forward slashes.
        size: Bytes.
        mtime_ns: Time of change, nanoseconds.
    """

    path: Path
    file: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Source:
    """A folder that was listed, with its metadata; nothing is encoded yet.

    Attributes:
        root: The folder, absolute, with links resolved.
        files: Its pictures, sorted by path.
        columns: Metadata by file; files without a line are absent.
        failures: What can't be used already now.
    """

    root: Path
    files: tuple[ImageFile, ...]
    columns: dict[str, Columns]
    failures: tuple[Failure, ...]


def read_source(folder: Path, metadata: Path | None = None) -> Source:
    """List a folder and read its metadata: all that can refuse a run before a gallery is touched.

    Args:
        folder: With pictures in it or below it.
        metadata: A JSON-lines or CSV file (see `read_metadata`), or None.

    Returns:
        What there is to index.

    Raises:
        FolderError: If the folder is missing or holds no picture.
        InputError: If the metadata file is wrong; the text names the line.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder}: no such folder. Check its path.")
    failures: list[Failure] = []
    root = folder.resolve()
    files = list(_list_files(root, failures))
    if not files and not failures:
        raise FolderError(
            f"{folder}: no picture in it or below it, wanted {', '.join(SUFFIXES)}. Choose another "
            "folder."
        )
    columns: dict[str, Columns] = {}
    if metadata is not None:
        columns, unknown = match_files(read_metadata(metadata), [found.file for found in files])
        for row in unknown:
            reason = (
                f"{metadata}, line {row.line}: '{row.file}' is not among the folder's pictures. "
                "Correct the line, or add the file."
            )
            failures.append(Failure(root / row.file, reason))
    return Source(root, tuple(files), columns, tuple(failures))


def _list_files(root: Path, failures: list[Failure]) -> Iterator[ImageFile]:
    def left_out(path: Path, reason: str) -> None:
        failures.append(Failure(path, f"{path}: {reason}. Check the folder's rights."))

    for path in iter_images(root, on_error=left_out):
        file = path.relative_to(root).as_posix()
        try:
            file.encode("utf-8")
            state = path.stat()
        except UnicodeEncodeError:
            shown = Path(os.fsencode(path).decode("utf-8", "replace"))
            failures.append(Failure(shown, f"{shown}: its name is not Unicode text. Rename it."))
        except OSError as e:
            reason = f"{path}: can't be read ({e.strerror or e}). Check that it may be read."
            failures.append(Failure(path, reason))
        else:
            yield ImageFile(path, file, state.st_size, state.st_mtime_ns)


def is_gone(path: Path) -> bool:
    """Whether the file isn't there; one that can't be looked at, or is hidden now, isn't gone."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
