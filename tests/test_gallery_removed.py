"""Removed items: written down in few bytes, never seen again, gone for good after a compaction."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from retrieval_encoder import ProjectionEncoder
from test_gallery_faults import child
from test_gallery_upkeep import content, filled, first_format
from test_retrieval_store import add, files, made, tokens

from unifashion_core.errors import GalleryError, InputError
from unifashion_core.retrieval.compact import compact
from unifashion_core.retrieval.facets import count_values
from unifashion_core.retrieval.info import gallery_info
from unifashion_core.retrieval.reembed import reembed
from unifashion_core.retrieval.removal import remove_ids
from unifashion_core.retrieval.repair import repair
from unifashion_core.retrieval.schema import DATABASE
from unifashion_core.retrieval.search import search
from unifashion_core.retrieval.store import Gallery, open_gallery
from unifashion_core.retrieval.validate import validate
from unifashion_core.retrieval.writer import GalleryWriter
from unifashion_core.types import Embedding, Query, QueryPart

PAGE = 4096 + 24  # of the database's log, with its frame's header


def stored_items(gallery: Gallery) -> int:
    """Items that the database still holds, removed ones too."""
    connection = sqlite3.connect(gallery.path / DATABASE)
    (count,) = connection.execute("SELECT count(*) FROM items").fetchone()
    connection.close()
    return count


def test_a_hundred_removals_are_one_small_append(tmp_path: Path) -> None:
    gallery = made(tmp_path / "spring")
    log = gallery.path / f"{DATABASE}-wal"
    with GalleryWriter(gallery) as writer:
        ids = add(writer, [f"{n:05d}.png" for n in range(3000)])
        for item_id in ids:
            writer.put_columns(item_id, {"number": item_id})
        writer.commit()
        writer.remove(ids[::50])
        writer.commit()
        writer.connection.execute("PRAGMA wal_checkpoint(RESTART)")
        start = log.stat().st_size
        writer.connection.execute("UPDATE meta SET value = value WHERE key = 'revision'")
        one = log.stat().st_size  # the log begins anew: what it holds is this change, then the next
        assert one == start
        before = log.read_bytes()
        writer.remove(ids[7::30])
        writer.commit()
        after = log.read_bytes()
    changed = [
        n
        for n in range(len(after) // PAGE)
        if after[n * PAGE :][:PAGE] != before[n * PAGE :][:PAGE]
    ]
    assert len(changed) <= 6  # of some 250 pages
    assert gallery.count == 3000 - 60 - 100


def mean_best(query: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The slow form: mean over query tokens of the best item token."""
    return np.einsum("qd,ntd->nqt", query, stored.astype(np.float32)).max(2).mean(1)


def test_searches_after_removals_are_those_of_a_gallery_without_these_items(tmp_path: Path) -> None:
    gallery, chance = made(tmp_path / "spring"), random.Random(3)
    vectors = tokens(400, 1)
    with GalleryWriter(gallery) as writer:
        root = writer.root_id("/photos")
        for number, row in enumerate(writer.append("tokens", vectors)):
            name = f"{number:03d}.png"
            item = writer.put_image(root, name, 1, 2, name.encode().ljust(32), token_row=int(row))
            writer.put_columns(item, {"kind": ["dress", "coat", "hat"][number % 3]})
    live = list(range(1, 401))
    for _ in range(4):
        lost = chance.sample(live, 60)
        live = [item for item in live if item not in lost]
        assert remove_ids(gallery, [*lost, 9999]) == 60
        assert remove_ids(gallery, lost[:5]) == 0
        for seed, where in ((1, None), (2, "kind=coat"), (3, "kind!=hat")):
            query = tokens(1, 50 + seed)[0]
            part = QueryPart(torch.tensor(query, dtype=torch.float32), "image", 1.0)
            asked = Embedding((Query((part,)),), gallery.fingerprint)
            hits = search(gallery, asked, top_k=400, where=where).rows[0]

            passing = {None: (0, 1, 2), "kind=coat": (1,), "kind!=hat": (0, 1)}[where]
            wanted = [item for item in live if (item - 1) % 3 in passing]
            scores = mean_best(query, vectors[np.array(wanted) - 1].astype("<f2"))
            order = np.lexsort((np.array(wanted), -scores))
            assert sorted(hit.item_id for hit in hits) == wanted
            np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-6)
    assert validate(gallery.path).ok


def test_nothing_of_a_removed_item_is_seen(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 6)
    with GalleryWriter(gallery) as writer:
        writer.put_columns(2, {"only": "here"})
        writer.put_missing([2, 3], True)
        writer.commit()
        writer.remove([2, 2, 5])
        assert writer.count == 4
        assert [item.item_id for item in writer.items_of("/photos").values()] == [1, 3, 4, 6]
        assert writer.items_with(b"001.png".ljust(32)) == []
        assert len(writer.token_rows()) == 4

    opened = open_gallery(gallery.path)
    assert files(opened) == ["000.png", "002.png", "003.png", "005.png"]
    assert opened.columns == ("category", "number")
    with opened.snapshot() as snapshot:
        assert (snapshot.count, snapshot.missing) == (4, 1)
        with pytest.raises(GalleryError, match="no item 2"):
            snapshot.items([2])
        with pytest.raises(InputError, match="001.png is not in it"):
            snapshot.find([Path("001.png")])
    assert count_values(opened, "number").values == (("0", 1), ("2", 1), ("3", 1), ("5", 1))
    with pytest.raises(InputError, match="no column 'only'"):
        count_values(opened, "only")
    assert gallery_info(opened)["dead_rows"] == 2
    assert validate(opened.path).ok


def test_a_removed_file_comes_back_as_another_item(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 3)
    remove_ids(gallery, [1, 2])
    with GalleryWriter(gallery) as writer:
        (again,) = add(writer, ["000.png"], seed=9)
        writer.move(3, writer.root_id("/photos"), "001.png")
    assert again > 3
    opened = open_gallery(gallery.path)
    assert files(opened) == ["001.png", "000.png"]
    with opened.snapshot() as snapshot:
        assert [item.columns for item in snapshot.items([3, again])] == [
            {"category": "dress", "number": 2},
            {},
        ]
    assert stored_items(opened) == 2
    assert validate(opened.path).ok


def test_removals_that_are_rolled_back_did_not_happen(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 3)
    wanted = content(gallery)
    with GalleryWriter(gallery) as writer:
        writer.remove([1, 3])
        writer.rollback()
    assert content(open_gallery(gallery.path)) == wanted


def test_compaction_drops_what_is_held_of_removed_items(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 12)
    remove_ids(gallery, [1, 5, 6, 12])
    wanted = content(gallery)
    assert stored_items(gallery) == 12
    with GalleryWriter(gallery) as writer:
        assert compact(writer).removed == 4
    assert stored_items(gallery) == 8
    assert content(open_gallery(gallery.path)) == wanted
    with GalleryWriter(gallery) as writer:
        assert add(writer, ["new.png"]) == [13]  # ids are never used again
    assert validate(gallery.path).ok


def test_another_encoder_drops_what_is_held_of_removed_items(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 2)
    remove_ids(gallery, [1])
    encoder = ProjectionEncoder()
    encoder.name = "another"  # type: ignore[attr-defined] # what a loaded encoder has
    reembed(gallery.path, encoder)  # type: ignore[arg-type]
    assert stored_items(gallery) == 0  # the other one's picture is nowhere
    assert validate(gallery.path).ok


def test_repair_does_not_call_a_removed_item_lost(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "spring", 4)
    remove_ids(gallery, [1])
    segment = gallery.path / "tokens-000001.seg"
    data = bytearray(segment.read_bytes())
    data[3] ^= 1  # a vector of the first row
    segment.write_bytes(data)
    assert repair(open_gallery(gallery.path)).removed == []
    assert files(open_gallery(gallery.path)) == ["001.png", "002.png", "003.png"]
    assert validate(gallery.path).ok


@pytest.mark.parametrize("change", ["UPDATE gone SET item = 3", "UPDATE gone SET sum = sum + 1"])
def test_a_damaged_removal_is_named_and_never_served(tmp_path: Path, change: str) -> None:
    gallery = filled(tmp_path / "spring", 4)
    remove_ids(gallery, [2])
    (gallery.path / f"{DATABASE}.sum").unlink()
    connection = sqlite3.connect(gallery.path / DATABASE)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(change)
    connection.commit()
    connection.close()

    with pytest.raises(GalleryError, match="removed items"):
        files(open_gallery(gallery.path))
    (problem,) = validate(gallery.path).problems
    assert "removed item" in problem.detail
    assert repair(open_gallery(gallery.path)).removed == []
    assert files(open_gallery(gallery.path)) == ["000.png", "002.png", "003.png"]
    assert validate(gallery.path).ok


# ---- older formats


def second_format(path: Path) -> Gallery:
    """A gallery without a table of removed items."""
    gallery = filled(path)
    connection = sqlite3.connect(path / DATABASE)
    connection.executescript("DROP VIEW live; DROP TABLE gone; PRAGMA user_version = 2;")
    connection.close()
    (path / f"{DATABASE}.sum").unlink()
    return open_gallery(gallery.path)


def test_a_gallery_of_the_second_format_is_read_as_it_is(tmp_path: Path) -> None:
    wanted = content(filled(tmp_path / "new"))
    old = second_format(tmp_path / "old")
    before = {p.name: p.read_bytes() for p in old.path.iterdir() if "-shm" not in p.name}
    assert content(old) == wanted
    assert (old.count, old.columns) == (12, ("category", "number"))
    after = {p.name: p.read_bytes() for p in old.path.iterdir() if "-shm" not in p.name}
    assert {k: v for k, v in after.items() if v} == {k: v for k, v in before.items() if v}
    assert validate(old.path).ok


@pytest.mark.parametrize("build", [first_format, second_format])
def test_a_removal_brings_an_older_gallery_to_the_present_format(
    tmp_path: Path, build: type[Gallery]
) -> None:
    old = build(tmp_path / "old")
    wanted = content(old)
    assert remove_ids(old, [3]) == 1
    opened = open_gallery(old.path)
    assert content(opened) == wanted[:2] + wanted[3:] == content(old)
    assert gallery_info(opened)["format"] == 3
    assert validate(old.path).ok


def test_a_migration_that_is_stopped_leaves_the_second_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = second_format(tmp_path / "old")
    wanted = content(old)

    def stopped(connection: sqlite3.Connection, script: str) -> None:
        connection.execute(script.strip().split(";")[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("unifashion_core.retrieval.migrate.run_statements", stopped)
    with pytest.raises(KeyboardInterrupt):
        GalleryWriter(old)
    monkeypatch.undo()
    assert content(open_gallery(old.path)) == wanted
    assert gallery_info(open_gallery(old.path))["format"] == 2
    GalleryWriter(old).close()
    assert content(open_gallery(old.path)) == wanted


# ---- kills

REMOVE_LOOP = """
import random
from unifashion_core.retrieval.compact import compact
chance = random.Random(SEED)
with GalleryWriter(gallery) as writer:
    live = sorted(item.item_id for item in writer.items_of("/photos").values())
    print("begun", flush=True)
    while True:
        new = add(writer, [f"{SEED}-{live[-1] if live else 0}-{n}.png" for n in range(20)], seed=5)
        lost = chance.sample(live, min(len(live), chance.randint(1, 25)))
        writer.remove(lost)
        print("next", *new, "without", *lost, flush=True)
        writer.commit()
        live = sorted({*live, *new} - {*lost})
        print("done", flush=True)
        if chance.random() < 0.1:
            compact(writer)
"""


def kill_removals(folder: Path, kills: int) -> int:
    """Kill a loop that adds and removes at random moments; gives the commits that it said."""
    gallery, chance, live, commits = made(folder / "spring"), random.Random(6), set[int](), 0
    for attempt in range(kills):
        process = child(folder, REMOVE_LOOP.replace("SEED", str(attempt)))
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        seen = "".join(process.stdout.readline() for _ in range(2 * chance.randint(0, 5)))
        time.sleep(chance.uniform(0.0, 0.02))
        process.kill()
        lines = (seen + process.stdout.read()).split("\n")[:-1]
        process.wait()
        possible = live
        for line in lines:
            if line == "done":
                live, commits = possible, commits + 1
            else:
                new, lost = (
                    {int(word) for word in part.split()}
                    for part in line.removeprefix("next").split("without")
                )
                possible = (live | new) - lost
        if attempt % 2:
            found = validate(gallery.path)
            assert found.ok, found.problems
        with open_gallery(gallery.path).snapshot() as snapshot:
            there = set(snapshot.item_rows().ids.tolist())
            assert snapshot.count == len(there)
        assert there in (live, possible)  # the last commit may not have been able to say so
        live = there
    assert validate(gallery.path).ok
    return commits


unix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")


@unix
def test_kills_keep_every_acknowledged_removal(tmp_path: Path) -> None:
    assert kill_removals(tmp_path, 3) > 0


@pytest.mark.slow
@unix
def test_twenty_kills_keep_every_acknowledged_removal(tmp_path: Path) -> None:
    assert kill_removals(tmp_path, 20) > 20
