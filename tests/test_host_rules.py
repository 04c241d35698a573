"""The executor's rules, each on the embedded host and, with COMFYUI_PATH, on a real ComfyUI."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp serves the hosts to these tests")

import host_rules
import host_servers
from host_servers import Client


@pytest.fixture(scope="module", params=host_servers.HOSTS)
def host(request: Any, pack: Any, tmp_path_factory: Any) -> Iterator[Client]:
    base = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        with host_servers.embedded(pack, base, host_rules) as client:
            yield client
    else:
        with host_servers.comfyui(base) as client:
            yield client


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": f"Rules_{kind}", "inputs": inputs}


def show(source: str, slot: int = 0) -> dict[str, Any]:
    return node("Show", value=[source, slot])


def shown(host: Client, **nodes: Any) -> list[str]:
    """What the node `x` gave, as text."""
    answer = host.run({**nodes, "show": show("x")})
    assert answer.status == 200, answer.body
    assert answer.end == "execution_success", answer.events[-1]
    return answer.text("show")


def refused(host: Client, kind: str = "Plain", **inputs: Any) -> list[str]:
    """Types of the errors that a node is refused with."""
    answer = host.run({"x": node(kind, **{"whole": 1, **inputs}), "show": show("x")})
    assert answer.status == 400, answer.body
    assert answer.body["error"]["type"] == "prompt_outputs_failed_validation"
    return answer.problems("x")


# --- values


def test_plain_values_are_converted_and_missing_optionals_left_to_the_default(host):
    text = shown(host, x=node("Plain", whole="3", part=1, word=5, yes=0, pick="right"))
    assert text == ["(3, 1.0, '5', False, 'right')"]
    missing = host_rules.MISSING
    assert shown(host, x=node("Plain", whole=2)) == [repr((2, *[missing] * 4))]


def test_a_value_outside_its_range_is_refused(host):
    assert refused(host, whole=11) == ["value_bigger_than_max"]
    assert refused(host, whole=-1) == ["value_smaller_than_min"]
    assert refused(host, part=1.5) == ["value_bigger_than_max"]


def test_an_unknown_choice_is_refused_and_long_lists_are_not_repeated(host):
    assert refused(host, pick="middle") == ["value_not_in_list"]
    answer = host.run({"x": node("Plain", whole=1, many="none"), "show": show("x")})
    (error,) = answer.body["node_errors"]["x"]["errors"]
    assert error["details"] == "many: 'none' not in (list of length 30)"
    assert error["extra_info"]["input_config"] is None


def test_text_for_a_number_is_refused(host):
    assert refused(host, whole="many") == ["invalid_input_type"]


def test_several_wrong_values_are_all_told(host):
    errors = refused(host, whole=99, pick="middle")
    assert errors == ["value_bigger_than_max", "value_not_in_list"]


def test_a_missing_required_input_is_refused(host):
    answer = host.run({"x": node("Plain"), "show": show("x")})
    assert answer.problems("x") == ["required_input_missing"]


def test_a_problem_carries_input_and_received_value(host):
    answer = host.run({"x": node("Plain", whole=11), "show": show("x")})
    entry = answer.body["node_errors"]["x"]
    assert entry["class_type"] == "Rules_Plain"
    assert entry["dependent_outputs"] == ["show"]
    (error,) = entry["errors"]
    assert error["message"] == "Value 11 bigger than max of 10"
    assert error["extra_info"]["received_value"] == 11
    assert error["extra_info"]["input_name"] == "whole"
    assert error["extra_info"]["input_config"][0] == "INT"


def test_a_list_that_is_no_link_is_wrapped_by_the_page(host):
    assert shown(host, x=node("Pair", a={"__value__": [1, 2, 3]}, b=0)) == ["[1, 2, 3]-0"]
    answer = host.run({"x": node("Pair", a=[1, 2, 3], b=0), "show": show("x")})
    assert answer.problems("x") == ["bad_linked_input"]


# --- validate_inputs


def test_a_named_input_loses_the_hosts_own_check(host):
    assert shown(host, x=node("Named", whole=99))[0].startswith("(99,")
    assert refused(host, "Named", whole=5, part=2.0) == ["value_bigger_than_max"]


def test_an_own_check_that_takes_everything_switches_all_checks_off(host):
    assert shown(host, x=node("TakesAll", whole=99, pick="middle"))[0].startswith("(99,")


def test_an_own_message_marks_every_input_that_was_named(host):
    answer = host.run({"x": node("Named", whole=7, pick="left"), "show": show("x")})
    errors = answer.body["node_errors"]["x"]["errors"]
    assert {e["type"] for e in errors} == {"custom_validation_failed"}
    assert sorted(e["details"] for e in errors) == [
        "pick - seven is unlucky",
        "whole - seven is unlucky",
    ]
    assert refused(host, "Named", whole=8) == ["custom_validation_failed"]


def test_keyword_only_names_are_not_seen_by_the_host(host):
    answer = host.run({"x": node("KeywordOnly", whole=1), "show": show("x")})
    assert answer.status == 400
    types = {p["type"] for e in answer.body["node_errors"].values() for p in e["errors"]}
    assert types == {"exception_during_inner_validation"}


def test_input_types_replace_the_hosts_check_of_links_and_linked_values_are_none(host):
    nodes = {"a": node("Make"), "x": node("OwnTypes", whole=["a", 0]), "show": show("x")}
    errors = host.run(nodes).body["node_errors"]["x"]["errors"]
    assert {e["details"].split(" - ")[1] for e in errors} == {
        "types {'whole': 'RULES_THING'}, whole None"
    }


# --- graphs


def test_types_must_match_along_a_link(host):
    assert shown(host, a=node("Make"), x=node("Take", thing=["a", 0])) == ["{'made': True}"]
    answer = host.run({"a": node("Make"), "x": node("Plain", whole=["a", 0]), "show": show("x")})
    (error,) = answer.body["node_errors"]["x"]["errors"]
    assert error["type"] == "return_type_mismatch"
    assert error["details"] == "whole, received_type(RULES_THING) mismatch input_type(INT)"
    assert error["extra_info"]["linked_node"] == ["a", 0]


def test_a_union_takes_each_of_its_types(host):
    assert shown(host, a=node("Number", value=4), x=node("Union", value=["a", 0])) == ["4"]
    answer = host.run({"a": node("Make"), "x": node("Union", value=["a", 0]), "show": show("x")})
    assert answer.problems("x") == ["return_type_mismatch"]


def test_an_unknown_class_is_refused_by_name(host):
    answer = host.run({"x": {"class_type": "Nobody", "inputs": {}}, "show": show("x")})
    assert answer.status == 400
    assert answer.body["error"]["type"] == "missing_node_type"
    assert answer.body["error"]["extra_info"]["class_type"] == "Nobody"


def test_a_graph_without_an_output_node_is_refused(host):
    answer = host.run({"x": node("Plain", whole=1)})
    assert (answer.status, answer.body["error"]["type"]) == (400, "prompt_no_outputs")


def test_a_link_to_nowhere_is_an_exception_during_validation(host):
    answer = host.run({"show": show("gone")})
    assert answer.status == 400
    assert answer.problems("show") == ["exception_during_validation"]


def test_a_cycle_is_refused(host):
    nodes = {"x": node("Pair", a=["y", 0], b=1), "y": node("Pair", a=["x", 0], b=1)}
    answer = host.run({**nodes, "show": show("x")})
    assert answer.status == 400
    assert answer.problems("x") == ["dependency_cycle"]
    (error,) = answer.body["node_errors"]["y"]["errors"]
    assert error["details"] == "x (Rules_Pair) -> y (Rules_Pair) -> x (Rules_Pair)"


def test_sound_outputs_run_beside_refused_ones(host):
    bad = {"bad": node("Plain", whole=99), "b": show("bad")}
    answer = host.run({"good": node("Plain", whole=1), "g": show("good"), **bad})
    assert answer.status == 200
    assert list(answer.body["node_errors"]) == ["bad"]
    assert set(answer.ran) == {"good", "g"}


def test_only_what_an_output_needs_runs_and_targets_narrow_it(host):
    nodes = {"a": node("Plain", whole=1), "b": node("Plain", whole=2)}
    prompt = {**nodes, "sa": show("a"), "sb": show("b"), "idle": node("Plain", whole=3)}
    answer = host.run(prompt, body={"partial_execution_targets": ["sb"]})
    assert set(answer.ran) == {"b", "sb"}


# --- lists


def test_a_list_runs_a_plain_node_once_for_each_entry(host):
    nodes = {"a": node("Spread", count=3, first=5), "x": node("Pair", a=["a", 0], b="w")}
    assert shown(host, **nodes) == ["5-w", "6-w", "7-w"]


def test_a_shorter_list_repeats_its_last_entry(host):
    nodes = {"a": node("Spread", count=3, first=0), "b": node("Spread", count=2, first=7)}
    assert shown(host, **nodes, x=node("Pair", a=["a", 0], b=["b", 0])) == ["0-7", "1-8", "2-8"]


def test_a_node_that_wants_lists_gets_its_widgets_as_lists_too(host):
    nodes = {
        "a": node("Spread", count=3, first=0),
        "x": node("Gather", values=["a", 0], widget="w"),
    }
    assert shown(host, **nodes) == ["[0, 1, 2] ['w']"]


# --- lazy


def test_a_lazy_input_runs_only_when_asked_for(host):
    nodes = {"l": node("Plain", whole=4), "r": node("Plain", whole=5)}
    x = node("Choose", side="right", left=["l", 0], right=["r", 0])
    answer = host.run({**nodes, "x": x, "show": show("x")})
    assert answer.end == "execution_success"
    assert "r" in answer.ran
    assert "l" not in answer.ran
    assert answer.text("show")[0].startswith("right: None (5,")
    x = node("Choose", side="neither", left=["l", 0], right=["r", 0])
    assert shown(host, **nodes, x=x) == ["neither: None None"]


def test_asking_for_an_unlinked_lazy_input_is_an_error(host):
    answer = host.run({"x": node("Choose", side="left"), "show": show("x")})
    assert answer.end == "execution_error"
    error = answer.events[-1][1]
    assert error["exception_type"].endswith("NodeInputError")


# --- cache


def test_the_same_prompt_runs_nothing_and_shows_again(host):
    prompt = {"x": node("Counter", name="same"), "show": show("x")}
    assert host.run(prompt).text("show") == ["same ran 1"]
    again = host.run(prompt)
    assert again.ran == []
    assert again.cached == {"x", "show"}
    assert again.text("show") == ["same ran 1"]


def test_an_intermediate_output_is_shown_again_though_it_was_cached(host):
    prompt = {"x": node("Middle", value=1), "show": show("x")}
    assert host.run(prompt).text("x") == ["middle 1"]
    assert host.run(prompt).text("x") == ["middle 1"]
    assert host.run({"x": prompt["x"]}).body["error"]["type"] == "prompt_no_outputs"


def test_a_changed_widget_runs_its_node_and_what_follows(host):
    def prompt(b: int) -> dict[str, Any]:
        first = node("Counter", name="first")
        return {"a": first, "x": node("Pair", a=["a", 0], b=b), "show": show("x")}

    host.run(prompt(1))
    again = host.run(prompt(2))
    assert set(again.ran) == {"x", "show"}
    assert again.cached == {"a"}


def test_the_cache_does_not_look_at_node_ids(host):
    host.run({"x": node("Counter", name="ids"), "show": show("x")})
    again = host.run({"other": node("Counter", name="ids"), "show": show("other")})
    assert again.text("show") == ["ids ran 1"]
    assert again.ran == []


@pytest.mark.parametrize("kind", ["Counter", "WithId"])
def test_two_equal_nodes_share_a_result(host, kind):
    nodes = {"a": node(kind, name=f"share {kind}"), "b": node(kind, name=f"share {kind}")}
    text = shown(host, **nodes, x=node("Pair", a=["a", 0], b=["b", 0]))
    assert text == [f"share {kind} ran 1-share {kind} ran 1"]


def test_a_node_that_is_not_idempotent_shares_nothing(host):
    nodes = {"a": node("Twice", name="t"), "b": node("Twice", name="t")}
    text = shown(host, **nodes, x=node("Pair", a=["a", 0], b=["b", 0]))
    assert sorted(text[0].split("-")) == ["t ran 1", "t ran 2"]


@pytest.mark.parametrize(
    ("mode", "runs"), [("fixed", 1), ("true", 1), ("nan", 2), ("raise", 2), ("clock", 2)]
)
def test_the_fingerprint_decides_whether_a_node_runs_again(host, mode, runs):
    name = f"fingerprint {mode}"
    prompt = {"x": node("Fingerprint", name=name, mode=mode), "show": show("x")}
    host.run(prompt)
    assert host.run(prompt).text("show")[0].startswith(f"{name} ran {runs};")


def test_one_nan_object_for_all_runs_is_equal_to_itself(host):
    prompt = {"x": node("SharedNan", name="shared nan", mode=""), "show": show("x")}
    host.run(prompt)
    assert host.run(prompt).text("show")[0].startswith("shared nan ran 1;")


def test_a_fingerprint_sees_links_as_none(host):
    nodes = {"a": node("Plain", whole=1)}
    text = shown(host, **nodes, x=node("Fingerprint", name="f", mode="nan", linked=["a", 0]))
    assert text[0].endswith("fingerprint saw f None")
    text = shown(host, x=node("Fingerprint", name="g", mode="nan"))
    assert text[0].endswith(f"fingerprint saw g {host_rules.MISSING}")


def test_what_follows_a_changed_fingerprint_runs_too(host):
    source = node("Fingerprint", name="source", mode="nan")
    prompt = {"a": source, "x": node("Counter", name="after", after=["a", 0]), "show": show("x")}
    host.run(prompt)
    assert host.run(prompt).text("show") == ["after ran 2"]


def test_free_forgets_results(host):
    prompt = {"x": node("Counter", name="free"), "show": show("x")}
    host.run(prompt)
    host.call("POST", "/free", json={"unload_models": True, "free_memory": True})
    host.run({"x": node("Plain", whole=1), "show": show("x")})
    assert host.run(prompt).text("show") == ["free ran 2"]


# --- while it runs


def test_a_class_is_locked_while_it_runs(host):
    (text,) = shown(host, x=node("Locked"))
    assert text.startswith("Cannot modify class attribute 'state'")


def test_everything_runs_in_inference_mode(host):
    assert shown(host, x=node("Inference")) == ["True"]


def test_hidden_values_reach_the_node(host):
    prompt = {"7": node("Hidden"), "show": show("7")}
    answer = host.run(prompt, body={"extra_data": {"extra_pnginfo": {"workflow": {"v": 1}}}})
    assert answer.text("show") == ["7 ['7', 'show'] {'workflow': {'v': 1}}"]


def test_progress_and_previews_are_sent(host):
    steps = {"x": node("Steps", count=3, pause_s=0.15), "show": show("x")}
    answer = host.run(steps, flags={"supports_preview_metadata": True})
    assert answer.text("show") == ["3 steps"]
    last = answer.of("progress")[-1]
    assert (last["value"], last["max"], last["node"]) == (3, 3, "x")
    states = answer.of("progress_state")
    assert states[-1]["nodes"]["x"]["max"] == 3
    kind, size = struct.unpack(">II", answer.frames[-1][:8])
    about = json.loads(answer.frames[-1][8 : 8 + size])
    assert (kind, about["node_id"], about["image_type"]) == (4, "x", "image/jpeg")
    assert answer.frames[-1][8 + size :][:2] == b"\xff\xd8"


def test_a_plain_client_gets_plain_previews(host):
    steps = {"x": node("Steps", count=2, pause_s=0.16), "show": show("x")}
    frame = host.run(steps).frames[-1]
    assert struct.unpack(">II", frame[:8]) == (1, 1)
    assert frame[8:10] == b"\xff\xd8"


def test_an_interrupt_stops_a_node_that_catches_exceptions(host):
    steps = {"x": node("Steps", count=200, pause_s=0.05), "show": show("x")}
    answer = host.run(
        steps, when=lambda kind, data: kind == "progress" and data["value"] == 2, interrupt={}
    )
    assert answer.end == "execution_interrupted"
    assert answer.events[-1][1]["node_id"] == "x"
    assert answer.seconds < 5


def test_an_interrupt_of_another_prompt_stops_nothing(host):
    steps = {"x": node("Steps", count=5, pause_s=0.05), "show": show("x")}
    answer = host.run(
        steps,
        when=lambda kind, data: kind == "progress" and data["value"] == 1,
        interrupt={"prompt_id": "another"},
    )
    assert answer.end == "execution_success"


def test_a_failing_node_is_named_with_type_message_and_traceback(host):
    answer = host.run({"x": node("Fail", number=13), "show": show("x")})
    assert answer.end == "execution_error"
    error = answer.events[-1][1]
    assert (error["node_id"], error["node_type"]) == ("x", "Rules_Fail")
    assert error["exception_type"] == "ValueError"
    assert error["exception_message"].strip() == "13 is not welcome"
    assert "is not welcome" in "".join(error["traceback"])
    assert error["current_inputs"] == {"number": [13]}
    assert host.history(answer)["status"]["status_str"] == "error"


def test_a_blocked_node_skips_what_follows_and_the_run_ends_well(host):
    nodes = {"x": node("Block", placeholder=True), "other": node("Plain", whole=1)}
    answer = host.run({**nodes, "show": show("x"), "so": show("other")})
    assert answer.end == "execution_success"
    (blocked,) = answer.of("execution_error")
    assert blocked["exception_type"] == "ExecutionBlocked"
    assert blocked["exception_message"] == "Execution Blocked: nothing to show"
    assert [d["node"] for d in answer.of("executed")] == ["so"]


def test_blocking_without_placeholders_is_an_error(host):
    answer = host.run({"x": node("Block", placeholder=False), "show": show("x")})
    assert answer.end == "execution_error"
    error = answer.events[-1][1]
    assert (error["exception_type"], error["node_id"]) == ("IndexError", "x")


def test_events_come_in_comfyuis_order(host):
    answer = host.run({"x": node("Counter", name="order"), "show": show("x")})
    kinds = [kind for kind, _ in answer.events if kind not in ("progress_state", "progress")]
    kinds = [kind for kind in kinds if kind != "status"]
    assert kinds[:2] == ["execution_start", "execution_cached"]
    assert kinds[2:] == ["executing", "executing", "executed", "execution_success"]


# --- what is left behind


def test_a_preview_is_a_file_and_a_text(host):
    answer = host.run({"x": node("Picture", count=2)})
    output = answer.of("executed")[0]["output"]
    assert output["text"] == ["grey"]
    assert output["animated"] == [False]
    assert len(output["images"]) == 2
    status, body = host.call("GET", "/view", params=output["images"][0])
    assert (status, body[:4]) == (200, b"\x89PNG")


def test_history_keeps_outputs_and_status(host):
    answer = host.run({"x": node("Plain", whole=1), "show": show("x")})
    entry = host.history(answer)
    assert entry["outputs"]["show"]["text"] == answer.text("show")
    assert entry["status"]["status_str"] == "success"
    assert entry["status"]["completed"] is True
    assert [m[0] for m in entry["status"]["messages"]][0] == "execution_start"
    assert entry["meta"]["show"]["node_id"] == "show"


def test_the_schema_is_told_as_comfyui_tells_it(host):
    info = host.get("/object_info/Rules_Plain")["Rules_Plain"]
    del info["python_module"]
    assert info == {
        "input": {
            "required": {
                "whole": ["INT", {"default": 1, "min": 0, "max": 10, "tooltip": "A number."}]
            },
            "optional": {
                "part": ["FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.1}],
                "word": ["STRING", {"default": "", "multiline": True}],
                "yes": ["BOOLEAN", {"default": True, "label_on": "on", "label_off": "off"}],
                "pick": [
                    "COMBO",
                    {"default": "left", "multiselect": False, "options": host_rules.PICKS},
                ],
                "many": ["COMBO", {"multiselect": False, "options": host_rules.MANY}],
            },
        },
        "input_order": {
            "required": ["whole"],
            "optional": ["part", "word", "yes", "pick", "many"],
        },
        "is_input_list": False,
        "output": ["STRING"],
        "output_is_list": [False],
        "output_name": ["text"],
        "output_tooltips": [None],
        "output_matchtypes": None,
        "name": "Rules_Plain",
        "display_name": None,
        "description": "",
        "category": "rules",
        "output_node": False,
        "deprecated": False,
        "experimental": False,
        "dev_only": False,
        "api_node": False,
        "price_badge": None,
        "search_aliases": ["simple"],
        "essentials_category": None,
        "has_intermediate_output": False,
    }


@pytest.mark.parametrize("kind", ["Hidden", "Show", "Spread", "Choose", "Union", "Make", "Picture"])
def test_hidden_lists_lazy_and_unions_are_told_alike(host, kind):
    info = host.get(f"/object_info/Rules_{kind}")[f"Rules_{kind}"]
    expected = {
        "Hidden": {
            "required": {},
            "hidden": {
                "unique_id": ["UNIQUE_ID"],
                "prompt": ["PROMPT"],
                "extra_pnginfo": ["EXTRA_PNGINFO"],
            },
        },
        "Show": {
            "required": {"value": ["*", {}]},
            "hidden": {"prompt": ["PROMPT"], "extra_pnginfo": ["EXTRA_PNGINFO"]},
        },
        "Spread": {"required": {"count": ["INT", {}], "first": ["INT", {"default": 0}]}},
        "Choose": {
            "required": {
                "side": ["COMBO", {"multiselect": False, "options": [*host_rules.PICKS, "neither"]}]
            },
            "optional": {"left": ["*", {"lazy": True}], "right": ["*", {"lazy": True}]},
        },
        "Union": {"required": {"value": ["INT,STRING", {}]}},
        "Make": {"required": {}},
        "Picture": {
            "required": {"count": ["INT", {"default": 1}]},
            "hidden": {"prompt": ["PROMPT"], "extra_pnginfo": ["EXTRA_PNGINFO"]},
        },
    }
    assert info["input"] == expected[kind]
    assert info["output_is_list"] == [kind == "Spread"]
    assert info["output_node"] == (kind in ("Show", "Picture"))
