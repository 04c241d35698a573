"""Downloads of known weights, against a hub on this machine: whole, right, or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from stand_in_hub import Hub, stand_in_hub

from unifashion_core.errors import DownloadError, InputError
from unifashion_core.weights import licence_of, transfer
from unifashion_core.weights.download import by_hand, download_weights
from unifashion_core.weights.known import KnownFile, KnownWeights, find_known, known_weights
from unifashion_core.weights.receipts import is_there
from unifashion_core.weights.transfer import Wanted, check_address, fetch_file, may_hand_on

CONTENT = random.Random(3).randbytes(3_000_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
PATH = "/maker/dress/resolve/abc/model.safetensors"


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    monkeypatch.setattr(transfer, "_WAIT_S", 0.01)
    with stand_in_hub() as running:
        running.files[PATH] = CONTENT
        running.files["/maker/dress/resolve/abc/config.json"] = b"{}"
        yield running


def wanted(hub: Hub, tmp_path: Path, **changes) -> Wanted:
    one = Wanted(hub.url + PATH, tmp_path / "model.safetensors", len(CONTENT), SHA)
    return replace(one, **changes)


def entry(**changes) -> KnownWeights:
    one = KnownWeights(
        name="fashion-clip",
        title="Dress model",
        kind="unifashion_encoders",
        folder="dress",
        address=None,
        repository="maker/dress",
        revision="abc",
        files=(
            KnownFile("model.safetensors", "model.safetensors", len(CONTENT), None, SHA),
            KnownFile("config.json", "config.json", None, 2, None),
        ),
        licence="MIT",
        sold="yes",
        note="",
        sources={},
    )
    return replace(one, **changes)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_nothing_else_is_left(hub, tmp_path):
    steps: list[tuple[int, int]] = []
    assert fetch_file(wanted(hub, tmp_path), lambda *step: steps.append(step)) == SHA
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
    assert left(tmp_path) == ["model.safetensors"]
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_cut_connection_is_gone_on_from(hub, tmp_path):
    hub.cut_after = [1_000_000, 500_000]
    assert fetch_file(wanted(hub, tmp_path)) == SHA
    assert [r for _, r in hub.asked] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_connection_that_is_always_cut_ends_with_what_is_kept(hub, tmp_path):
    hub.cut_after = [100_000] * 4
    with pytest.raises(DownloadError, match=r"cut 4 times .* 400,000 bytes are kept. Run it again"):
        fetch_file(wanted(hub, tmp_path))
    assert fetch_file(wanted(hub, tmp_path)) == SHA
    assert hub.asked[-1][1] == "bytes=400000-"


def test_cancelling_keeps_what_came(hub, tmp_path):
    class Stopped(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done > 1_000_000:
            raise Stopped

    with pytest.raises(Stopped):
        fetch_file(wanted(hub, tmp_path), stop)
    assert not (tmp_path / "model.safetensors").exists()
    fetch_file(wanted(hub, tmp_path))
    assert hub.asked[-1][1] == "bytes=1048576-"


def test_another_version_on_the_server_starts_again(hub, tmp_path):
    one = wanted(hub, tmp_path, sha256=None)
    hub.cut_after = [1_000_000] * 4
    with pytest.raises(DownloadError):
        fetch_file(replace(one, size=5_000_000, target=tmp_path / "other"))
    hub.cut_after = [1_000_000] + [0] * 3
    with pytest.raises(DownloadError):
        fetch_file(one)
    hub.files[PATH] = bytes(reversed(CONTENT))
    hub.tag = '"v2"'
    hub.cut_after = []
    assert fetch_file(one) == hub.sha256(PATH)


@pytest.mark.parametrize("tag", [None, 'W/"v1"'])
def test_without_a_version_and_a_hash_nothing_is_pieced_together(hub, tmp_path, tag):
    hub.tag = tag
    one = wanted(hub, tmp_path, sha256=None)
    hub.cut_after = [1_000_000] * 4
    with pytest.raises(DownloadError):
        fetch_file(one)
    assert fetch_file(one) == SHA
    assert {r for _, r in hub.asked} == {None}


def test_a_server_without_ranges_sends_all_again(hub, tmp_path):
    hub.ranges = False
    hub.cut_after = [1_000_000]
    assert fetch_file(wanted(hub, tmp_path)) == SHA


def test_a_part_that_is_whole_is_not_fetched_again(hub, tmp_path):
    one = wanted(hub, tmp_path)
    one.part.write_bytes(CONTENT)
    assert fetch_file(one) == SHA
    assert hub.asked == []
    unsized = replace(one, size=None, target=tmp_path / "again")
    unsized.part.write_bytes(CONTENT)
    assert fetch_file(unsized) == SHA


def test_a_part_of_something_else_is_thrown_away(hub, tmp_path):
    one = wanted(hub, tmp_path, size=None)
    one.part.write_bytes(CONTENT + b"more")
    assert fetch_file(one) == SHA


def test_a_wrong_hash_is_refused_and_not_kept(hub, tmp_path):
    hub.files[PATH] = b"\0" + CONTENT[1:]
    with pytest.raises(DownloadError, match=f"SHA-256 is {hub.sha256(PATH)}, {SHA} wanted"):
        fetch_file(wanted(hub, tmp_path))
    assert left(tmp_path) == []


def test_a_wrong_size_is_refused_before_it_comes(hub, tmp_path):
    with pytest.raises(DownloadError, match="3,000,000 bytes are offered, 7 wanted"):
        fetch_file(wanted(hub, tmp_path, size=7))


def test_a_redirect_to_another_host_is_refused(hub, tmp_path):
    port = hub.url.rsplit(":", 1)[1]
    hub.redirects[PATH] = f"http://localhost:{port}/elsewhere"
    with pytest.raises(DownloadError, match="handed on to 'localhost:"):
        fetch_file(wanted(hub, tmp_path))
    assert len(hub.asked) == 1


def test_a_redirect_on_the_same_host_is_followed(hub, tmp_path):
    hub.redirects["/start"] = PATH
    assert fetch_file(wanted(hub, tmp_path, url=f"{hub.url}/start")) == SHA


def test_a_circle_of_redirects_ends(hub, tmp_path):
    hub.redirects |= {"/a": "/b", "/b": "/a"}
    with pytest.raises(DownloadError, match="answered 302"):
        fetch_file(wanted(hub, tmp_path, url=f"{hub.url}/a"))


@pytest.mark.parametrize(
    ("source", "target", "allowed"),
    [
        ("https://huggingface.co/a", "https://cdn-lfs.hf.co/b", True),
        ("https://mirror.example/a", "https://huggingface.co/b", True),
        ("https://mirror.example/a", "https://mirror.example/b", True),
        ("https://huggingface.co/a", "http://huggingface.co/a", False),
        ("https://huggingface.co/a", "https://nothuggingface.co/a", False),
        ("https://huggingface.co/a", "https://huggingface.co.evil.example/a", False),
        ("https://huggingface.co/a", "https://127.0.0.1/a", False),
        ("https://huggingface.co/a", "file:///etc/passwd", False),
        ("http://127.0.0.1:1/a", "http://127.0.0.1:2/a", False),
    ],
)
def test_who_may_hand_on_to_whom(source, target, allowed):
    assert may_hand_on(source, target) is allowed


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "http://mirror.example", "data:,x", "https://", "x"]
)
def test_only_https_and_this_machine_are_addresses(url):
    with pytest.raises(DownloadError, match="not an https address"):
        check_address(url)


@pytest.mark.parametrize(("status", "why"), [(404, "not there"), (401, "login"), (403, "consent")])
def test_a_refusal_says_why(hub, tmp_path, status, why):
    hub.status[PATH] = status
    with pytest.raises(DownloadError, match=f"answered {status} .*{why}"):
        fetch_file(wanted(hub, tmp_path))


def test_a_server_in_trouble_is_asked_again(hub, tmp_path):
    hub.status[PATH] = 503
    with pytest.raises(DownloadError, match=r"cut 4 times \(the server answered 503\)"):
        fetch_file(wanted(hub, tmp_path))
    assert len(hub.asked) == 4


def test_too_small_a_disk_is_told_before(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "SPARE_BYTES", 2**62)
    with pytest.raises(DownloadError, match="3,000,000 bytes to come, but .* are free"):
        fetch_file(wanted(hub, tmp_path))


def test_a_disk_that_fills_up_keeps_what_came(hub, tmp_path):
    def full(done: int, total: int) -> None:  # where a write of the same block would fail
        if done > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DownloadError, match="disk is full .* kept. Free some space"):
        fetch_file(wanted(hub, tmp_path), full)
    assert fetch_file(wanted(hub, tmp_path)) == SHA
    assert hub.asked[-1][1] is not None


def test_an_entry_becomes_a_folder_with_a_receipt(hub, tmp_path):
    done = download_weights(entry(), tmp_path, mirror=hub.url)
    assert done.name == "dress"
    assert left(tmp_path / "dress") == [
        "config.json",
        "download.unifashion.json",
        "model.safetensors",
    ]
    kept = json.loads(done.receipt.read_text("utf-8"))
    assert [f["sha256"] for f in kept["files"]] == [SHA, hashlib.sha256(b"{}").hexdigest()]
    assert [f["checked"] for f in kept["files"]] == [True, False]
    assert "seen now and kept" in "\n".join(done.lines())
    assert is_there(entry(), tmp_path)


def test_a_second_run_asks_for_nothing(hub, tmp_path):
    download_weights(entry(), tmp_path, mirror=hub.url)
    asked = len(hub.asked)
    again = download_weights(entry(), tmp_path, mirror=hub.url)
    assert (again.fetched, len(hub.asked)) == ((), asked)


def test_files_placed_by_hand_are_checked_without_a_network(tmp_path):
    (tmp_path / "dress").mkdir()
    (tmp_path / "dress" / "model.safetensors").write_bytes(CONTENT)
    (tmp_path / "dress" / "config.json").write_bytes(b"{}")
    done = download_weights(entry(), tmp_path, mirror="https://mirror.invalid")
    assert done.fetched == ()
    assert done.receipt.is_file()


def test_another_file_in_the_place_is_refused_and_stays(hub, tmp_path):
    (tmp_path / "dress").mkdir()
    mine = tmp_path / "dress" / "model.safetensors"
    mine.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="another file lies at .*Move it away"):
        download_weights(entry(), tmp_path, mirror=hub.url)
    assert mine.read_bytes() == b"mine"


def test_no_network_tells_folder_names_and_addresses(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(DownloadError) as caught:
        download_weights(entry(), tmp_path, mirror=url)
    text = str(caught.value)
    assert "can't be reached" in text
    assert by_hand(entry(), tmp_path, url) in text
    assert f"put into {tmp_path / 'dress'}:" in text
    assert f"model.safetensors  from {url}{PATH}" in text


def test_the_mirror_of_the_environment_counts(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("UNIFASHION_MIRROR", hub.url)
    assert download_weights(entry(), tmp_path).fetched == ("model.safetensors", "config.json")


def test_progress_goes_over_all_files(hub, tmp_path):
    steps: list[tuple[int, int]] = []
    download_weights(entry(), tmp_path, mirror=hub.url, on_step=lambda *s: steps.append(s))
    assert steps[-1] == (len(CONTENT) + 2, len(CONTENT) + 2)


def test_the_licence_is_told_of_a_downloaded_folder_and_file(hub, tmp_path):
    folder = download_weights(entry(), tmp_path, mirror=hub.url).path
    known = find_known("fashion-clip")
    assert licence_of(folder) == f"{known.licence_line}; {known.pin}"
    single = entry(folder="", files=entry().files[:1])
    path = download_weights(single, tmp_path, mirror=hub.url).path
    assert licence_of(path).startswith(known.licence_line)
    assert licence_of(tmp_path / "unknown.safetensors").startswith("licence not known here")


def test_a_receipt_that_lies_is_not_believed(tmp_path):
    path = tmp_path / "a.safetensors"
    (tmp_path / "a.safetensors.unifashion.json").write_text('{"name": "x", "licence": "MIT"}')
    assert licence_of(path).startswith("licence not known here")
    (tmp_path / "a.safetensors.unifashion.json").write_text("{")
    assert licence_of(path).startswith("licence not known here")


def test_the_list_names_a_source_for_every_fact():
    for known in known_weights().values():
        facts = {"licence"}
        facts |= {"revision"} if known.revision else set()
        facts |= {"sha256"} if any(file.sha256 for file in known.files) else set()
        assert facts <= set(known.sources), known.name
        assert (known.repository is None) is (known.address is not None), known.name


def test_the_list_is_well_formed():
    kinds = {"unifashion_encoders", "unifashion_captioners", "unifashion_tryon"}
    for name, known in known_weights().items():
        assert known.name == name
        assert known.kind in kinds | {"vae", "text_encoders"}
        assert known.sold in ("yes", "no", "conditions", "unknown")
        assert not {"/", "\\", ".."} & set(known.folder)
        assert known.revision is None or len(known.revision) == 40
        for file in known.files:
            assert Path(file.save_as).name == file.save_as
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
            check_address(known.url(file))
        assert (
            known.folder == "" or known.files[-1].save_as == "config.json" or len(known.files) == 1
        )


def test_what_is_unknown_is_said():
    assert "not pinned" in find_known("llava-1.5-7b").pin
    assert "not known" in find_known("unifashion").pin
    whole = entry(files=entry().files[:1])
    assert whole.pin == "pinned"
    with pytest.raises(InputError, match="known weights, which are unifashion"):
        find_known("../../etc/passwd")
