"""Every node has a help page with its picture, and its words in every language.

Missing something after adding or changing a node? Write web/docs/NODE_ID.md (copy another page) and
the recipe of its picture (nodes/_cli/_page_pictures.py), add the translations that are named to
locales/LANGUAGE/phrases.json, then run `python run.py pages --pictures`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from quoted_texts import unknown_quotes

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "web" / "docs"
LOCALES = ROOT / "locales"
LANGUAGES = ("zh", "ja")
HOW = "\nHow: " + " ".join((__doc__ or "").partition("?")[2].split())
IN_MESSAGES = re.compile(r"[{}@|]|\$t")  # vue-i18n gives these a meaning in names and descriptions


@pytest.fixture(scope="module")
def info(pack, tmp_path_factory):
    return pack.make_host(tmp_path_factory.mktemp("pages")).object_info()


@pytest.fixture(scope="module")
def pages(pack):
    return pack.module("nodes._cli.pages")


@pytest.fixture(scope="module")
def nodes(info, pages):
    return {name: info[name] for name in pages.node_words(info)}


def read(name: str) -> str:
    path = DOCS / f"{name}.md"
    return path.read_text("utf-8") if path.is_file() else ""


def test_every_node_has_a_page_and_every_page_a_node(nodes):
    assert {path.stem for path in DOCS.glob("*.md")} == set(nodes), HOW


def test_the_tables_of_pages_are_those_of_the_schemas(nodes, pages):
    old = [name for name in nodes if pages.with_tables(read(name), nodes[name]) != read(name)]
    assert old == [], HOW


def test_pages_name_every_input_and_say_what_to_do(nodes, pages):
    for name, node in nodes.items():
        text = read(name)
        prose = text.partition(pages.START)[0]
        assert text.startswith(f"# {node['display_name']}\n"), name + HOW
        assert [i for i, *_ in pages.inputs_of(node) if f"`{i}`" not in text] == [], name + HOW
        assert "## When it fails" in prose, name
        assert len(prose.split()) > 60, f"{name}: say more{HOW}"
        assert re.search(r"(In|Fits) the templates? \[", prose), f"{name}: name a template"


def test_pictures_of_pages_are_there_and_small(nodes):
    shown = {name: re.findall(r"\]\(([^)]+)\)", read(name)) for name in nodes}
    lost = [p for paths in shown.values() for p in paths if not (DOCS / p).is_file()]
    assert lost == [], HOW
    assert [name for name, paths in shown.items() if f"pictures/{name}.webp" not in paths] == []
    files = list((DOCS / "pictures").iterdir())
    assert {f"pictures/{path.name}" for path in files} == {p for ps in shown.values() for p in ps}
    assert sum(path.stat().st_size for path in files) < 2_500_000
    assert max(path.stat().st_size for path in files) < 150_000


def test_a_page_names_the_templates_that_use_its_node(nodes):
    twins = sorted((ROOT / "workflows" / "api").glob("*.json"))
    graphs = {path.stem: json.loads(path.read_text("utf-8")) for path in twins}
    for name in nodes:
        using = {
            stem
            for stem, graph in graphs.items()
            if name in {node["class_type"] for node in graph.values()}
        }
        named = set(re.findall(r"pictures/(\d\d_\w+)\.webp", read(name)))
        if "In the template" in read(name):
            assert named <= using, name
        else:
            assert not using, f"{name}: say `In the template`, for it is in {using}"
        assert named, name


def test_what_pages_quote_is_what_the_nodes_say(nodes):
    assert {n: unknown_quotes(read(n).split("## Inputs")[0]) for n in nodes} == {
        n: [] for n in nodes
    }


def test_english_words_are_the_schemas(info, pages):
    found = json.loads((LOCALES / "en" / "nodeDefs.json").read_text("utf-8"))
    assert found == pages.node_words(info), HOW


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_a_translation_of_every_text(info, pages, language):
    phrases = pages.read_phrases(LOCALES / language)
    made, unknown = pages.translated(pages.node_words(info), phrases)
    assert unknown == [], HOW
    assert json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8")) == made, HOW
    texts = set(_texts(pages.node_words(info)))
    assert [text for text in phrases if text not in texts] == [], "texts that no node has any more"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_names_every_category(nodes, language):
    parts = {part for node in nodes.values() for part in node["category"].split("/")[1:]}
    names = json.loads((LOCALES / language / "main.json").read_text("utf-8"))["nodeCategories"]
    assert sorted(names) == sorted(parts), f"locales/{language}/main.json: nodeCategories"


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_no_name_or_description_holds_a_sign_of_the_message_form(language):
    words = json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))
    for name, node in words.items():
        slots = [*node["inputs"].values(), *node["outputs"].values()]
        for text in (node["display_name"], node["description"], *(s["name"] for s in slots)):
            assert not IN_MESSAGES.search(text), (name, text)


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


# --- the form of names and tooltips

_SMALL = {"a", "an", "and", "by", "for", "from", "in", "of", "on", "or", "the", "these", "to"}


def test_display_names_are_in_title_case_and_unlike(nodes):
    names = [node["display_name"] for node in nodes.values()]
    assert len(set(names)) == len(names)
    for name in names:
        assert all(w[0].isupper() or w in _SMALL for w in name.split()), name


def test_every_text_of_a_node_ends_its_sentence(nodes, pages):
    for name, node in nodes.items():
        tips = {i: options.get("tooltip") for i, _, options, _ in pages.inputs_of(node)}
        tips |= dict(zip(node["output_name"], node["output_tooltips"], strict=True))
        tips["description"] = node["description"]
        wrong = [i for i, tip in tips.items() if not tip or not tip.strip().endswith(".")]
        assert wrong == [], (name, wrong)


def test_every_node_can_be_found_and_has_its_place(nodes):
    for name, node in nodes.items():
        aliases = node["search_aliases"]
        assert len(aliases) >= 2, name
        assert len(set(aliases)) == len(aliases), name
        assert node["display_name"].lower() not in aliases, name
        assert re.fullmatch(r"UniFashion(/[a-z-]+)?", node["category"]), name
