"""The manifest: killed, torn, damaged, edited, and of another job."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from unifashion_core.errors import FolderError, InputError
from unifashion_core.rendering.manifest import Job, Line, Manifest

ROOT = Path(__file__).resolve().parent.parent
JOB = Job("f" * 64, "plan", {"model": "tiny"})


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def make(manifest: Manifest, item: str, index: int, *names: str) -> None:
    files = manifest.save([("9", name, png()) for name in names or (f"{index}_{item}.png",)])
    manifest.add(Line(item, index, "done", files, 1.0, 7))


def lines(folder: Path) -> list[dict]:
    return [json.loads(t) for t in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


def test_a_finished_item_is_known_by_the_next_run(tmp_path):
    with Manifest.open(tmp_path, JOB) as manifest:
        make(manifest, "a", 0)
        manifest.add(Line("b", 1, "failed", error="no person"))
    (line, failed) = lines(tmp_path)
    assert set(line) == {
        *("id", "index", "state", "files", "seconds", "seed", "scores", "error"),
    }
    assert set(line["files"][0]) == {"node", "file", "sha256"}
    assert failed["error"] == "no person"
    with Manifest.open(tmp_path, JOB) as manifest:
        assert manifest.finished(["a", "b", "c"]) == {"a"}


def test_a_torn_last_line_is_cut(tmp_path):
    with Manifest.open(tmp_path, JOB) as manifest:
        make(manifest, "a", 0)
        make(manifest, "b", 1)
    listing = tmp_path / "manifest.jsonl"
    whole = listing.read_bytes()
    first = whole.index(b"\n") + 1
    for end in [*range(first, len(whole) - 1, 11), len(whole) - 2]:
        for tail in (b"", b"\n", b"\0\0\0"):
            listing.write_bytes(whole[:end] + tail)
            with Manifest.open(tmp_path, JOB) as manifest:
                assert manifest.finished(["a", "b"]) == {"a"}
            assert listing.read_bytes() == whole[:first]
    listing.write_bytes(whole[:-1])  # only the line's end is missing
    with Manifest.open(tmp_path, JOB) as manifest:
        assert manifest.finished(["a", "b"]) == {"a", "b"}
    assert listing.read_bytes() == whole


def test_a_foreign_line_in_the_middle_is_told(tmp_path):
    with Manifest.open(tmp_path, JOB) as manifest:
        make(manifest, "a", 0)
    listing = tmp_path / "manifest.jsonl"
    listing.write_bytes(b"not ours\n" + listing.read_bytes())
    with pytest.raises(InputError, match="line 1: not a line that render wrote"):
        Manifest.open(tmp_path, JOB)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_picture_is_made_again_and_no_id_is_done_twice(tmp_path, damage):
    with Manifest.open(tmp_path, JOB) as manifest:
        make(manifest, "a", 0)
        make(manifest, "b", 1)
    picture = tmp_path / "0_a.png"
    picture.unlink() if damage == "gone" else picture.write_bytes(picture.read_bytes()[:-9])
    with Manifest.open(tmp_path, JOB) as manifest:
        assert manifest.finished(["a", "b"]) == {"b"}
        with pytest.raises(InputError, match="done already"):
            make(manifest, "a", 0)
        manifest.forget(["a"])
        make(manifest, "a", 0)
    assert sorted(line["id"] for line in lines(tmp_path)) == ["a", "b"]
    with Manifest.open(tmp_path, JOB) as manifest:
        assert manifest.finished(["a", "b"]) == {"a", "b"}


def test_a_picture_without_its_line_is_adopted_only_whole(tmp_path):
    with Manifest.open(tmp_path, JOB) as manifest:
        manifest.save([(None, "whole.png", png()), (None, "torn.png", png()[:-30])])
        (tmp_path / "words.png").write_bytes(b"not a picture")
        assert manifest.adopt("a", 0, "whole.png", None, 7)
        assert not manifest.adopt("b", 1, "torn.png", None, 7)
        assert not manifest.adopt("c", 2, "words.png", None, 7)
        assert not manifest.adopt("d", 3, "absent.png", None, 7)
        assert not manifest.adopt("e", 4, "whole.png", None, 7)  # a line lists it
        with pytest.raises(InputError, match="leaves the folder"):
            manifest.adopt("f", 5, "../whole.png", None, 7)
    with Manifest.open(tmp_path, JOB) as manifest:
        assert manifest.finished("abcde") == {"a"}


def test_another_jobs_folder_and_a_full_one_are_refused(tmp_path):
    with Manifest.open(tmp_path, JOB) as manifest:
        make(manifest, "a", 0)
    other = Job("0" * 64, "workflow", {})
    with pytest.raises(FolderError, match="holds another job"):
        Manifest.open(tmp_path, other)
    with pytest.raises(FolderError, match="not empty"):
        Manifest.open(tmp_path, JOB, fresh=True)
    (tmp_path / "job.json").unlink()
    with pytest.raises(FolderError, match=r"has a manifest.jsonl and no job.json"):
        Manifest.open(tmp_path, JOB)
    Manifest.open(tmp_path / "new", other, fresh=True).close()


def test_one_process_at_a_time(tmp_path):
    with (
        Manifest.open(tmp_path, JOB),
        pytest.raises(FolderError, match="another process renders"),
    ):
        Manifest.open(tmp_path, JOB)


def test_looking_writes_nothing(tmp_path):
    folder = tmp_path / "run"
    assert Manifest.look(folder, JOB).lines == {}
    assert not folder.exists()
    with Manifest.open(folder, JOB) as manifest:
        make(manifest, "a", 0)
    torn = (folder / "manifest.jsonl").read_bytes() + b'{"id": "b'
    (folder / "manifest.jsonl").write_bytes(torn)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    assert Manifest.look(folder, JOB).finished(["a"]) == {"a"}
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


_WRITER = """
import io, sys
from pathlib import Path
from PIL import Image
from unifashion_core.rendering.manifest import Job, Line, Manifest
noise = Image.effect_noise((400, 400), 90).convert("RGB")
buffer = io.BytesIO(); noise.save(buffer, format="PNG"); data = buffer.getvalue()
with Manifest.open(Path(sys.argv[1]), Job("f" * 64, "plan", {})) as manifest:
    done = manifest.finished(str(n) for n in range(10_000))
    for n in range(10_000):
        if str(n) in done:
            continue
        files = manifest.save([(None, f"{n}.png", data)])
        manifest.add(Line(str(n), n, "done", files, 0.1, n))
        print(n, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_whole_pictures_and_lines(tmp_path):
    folder = tmp_path / "run"
    told: set[int] = set()
    for round_number in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(8 + round_number):
            told.add(int(process.stdout.readline()))
        time.sleep(0.003 * round_number)
        os.kill(process.pid, signal.SIGKILL)
        told |= {int(n) for n in process.stdout.read().split()}
        process.wait()
        with Manifest.open(folder, JOB) as manifest:
            done = manifest.finished(str(n) for n in range(10_000))
        assert {str(n) for n in told} <= done  # what was told is on the disk
        ids = [line["id"] for line in lines(folder)]
        assert len(ids) == len(set(ids))
        for picture in folder.glob("[0-9]*.png"):
            Image.open(picture).load()
