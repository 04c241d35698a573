"""run.py as a person starts it: help, usage, exit codes, folder names, what is printed where."""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HELP_S = 0.3


def start(*line: str, folder: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run run.py with this Python and without what the outer run has set."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("UNIFASHION_")}
    return subprocess.run(
        [sys.executable, str(folder / "run.py"), *line],
        env={**clean, **env},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def table(pack) -> dict:
    return pack.module("nodes._cli").COMMANDS


@pytest.fixture
def bare_pack(tmp_path) -> Path:
    """A copy of the pack with one command of our own, under a name with a space and a hyphen."""
    folder = tmp_path / "uni fashion-x.1"
    (folder / "nodes" / "_cli").mkdir(parents=True)
    (folder / "unifashion_core").mkdir()
    kept = ["__init__.py", "run.py", "requirements.txt", "requirements.lock"]
    kept += [f"unifashion_core/{name}" for name in ("__init__.py", "errors.py")]
    kept += [str(p.relative_to(ROOT)) for p in (ROOT / "nodes" / "_cli").glob("_*.py")]
    for name in kept:
        shutil.copy(ROOT / name, folder / name)
    (folder / "nodes" / "__init__.py").write_text("", "utf-8")
    table = folder / "nodes" / "_cli" / "__init__.py"
    text = table.read_text("utf-8").replace(
        "COMMANDS: dict[str, Command] = {",
        'COMMANDS: dict[str, Command] = {\n    "try": Command("trial", "a trial", ()),'
        '\n    "need": Command("trial", "a trial in an environment", ("run",)),',
    )
    table.write_text(text, "utf-8")
    return folder


def write_trial(folder: Path, body: str) -> None:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (folder / "nodes" / "_cli" / "trial.py").write_text(
        f"def add_arguments(parser):\n    pass\n\ndef run(args):\n{lines}\n", "utf-8"
    )


def test_table_names_each_command_file_once(table):
    files = {p.stem for p in (ROOT / "nodes" / "_cli").glob("[!_]*.py")}
    assert sorted(c.module for c in table.values()) == sorted(files)


def test_overview_lists_the_commands(table):
    done = start("--help")
    assert done.returncode == 0
    for name, command in table.items():
        assert (f"  {name:<8} {command.help}" in done.stdout) is not command.hidden


def test_no_command_prints_the_overview():
    assert start().stdout == start("--help").stdout


@pytest.mark.slow
def test_help_of_each_command_loads_no_torch(table):
    for name in table:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("UNIFASHION_")}
        done = subprocess.run(
            [sys.executable, "-X", "importtime", str(ROOT / "run.py"), name, "--help"],
            env=clean,
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
        assert not loaded & {"torch", "numpy", "PIL", "transformers"}, name
        assert "--json" in done.stdout


def seconds(line: list[str]) -> float:
    """Processor time of one start, which a busy machine does not lengthen; on Windows wall time."""
    if sys.platform == "win32":
        began = time.perf_counter()
        assert start(*line).returncode == 0
        return time.perf_counter() - began
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert start(*line).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("line", [["--help"], ["index", "--help"]])
def test_help_starts_in_a_moment(line):
    assert min(seconds(line) for _ in range(3)) < HELP_S


@pytest.mark.parametrize("line", [["fly"], ["--fly"], ["lock", "--fly"], ["lock", "more"]])
def test_wrong_usage_is_2_and_sets_nothing_up(line, tmp_path):
    done = start(*line, UNIFASHION_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage:" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_first_file_is_readable_for_an_old_python():
    text = (ROOT / "run.py").read_text("utf-8")
    tree = ast.parse(text, feature_version=(3, 4))
    newer = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign)
    assert [n for n in ast.walk(tree) if isinstance(n, newer)] == []
    text.encode("ascii")


def test_old_python_is_told_so():
    code = (
        "import runpy, sys; sys.version_info = (3, 9, 18); "
        f"runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Python 3.10 or newer is needed" in done.stderr
    assert "Traceback" not in done.stderr


def test_any_folder_name_works_and_stays_clean(bare_pack):
    write_trial(bare_pack, "print('ran')\nreturn 0")
    before = sorted(bare_pack.rglob("*"))
    done = start("try", folder=bare_pack)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert sorted(bare_pack.rglob("*")) == before


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return 1", 1, ""),
        (
            "from ...unifashion_core.errors import GalleryError\n"
            "raise GalleryError(\"Gallery 'a': is not there. Index one.\")",
            1,
            "run.py: Gallery 'a': is not there. Index one.\n",
        ),
        ("raise KeyboardInterrupt", 130, "\nrun.py: stopped. What was finished is kept.\n"),
        (
            "import errno\nraise OSError(errno.ENOSPC, 'No space', 'a.bin')",
            1,
            "run.py: a.bin: the disk is full. Free some space, then run it again.\n",
        ),
        (
            "raise PermissionError(13, 'Permission denied', 'a.bin')",
            1,
            "run.py: a.bin: Permission denied. Choose a place that you may write to.\n",
        ),
    ],
)
def test_exit_codes_and_one_line_for_an_error(bare_pack, body, code, said):
    write_trial(bare_pack, body)
    done = start("try", "--json", folder=bare_pack)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_usage_found_late_is_2(bare_pack):
    write_trial(bare_pack, "args.parser.error('give --text or --image')")
    done = start("try", folder=bare_pack)
    assert done.returncode == 2
    assert "give --text or --image" in done.stderr


def test_log_goes_to_stderr(bare_pack):
    write_trial(
        bare_pack,
        "import logging\nlogging.getLogger('unifashion.part').info('sdpa runs')\n"
        "print('{}')\nreturn 0",
    )
    done = start("try", "--json", folder=bare_pack)
    assert (done.stdout, done.stderr) == ("{}\n", "unifashion.part: sdpa runs\n")


def test_given_python_without_the_packages_is_not_touched(bare_pack, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "given")], check=True
    )
    given = tmp_path / "given" / ("Scripts" if os.name == "nt" else "bin") / "python"
    text = (bare_pack / "nodes" / "_cli" / "__init__.py").read_text("utf-8")
    changed = text.replace('"a trial", ()', '"a trial"')
    (bare_pack / "nodes" / "_cli" / "__init__.py").write_text(changed, "utf-8")
    write_trial(bare_pack, "return 0")
    before = sorted((tmp_path / "given").rglob("*"))
    for done in (
        start("try", "--json", "--python", str(given), folder=bare_pack),
        start("--python", str(given), "try", "--json", folder=bare_pack),
        start("try", "--json", folder=bare_pack, UNIFASHION_PYTHON=str(given)),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        assert "transformers>=" in done.stderr
        assert "-m pip install" in done.stderr
    assert sorted((tmp_path / "given").rglob("*")) == before
    assert not (bare_pack / ".venv").exists()


def test_given_python_runs_the_command_with_hubs_off(bare_pack, tmp_path):
    text = (bare_pack / "nodes" / "_cli" / "__init__.py").read_text("utf-8")
    changed = text.replace('"a trial", ()', '"a trial"')
    (bare_pack / "nodes" / "_cli" / "__init__.py").write_text(changed, "utf-8")
    (bare_pack / "requirements.txt").write_text("pytest>=1\n", "utf-8")
    write_trial(
        bare_pack,
        "import json, os, sys\n"
        "names = ('HF_HUB_OFFLINE', 'UNIFASHION_INSIDE')\n"
        "print(json.dumps([sys.executable, *[os.environ.get(n) for n in names]]))\nreturn 0",
    )
    home = tmp_path / "home"
    done = start("try", "--python", sys.executable, folder=bare_pack, UNIFASHION_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [sys.executable, "1", None]
    assert not list(bare_pack.rglob("__pycache__"))


@pytest.mark.slow
def test_no_network_is_said_in_one_line(bare_pack, tmp_path):
    """In a copy without `.venv`: where one is ready, the command would simply run."""
    write_trial(bare_pack, "return 0")
    began = time.monotonic()
    done = start(
        "need",
        "--json",
        folder=bare_pack,
        UNIFASHION_HOME=str(tmp_path),
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_EXTRA_INDEX_URL="",
        PIP_FIND_LINKS="",
        PIP_RETRIES="0",
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "to download" in done.stderr
    assert "the package index can't be reached" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".venv" / "unifashion-ready.json").exists()
    assert time.monotonic() - began < 120


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_is_130(bare_pack):
    write_trial(bare_pack, "import time\nprint('began', flush=True)\ntime.sleep(60)")
    line = [sys.executable, str(bare_pack / "run.py"), "try"]
    pipe = subprocess.PIPE
    # a suite that was started in the background has SIGINT ignored, and children inherit that
    with subprocess.Popen(line, stdout=pipe, stderr=pipe, preexec_fn=_heed_ctrl_c) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"began\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# `run.py test`


@pytest.fixture
def testing(pack, monkeypatch) -> tuple:
    """The command, and the lines that it starts; those in `failing` exit with 1."""
    command = pack.module("nodes._cli.run_tests")
    lines: list[list[str]] = []
    failing: set[str] = set()

    def run(line: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        lines.append(line)
        return subprocess.CompletedProcess(line, int(line[2] in failing))

    monkeypatch.setattr(command.subprocess, "run", run)
    return command, lines, failing


def arguments(tmp_path: Path, *rest: str, quick: bool = False) -> argparse.Namespace:
    return argparse.Namespace(pack=tmp_path, quick=quick, rest=list(rest))


def test_checks_come_before_the_tests(testing, tmp_path):
    command, lines, _ = testing
    assert command.run(arguments(tmp_path, "-k", "gallery")) == 0
    assert [line[2] for line in lines] == ["ruff", "ruff", "pyright", "pytest"]
    assert lines[-1][-2:] == ["-k", "gallery"]


def test_quick_runs_the_quick_tests_alone(testing, tmp_path):
    command, lines, _ = testing
    assert command.run(arguments(tmp_path, quick=True)) == 0
    assert [line[2] for line in lines] == ["pytest"]
    assert "not slow" in lines[0][lines[0].index("-m", 3) + 1]


@pytest.mark.parametrize("what", ["ruff", "pyright", "pytest"])
def test_any_failure_is_the_exit_code_and_all_is_run(testing, tmp_path, what, capsys):
    command, lines, failing = testing
    failing.add(what)
    assert command.run(arguments(tmp_path)) == 1
    assert lines[-1][2] == "pytest"
    assert (f"to correct: {what}" in capsys.readouterr().err) is (what != "pytest")


def test_caches_of_the_tools_stay_out_of_the_sources(testing, tmp_path, monkeypatch):
    command, lines, _ = testing
    monkeypatch.setenv("UNIFASHION_CACHE", str(tmp_path / "cache"))
    command.run(arguments(tmp_path, quick=True))
    assert f"cache_dir={tmp_path / 'cache' / 'pytest'}" in lines[0]
