"""run.py's set-up: the lock, folders, a given Python, and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def lock_part(pack) -> ModuleType:
    return pack.module("nodes._cli._lock")


@pytest.fixture(scope="module")
def homes(pack) -> ModuleType:
    return pack.module("nodes._cli._homes")


@pytest.fixture(scope="module")
def installing(pack) -> ModuleType:
    return pack.module("nodes._cli._install")


@pytest.fixture(scope="module")
def environment(pack) -> ModuleType:
    return pack.module("nodes._cli._environment")


def write_lock(folder: Path, size: object = 4_000_000) -> Path:
    """A lock with one package for the pack, one more for tests, and a torch with CUDA on Linux."""
    rows = [
        {"name": "torch", "version": "2.13.0", "sections": ["run"], "size": 500_000_000},
        {"name": "numpy", "version": "2.4.6", "sections": ["run"], "size": size},
        {
            "name": "nvidia-cublas",
            "version": "13.0.1",
            "sections": ["run"],
            "size": {"linux-x86_64": 400_000_000},
        },
        {"name": "pytest", "version": "9.2.0", "sections": ["test"], "size": 411_776},
    ]
    data = {
        "about": [],
        "requires": {"run": ["torch", "numpy>=1.26"], "test": ["pytest>=8.0"]},
        "pythons": {"3.11": {"ran": "", "packages": rows}},
    }
    path = folder / "requirements.lock"
    path.write_text(json.dumps(data), "utf-8")
    return path


# The lock.


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_lock_holds_every_requirement_of_each_python(lock_part, python):
    lock = lock_part.read_lock(ROOT / "requirements.lock", python)
    for section, lines in lock.requires.items():
        for on in lock_part.PLATFORMS:
            names = {p.name for p in lock.needed((section,), on)}
            wanted = {lock_part.Requirement.parse(line).name for line in lines}
            assert wanted <= names


def test_lock_has_public_versions_alone():
    data = json.loads((ROOT / "requirements.lock").read_text("utf-8"))
    versions = [p["version"] for part in data["pythons"].values() for p in part["packages"]]
    assert len(versions) > 200
    assert [v for v in versions if "+" in v] == []


def test_lock_versions_satisfy_the_lower_bounds(lock_part):
    data = json.loads((ROOT / "requirements.lock").read_text("utf-8"))
    for part in data["pythons"].values():
        versions = {p["name"]: p["version"] for p in part["packages"]}
        for line in (line for lines in data["requires"].values() for line in lines):
            requirement = lock_part.Requirement.parse(line)
            assert requirement.accepts(versions[requirement.name]), line


def test_lock_never_holds_xformers():
    assert "xformers" not in (ROOT / "requirements.lock").read_text("utf-8").lower()


def test_unknown_python_is_told_which_sections_there_are(lock_part, tmp_path):
    with pytest.raises(lock_part.LockError, match=r"Python 3\.14: .* sections for 3\.11 only"):
        lock_part.read_lock(write_lock(tmp_path), "3.14")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"requires": 1, "pythons": 2}', "torch==2"])
def test_damaged_lock_is_an_error_that_names_it(lock_part, tmp_path, text):
    path = tmp_path / "requirements.lock"
    path.write_text(text, "utf-8")
    with pytest.raises(lock_part.LockError, match=r"requirements\.lock: not readable"):
        lock_part.read_lock(path, "3.11")


def test_platform_takes_only_what_it_needs(lock_part, tmp_path):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")
    on_windows = {p.name for p in lock.needed(("run",), "windows-x86_64")}
    assert on_windows == {"torch", "numpy"}
    assert {p.name for p in lock.needed(("run",), "plan9-mips")} == {*on_windows, "nvidia-cublas"}


def test_cuda_is_known_by_platform(lock_part, tmp_path):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")
    assert lock.has_cuda("linux-x86_64") is True
    assert lock.has_cuda("windows-x86_64") is False
    assert lock.has_cuda("plan9-mips") is None


def test_shipped_lock_has_cuda_on_linux_and_not_on_windows(lock_part):
    lock = lock_part.read_lock(ROOT / "requirements.lock", "3.11")
    assert lock.has_cuda("linux-x86_64") is True
    assert lock.has_cuda("windows-x86_64") is False


@pytest.mark.parametrize(
    ("left", "right", "newer"),
    [
        ("2.13.0", "2.9.1", True),
        ("4.57.6", "4.50", True),
        ("5.0.0rc1", "4.50", True),
        ("0.9.9", "0.10", False),
        ("2.15.0.dev20260101+cu130", "2.13", True),
        ("1.0", "1.0.0", True),
        ("1.0.0", "1.0", True),
        ("1!0.5", "0.5", True),
    ],
)
def test_versions_compare_by_number(lock_part, left, right, newer):
    assert lock_part.Requirement("x", right).accepts(left) is newer


def test_requirement_lines_are_parsed(lock_part):
    requirement = lock_part.Requirement.parse("Hugging_Face.Hub[torch]>=0.25")
    assert requirement == lock_part.Requirement("hugging-face-hub", "0.25")
    with pytest.raises(lock_part.LockError, match="neither NAME nor NAME>=VERSION"):
        lock_part.Requirement.parse("numpy<2")


@pytest.mark.parametrize(
    ("size", "said"), [(2_900_000_000, "2.9 GB"), (37_400_000, "37 MB"), (12, "1 MB")]
)
def test_sizes_are_said_as_people_say_them(lock_part, size, said):
    assert lock_part.say_size(size) == said


# What is said before a set-up.


@pytest.fixture
def on_linux(installing, monkeypatch) -> None:
    monkeypatch.setattr(installing, "this_platform", lambda: "linux-x86_64")


def test_announcement_gives_place_python_and_size(lock_part, installing, on_linux, tmp_path):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")
    new = installing.new_packages(lock, ("run", "test"), {})
    assert installing.announcement(Path("x"), "3.11", ("run", "test"), new) == (
        "setting up the pack and its tests in x for Python 3.11: up to 904 MB to download "
        "(torch and its libraries: 900 MB). This happens once."
    )


def test_announcement_counts_only_what_is_new(lock_part, installing, on_linux, tmp_path):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")
    have = {"torch": "2.13.0+cpu", "numpy": "2.4.6"}  # this torch needs no CUDA libraries
    new = installing.new_packages(lock, ("run", "test"), have)
    assert [p.name for p in new] == ["pytest"]
    said = installing.announcement(Path("x"), "3.11", ("test",), new)
    assert said.startswith("setting up its tests in x for Python 3.11: up to 1 MB to download.")
    new = installing.new_packages(lock, ("run", "test"), {**have, "numpy": "2.4.5"})
    assert [p.name for p in new] == ["numpy", "pytest"]


def test_announcement_says_what_is_unknown(lock_part, installing, on_linux, tmp_path, monkeypatch):
    lock = lock_part.read_lock(write_lock(tmp_path, size="unknown"), "3.11")
    new = installing.new_packages(lock, ("run",), {})
    said = installing.announcement(Path("x"), "3.11", ("run",), new)
    assert "up to 900 MB" in said
    assert "and 1 packages of unknown size" in said
    monkeypatch.setattr(installing, "this_platform", lambda: "plan9-mips")
    new = installing.new_packages(lock, ("run",), {})
    said = installing.announcement(Path("x"), "3.11", ("run",), new)
    assert "an unknown amount to download" in said


# Folders.


def test_data_folder_follows_each_system(homes):
    env = {"HOME": "/home/ana", "USERPROFILE": "/users/ana"}
    folder = homes.data_folder
    assert folder(env, "linux") == Path("/home/ana/.local/share/unifashion")
    assert folder({**env, "XDG_DATA_HOME": "/data"}, "linux") == Path("/data/unifashion")
    assert folder(env, "darwin") == Path("/home/ana/Library/Application Support/unifashion")
    assert folder(env, "win32") == Path("/users/ana/AppData/Local/unifashion")
    assert folder({**env, "LOCALAPPDATA": "/local"}, "win32") == Path("/local/unifashion")
    assert folder({**env, "UNIFASHION_HOME": "/mine"}, "win32") == Path("/mine").absolute()


def test_environment_is_in_the_pack_unless_a_home_is_named(homes, tmp_path):
    env = {"HOME": str(tmp_path / "home")}
    assert homes.environment_folders(tmp_path, env)[0] == tmp_path / ".venv"
    env["UNIFASHION_HOME"] = str(tmp_path / "mine")
    assert homes.environment_folders(tmp_path, env)[0] == tmp_path / "mine" / ".venv"


def test_read_only_pack_uses_the_data_folder(environment, homes, tmp_path, monkeypatch):
    pack = tmp_path / "pack"
    monkeypatch.setenv("UNIFASHION_HOME", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setattr(homes, "is_writable", lambda folder: pack not in folder.parents)
    assert environment._new_folder(pack) == homes.data_folder() / ".venv"


def test_no_writable_place_is_an_error_that_says_what_to_set(environment, homes, monkeypatch):
    monkeypatch.setattr(homes, "is_writable", lambda folder: False)
    with pytest.raises(environment.SetupError, match="can be written. Set UNIFASHION_HOME"):
        environment._new_folder(Path("/pack"))


def test_writable_looks_at_the_nearest_parent(homes, tmp_path):
    assert homes.is_writable(tmp_path / "not" / "yet" / "there")
    file = tmp_path / "file"
    file.write_text("", "utf-8")
    assert not homes.is_writable(file / "below")


def test_results_never_land_in_the_pack(homes, tmp_path, monkeypatch):
    monkeypatch.setenv("UNIFASHION_HOME", str(tmp_path / "home"))
    pack = tmp_path / "pack"
    (pack / "nodes").mkdir(parents=True)
    for here, wanted in (
        (pack, tmp_path / "home" / "demo"),
        (pack / "nodes", tmp_path / "home" / "demo"),
        (tmp_path, tmp_path / "demo"),
    ):
        monkeypatch.chdir(here)
        assert homes.output_folder("demo", pack) == wanted


def test_windows_venv_has_its_python_in_scripts(installing):
    assert installing.python_of(Path("v"), windows=True) == Path("v", "Scripts", "python.exe")
    assert installing.python_of(Path("v"), windows=False) == Path("v", "bin", "python")


# A given Python.


def test_given_python_lists_what_is_missing_and_too_old(environment):
    lines = ["torch", "numpy>=1.26", "transformers>=4.50"]
    lacking = environment.missing(lines, {"torch": "2.13.0+cu130", "transformers": "4.49.0"})
    assert lacking == [("numpy>=1.26", None), ("transformers>=4.50", "4.49.0")]


def test_given_python_is_checked_and_never_changed(environment, monkeypatch):
    monkeypatch.setattr(environment, "probe", lambda path: ((3, 11, 0), {"torch": "2.13.0"}))
    monkeypatch.setattr(environment._install, "install", pytest.fail)
    with pytest.raises(environment.SetupError) as caught:
        environment.prepare(ROOT, ("run",), sys.executable)
    text = str(caught.value)
    assert "numpy>=1.26 (missing)" in text
    assert "Nothing is ever installed into a given environment" in text
    assert f'"{sys.executable}" -m pip install "numpy>=1.26"' in text


def test_given_python_with_everything_is_used_as_it_is(environment, monkeypatch):
    everything = dict.fromkeys(
        (environment.Requirement.parse(x).name for x in environment.requirement_lines(ROOT, ())),
        "99.0",
    )
    monkeypatch.setattr(environment, "probe", lambda path: ((3, 12, 1), everything))
    assert environment.prepare(ROOT, ("run",), sys.executable).python == Path(sys.executable)


def test_given_python_that_is_too_old_is_named(environment, monkeypatch):
    monkeypatch.setattr(environment, "probe", lambda path: ((3, 9, 18), {}))
    with pytest.raises(environment.SetupError, match=r"this is Python 3\.9\.18, 3\.10 or newer"):
        environment.prepare(ROOT, ("run",), sys.executable)


def test_given_python_that_is_none_is_an_error(environment, tmp_path):
    with pytest.raises(environment.SetupError, match="no such program"):
        environment.prepare(ROOT, ("run",), str(tmp_path / "python"))
    if os.name == "posix":
        fake = tmp_path / "python"
        fake.write_text("#!/bin/sh\necho hello\n", "utf-8")
        fake.chmod(0o755)
        with pytest.raises(environment.SetupError, match="does not answer as a Python does"):
            environment.prepare(ROOT, ("run",), str(fake))


def test_probe_reads_versions_of_this_python(environment):
    version, packages = environment.probe(sys.executable)
    assert version == sys.version_info[:3]
    assert packages["pytest"] == pytest.__version__


# The set-up itself, with pip and venv replaced.


@pytest.fixture
def no_pip(installing, monkeypatch) -> list[tuple[str, ...]]:
    """A set-up that makes an empty interpreter file and installs nothing; gives the calls."""
    calls: list[tuple[str, ...]] = []

    def make(folder: Path, python: str) -> None:
        interpreter = installing.python_of(folder)
        interpreter.parent.mkdir(parents=True, exist_ok=True)
        interpreter.write_text("", "utf-8")

    monkeypatch.setattr(installing, "_make_venv", make)
    monkeypatch.setattr(
        installing, "_pip_install", lambda f, lock, sections: calls.append(sections)
    )
    monkeypatch.setattr(installing, "_check", lambda f, lock, sections: None)
    return calls


def test_set_up_is_done_once(installing, lock_part, no_pip, tmp_path):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")
    installing.install(tmp_path / "v", lock, ("run",))
    installing.install(tmp_path / "v", lock, ("run",))
    assert no_pip == [("run",)]
    installing.install(tmp_path / "v", lock, ("run", "test"))
    assert no_pip[1:] == [("run", "test")]
    assert set(installing.read_stamp(tmp_path / "v").sections) == {"run", "test"}


def test_set_up_that_was_cut_off_is_gone_through_again(
    installing, lock_part, no_pip, tmp_path, monkeypatch
):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(installing, "_pip_install", cut)
        with pytest.raises(KeyboardInterrupt):
            installing.install(tmp_path / "v", lock, ("run",))
    assert installing.read_stamp(tmp_path / "v") is None
    installing.install(tmp_path / "v", lock, ("run",))
    assert installing.read_stamp(tmp_path / "v").sections == ("run",)


def test_new_lock_sets_up_again(installing, lock_part, no_pip, tmp_path):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")
    installing.install(tmp_path / "v", lock, ("run",))
    changed = lock_part.read_lock(write_lock(tmp_path, size=5), "3.11")
    installing.install(tmp_path / "v", changed, ("run",))
    assert len(no_pip) == 2


def test_full_disk_is_found_before_anything_is_made(
    installing, lock_part, no_pip, tmp_path, monkeypatch
):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")
    usage = type("Usage", (), {"free": 50_000_000})()
    monkeypatch.setattr(installing.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(installing.SetupError, match=r"50 MB free .* at least 1.0 GB needed"):
        installing.install(tmp_path / "v", lock, ("run",))
    assert no_pip == []


def test_second_process_waits_for_the_first(installing, tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    holder = (
        "import sys, time\n"
        "file = open(sys.argv[1], 'a+b')\n"
        "if sys.platform == 'win32':\n"
        "    import msvcrt; msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)\n"
        "else:\n"
        "    import fcntl; fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    line = [sys.executable, "-c", holder, str(folder / "unifashion-busy")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"held"
        with (folder / "unifashion-busy").open("a+b") as file:
            assert not installing._try_lock(file)
        other.kill()  # an OS lock is gone with its process
        other.wait()
    with installing._only_one(folder):
        pass


def test_wait_for_another_process_ends(installing, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(installing, "WAIT_S", 0.0)
    monkeypatch.setattr(installing, "_try_lock", lambda file: False)
    match = "another process has been setting it up"
    with pytest.raises(installing.SetupError, match=match), installing._only_one(tmp_path):
        pass
    assert "waiting for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: Retrying after NewConnectionError('...')", "index can't be reached"),
        ("ERROR: No matching distribution found for torch==9", "pip stopped (No matching distrib"),
        ("", "pip stopped (no reason given)"),
    ],
)
def test_pip_failures_are_explained(installing, log, said):
    assert said in installing.explain(log, Path("v"))


def test_set_up_that_left_something_out_is_found(installing, lock_part, tmp_path):
    lock = lock_part.read_lock(write_lock(tmp_path), "3.11")
    site = tmp_path / "v" / "lib" / "python3.11" / "site-packages"
    (site / "torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    with pytest.raises(installing.SetupError, match=r"numpy is missing .* 2\.4\.6 wanted"):
        installing._check(tmp_path / "v", lock, ("run",))
    (site / "numpy-2.4.6.dist-info").mkdir()
    installing._check(tmp_path / "v", lock, ("run",))


def test_package_that_was_cut_off_is_installed_again(installing, tmp_path):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, whole in (("numpy-2.4.6", True), ("torch-2.13.0+cpu", False)):
        (site / f"{name}.dist-info").mkdir(parents=True)
        (site / f"{name}.dist-info" / "METADATA").write_text("", "utf-8")
        if whole:
            (site / f"{name}.dist-info" / "INSTALLER").write_text("pip", "utf-8")
    installing._forget_halves(tmp_path)
    assert installing.installed(tmp_path) == {"numpy": "2.4.6"}


@pytest.mark.parametrize(
    ("line", "cuda"),
    [("cuda: Optional[str] = None", False), ("cuda: Optional[str] = '13.0'", True)],
)
def test_cuda_of_a_torch_is_read_without_importing_it(installing, tmp_path, line, cuda):
    file = tmp_path / "lib" / "python3.11" / "site-packages" / "torch" / "version.py"
    file.parent.mkdir(parents=True)
    file.write_text(f"__version__ = '2.13.0'\n{line}\nhip = None\n", "utf-8")
    assert installing.torch_has_cuda(tmp_path) is cuda


def test_card_without_cuda_torch_is_told(environment, monkeypatch, capsys):
    monkeypatch.setattr(environment, "has_nvidia_card", lambda: True)
    environment._warn_without_cuda(True)
    environment._warn_without_cuda(None)
    assert capsys.readouterr().err == ""
    environment._warn_without_cuda(False)
    assert "--python PATH" in capsys.readouterr().err
