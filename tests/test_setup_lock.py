"""`run.py lock`: from what a resolver found to the lock's sections and sizes."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

pytest.importorskip("packaging", reason="comes with the run packages")


@pytest.fixture(scope="module")
def lock(pack) -> ModuleType:
    return pack.module("nodes._cli.lock")


def wheel(name: str, size: int = 10) -> dict:
    return {"url": f"somewhere/{name}.whl", "size": size}


RESOLVED = {
    "package": [
        {
            "name": "resolved",
            "version": "0",
            "dependencies": [{"name": "torch"}],
            "optional-dependencies": {
                "train": [{"name": "cv"}],
                "test": [{"name": "cv"}, {"name": "checker", "extra": ["node"]}],
            },
        },
        {
            "name": "torch",
            "version": "2.13.0",
            "dependencies": [
                {"name": "cuda-toolkit", "marker": "sys_platform == 'linux'"},
                {"name": "numpy", "version": "2.2.6", "marker": "python_full_version < '3.11'"},
                {"name": "numpy", "version": "2.4.6", "marker": "python_full_version >= '3.11'"},
            ],
            "wheels": [
                wheel("torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64", 526),
                wheel("torch-2.13.0-cp310-cp310-manylinux_2_28_x86_64", 525),
                wheel("torch-2.13.0-cp311-cp311-manylinux_2_28_aarch64", 427),
                wheel("torch-2.13.0-cp311-cp311-win_amd64", 122),
                wheel("torch-2.13.0-cp311-cp311t-win_amd64", 121),
            ],
        },
        {"name": "numpy", "version": "2.2.6", "wheels": [wheel("numpy-2.2.6-py3-none-any")]},
        {"name": "numpy", "version": "2.4.6", "wheels": [wheel("numpy-2.4.6-py3-none-any")]},
        {
            "name": "cuda-toolkit",
            "version": "13.0",
            "wheels": [wheel("cuda_toolkit-13.0-py2.py3-none-any", 2)],
        },
        {"name": "cv", "version": "5.0", "wheels": [wheel("cv-5.0-cp37-abi3-win_amd64", 44)]},
        {
            "name": "checker",
            "version": "1.0",
            "optional-dependencies": {"node": [{"name": "node"}]},
            "wheels": [wheel("checker-1.0-py3-none-any")],
        },
        {"name": "node", "version": "24.0", "wheels": [wheel("node-24.0-py3-none-any")]},
    ]
}


def rows(lock: ModuleType, python: str = "3.11") -> dict[str, dict]:
    return {row["name"]: row for row in lock.section_of(RESOLVED, python)}


def test_each_python_gets_its_own_version(lock):
    assert rows(lock, "3.10")["numpy"]["version"] == "2.2.6"
    assert rows(lock, "3.13")["numpy"]["version"] == "2.4.6"


def test_sizes_are_those_of_the_wheel_that_fits(lock):
    assert rows(lock)["torch"]["size"] == {
        "linux-x86_64": 526,
        "linux-aarch64": 427,
        "windows-x86_64": 122,
        "macos-arm64": "unknown",
    }


def test_one_size_for_all_platforms_is_written_once(lock):
    assert rows(lock)["numpy"]["size"] == 10


def test_package_that_one_platform_needs_has_no_other_size(lock):
    assert rows(lock)["cuda-toolkit"]["size"] == {"linux-x86_64": 2, "linux-aarch64": 2}


def test_stable_abi_fits_newer_pythons(lock):
    assert rows(lock, "3.13")["cv"]["size"]["windows-x86_64"] == 44
    assert rows(lock, "3.13")["cv"]["size"]["linux-x86_64"] == "unknown"


def test_package_of_two_sections_is_in_both(lock):
    assert rows(lock)["cv"]["sections"] == ["train", "test"]


def test_extras_bring_their_packages(lock):
    assert rows(lock)["node"]["sections"] == ["test"]


def test_lock_text_is_read_back_and_names_no_address(lock, pack, tmp_path):
    requires = {"run": ["Torch_x"], "train": ["cv"], "test": ["checker[node]>=1"]}
    text = lock.render(requires, {"3.11": lock.section_of(RESOLVED, "3.11")}, {"3.11": "demo"})
    assert "somewhere" not in text
    assert json.loads(text)["pythons"]["3.11"]["ran"] == "demo"
    path = tmp_path / "requirements.lock"
    path.write_text(text, "utf-8")
    read = pack.module("nodes._cli._lock").read_lock(path, "3.11")
    assert read.requires["run"] == ("torch-x",)
    assert {p.name for p in read.needed(("test",), "macos-arm64")} == {"cv", "checker", "node"}
