"""The gallery on disk: commits, crashes, locks, revisions, formats."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unifashion_core.errors import GalleryBusyError, GalleryError, ShapeError
from unifashion_core.retrieval import appending
from unifashion_core.retrieval.layout import Segment, segment_bytes
from unifashion_core.retrieval.schema import DATABASE
from unifashion_core.retrieval.store import Gallery, create_gallery, open_gallery
from unifashion_core.retrieval.writer import GalleryWriter

ROOT = Path(__file__).resolve().parents[1]
T, D = 2, 4
SMALL = segment_bytes(Segment("", 0, 4, 0, 0, 0), (T, D))
"""Bytes of a segment of 1 to 4 rows: each column is padded."""


def made(path: Path, fingerprint: str = "3f2a" * 16) -> Gallery:
    return create_gallery(
        path, fingerprint=fingerprint, tokens_per_image=T, width=D, encoder_name="tiny"
    )


def tokens(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, T, D))
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def add(writer: GalleryWriter, names: list[str], seed: int = 0) -> list[int]:
    root = writer.root_id("/photos")
    rows = writer.append("tokens", tokens(len(names), seed))
    return [
        writer.put_image(root, name, 1, 2, name.encode().ljust(32), token_row=int(row))
        for name, row in zip(names, rows, strict=True)
    ]


def files(gallery: Gallery) -> list[str]:
    with gallery.snapshot() as snapshot:
        return [item.file for item in snapshot.items(snapshot.item_rows().ids.tolist())]


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        first, _ = add(writer, ["a b/ä.png", "b.png"])
        writer.put_columns(first, {"category": "dress", "colours": ["red", "navy"], "price": 9.5})
        writer.put_caption(first, int(writer.append("captions", tokens(1)[:, 0])[0]))

    opened = open_gallery(tmp_path / "spring", fingerprint="3f2a" * 16)

    assert (opened.name, opened.tokens_per_image, opened.width) == ("spring", T, D)
    assert (opened.revision, opened.count) == (1, 2)
    assert opened.columns == ("category", "colours", "price")
    with opened.snapshot() as snapshot:
        rows = snapshot.item_rows()
        item, other = snapshot.items(rows.ids.tolist())
        assert item.path == Path("/photos/a b/ä.png")
        assert item.columns == {"category": "dress", "colours": ["red", "navy"], "price": 9.5}
        assert (item.caption_row, other.caption_row) == (0, None)
        assert rows.caption_rows.tolist() == [0, -1]
        stored = snapshot.vectors("tokens").gather(rows.token_rows)
    assert (stored == tokens(2).astype("<f2")).all()


def test_a_new_gallery_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unifashion_core.retrieval.store.os.rename", fail)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "spring")

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_creation_left_goes_with_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / ".spring.abcd.creating"
    left.mkdir()
    (left / DATABASE).write_bytes(b"half")
    (tmp_path / ".other.abcd.creating").mkdir()

    made(tmp_path / "spring")

    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.abcd.creating", "spring"]


def test_an_empty_folder_becomes_a_gallery_and_a_full_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    made(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()

    with pytest.raises(GalleryError, match="Gallery 'full': the folder holds other files"):
        made(tmp_path / "full")
    with pytest.raises(GalleryError, match="Gallery 'empty': there is one already"):
        made(tmp_path / "empty")


def test_opening_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"Gallery 'none': not found at .*Index a folder"):
        open_gallery(tmp_path / "none")


def test_another_encoder_is_refused_by_name(tmp_path: Path) -> None:
    made(tmp_path / "spring")

    with pytest.raises(
        GalleryError,
        match=r"Gallery 'spring': made with encoder 3f2a3f2a… \(tiny\), connected encoder is "
        r"91bc91bc…\. Re-index, or load the matching encoder\.",
    ):
        open_gallery(tmp_path / "spring", fingerprint="91bc" * 16)


def test_a_newer_format_is_refused_by_reader_and_writer(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with sqlite3.connect(gallery.path / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 99")

    wanted = "Gallery 'spring': made with format 99, this version reads up to 3. Update"
    with pytest.raises(GalleryError, match=wanted):
        open_gallery(gallery.path)
    with pytest.raises(GalleryError, match=wanted):
        GalleryWriter(gallery)


def test_a_file_that_is_no_database_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "spring").mkdir()
    (tmp_path / "spring" / DATABASE).write_bytes(b"not a database, not at all" * 50)
    with pytest.raises(GalleryError, match="its database can't be used"):
        open_gallery(tmp_path / "spring")

    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / DATABASE) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(GalleryError, match="is not a gallery's database"):
        open_gallery(tmp_path / "other")


def test_a_second_writer_is_refused_and_the_lock_ends_with_the_first(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with (
        GalleryWriter(gallery),
        pytest.raises(GalleryBusyError, match="another process is writing"),
    ):
        GalleryWriter(gallery)

    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png"])
    assert gallery.count == 1


def test_a_writer_in_another_process_is_seen(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    child = start(tmp_path, "print('ready', flush=True); time.sleep(60)")
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(GalleryBusyError):
            GalleryWriter(gallery)
    finally:
        child.kill()
        child.wait()

    GalleryWriter(gallery).close()  # the lock died with its process


def start(folder: Path, body: str) -> subprocess.Popen[str]:
    """A process that has a writer of the gallery "spring" open, running `body`."""
    code = textwrap.dedent(
        f"""
        import os, signal, sys, time
        from pathlib import Path
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
        from test_retrieval_store import add
        from unifashion_core.retrieval import appending, writer as module
        from unifashion_core.retrieval.store import open_gallery
        writer = module.GalleryWriter(open_gallery(Path({str(folder / "spring")!r})))
        """
    ) + textwrap.dedent(body)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


KILLED_WHERE = {
    "between fsync and commit": """
        save = writer._save_rows
        def die(*values):
            save(*values)
            os.kill(os.getpid(), signal.SIGKILL)
        writer._save_rows = die
        """,
    "before fsync": """
        appending.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        """,
    "inside a row": """
        class Torn(appending.FileIO):
            def write(self, data):
                super().write(data[: len(data) // 2 - 3])
                os.kill(os.getpid(), signal.SIGKILL)
        appender = writer._appenders["tokens"]
        appender._file = Torn(appender._folder / appender._name, "r+b")
        """,
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
@pytest.mark.parametrize("early_rows", [64, 2])  # written at the commit; from the append on
@pytest.mark.parametrize("where", KILLED_WHERE)
def test_a_kill_keeps_the_last_commit_and_loses_the_rest(
    tmp_path: Path, where: str, early_rows: int
) -> None:
    gallery = made(tmp_path / "spring")
    child = start(
        tmp_path,
        f"appending.EARLY_ROWS = {early_rows}\n"
        "add(writer, ['a.png', 'b.png']); writer.commit()\n"
        + textwrap.dedent(KILLED_WHERE[where])
        + "add(writer, ['c.png', 'd.png', 'e.png'], seed=1); writer.commit()\n",
    )
    assert child.wait(60) == -signal.SIGKILL

    assert files(gallery) == ["a.png", "b.png"]
    assert gallery.revision == 1
    segment = gallery.path / "tokens-000001.seg"
    assert segment.stat().st_size > SMALL
    with GalleryWriter(gallery) as writer:
        assert "bytes behind the last commit removed" in writer.recovered[0]
        assert segment.stat().st_size == SMALL
        add(writer, ["f.png"], seed=2)
    assert files(gallery) == ["a.png", "b.png", "f.png"]
    with gallery.snapshot() as snapshot:
        stored = snapshot.vectors("tokens").gather(snapshot.item_rows().token_rows)
    assert (stored == np.concatenate([tokens(2), tokens(1, 2)]).astype("<f2")).all()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_a_kill_at_any_moment_keeps_every_acknowledged_row(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    acknowledged = 0
    for delay in (0.0, 0.01, 0.03):
        child = start(
            tmp_path,
            f"""
            first = {acknowledged}
            for number in range(first, first + 10_000):
                add(writer, [f"{{number:05d}}.png"], seed=number)
                writer.commit()
                print(number + 1, flush=True)
            """,
        )
        assert child.stdout is not None
        child.stdout.readline()
        threading.Event().wait(delay)
        child.kill()
        lines = child.stdout.read().split("\n")
        child.wait()
        acknowledged = max([acknowledged + 1, *(int(line) for line in lines[:-1] if line)])
        found = files(gallery)
        assert found[:acknowledged] == [f"{n:05d}.png" for n in range(acknowledged)]
        assert len(found) <= acknowledged + 1  # committed, and killed before it could say so
        acknowledged = len(found)
    with gallery.snapshot() as snapshot:
        stored = snapshot.vectors("tokens").gather(snapshot.item_rows().token_rows)
    wanted = np.concatenate([tokens(1, seed) for seed in range(acknowledged)])
    assert (stored == wanted.astype("<f2")).all()


def test_a_segment_that_was_never_committed_is_removed(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    (gallery.path / "tokens-000001.seg").write_bytes(b"x" * 40)

    with GalleryWriter(gallery) as writer:
        assert writer.recovered == (
            "tokens-000001.seg: a segment that was never committed removed",
        )
        add(writer, ["a.png"])

    assert files(gallery) == ["a.png"]


def test_an_error_inside_rolls_everything_back(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png"])

    def interrupted() -> None:
        with GalleryWriter(gallery) as writer:
            add(writer, ["b.png"])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()

    assert files(gallery) == ["a.png"]
    assert gallery.revision == 1
    assert (gallery.path / "tokens-000001.seg").stat().st_size == SMALL


def test_changes_together_happen_all_or_not_at_all(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png"])
        changes = writer.together()
        changes.__enter__()
        add(writer, ["b.png"])
        assert not changes.__exit__(RuntimeError, RuntimeError(), None)
        add(writer, ["c.png"], seed=5)

    assert files(gallery) == ["a.png", "c.png"]


@pytest.mark.parametrize("early_rows", [64, 1])
def test_a_full_disk_leaves_the_old_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early_rows: int
) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    writer = GalleryWriter(gallery)
    monkeypatch.setattr("unifashion_core.retrieval.appending.os.fsync", full)
    monkeypatch.setattr("unifashion_core.retrieval.appending.EARLY_ROWS", early_rows)
    add(writer, ["b.png"])
    for _ in range(2):  # what failed once is never committed later
        with pytest.raises(GalleryError, match=r"No space left.*Make room"):
            writer.commit()
    writer.rollback()
    writer.close()
    monkeypatch.undo()

    assert files(gallery) == ["a.png"]


def refused(*_: int) -> None:
    raise OSError(22, "Invalid argument")


@pytest.mark.parametrize("advise", [None, refused])
def test_a_system_that_takes_no_hints_stores_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advise: Callable[..., None] | None
) -> None:
    galleries = [made(tmp_path / name) for name in ("spring", "summer")]
    monkeypatch.setattr(appending, "DISK_BYTES", 1)
    with GalleryWriter(galleries[0]) as writer:
        add(writer, ["a.png", "b.png"])
    monkeypatch.setattr(appending, "_ADVISE", advise)
    with GalleryWriter(galleries[1]) as writer:
        add(writer, ["a.png", "b.png"])
    segments = [(g.path / "tokens-000001.seg").read_bytes() for g in galleries]
    assert segments[0] == segments[1]
    assert files(galleries[1]) == ["a.png", "b.png"]


def test_ctrl_c_inside_a_write_ends_the_writer_and_keeps_the_old_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png"])

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def write() -> None:
        with GalleryWriter(gallery) as writer:
            add(writer, ["b.png"])
            with monkeypatch.context() as patched:
                patched.setattr("unifashion_core.retrieval.appending.os.fsync", interrupted)
                writer.commit()

    with pytest.raises(KeyboardInterrupt):
        write()

    assert files(gallery) == ["a.png"]
    with GalleryWriter(gallery) as writer:
        add(writer, ["c.png"], seed=1)
    assert files(gallery) == ["a.png", "c.png"]


def test_a_reader_keeps_its_revision_while_a_writer_commits(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png"])
        writer.commit()
        with gallery.snapshot() as before:
            add(writer, ["b.png"], seed=1)
            assert (before.revision, before.count) == (1, 1)
            writer.commit()
            assert (before.revision, before.count) == (1, 1)
            assert len(before.item_rows()) == 1
            with gallery.snapshot() as after:
                assert (after.revision, after.count) == (2, 2)
                assert len(after.item_rows()) == 2
            assert len(before.item_rows()) == 1
            assert len(before.vectors("tokens")) == 1


def test_readers_in_threads_see_whole_commits_only(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    stop, wrong = threading.Event(), list[str]()

    def read() -> None:
        while not stop.is_set():
            with gallery.snapshot() as snapshot:
                rows = snapshot.item_rows()
                if len(rows) != 3 * snapshot.revision:
                    wrong.append(f"{len(rows)} at {snapshot.revision}")
                snapshot.vectors("tokens").gather(rows.token_rows)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with GalleryWriter(gallery) as writer:
        for number in range(15):
            add(writer, [f"{number}-{n}.png" for n in range(3)])
            writer.commit()
    stop.set()
    for reader in readers:
        reader.join()

    assert wrong == []
    assert gallery.count == 45


def test_a_commit_without_a_change_makes_no_revision(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png"])
    with GalleryWriter(gallery) as writer:
        writer.root_id("/photos")
        writer.commit()
        writer.commit()

    assert gallery.revision == 1


def test_segments_are_rotated_and_read_as_one(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery, file_bytes=2 * SMALL) as writer:
        for number in range(5):
            add(writer, [f"{number}.png"], seed=number)
            if number != 3:
                writer.commit()
    with GalleryWriter(gallery, file_bytes=2 * SMALL) as writer:
        add(writer, ["5.png"], seed=5)

    names = sorted(path.name for path in gallery.path.glob("*.seg"))
    assert names == [f"tokens-00000{n}.seg" for n in (1, 2, 3)]
    with gallery.snapshot() as snapshot:
        stored = snapshot.vectors("tokens").gather(np.arange(6))
    assert (stored == np.concatenate([tokens(1, n) for n in range(6)]).astype("<f2")).all()


def test_a_damaged_segment_is_named_and_not_served(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png", "b.png"])
    segment = gallery.path / "tokens-000001.seg"
    os.truncate(segment, 60)

    wanted = rf"tokens-000001\.seg holds 60 bytes, {SMALL} were committed"
    with pytest.raises(GalleryError, match=wanted), gallery.snapshot() as snapshot:
        snapshot.vectors("tokens")
    with pytest.raises(GalleryError, match=wanted):
        GalleryWriter(gallery)
    segment.unlink()
    with pytest.raises(GalleryError, match=r"tokens-000001\.seg can't be read"):
        GalleryWriter(gallery)
    assert not segment.exists()


@pytest.mark.parametrize(
    "bad", [np.full((1, T, D), np.nan), np.ones((1, T, D)), np.zeros((1, T, D))]
)
def test_vectors_that_are_not_unit_long_are_refused(tmp_path: Path, bad: np.ndarray) -> None:
    with (
        GalleryWriter(made(tmp_path / "spring")) as writer,
        pytest.raises(ShapeError, match="aren't unit vectors"),
    ):
        writer.append("tokens", bad)


def test_vectors_of_another_shape_are_refused(tmp_path: Path) -> None:
    with (
        GalleryWriter(made(tmp_path / "spring")) as writer,
        pytest.raises(ShapeError, match=r"shape \(3, 4\), wanted \(2, 4\)"),
    ):
        writer.append("tokens", np.ones((1, 3, 4)))


def test_item_ids_are_never_used_again(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        ids = add(writer, ["a.png", "b.png"])
        writer.put_columns(ids[1], {"category": "hat"})
        writer.remove(ids)
        assert add(writer, ["a.png"])[0] > max(ids)

    assert gallery.columns == ()  # the cells went with their item


def test_reading_writes_nothing(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["a.png"])
    before = {p.name: p.read_bytes() for p in gallery.path.iterdir() if "-shm" not in p.name}

    assert files(open_gallery(gallery.path)) == ["a.png"]

    after = {p.name: p.read_bytes() for p in gallery.path.iterdir() if "-shm" not in p.name}
    assert {k: v for k, v in after.items() if v} == {k: v for k, v in before.items() if v}


def test_the_store_loads_neither_torch_nor_the_encoder() -> None:
    code = (
        "import importlib, sys\n"
        "for name in ('writer', 'metadata', 'validate', 'repair', 'compact', 'migrate', 'info', "
        "'transfer', 'duplicates', 'facets', 'removal', 'qdrant', 'server', 'connections'):\n"
        "    importlib.import_module(f'unifashion_core.retrieval.{name}')\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers') "
        "or m.startswith('unifashion_core.encoder')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
