"""Captioning a folder: what is written, kept, renewed and reported."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from caption_teller import Style, Teller, save_pictures

from unifashion_core.caption.folder import caption_folder
from unifashion_core.caption.sidecars import LISTING, CaptionListing
from unifashion_core.caption.stream import StreamOptions
from unifashion_core.caption.targets import CaptionResult, find_targets
from unifashion_core.errors import FolderError, InputError


def run(
    images: Path | list[Path],
    teller: Teller | None = None,
    style: Style | None = None,
    out: Path | None = None,
    **options: Any,
) -> dict[str, CaptionResult]:
    """Caption; results by file name."""
    targets, _ = find_targets([images] if isinstance(images, Path) else images, out)
    return {
        result.path.name: result
        for target in targets
        for result in caption_folder(target, teller or Teller(), style or Style(), **options)
    }


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LISTING).read_text("utf-8").splitlines()]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_text_lies_beside_each_picture_and_the_listing_holds_output_and_state(tmp_path):
    save_pictures(tmp_path, "red-1.png", "more/blue-1.png")
    results = run(tmp_path)
    assert (tmp_path / "red-1.txt").read_text("utf-8") == "a red dress"
    assert (tmp_path / "more/blue-1.txt").read_text("utf-8") == "a blue dress"
    first, second = lines(tmp_path)
    assert (first["path"], second["path"]) == ("more/blue-1.png", "red-1.png")
    assert second["caption"] == second["raw"] == "a red dress"
    assert second["attributes"]["colours"] == [{"name": "red", "share": 0.75}]
    assert second["image_sha256"] == sha((tmp_path / "red-1.png").read_bytes())
    assert second["captioner"] == Teller().fingerprint
    assert second["style"] == "plain"
    assert second["text"] == "red-1.txt"
    assert second["text_sha256"] == sha((tmp_path / "red-1.txt").read_bytes())
    assert all(result.made for result in results.values())
    assert results["red-1.png"].to_json() == {
        "path": str(tmp_path / "red-1.png"),
        "caption": "a red dress",
        "attributes": second["attributes"],
    }


def test_a_second_run_captions_nothing_and_says_the_same(tmp_path):
    save_pictures(tmp_path, "red-1.png", "blue-1.png")
    first = run(tmp_path)
    before = (tmp_path / LISTING).read_bytes()
    again = Teller()
    second = run(tmp_path, again)
    assert again.told == []
    assert [r.made for r in second.values()] == [False, False]
    assert [r.to_json() for r in second.values()] == [r.to_json() for r in first.values()]
    assert (tmp_path / LISTING).read_bytes() == before


def test_nothing_is_written_or_read_beside_the_pictures_without_write(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    run(tmp_path)
    listed = sorted(p.name for p in tmp_path.iterdir())
    teller = Teller(version=2)
    results = run(tmp_path, teller, write=())
    assert results["red-1.png"].caption == "a red dress 2"
    assert sorted(p.name for p in tmp_path.iterdir()) == listed
    assert lines(tmp_path)[0]["captioner"] == Teller().fingerprint


def test_text_alone_brings_the_listing_and_the_listing_alone_no_text(tmp_path):
    for name, write in (("a", ["txt"]), ("b", ["jsonl"])):
        save_pictures(tmp_path / name, "red-1.png")
        run(tmp_path / name, write=write)
        assert (tmp_path / name / LISTING).is_file()
    assert (tmp_path / "a/red-1.txt").is_file()
    assert not (tmp_path / "b/red-1.txt").exists()
    assert lines(tmp_path / "b")[0]["text_sha256"] is None
    teller = Teller()
    run(tmp_path / "b", teller)
    assert teller.told == []
    assert (tmp_path / "b/red-1.txt").read_text("utf-8") == "a red dress"


@pytest.mark.parametrize("change", ["image", "captioner", "style"])
def test_a_text_of_ours_is_renewed(tmp_path, change):
    save_pictures(tmp_path, "red-1.png", "blue-1.png")
    run(tmp_path)
    teller, style = Teller(), Style()
    if change == "image":
        (tmp_path / "blue-1.png").replace(tmp_path / "red-1.png")
        save_pictures(tmp_path, "blue-1.png")
        expected, told = "a blue dress", 1
    elif change == "captioner":
        teller = Teller(version=2)
        expected, told = "a red dress 2", 2
    else:
        style = Style("prefix", "photo of ")
        expected, told = "photo of a red dress", 0  # the words are known
    results = run(tmp_path, teller, style)
    assert (tmp_path / "red-1.txt").read_text("utf-8") == expected
    assert len(teller.told) == told
    assert results["red-1.png"].made
    assert len(lines(tmp_path)) == 2  # the replaced lines are gone


@pytest.mark.parametrize("earlier", [False, True])
def test_a_text_of_somebody_else_is_kept_and_reported(tmp_path, earlier):
    save_pictures(tmp_path, "red-1.png", "blue-1.png")
    if earlier:  # one of ours that the user has changed
        run(tmp_path)
    (tmp_path / "red-1.txt").write_text("my words\n", "utf-8")
    for teller in (Teller(), Teller(), Teller(version=2)):
        results = run(tmp_path, teller)
        assert (tmp_path / "red-1.txt").read_text("utf-8") == "my words\n"
        assert "red-1.txt" in (results["red-1.png"].kept or "")
        assert results["red-1.png"].to_json()["kept"] == results["red-1.png"].kept
        assert results["blue-1.png"].kept is None
    run(tmp_path, Teller(version=2), overwrite=True)
    assert (tmp_path / "red-1.txt").read_text("utf-8") == "a red dress 2"
    assert run(tmp_path, Teller(version=2))["red-1.png"].kept is None


def test_a_text_that_was_deleted_is_written_again_without_the_captioner(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    run(tmp_path)
    (tmp_path / "red-1.txt").unlink()
    teller = Teller()
    run(tmp_path, teller)
    assert (tmp_path / "red-1.txt").read_text("utf-8") == "a red dress"
    assert teller.told == []


def test_of_two_pictures_of_one_stem_the_second_fails(tmp_path):
    save_pictures(tmp_path, "red-1.png", "red-1.jpg", "more/red-1.png")
    for _ in range(2):
        (target,), _ = find_targets([tmp_path])
        results = list(caption_folder(target, Teller(), Style()))
        wrong = [r for r in results if r.error is not None]
        assert [r.path for r in wrong] == [tmp_path / "red-1.png"]  # second by name
        assert "red-1.jpg" in str(wrong[0].error)
        assert {line["path"] for line in lines(tmp_path)} == {"red-1.jpg", "more/red-1.png"}


def test_the_picture_that_has_the_text_keeps_it_when_another_of_its_stem_comes(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    run(tmp_path)
    save_pictures(tmp_path, "red-1.jpg")
    results = run(tmp_path)
    assert results["red-1.png"].error is None
    assert "red-1.png" in (results["red-1.jpg"].error or "")


def test_a_renamed_picture_takes_over_its_text(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    run(tmp_path)
    (tmp_path / "red-1.png").rename(tmp_path / "red-1.webp")
    results = run(tmp_path, Teller(version=2))
    assert results["red-1.webp"].error is None
    assert (tmp_path / "red-1.txt").read_text("utf-8") == "a red dress 2"


def test_captions_of_several_folders_go_to_one_place(tmp_path):
    save_pictures(tmp_path / "a", "red-1.png", "deep/blue-1.png")
    single = save_pictures(tmp_path / "b", "green-1.png", "red-1.png")
    out = tmp_path / "out"
    results = run([tmp_path / "a", *single], out=out)
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.txt")} == {
        "red-1.txt",
        "deep/blue-1.txt",
        "green-1.txt",
    }
    assert sum(r.error is not None for r in results.values()) == 1  # two of one stem
    assert not list((tmp_path / "a").rglob("*.txt"))
    assert {line["path"] for line in lines(out)} == {
        "../a/red-1.png",
        "../a/deep/blue-1.png",
        "../b/green-1.png",
    }


def test_broken_black_and_missing_pictures_fail_alone(tmp_path):
    save_pictures(tmp_path, "red-1.png", "black-1.png", "blue-1.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    files = [*sorted(tmp_path.iterdir()), tmp_path / "gone.png"]
    results = run(files)
    wrong = {name: r.error for name, r in results.items() if r.error}
    assert set(wrong) == {"black-1.png", "broken.jpg", "gone.png"}
    assert all(name in reason for name, reason in wrong.items())
    assert set(results["broken.jpg"].to_json()) == {"path", "error"}
    assert {line["path"] for line in lines(tmp_path)} == {"red-1.png", "blue-1.png"}
    assert not (tmp_path / "black-1.txt").exists()


def test_a_picture_that_fails_keeps_its_earlier_caption(tmp_path):
    (path,) = save_pictures(tmp_path, "red-1.png")
    run(tmp_path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n no more")
    assert run(tmp_path)["red-1.png"].error is not None
    assert lines(tmp_path)[0]["caption"] == "a red dress"
    assert (tmp_path / "red-1.txt").read_text("utf-8") == "a red dress"


def test_a_captioner_without_attributes_leaves_them_null(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    results = run(tmp_path, Teller(abilities=frozenset({"caption"})))
    assert results["red-1.png"].to_json()["attributes"] is None


def test_batches_hold_as_many_pictures_as_asked(tmp_path):
    save_pictures(tmp_path, *(f"red-{n}.png" for n in range(7)))
    teller = Teller()
    run(tmp_path, teller, options=StreamOptions(batch_size=3))
    assert teller.batches == [3, 3, 1]
    with pytest.raises(InputError, match="batch size 0"):
        StreamOptions(batch_size=0)


def test_another_seed_is_another_caption(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    run(tmp_path)
    teller = Teller()
    run(tmp_path, teller, options=StreamOptions(seed=5))
    run(tmp_path, teller, options=StreamOptions(seed=5))
    assert teller.told == ["a red dress"]


class Stop(BaseException):
    """What a user's cancel raises."""


def test_cancelling_keeps_what_is_done_and_the_next_run_makes_the_rest(tmp_path):
    save_pictures(tmp_path, *(f"green-{n}.png" for n in range(9)))

    def stop(done: int, total: int) -> None:
        assert total == 9
        if done >= 4:
            raise Stop

    first, second = Teller(), Teller()
    with pytest.raises(Stop):
        run(tmp_path, first, options=StreamOptions(batch_size=2), on_step=stop)
    assert len(lines(tmp_path)) == len(list(tmp_path.glob("*.txt"))) == 4
    run(tmp_path, second)
    assert len(first.told) + len(second.told) == 9
    assert len(list(tmp_path.glob("*.txt"))) == 9


def test_a_torn_last_line_is_repaired_and_only_its_picture_is_made_again(tmp_path):
    save_pictures(tmp_path, "blue-1.png", "red-1.png")
    run(tmp_path)
    listing = tmp_path / LISTING
    data = listing.read_bytes()
    for cut in range(data.index(b"\n") + 2, len(data) - 1, 23):
        listing.write_bytes(data[:cut])
        (tmp_path / "red-1.txt").unlink(missing_ok=True)
        teller = Teller()
        run(tmp_path, teller)
        assert teller.told == ["a red dress"]
        assert listing.read_bytes() == data


def test_a_last_line_without_its_end_counts(tmp_path):
    save_pictures(tmp_path, "blue-1.png", "red-1.png")
    run(tmp_path)
    listing = tmp_path / LISTING
    listing.write_bytes(listing.read_bytes().rstrip(b"\n"))
    save_pictures(tmp_path, "green-1.png")
    teller = Teller()
    run(tmp_path, teller)
    assert teller.told == ["a green dress"]
    assert len(lines(tmp_path)) == 3


def test_a_kill_between_line_and_text_leaves_the_old_text_ours(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    run(tmp_path)
    old = (tmp_path / "red-1.txt").read_bytes()
    line = (tmp_path / LISTING).read_bytes()
    run(tmp_path, Teller(version=2))
    renewed = (tmp_path / LISTING).read_bytes()
    (tmp_path / LISTING).write_bytes(line + renewed)  # before tidying, and before the text
    (tmp_path / "red-1.txt").write_bytes(old)
    teller = Teller(version=2)
    results = run(tmp_path, teller)
    assert results["red-1.png"].kept is None
    assert (tmp_path / "red-1.txt").read_text("utf-8") == "a red dress 2"
    assert teller.told == []


@pytest.mark.parametrize("content", ['{"file_name": "a.png", "text": "mine"}', "words\n", "[1]\n"])
def test_another_programs_listing_is_refused_and_unchanged(tmp_path, content):
    save_pictures(tmp_path, "red-1.png")
    (tmp_path / LISTING).write_text(content, "utf-8")
    with pytest.raises(InputError, match=r"captions\.jsonl, line 1: not a line"):
        run(tmp_path)
    assert (tmp_path / LISTING).read_text("utf-8") == content
    assert not (tmp_path / "red-1.txt").exists()


def test_lines_of_another_process_survive_tidying(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    run(tmp_path)
    ours = CaptionListing(tmp_path)
    other = CaptionListing(tmp_path)
    record = ours.records["red-1.png"]
    ours.append([record])
    other.append([record])
    ours.tidy()
    assert len(lines(tmp_path)) == 3
    CaptionListing(tmp_path).tidy()
    assert len(lines(tmp_path)) == 1


def test_no_picture_and_an_unknown_output_are_refused(tmp_path):
    with pytest.raises(FolderError, match="no picture"):
        find_targets([tmp_path])
    save_pictures(tmp_path, "red-1.png")
    with pytest.raises(InputError, match="can't write csv, wanted txt or jsonl"):
        run(tmp_path, write=["csv"])


def test_no_part_of_a_text_is_ever_seen_and_no_leftover_stays(tmp_path):
    save_pictures(tmp_path, "red-1.png")
    (tmp_path / "red-1.txt").mkdir()  # a text that can't be written
    assert "red-1.txt" in (run(tmp_path)["red-1.png"].error or "")
    assert sorted(p.name for p in tmp_path.iterdir()) in (
        ["captions.jsonl", "red-1.png", "red-1.txt"],
        ["red-1.png", "red-1.txt"],
    )
