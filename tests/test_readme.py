"""What the README says is there: commands, nodes, templates, pictures, and the errors it quotes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from quoted_texts import unknown_quotes

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
LINES = sorted(set(re.findall(r"python run\.py ([^`\n#]+)", README)))


@pytest.fixture(scope="module")
def info(pack, tmp_path_factory):
    return pack.make_host(tmp_path_factory.mktemp("readme")).object_info()


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_that_is_shown_parses(pack, line, capsys):
    command, *rest = shlex.split(line)
    parser = pack.module("nodes._cli").command_parser(command)
    try:
        parser.parse_known_args(rest)
    except SystemExit as e:
        pytest.fail(f"{line}: {capsys.readouterr().err} ({e.code})")


def test_every_command_is_shown(pack):
    commands = pack.module("nodes._cli").COMMANDS
    shown = {name for name, command in commands.items() if not command.hidden}
    assert {name for name in shown if not re.search(rf"`?{name}\b", README)} == set()
    known = set(commands)
    assert {line.split()[0] for line in LINES} <= known


def test_the_table_of_nodes_is_all_nodes(info):
    table = README.partition("### Nodes")[2].partition("## On the command line")[0]
    cells = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]
    named = {name.strip() for cell in cells for name in re.split(r"[,/]", cell)}
    have = {node["display_name"] for key, node in info.items() if key.startswith("UniFashion_")}
    assert named == have, "the table `### Nodes` of README.md"


def test_every_template_is_in_its_table_with_a_picture():
    for path in (ROOT / "workflows").glob("*.json"):
        assert f"| {path.stem.replace('_', ' ')} |" in README, path.stem
        assert f"(web/docs/pictures/{path.stem}.webp)" in README, path.stem


def test_links_and_pictures_of_the_readme_are_there():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_errors_that_the_readme_quotes_are_in_the_sources():
    assert unknown_quotes(README.partition("## When something fails")[2]) == []
