"""Make requirements.lock anew (for maintainers).

The program uv resolves requirements.txt, the extras `fast` and `train` and the test group of
pyproject.toml for all Pythons and platforms at once, from metadata alone: no large wheel is
downloaded. Exact versions, what is needed where, and each wheel's size go into requirements.lock;
no address does.

It needs Python 3.11 or newer with uv and packaging: python -m pip install uv packaging
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._lock import PLATFORMS, normal_name, read_requirements
from ._lowest import LOWEST, write_lowest

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SECTIONS = ("run", "train", "test")
HELD = (
    "torch==2.13.0",
    # What ai-edge-litert asks for; later ones say that they are for Pythons below 3.11 alone, which
    # pip heeds and uv does not.
    "backports-strenum==1.2.8",
)

_SYSTEMS: dict[str, dict[str, str]] = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
}
_MACHINES = {"windows-x86_64": "AMD64"}
_TAGS = {  # the last part of a wheel's name; an earlier pattern is the better wheel
    "linux-x86_64": (r"manylinux.*x86_64", r"linux_x86_64"),
    "linux-aarch64": (r"manylinux.*aarch64", r"linux_aarch64"),
    "windows-x86_64": (r"win_amd64",),
    "macos-arm64": (r"macosx_.*_arm64", r"macosx_.*_universal2"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hold", action="append", metavar="NAME==VERSION", help=f"default: {' '.join(HELD)}"
    )
    parser.add_argument(
        "--ran",
        action="append",
        default=[],
        metavar="PYTHON=WORDS",
        help="what was run with a section",
    )
    parser.add_argument(
        "--lowest",
        action="store_true",
        help=f"only write {LOWEST.as_posix()} anew: our lower bounds, for the tests",
    )


def run(args: argparse.Namespace) -> int:
    if sys.version_info < (3, 11) or shutil.which("uv") is None:
        args.parser.error("needs Python 3.11 or newer with uv and packaging (see --help)")
    import tomllib

    if args.lowest:
        print(f"{write_lowest(args.pack, args.hold or HELD).name}: written.", file=sys.stderr)
        return 0
    requires = read_requires(args.pack)
    with tempfile.TemporaryDirectory() as folder:
        resolved = tomllib.loads(_resolve(Path(folder), requires, args.hold or list(HELD)))
    ran = dict(words.split("=", 1) for words in args.ran)
    text = render(requires, {python: section_of(resolved, python) for python in PYTHONS}, ran)
    target = args.pack / "requirements.lock"
    beside = target.with_suffix(".lock.part")
    beside.write_text(text, "utf-8")
    os.replace(beside, target)
    print(f"{target.name}: {', '.join(PYTHONS)} written.", file=sys.stderr)
    return 0


def read_requires(pack: Path) -> dict[str, list[str]]:
    """The requirement lines of each section, from requirements.txt and pyproject.toml."""
    import tomllib

    project = tomllib.loads((pack / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    tests = project["dependency-groups"]["test"]
    # The commands' own environment holds what makes search fast; ComfyUI's need not.
    needed = [*read_requirements(pack / "requirements.txt"), *extras["fast"]]
    return {"run": needed, "train": extras["train"], "test": tests}


def _resolve(folder: Path, requires: dict[str, list[str]], hold: list[str]) -> str:
    project = [
        "[project]",
        'name = "resolved"',
        'version = "0"',
        'requires-python = ">=3.10,<3.14"',
        f"dependencies = {json.dumps(requires['run'])}",
        "[project.optional-dependencies]",
        f"train = {json.dumps(requires['train'])}",
        f"test = {json.dumps(requires['test'])}",
        "[tool.uv]",
        f"constraint-dependencies = {json.dumps(hold)}",
    ]
    (folder / "pyproject.toml").write_text("\n".join(project), "utf-8")
    line = ["uv", "lock", "--quiet", "--python", sys.executable]
    subprocess.run(line, cwd=folder, check=True, stdout=sys.stderr)
    return (folder / "uv.lock").read_text("utf-8")


def section_of(resolved: dict[str, Any], python: str) -> list[dict[str, Any]]:
    """The packages that one Python needs, each with its sections and its size by platform."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in resolved["package"]:
        by_name.setdefault(package["name"], []).append(package)
    rows: dict[str, dict[str, Any]] = {}
    for section in SECTIONS:
        for on in PLATFORMS:
            for package in _reached(by_name, section, python, on):
                row = rows.setdefault(
                    package["name"],
                    {
                        "name": package["name"],
                        "version": package["version"],
                        "sections": [],
                        "size": {},
                    },
                )
                row["sections"] = list(dict.fromkeys([*row["sections"], section]))
                row["size"][on] = wheel_size(package, python, on)
    for row in rows.values():
        sizes = row["size"]
        if len(sizes) == len(PLATFORMS) and len(set(sizes.values())) == 1:
            row["size"] = next(iter(sizes.values()))
    return sorted(rows.values(), key=lambda row: (SECTIONS.index(row["sections"][0]), row["name"]))


def _reached(
    by_name: dict[str, list[dict[str, Any]]], section: str, python: str, on: str
) -> Iterator[dict[str, Any]]:
    """Walk the resolved graph from one section's requirements, in one Python on one platform."""
    from packaging.markers import Marker

    system, machine = on.split("-")
    env = {
        **_SYSTEMS[system],
        "platform_machine": _MACHINES.get(on, machine),
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }

    def applies(edge: dict[str, Any]) -> bool:
        return "marker" not in edge or Marker(edge["marker"]).evaluate(env)

    (root,) = by_name["resolved"]
    edges = root["dependencies"] if section == "run" else root["optional-dependencies"][section]
    open_edges = [edge for edge in edges if applies(edge)]
    seen: set[tuple[str, str]] = set()
    while open_edges:
        edge = open_edges.pop()
        package = _pick(by_name[edge["name"]], edge, env)
        for part in ("", *edge.get("extra", ())):
            if (package["name"], part) in seen:
                continue
            seen.add((package["name"], part))
            more = (
                package.get("optional-dependencies", {}).get(part, [])
                if part
                else package.get("dependencies", [])
            )
            open_edges += [e for e in more if applies(e)]
            if not part:
                yield package


def _pick(
    versions: list[dict[str, Any]], edge: dict[str, Any], env: dict[str, str]
) -> dict[str, Any]:
    """The one version of a package that an edge means."""
    from packaging.markers import Marker

    if "version" in edge:
        versions = [p for p in versions if p["version"] == edge["version"]]
    if len(versions) > 1:
        versions = [
            p
            for p in versions
            if any(Marker(m).evaluate(env) for m in p.get("resolution-markers", ()))
        ]
    (package,) = versions
    return package


def wheel_size(package: dict[str, Any], python: str, on: str) -> int | str:
    """Bytes of the wheel that pip would take, as the index gave it; "unknown" if it gave none."""
    tag = "cp" + python.replace(".", "")
    best: list[tuple[int, int]] = []
    for wheel in package.get("wheels", ()):
        name = wheel["url"].rsplit("/", 1)[-1].removesuffix(".whl")
        tags, abi, system = name.split("-")[-3:]
        rank = _rank(tags.split("."), abi, system, tag, on)
        if rank is not None and "size" in wheel:
            best.append((rank, wheel["size"]))
    return min(best)[1] if best else "unknown"


def _rank(tags: list[str], abi: str, system: str, tag: str, on: str) -> int | None:
    """How good a wheel fits (0 is best), None if it doesn't."""
    if tag in tags and abi in (tag, "none"):
        place = 0
    elif abi == "abi3" and any(
        re.fullmatch(r"cp3\d+", t) and int(t[3:]) <= int(tag[3:]) for t in tags
    ):
        place = 10
    elif abi == "none" and any(t in ("py3", "py2") for t in tags):
        place = 20
    else:
        return None
    if system == "any":
        return place + 5
    for offset, pattern in enumerate(_TAGS[on]):
        if re.search(pattern, system):
            return place + offset
    return None


def render(
    requires: dict[str, list[str]], sections: dict[str, list[dict[str, Any]]], ran: dict[str, str]
) -> str:
    """The lock's text: JSON with one package a line, so that a change is easy to read."""
    about = [
        "Exact versions for the commands of run.py; ComfyUI never reads this file. Made by "
        "`python run.py lock`.",
        "One section a Python. size: bytes of the wheel as the package index gave it, by platform "
        "where that differs or where not all platforms need the package; unknown where the index "
        "has no wheel or gave no size.",
        "Versions are public ones; a machine's pip may take a local build of the same version.",
    ]
    parts = []
    for python, rows in sections.items():
        lines = ",\n".join("    " + json.dumps(row) for row in rows)
        words = json.dumps(ran.get(python, "resolved, not run"))
        parts.append(f'  {json.dumps(python)}: {{"ran": {words}, "packages": [\n{lines}\n  ]}}')
    named = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps([normal_line(x) for x in lines])}"
        for name, lines in requires.items()
    )
    body = ",\n".join(parts)
    head = f'{{"about": {json.dumps(about, indent=2)},\n"requires": {{\n{named}\n}}'
    return f'{head},\n"pythons": {{\n{body}\n}}}}\n'


def normal_line(line: str) -> str:
    """A requirement line with its name in the one form that all tools compare."""
    found = re.match(r"[A-Za-z0-9._-]+", line)
    return line if found is None else normal_name(found[0]) + line[found.end() :]
