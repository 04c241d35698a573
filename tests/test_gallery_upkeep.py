"""Keeping a gallery well: compaction, validation, repair, the old format."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_retrieval_store import D, T, add, files, made, tokens

from unifashion_core.errors import GalleryError
from unifashion_core.retrieval.compact import compact
from unifashion_core.retrieval.repair import repair
from unifashion_core.retrieval.schema import DATABASE
from unifashion_core.retrieval.store import Gallery, open_gallery
from unifashion_core.retrieval.validate import validate
from unifashion_core.retrieval.writer import GalleryWriter


def filled(path: Path, count: int = 12) -> Gallery:
    """A gallery of single-row commits with captions and columns."""
    gallery = made(path)
    with GalleryWriter(gallery) as writer:
        for number in range(count):
            (item,) = add(writer, [f"{number:03d}.png"], seed=number)
            writer.put_columns(item, {"category": "dress", "number": number})
            caption = writer.append("captions", tokens(1, seed=1000 + number)[:, 0])
            writer.put_caption(item, int(caption[0]))
            writer.commit()
    return gallery


def content(gallery: Gallery) -> list[tuple[object, ...]]:
    """All that a gallery holds, without row numbers."""
    with gallery.snapshot() as snapshot:
        items = snapshot.items(snapshot.item_rows().ids.tolist())
        token_rows = np.array([item.token_row for item in items], np.int64)
        vectors = snapshot.vectors("tokens").gather(token_rows)
        captions = [
            None
            if item.caption_row is None
            else snapshot.vectors("captions").gather(np.array([item.caption_row])).tobytes()
            for item in items
        ]
        return [
            (item.file, item.columns, item.content, vector.tobytes(), caption)
            for item, vector, caption in zip(items, vectors, captions, strict=True)
        ]


def scanned(gallery: Gallery) -> dict[int, bytes]:
    """Row number -> bytes of vector, copy, scales and bound."""
    return {
        view.first_item + n: b"".join(
            c[n].tobytes() for c in (view.f16, view.int8, view.scales, view.bounds)
        )
        for view in gallery.segments()
        for n in range(view.count)
    }


def test_compaction_keeps_what_readers_see_and_drops_dead_rows(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        ids = [item for item in range(1, 13) if item % 3]
        writer.remove(set(range(1, 13)) - set(ids))
        writer.commit()
        before, revision = content(gallery), gallery.revision
        report = compact(writer)

    assert content(gallery) == before == content(open_gallery(gallery.path))
    assert (report.rows, report.removed, report.revision) == (8, 4, revision + 1)
    assert report.bytes_after < report.bytes_before
    assert len(gallery.segments()) == 1
    assert sorted(scanned(gallery)) == list(range(8))
    assert sorted(p.name for p in gallery.path.glob("*.seg")) == [
        "captions-000002.seg",
        "tokens-000002.seg",
    ]
    assert validate(gallery.path).ok


@pytest.mark.parametrize("sizes", [[5000], [1500, 1500, 1500], [2048, 1], [1, 2048, 2049]])
def test_rows_keep_their_numbers_over_full_segments(tmp_path: Path, sizes: list[int]) -> None:
    gallery = made(tmp_path / "spring")
    values = tokens(sum(sizes))
    with GalleryWriter(gallery) as writer:
        root, start = writer.root_id("/photos"), 0
        for size in sizes:  # one commit, whose rows fill segments in all ways
            rows = writer.append("tokens", values[start : start + size])
            assert rows.tolist() == list(range(start, start + size))
            for row in rows.tolist():
                writer.put_image(root, f"{row}.png", 1, 2, f"{row}".encode(), token_row=row)
            start += size
        writer.commit()
        for _ in range(2):
            with gallery.snapshot() as snapshot:
                stored = snapshot.vectors("tokens").gather(snapshot.item_rows().token_rows)
            assert (stored == values.astype("<f2")).all()
            assert sorted(scanned(gallery)) == list(range(start))
            compact(writer)
    assert validate(gallery.path).ok


def test_a_reader_during_compaction_keeps_its_revision_and_its_files(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring")
    reader = open_gallery(gallery.path)
    with reader.snapshot() as snapshot:
        rows = snapshot.item_rows()  # nothing is mapped yet
        with GalleryWriter(gallery) as writer:
            writer.remove([1, 2, 3])
            compact(writer)
        assert (gallery.path / "tokens-000001.seg").exists()
        stored = snapshot.vectors("tokens").gather(rows.token_rows)
        assert len(snapshot.segments()) == 12
    wanted = np.concatenate([tokens(1, seed=number) for number in range(12)])
    assert (stored == wanted.astype("<f2")).all()

    GalleryWriter(gallery).close()

    assert not (gallery.path / "tokens-000001.seg").exists()
    assert len(content(reader)) == 9


def test_a_stopped_compaction_changes_nothing(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring")
    before, names = content(gallery), sorted(os.listdir(gallery.path))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with GalleryWriter(gallery) as writer:
        with pytest.raises(KeyboardInterrupt):
            compact(writer, on_step=stop)
        add(writer, ["later.png"])
    assert content(gallery)[:-1] == before
    assert sorted(os.listdir(gallery.path)) == names
    assert validate(gallery.path).ok


def test_a_whole_gallery_validates(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring")
    steps: list[tuple[int, int]] = []
    found = validate(gallery.path, on_step=lambda *step: steps.append(step))
    assert (found.ok, found.problems, found.recovered, found.revision) == (True, (), (), 12)
    assert steps[-1][0] == steps[-1][1] > 0


def test_validation_cleans_what_a_kill_left_and_says_so(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring")
    with (gallery.path / "tokens-000001.seg").open("ab") as file:
        file.write(b"torn")
    (gallery.path / "tokens-000009.seg").write_bytes(b"never committed")

    with GalleryWriter(made(tmp_path / "other")):
        found = validate(gallery.path)

    assert found.ok
    assert found.recovered == (
        "tokens-000001.seg: 4 bytes behind the last commit removed",
        "tokens-000009.seg: a segment that was never committed removed",
    )
    assert validate(gallery.path).recovered == ()


def test_validation_beside_a_live_writer_only_reads(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring")
    with GalleryWriter(gallery) as writer:
        add(writer, ["new.png"])
        (gallery.path / "tokens-000009.seg").write_bytes(b"the writer's own")
        found = validate(gallery.path)
    assert (found.ok, found.recovered) == (True, ())
    assert (gallery.path / "tokens-000009.seg").exists()
    assert files(gallery)[-1] == "new.png"


def served_by(path: Path) -> tuple[object, str | None]:
    """All that readers get of a gallery, or what they are told."""
    try:
        return (content(open_gallery(path)), scanned(open_gallery(path))), None
    except GalleryError as e:
        return None, str(e)


def damage(path: Path, how: str, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    if how == "flip":
        data[place] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    elif how == "truncate":
        os.truncate(path, place)
    else:
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
@pytest.mark.parametrize("kind", ["tokens", "captions"])
def test_any_damage_to_vectors_is_named_and_never_served(
    tmp_path: Path, how: str, kind: str
) -> None:
    whole = filled(tmp_path / "whole")
    wanted = {row[0]: row for row in content(whole)}
    copies = scanned(whole)
    chance = random.Random(f"{how}{kind}")
    for attempt in range(12 if how != "remove" else 1):
        path = tmp_path / f"g{attempt}"
        shutil.copytree(whole.path, path)
        damage(path / f"{kind}-000001.seg", how, chance)

        found = validate(path)
        assert not found.ok
        assert {problem.path.name for problem in found.problems} == {f"{kind}-000001.seg"}
        served, said = served_by(path)
        assert said is None or f"{kind}-000001.seg" in said
        # Else the damage is in what a search of these rows never reads.
        assert said is not None or served == (list(wanted.values()), copies)

        report = repair(open_gallery(path))
        assert validate(path).ok
        after = {row[0]: row for row in content(open_gallery(path))}
        lost = {removed.name for removed in report.removed}
        assert set(after) == set(wanted) - lost
        assert all(row[:4] == wanted[name][:4] for name, row in after.items())
        assert kind == "tokens" or not lost
        shutil.rmtree(path)


def test_any_flip_in_the_database_is_named_and_never_served(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole", 6)
    wanted = content(whole)
    chance = random.Random(7)
    for attempt in range(30):
        path = tmp_path / f"g{attempt}"
        shutil.copytree(whole.path, path)
        damage(path / DATABASE, "flip", chance)
        with contextlib.suppress(GalleryError):
            assert content(open_gallery(path)) == wanted
        found = validate(path)
        assert DATABASE in {problem.path.name for problem in found.problems}
        assert validate(path).problems == found.problems
        shutil.rmtree(path)


def test_a_killed_writer_leaves_no_seal_that_could_raise_an_alarm(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 2)
    writer = GalleryWriter(gallery)
    add(writer, ["new.png"])
    writer.commit()
    shutil.copytree(gallery.path, tmp_path / "copy")  # what a kill would leave
    writer.close()
    assert validate(tmp_path / "copy").ok
    assert validate(gallery.path).ok


def test_repair_says_what_it_lost_and_a_new_index_would_bring_it_back(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 4)
    segment = gallery.path / "tokens-000001.seg"
    data = bytearray(segment.read_bytes())
    data[3] ^= 1  # a vector of the first row
    segment.write_bytes(data)

    report = repair(open_gallery(gallery.path))

    assert [path.as_posix() for path in report.removed] == ["/photos/000.png"]
    assert report.revision == 5
    assert files(open_gallery(gallery.path)) == ["001.png", "002.png", "003.png"]


def test_damaged_copies_are_made_again_without_a_loss(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 4)
    wanted, copies = content(gallery), scanned(gallery)
    segment = gallery.path / "tokens-000001.seg"
    data = bytearray(segment.read_bytes())
    data[64] ^= 1  # the copy of the first row
    segment.write_bytes(data)
    with pytest.raises(GalleryError, match=r"tokens-000001\.seg: its content is not what was"):
        open_gallery(gallery.path).segments()

    report = repair(open_gallery(gallery.path))

    assert report.removed == []
    assert content(open_gallery(gallery.path)) == wanted
    assert scanned(open_gallery(gallery.path)) == copies


def first_format(path: Path, build: Callable[[Path], Gallery] = filled) -> Gallery:
    """A gallery as version 0.1 wrote it: plain float16 files, no sums, no garbage."""
    gallery = build(path)
    with gallery.snapshot() as snapshot:
        for kind in ("tokens", "captions"):
            stored = [part for _, part in snapshot.vectors(kind).parts()]
            (path / f"{kind}-000001.f16").write_bytes(b"".join(p.tobytes() for p in stored))
    for file in [*path.glob("*.seg"), path / f"{DATABASE}.sum"]:
        file.unlink()
    connection = sqlite3.connect(path / DATABASE)
    (rows,) = connection.execute("SELECT count(*) FROM items").fetchone()
    connection.executescript(
        f"""
        DROP TRIGGER items_changed; DROP VIEW live; DROP TABLE gone;
        DROP TABLE segments; DROP TABLE garbage;
        CREATE TABLE segments (id INTEGER PRIMARY KEY, kind TEXT NOT NULL,
            file TEXT NOT NULL UNIQUE, first_row INTEGER NOT NULL, rows INTEGER NOT NULL);
        INSERT INTO segments (kind, file, first_row, rows) VALUES
            ('tokens', 'tokens-000001.f16', 0, {rows}),
            ('captions', 'captions-000001.f16', 0, {rows});
        DELETE FROM meta WHERE key = 'sum';
        ALTER TABLE items DROP COLUMN sum;
        PRAGMA user_version = 1;
        """
    )
    connection.close()
    return open_gallery(path)


def test_a_gallery_of_the_first_format_is_read_as_it_is(tmp_path: Path) -> None:
    wanted = content(filled(tmp_path / "new"))
    old = first_format(tmp_path / "old")
    assert content(old) == wanted
    assert scanned(old) == scanned(open_gallery(tmp_path / "new"))
    assert validate(old.path).ok
    assert not list(old.path.glob("*.seg"))


def test_the_first_writer_brings_a_gallery_to_the_present_format(tmp_path: Path) -> None:
    old = first_format(tmp_path / "old")
    wanted, revision = content(old), old.revision
    with GalleryWriter(old) as writer:
        writer.put_missing([1], True)

    opened = open_gallery(old.path)
    assert content(opened) == wanted == content(old)
    assert opened.revision == revision + 1
    assert sorted(p.suffix for p in old.path.glob("*-0*")) == [".seg", ".seg"]
    assert validate(old.path).ok


def test_a_migration_that_fails_leaves_the_old_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = first_format(tmp_path / "old")
    wanted = content(old)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unifashion_core.retrieval.appending.os.fsync", full)
    with pytest.raises(GalleryError, match="No space left"):
        GalleryWriter(old)
    monkeypatch.undo()
    assert content(open_gallery(old.path)) == wanted
    GalleryWriter(old).close()
    assert content(open_gallery(old.path)) == wanted
    assert (old.tokens_per_image, old.width) == (T, D)
