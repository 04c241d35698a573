"""Weight files are read by content, running none of their code, and written whole or not at all."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from unifashion_core import weights as weights_module
from unifashion_core.errors import CheckpointError, FolderError
from unifashion_core.weights import (
    read_weights,
    replace_files,
    shorten,
    write_json,
    write_safetensors,
)

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(0.5)}


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.target}'",)


def values(path: Path) -> dict[str, torch.Tensor]:
    return {name: t.read() for name, t in read_weights(path).tensors.items()}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt", "x.jpg", "noname"])
def test_format_is_told_by_content_not_by_name(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / name)
    assert read_weights(tmp_path / name).format == "safetensors"
    torch.save(TENSORS, tmp_path / name)
    assert read_weights(tmp_path / name).format == "torch"
    assert same(values(tmp_path / name), TENSORS)


def test_legacy_pickle_of_tensors_is_read(tmp_path: Path) -> None:
    torch.save({"model": TENSORS}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(values(tmp_path / "old.pth"), TENSORS)


@pytest.mark.parametrize(
    ("content", "container", "scalars"),
    [
        ({"state_dict": TENSORS, "global_step": 7}, ("state_dict",), {"global_step": 7}),
        ({"model": TENSORS, "optimizer": {"s": {"m": torch.ones(1)}}}, ("model",), {}),
        ({"epoch": 3, "Blip2QformerCirCls": TENSORS}, ("Blip2QformerCirCls",), {"epoch": 3}),
        ({"checkpoint": {"state_dict": TENSORS}}, ("checkpoint", "state_dict"), {}),
        (TENSORS, (), {}),
    ],
)
def test_wrapped_tensors_are_found(
    tmp_path: Path, content: object, container: tuple[str, ...], scalars: dict[str, object]
) -> None:
    torch.save(content, tmp_path / "x.pt")
    found = read_weights(tmp_path / "x.pt")
    assert found.container == container
    assert found.values == scalars
    assert set(found.tensors) == set(TENSORS)


def test_what_lay_beside_the_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"model": TENSORS, "optimizer": {"lr": [1.0]}}, tmp_path / "x.pt")
    assert read_weights(tmp_path / "x.pt").notes == ("beside 'model' and not read: optimizer",)


def test_several_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    torch.save({"generator": TENSORS, "critic": TENSORS}, tmp_path / "x.pt")
    with pytest.raises(
        CheckpointError, match=r"several entries hold tensors \(critic, generator\)"
    ):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "ran"
    torch.save(
        {"model": {"w": torch.ones(1), "x": Attack(mark)}},
        tmp_path / "evil.pt",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(CheckpointError, match=r"run code of its own \((posix|nt)\.system"):
        read_weights(tmp_path / "evil.pt")
    assert not mark.exists()


def test_bare_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Attack(mark), protocol=2))
    with pytest.raises(CheckpointError, match=r"evil\.pkl"):
        read_weights(tmp_path / "evil.pkl")
    assert not mark.exists()


def test_pickled_object_is_named_and_torchs_advice_is_left_out(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=1), "model": TENSORS}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace") as caught:
        read_weights(tmp_path / "x.pt")
    assert "weights_only" not in str(caught.value)


def test_old_torch_reads_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(TENSORS, tmp_path / "x.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    with pytest.raises(CheckpointError, match=r"torch 2\.5\.1\+cu121 can't read one safely"):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b'{"a": 1}', "a JSON file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\xff\xd8\xff\xe0 jpeg", "no weight file, it starts with"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(text)) as caught:
        read_weights(tmp_path / "x.safetensors")
    assert "Give a .safetensors file" in str(caught.value)


def test_truncated_safetensors_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        read_weights(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_pickle_is_named(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(CheckpointError, match="damaged, cut off or no checkpoint"):
        read_weights(path)


def test_damaged_pickles_give_our_error_only(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"model": TENSORS, "epoch": 1}, path, _use_new_zipfile_serialization=False)
    whole = bytearray(path.read_bytes())
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        broken = bytearray(whole)
        for place in torch.randint(2, len(whole), (4,), generator=generator).tolist():
            broken[place] = int(torch.randint(0, 256, (1,), generator=generator))
        path.write_bytes(broken)
        try:
            read_weights(path)
        except CheckpointError:
            continue


def test_header_of_absurd_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(struct.pack("<Q", 1 << 60) + b"{" + b" " * 64)
    with pytest.raises(CheckpointError, match="no weight file"):
        read_weights(tmp_path / "x")


def test_stretched_tensor_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="a is not a plain tensor"):
        read_weights(tmp_path / "x.pt")


def test_sparse_tensor_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="a is not a plain tensor"):
        read_weights(tmp_path / "x.pt")


def test_file_without_tensors_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "args": {"lr": 0.1}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="holds no tensors, only args, epoch"):
        read_weights(tmp_path / "x.pt")
    torch.save(torch.ones(2), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="one Tensor, not named tensors"):
        read_weights(tmp_path / "x.pt")


def test_missing_path_is_a_folder_error(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no such file or folder"):
        read_weights(tmp_path / "absent")


def test_folder_prefers_safetensors_and_keeps_config(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"model_type": "x"}')
    found = read_weights(tmp_path)
    assert (found.format, found.config, found.path) == (
        "safetensors",
        {"model_type": "x"},
        tmp_path,
    )


def test_folder_with_several_weight_files_is_refused_unless_one_has_the_fixed_name(
    tmp_path: Path,
) -> None:
    save_file(TENSORS, tmp_path / "one.safetensors")
    save_file(TENSORS, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"several weight files \(one\.safetensors, two"):
        read_weights(tmp_path)
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert read_weights(tmp_path).files == (tmp_path / "model.safetensors",)


def test_folder_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(CheckpointError, match=r"no weight file in it, only readme\.md"):
        read_weights(tmp_path)


def shards(folder: Path, names: dict[str, str]) -> None:
    save_file({"a.weight": TENSORS["a.weight"]}, folder / "s-1.safetensors")
    save_file({"b": TENSORS["b"]}, folder / "s-2.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    shards(tmp_path, {"a.weight": "s-1.safetensors", "b": "s-2.safetensors"})
    assert same(values(tmp_path), TENSORS)
    assert len(read_weights(tmp_path).files) == 2


def test_missing_shard_and_missing_tensor_are_named(tmp_path: Path) -> None:
    shards(tmp_path, {"a.weight": "s-1.safetensors", "b": "s-3.safetensors"})
    with pytest.raises(CheckpointError, match=r"missing s-3\.safetensors"):
        read_weights(tmp_path)
    shards(tmp_path, {"a.weight": "s-1.safetensors", "c": "s-2.safetensors"})
    with pytest.raises(CheckpointError, match="promises c, which its files lack"):
        read_weights(tmp_path)


@pytest.mark.parametrize("name", ["../out.safetensors", "/etc/passwd", "sub\\x", ".."])
def test_index_can_not_leave_its_folder(tmp_path: Path, name: str) -> None:
    shards(tmp_path, {"a.weight": name})
    with pytest.raises(CheckpointError, match="outside its folder"):
        read_weights(tmp_path)


def test_written_safetensors_is_what_the_library_reads(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(7).bfloat16(),
        "ids": torch.arange(3),
        "flag": torch.tensor([True, False, True]),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "turned": torch.arange(6.0).view(2, 3).T,
        "größe": torch.ones(1),
    }
    path = tmp_path / "x.safetensors"
    write_safetensors(path, tensors, metadata={"made": "here"})
    assert same(load_file(path), tensors)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"made": "here"}


def test_written_dtype_applies_to_floating_point_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"w": torch.ones(2), "n": torch.arange(2)}, dtype=torch.float16)
    assert {k: v.dtype for k, v in load_file(path).items()} == {
        "w": torch.float16,
        "n": torch.int64,
    }


def test_failed_write_leaves_the_old_file_and_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, TENSORS)

    def fail() -> torch.Tensor:
        raise CheckpointError("x: broken. Stop.")

    bad = weights_module.StoredTensor((1,), torch.float32, fail)
    with pytest.raises(CheckpointError, match="broken"):
        write_safetensors(path, {"a": torch.ones(1), "bad": bad})
    assert same(load_file(path), TENSORS)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_files_of_a_folder_appear_together(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), replace_files(tmp_path) as temporary:
        temporary("one").write_text("1")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with replace_files(tmp_path) as temporary:
        temporary("one").write_text("1")
        temporary("two").write_text("2")
        assert not (tmp_path / "one").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "c:x", "", ".."])
def test_writer_refuses_names_with_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(FolderError, match="not a plain file name"), replace_files(tmp_path) as t:
        t(name)


def test_writer_needs_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="does not exist"):
        write_json(tmp_path / "absent" / "x.json", {})


def test_written_file_follows_the_umask(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"ä": 1})
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "x.json").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"ä": 1}


def test_shorten_names_the_first_and_counts_the_rest() -> None:
    assert shorten(["b", "a"]) == "a, b"
    assert shorten([str(i) for i in range(9)], 2) == "0, 1 and 7 more"
