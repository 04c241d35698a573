"""Plans: lists, pairs, prompts with choices, seeds, files, filters, and names of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from unifashion_core.errors import InputError
from unifashion_core.rendering.names import FIELDS, check_template, file_name, inside
from unifashion_core.rendering.plan import (
    MAX_ITEMS,
    Picture,
    Plan,
    PlanItem,
    PlanLists,
    Seeds,
    hit_pictures,
    item_id,
)
from unifashion_core.rendering.plan_files import read_plan, save_plan
from unifashion_core.rendering.prompts import every_prompt, one_prompt
from unifashion_core.types import Hit


def pictures(*names: str) -> list[Picture]:
    return [Picture(name, Path(f"{name}.png")) for name in names]


def test_product_has_every_combination_once_and_the_person_changes_slowest():
    plan = PlanLists(
        persons=pictures("ana", "bo", "cy"),
        garments=pictures("tee", "dress", "coat", "shirt"),
        seeds=Seeds(repeats=2),
    ).product()
    assert len(plan) == 24
    assert plan.preparations == 3 + 4
    seen = [(i.person.name, i.garment.name, i.seed) for i in plan.items if i.person and i.garment]
    assert seen[:3] == [("ana", "tee", 0), ("ana", "tee", 1), ("ana", "dress", 0)]
    assert len(set(seen)) == 24


def test_a_person_with_two_regions_is_prepared_twice():
    lists = PlanLists(persons=pictures("ana"), garments=pictures("a"), regions=("upper", "lower"))
    assert lists.product().preparations == 3


def test_pairs_go_side_by_side_and_one_entry_goes_with_all():
    plan = PlanLists(
        persons=pictures("ana"), garments=pictures("a", "b"), prompts=["x", "y"]
    ).pairs()
    assert [(i.values()["garment"], i.prompt) for i in plan.items] == [("a", "x"), ("b", "y")]
    with pytest.raises(InputError, match="lists of one length, got 2 persons beside lists of 3"):
        PlanLists(persons=pictures("a", "b"), garments=pictures("a", "b", "c")).pairs()


@pytest.mark.parametrize(
    ("kind", "expected"), [("fixed", [7, 8, 7, 8]), ("counted", [7, 8, 9, 10])]
)
def test_seeds_are_fixed_or_counted(kind, expected):
    lists = PlanLists(garments=pictures("a", "b"), seeds=Seeds(kind, 7, 2))
    assert [i.seed for i in lists.product().items] == expected


def test_seeds_from_a_hash_stay_when_the_plan_is_edited():
    def seeds(*names: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        plan = PlanLists(garments=pictures(*names), seeds=Seeds("hash", 0, 2)).product()
        for item in plan.items:
            found.setdefault(str(item.values()["garment"]), []).append(item.seed)
        return found

    before, after = seeds("a", "b"), seeds("new", "b", "a")
    assert {name: after[name] for name in before} == before
    assert len({s for row in after.values() for s in row}) == 6
    other = PlanLists(garments=pictures("a"), seeds=Seeds("hash", 1)).product()
    assert other.items[0].seed not in before["a"]


def test_choices_in_a_prompt_become_every_prompt():
    said = every_prompt("a {red|dark {blue|green}} {kind}", {"kind": ["dress", "coat"]})
    assert said == [
        "a red dress",
        "a red coat",
        "a dark blue dress",
        "a dark blue coat",
        "a dark green dress",
        "a dark green coat",
    ]
    assert every_prompt(r"plain \{words\|here\}") == ["plain {words|here}"]
    assert every_prompt("{|very }warm") == ["warm", "very warm"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a {red|blue", "a { without its }"),
        ("a red}", "a } without its {"),
        ("{colours}", r"\{colours\} is neither a choice such as \{a\|b\} nor a list"),
        ("".join(["{0|1|2|3|4|5|6|7|8|9}"] * 5), "its choices make 100,000 prompts"),
    ],
)
def test_a_prompt_that_can_not_be_read_says_what_is_wrong(text, problem):
    with pytest.raises(InputError, match=problem):
        every_prompt(text)


def test_one_prompt_is_told_by_the_seed():
    text = "{a|b|c} {d|e|f} {g|h|i}"
    drawn = [one_prompt(text, seed) for seed in range(60)]
    assert drawn == [one_prompt(text, seed) for seed in range(60)]
    assert len(set(drawn)) > 15
    assert set(drawn) <= set(every_prompt(text))


def test_too_large_a_plan_is_refused_before_it_is_made():
    many = pictures(*(str(n) for n in range(400)))
    with pytest.raises(InputError, match=f"at most {MAX_ITEMS:,}"):
        PlanLists(persons=many, garments=many).product()


def test_a_plan_can_be_filtered_and_previewed():
    plan = PlanLists(garments=pictures("red tee", "blue tee"), seeds=Seeds(repeats=12)).product()
    kept = plan.filtered("garment~RED AND seed>=9")
    assert [i.seed for i in kept.items] == [9, 10, 11]
    assert len(plan.filtered("person=")) == len(plan)
    assert not len(plan.filtered("region!=upper"))
    text = plan.preview(first=2)
    assert text.splitlines()[0].startswith("24 pictures: 2 garments, 1 region, 12 seeds; 2 prep")
    assert text.splitlines()[-1] == "… and 22 more"


def test_ids_tell_items_apart_by_content_and_not_by_place(tmp_path):
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        Image.new("RGB", (4, 4), colour).save(tmp_path / f"{name}.png")
    a, b, c = (Picture("x", tmp_path / f"{n}.png") for n in "abc")
    base = item_id("job", PlanItem(a, seed=1))
    assert item_id("job", PlanItem(b, seed=1)) == base
    others = [
        item_id("job", PlanItem(c, seed=1)),
        item_id("job", PlanItem(a, seed=2)),
        item_id("job", PlanItem(a, seed=1, prompt="x")),
        item_id("job", PlanItem(a, seed=1, settings={"steps": 3})),
        item_id("job", PlanItem(a, garment=a, seed=1)),
        item_id("other", PlanItem(a, seed=1)),
    ]
    assert len({base, *others}) == 7
    pixels = Image.open(tmp_path / "a.png").convert("RGB")
    same = [item_id("job", PlanItem(Picture("n", None, pixels.copy()))) for _ in range(2)]
    assert same[0] == same[1]


def test_hits_become_garments():
    hit = Hit(1, 7, Path("/photos/summer/red tee.jpg"), "summer/red tee.jpg", 0.5)
    assert hit_pictures([hit]) == [Picture("red tee", Path("/photos/summer/red tee.jpg"))]


# Files.


def test_a_csv_is_an_item_a_line_with_files_beside_it(tmp_path):
    table = tmp_path / "plan.csv"
    table.write_text(
        "person,garment,prompt,seed,steps\n"
        'ana.png,shirts/a.png,"red, {warm|cold}",3,\n'
        "ana.png,shirts/b.png,,,12\n",
        "utf-8",
    )
    first, second = read_plan(table).items
    assert first.person == second.person == Picture("ana", tmp_path / "ana.png")
    assert first.garment is not None
    assert first.garment.path == tmp_path / "shirts" / "a.png"
    assert first.prompt in ("red, warm", "red, cold")
    assert (first.seed, first.settings) == (3, {})
    assert (second.seed, second.settings) == (0, {"steps": 12})


def test_a_table_can_be_combined(tmp_path):
    table = tmp_path / "plan.jsonl"
    rows = [{"person": "a.png", "garment": "x.png", "seed": 1}, {"person": "b.png", "seed": 2}]
    table.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    plan = read_plan(table, every=True)
    assert [(i.values()["person"], i.values()["garment"], i.seed) for i in plan.items] == [
        ("a", "x", 1),
        ("a", "x", 2),
        ("b", "x", 1),
        ("b", "x", 2),
    ]


def test_lists_in_json_are_combined_and_folders_stand_for_their_pictures(tmp_path):
    (tmp_path / "shirts").mkdir()
    for name in "ab":
        Image.new("RGB", (4, 4)).save(tmp_path / "shirts" / f"{name}.png")
    table = tmp_path / "plan.json"
    lists = {
        "persons": ["ana.png", "other/ana.png"],
        "garments": ["shirts"],
        "prompts": ["in {c}"],
        "lists": {"c": ["red", "blue"]},
        "seeds": {"kind": "counted", "base": 5},
        "settings": {"steps": 9},
    }
    table.write_text(json.dumps(lists), "utf-8")
    plan = read_plan(table)
    assert len(plan) == 8
    assert [i.seed for i in plan.items] == list(range(5, 13))
    assert plan.settings == {"steps": 9}
    assert {i.values()["person"] for i in plan.items} == {"ana", "ana 2"}


def test_a_saved_plan_reads_as_it_was(tmp_path):
    pixels = Picture("made", None, Image.new("RGB", (4, 4), "red"))
    plan = Plan(
        (
            PlanItem(Picture("ana", tmp_path / "ana.png"), pixels, "dress", "x", None, 4),
            PlanItem(
                Picture("ana", tmp_path / "ana.png"), pixels, seed=5, settings={"guidance": 2.0}
            ),
        ),
        {"steps": 4},
    )
    save_plan(plan, tmp_path / "saved.json")
    again = read_plan(tmp_path / "saved.json")
    assert again.settings == plan.settings
    assert [i.seed for i in again.items] == [4, 5]
    assert again.items[1].settings == {"guidance": 2.0}
    garment = again.items[0].garment
    assert garment is not None
    assert garment.open().getpixel((0, 0)) == (255, 0, 0)
    assert again.items[0].person == plan.items[0].person


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("p.csv", "person,colour\na.png,red\n", "line 2: no column 'colour' is known"),
        ("p.csv", "person,seed\na.png,-1\n", "line 2: seed '-1', wanted a whole number"),
        ("p.csv", "person,seed\na.png\n", "line 2: 1 cells, the header has 2"),
        ("p.csv", "person,steps\na.png,many\n", "line 2: steps is 'many', wanted a number"),
        ("p.csv", "person\n", "no item in it"),
        ("p.jsonl", '{"person": ["a"]}', "line 1: column 'person' holds a list"),
        ("p.json", '{"people": []}', "no key 'people' is known"),
        ("p.json", '{"seeds": {"kind": "random"}}', '"seeds" wanted as a number'),
        ("p.txt", "", "a table of kind '.txt'"),
    ],
)
def test_a_wrong_file_is_told_by_line(tmp_path, name, text, problem):
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=problem):
        read_plan(tmp_path / name)


# Names.


def test_names_are_filled_in_and_end_in_the_id():
    values = {"index": 3, "person": "ana", "garment": "red tee", "seed": 9, "id": "0123456789abcd"}
    template = "{person}/{index:05}_{garment}_{seed}"
    assert file_name(template, values, ".png") == "ana/00003_red tee_9_01234567.png"
    assert file_name("{id8}-{counter:3}", values, ".webp") == "01234567-003.webp"


@pytest.mark.parametrize(
    "value",
    ["../../etc/passwd", "/abs", "C:\\x", "a/b", "..", "", "\0", "x" * 400, "CON", "é\u202e"],
)
@pytest.mark.parametrize("field", [f for f in FIELDS if f not in ("id", "id8", "index", "counter")])
def test_no_value_leaves_the_folder(tmp_path, field, value):
    name = file_name(f"{{{field}}}/{{{field}}}_x", {field: value, "id": "ab" * 32}, ".png")
    path = inside(tmp_path, name)
    assert path.resolve().is_relative_to(tmp_path.resolve())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize(
    "template", ["../x", "/x", "C:x", "a/../../b", "{person.__class__}", "{nobody}", "", "a/", "{"]
)
def test_a_template_that_leaves_the_folder_is_refused(template):
    with pytest.raises(InputError, match="file name"):
        check_template(template)
