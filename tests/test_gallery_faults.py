"""Faults of a gallery's process and disk: kill -9, a full disk, two writers."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_retrieval_store import add, files, made, tokens

from unifashion_core.retrieval.store import Gallery, open_gallery
from unifashion_core.retrieval.validate import validate
from unifashion_core.retrieval.writer import GalleryWriter

ROOT = Path(__file__).resolve().parents[1]
unix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")

WRITE_LOOP = """
import random
from unifashion_core.retrieval.compact import compact
chance = random.Random(FIRST)
number = FIRST
with GalleryWriter(gallery) as writer:
    print("begun", flush=True)
    while True:
        count = chance.randint(1, 40)
        for name in range(number, number + count):
            (item,) = add(writer, [f"{name:06d}.png"], seed=name)
            writer.put_columns(item, {"number": name})
        number += count
        writer.commit()
        print(number, flush=True)
        if chance.random() < 0.15:
            compact(writer)
"""


def child(folder: Path, body: str) -> subprocess.Popen[str]:
    """A process that has imported the writer and opened the gallery "spring"."""
    head = f"""
        import sys
        from pathlib import Path
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
        from test_retrieval_store import add, files, tokens
        from unifashion_core.errors import GalleryBusyError, GalleryError
        from unifashion_core.retrieval.store import open_gallery
        from unifashion_core.retrieval.writer import GalleryWriter
        gallery = open_gallery(Path({str(folder / "spring")!r}))
        """
    code = textwrap.dedent(head) + textwrap.dedent(body)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def check_rows(gallery: Gallery, acknowledged: int) -> int:
    """All acknowledged rows are there, in order, as they were written; gives how many there are."""
    names = files(gallery)
    assert names[:acknowledged] == [f"{n:06d}.png" for n in range(acknowledged)]
    assert names == [f"{n:06d}.png" for n in range(len(names))]
    with gallery.snapshot() as snapshot:
        rows = snapshot.item_rows().token_rows
        stored = snapshot.vectors("tokens").gather(rows)
        snapshot.segments()
    for place in {*range(0, len(names), 97), *range(max(0, len(names) - 60), len(names))}:
        assert (stored[place] == tokens(1, place).astype("<f2")[0]).all()
    return len(names)


def kill_again_and_again(folder: Path, kills: int) -> int:
    """Kill a write loop at random moments; gives the rows that are there in the end."""
    gallery, chance, there = made(folder / "spring"), random.Random(5), 0
    for attempt in range(kills):
        process = child(folder, WRITE_LOOP.replace("FIRST", str(there)))
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        # By commits, not by the clock alone: a busy machine may need a second for the first one.
        seen = "".join(process.stdout.readline() for _ in range(chance.randint(0, 4)))
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        lines = (seen + process.stdout.read()).split("\n")
        process.wait()
        said = max([there, *(int(line) for line in lines[:-1] if line)])
        if attempt % 2:  # every other time, the next writer finds what was left
            found = validate(gallery.path)
            assert found.ok, found.problems
        there = check_rows(open_gallery(gallery.path), said)
        assert there <= said + 40  # at most one commit that could not say so any more
    assert validate(gallery.path).ok
    return there


@pytest.mark.slow
@unix
def test_twenty_kills_lose_no_acknowledged_row(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, 20) > 100


@unix
@pytest.mark.long
def test_two_hundred_kills_lose_no_acknowledged_row(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, 200) > 1000


FILL = """
number = 2
try:
    while number < 100_000:
        with GalleryWriter(gallery) as writer:
            for name in range(number, number + 200):
                add(writer, [f"{name:06d}.png"], seed=name)
        number += 200
        print(number, flush=True)
except GalleryError as e:
    print(e, flush=True)
"""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """A disk of 1 MB where mounting is allowed; else what limits the size of a file."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            try:
                yield ""
            finally:
                subprocess.run(["umount", str(folder)], capture_output=True, check=False)
            return
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
    yield limit


@unix
def test_a_full_disk_leaves_the_old_revision_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as limit:
        gallery = made(tmp_path / "disk" / "spring")
        with GalleryWriter(gallery) as writer:
            add(writer, ["000000.png"], seed=0)
            add(writer, ["000001.png"], seed=1)

        done = child(tmp_path / "disk", limit + FILL).communicate(timeout=120)[0].split("\n")

        assert "Make room on the disk" in done[-2] or "Check that the disk has room" in done[-2]
        said = max([2, *(int(line) for line in done if line.isdigit())])
        assert 2 < said < 100_000
        assert check_rows(open_gallery(gallery.path), said) == said
        assert validate(gallery.path).ok


@unix
def test_writers_that_compete_never_corrupt(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    body = """
        import os, time
        done = 0
        while done < 15:
            try:
                with GalleryWriter(gallery) as writer:
                    add(writer, [f"{os.getpid()}-{done}.png"], seed=done)
                done += 1
            except GalleryBusyError:
                time.sleep(0.002)
        """
    processes = [child(tmp_path, body) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]

    wanted = {f"{process.pid}-{n}.png" for process in processes for n in range(15)}
    assert set(files(gallery)) == wanted
    assert gallery.revision == 30
    with gallery.snapshot() as snapshot:
        items = snapshot.items(snapshot.item_rows().ids.tolist())
        rows = np.array([item.token_row for item in items])
        stored = snapshot.vectors("tokens").gather(rows)
    for item, values in zip(items, stored, strict=True):
        seed = int(item.file.split("-")[1].removesuffix(".png"))
        assert (values == tokens(1, seed).astype("<f2")[0]).all()
    assert validate(gallery.path).ok
