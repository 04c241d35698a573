"""What was made becomes searchable: a run's pictures into a gallery, with caption and values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..caption.stream import Said, decoding_size, say
from ..errors import ImageError
from ..imaging import open_image
from ..retrieval.columns import Columns
from ..retrieval.index import IndexReport, index_folder
from ..retrieval.source import ImageFile, Source
from ..retrieval.writer import GalleryWriter
from ..types import Captioner, FashionEncoder, OnStep
from .names import inside
from .page import PageItem

_WINDOW = 32  # pictures that are captioned at a time


def add_run(
    writer: GalleryWriter,
    folder: Path,
    items: Sequence[PageItem],
    encoder: FashionEncoder,
    captioner: Captioner | None = None,
    *,
    on_step: OnStep | None = None,
) -> IndexReport:
    """Add the finished pictures of a run to a gallery; those that it has are not encoded again.

    Args:
        writer: Of the gallery.
        folder: The run's folder; the files stay there.
        items: What was made, with the values that become columns.
        encoder: The gallery's.
        captioner: Says what new pictures show; None: they get no caption.
        on_step: Called with (pictures done, pictures).

    Returns:
        What was added, and what failed.

    Raises:
        GalleryError: If the encoder isn't the gallery's, or the disk refuses.
    """
    root = folder.resolve()
    known = writer.items_of(root.as_posix())
    files: list[ImageFile] = []
    columns: dict[str, Columns] = {}
    for item in items:
        for made in item.line.files if item.line.state == "done" else ():
            path = inside(root, made.file)
            if not path.is_file():
                continue
            state = path.stat()
            files.append(ImageFile(path, made.file, state.st_size, state.st_mtime_ns))
            if made.file not in known:
                columns[made.file] = _columns(item)
    if captioner is not None:
        _add_captions(root, columns, captioner)
    files.sort(key=lambda file: file.file)
    source = Source(root, tuple(files), columns, ())
    return index_folder(writer, source, encoder, text_encoder=encoder, on_step=on_step)


def _columns(item: PageItem) -> Columns:
    """What a picture can be filtered by."""
    found: Columns = {name: v for name, v in item.values.items() if v not in (None, "")}
    found |= {f"score_{name}": score for name, score in (item.line.scores or {}).items()}
    found["generated"] = True
    if item.line.seed is not None:
        found["seed"] = item.line.seed
    return found


def _add_captions(root: Path, columns: dict[str, Columns], captioner: Captioner) -> None:
    """Put what new pictures show into their columns; one that can't be read has no caption."""
    new = list(columns)
    for start in range(0, len(new), _WINDOW):
        pictures: dict[str, Image.Image] = {}
        for file in new[start : start + _WINDOW]:
            try:
                picture = open_image(inside(root, file), min_side=decoding_size(captioner))
            except ImageError:
                continue  # indexing says why
            pictures[file] = picture
        said = say(captioner, list(pictures.values()))
        for file, found in zip(pictures, said, strict=True):
            if isinstance(found, Said):
                columns[file]["caption"] = found.caption
