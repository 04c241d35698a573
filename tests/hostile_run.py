"""Runs hostile prompts on the embedded host and prints, as JSON, what came of them.

A process of its own, started by test_hostile_prompts: `hostile_run.py BASE SEED VALUES FILES`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import importlib
import importlib.util
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

import hostile_values as hostile
import node_graphs as graphs
import torch
from hostile_watch import FolderWatch, Watch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NAME = "pack_under_attack"
FORM = re.compile(r"\A[^\n]+?: .+\.(\s|\Z)", re.DOTALL)  # <where>: <what>. <what to do>.
MOST_SECONDS = 6.0  # a class that has taken so long gets no more values
SOURCES = {
    "UNIFASHION_ENCODER": ["load", 0],
    "UNIFASHION_GALLERY": ["index", 0],
    "IMAGE": ["garment", 0],
    "MASK": ["mask", 0],
}
CHEAP = {
    "encoder": graphs.ENCODER_FOLDER,
    "count": 3,
    "size": 64,
    "width": 64,
    "height": 64,
    "steps": 1,
    "cell": 96,
    "folder_name": "wardrobe",
    "gallery": "g",
    "folder": "output/wardrobe",
    "image": "whole.jpg",
    "filename_prefix": "saved",
    "max_tokens": 4,
    "frame_width": 64,
    "frame_height": 64,
}


class Pack:
    """The pack as ComfyUI loads it."""

    def __init__(self) -> None:
        path = ROOT / "__init__.py"
        spec = importlib.util.spec_from_file_location(
            NAME, path, submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[NAME] = module
        spec.loader.exec_module(module)

    def module(self, name: str) -> Any:
        """A module below the pack's root."""
        return importlib.import_module(f"{NAME}.{name}")


class Attack:
    """A host, a sound graph for each of its nodes, and what hostile values did to it."""

    def __init__(self, base: Path, seed: int):
        self.pack = Pack()
        self.secret = base / "secret"
        self.host = self._host(base / "host")
        self.draw = random.Random(seed)
        self.errors = self.pack.module("unifashion_core.errors").UniFashionError
        self.info = self.host.object_info()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.by_class: collections.Counter[str] = collections.Counter()
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.problems: list[str] = []
        self.texts = hostile.texts(self.secret)
        self.odd = hostile.oddities()

    def _host(self, base: Path) -> Any:
        host = self.pack.module("nodes._host")
        graphs.save_tiny_encoder(self.pack, base / "models")
        hostile.picture_files(base / "input")
        (base / "input" / "way_out").symlink_to(self.secret, target_is_directory=True)
        nodes = host.pack_nodes(self.pack.module("nodes").comfy_entrypoint)
        return host.Host(host.Folders.under(base), nodes)

    def prepare(self) -> dict[str, Any]:
        """Sound nodes that others link to; they run once, and stay cached."""
        graph = {
            "load": graphs.load_encoder(),
            "sample": graphs.sample(count=3),
            "index": graphs.index(),
            "garment": graphs.sample("garment", count=1),
            "query": graphs.node("UniFashion_EncodeText", encoder=["load", 0], text="a dress"),
        }
        self.host.run({**graph, "show": graphs.node("PreviewAny", source=["query", 1])})
        return graph

    def graph_of(self, name: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """A sound graph that ends in a node of a class; None where a link has no source."""
        graph = copy.deepcopy(given)
        target = self._add(name, graph, ())
        if target is None:
            return None
        if not self.info[name]["output_node"]:
            graph["show"] = graphs.node("PreviewAny", source=[target, 0])
        return graph

    def _add(self, name: str, graph: dict[str, Any], path: tuple[str, ...]) -> str | None:
        if name in path:
            return None
        inputs: dict[str, Any] = {}
        for key, entry in self.info[name]["input"].get("required", {}).items():
            value = self._value(key, entry, graph, (*path, name))
            if value is None:
                return None
            inputs[key] = value
        key = f"{name}-{len(graph)}"
        graph[key] = {"class_type": name, "inputs": inputs}
        return key

    def _value(self, key: str, entry: Any, graph: dict[str, Any], path: tuple[str, ...]) -> Any:
        kind, options = entry[0], entry[1] if len(entry) > 1 else {}
        if isinstance(kind, list) or kind == "COMBO":
            choices = kind if isinstance(kind, list) else options["options"]
            if CHEAP.get(key) in choices:
                return CHEAP[key]
            return options.get("default", choices[0] if choices else None)
        if key in CHEAP and kind in ("INT", "FLOAT", "STRING"):
            return CHEAP[key]
        if "default" in options:
            return options["default"]
        if kind == "STRING":
            return ""
        if kind == "*":
            return ["query", 1]
        if kind in SOURCES and SOURCES[kind][0] in graph:
            return SOURCES[kind]
        for maker, about in self.info.items():
            if kind in about["output"] and maker not in path:
                source = self._add(maker, graph, path)
                if source is not None:
                    return [source, about["output"].index(kind)]
        return None

    def attack_values(self, count: int, given: dict[str, Any]) -> None:
        """So many widget values, the classes in turn."""
        sound = {name: self.graph_of(name, given) for name in sorted(self.info)}
        names = [name for name, graph in sound.items() if graph is not None]
        self.skipped = sorted(set(sound) - set(names))
        turn = 0
        while self.outcomes.total() < count:
            name = names[turn % len(names)]
            turn += 1
            if self.seconds[name] > MOST_SECONDS and turn < 50 * count:
                continue
            graph = copy.deepcopy(sound[name])
            assert graph is not None
            key = next(k for k in reversed(graph) if graph[k]["class_type"] == name)
            about = self.info[name]["input"]
            widgets = [*about.get("required", {}), *about.get("optional", {})]
            for _ in range(self.draw.choice([1, 1, 1, 2, 3])):
                if widgets:
                    junk = self.texts if self.draw.random() < 0.6 else self.odd
                    graph[key]["inputs"][self.draw.choice(widgets)] = self.draw.choice(junk)
            self.run(self._bounded(graph), name)

    def attack_files(self, count: int, given: dict[str, Any]) -> None:
        """So many damaged workflow files."""
        folder = ROOT / "workflows" / "api"
        files = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
        for graph in files:  # small ones: what is broken does not depend on the size
            for node in graph.values():
                for key in node["inputs"].keys() & CHEAP.keys() - {"encoder", "gallery"}:
                    node["inputs"][key] = CHEAP[key]
        files += [graph for graph in (self.graph_of(n, given) for n in self.info) if graph]
        end = self.outcomes.total() + count
        while self.outcomes.total() < end:
            graph = copy.deepcopy(self.draw.choice(files))
            for _ in range(self.draw.choice([1, 1, 2, 4])):
                if isinstance(graph, dict):
                    graph = hostile.damage(graph, self.draw, [*self.texts, *self.odd])
            if isinstance(graph, dict) and self._heavy(graph):
                graph = {"1": graph}
            self.run(self._bounded(graph), "workflow file")

    def _bounded(self, graph: Any) -> Any:
        """What is allowed and only means more work is no attack; it slows down all the rest."""
        for node in graph.values() if isinstance(graph, dict) else ():
            inputs = node.get("inputs") if isinstance(node, dict) else None
            about = self.info.get(str(node.get("class_type"))) if isinstance(inputs, dict) else None
            if not isinstance(inputs, dict) or about is None:
                continue
            entry = {**about["input"].get("required", {}), **about["input"].get("optional", {})}
            for key in inputs.keys() & entry.keys() & CHEAP.keys():
                cheap, options = CHEAP[key], entry[key][1] if len(entry[key]) > 1 else {}
                if isinstance(cheap, int) and "max" in options:
                    with contextlib.suppress(TypeError, ValueError, OverflowError):
                        if 4 * cheap < float(inputs[key]) <= options["max"]:
                            inputs[key] = 4 * cheap
        return graph

    def _heavy(self, graph: dict[Any, Any]) -> bool:
        """Whether a class that has had its time is in it."""
        nodes = [node for node in graph.values() if isinstance(node, dict)]
        return any(self.seconds[str(n.get("class_type"))] > MOST_SECONDS for n in nodes)

    def run(self, graph: Any, name: str) -> None:
        """Run one, and note whatever is neither a result nor a refusal in our form."""
        started = time.process_time()
        self.by_class[name] += 1
        try:
            result = self.host.execute(graph)
        except self.errors as e:
            self._judge("refused", str(e), name, graph)
        except Exception as e:
            self._problem(f"{type(e).__name__} left the host: {e!s:.300}", name, graph)
        else:
            if result.status == "success":
                self.outcomes["success"] += 1
            elif isinstance(result.exception, self.errors):
                self._judge("error", str(result.exception), name, graph)
            else:
                kind = type(result.exception).__name__
                where = (result.error or {}).get("traceback", [""])[-1]
                text = f"{kind} of a node: {result.exception!s:.300} {where:.300}"
                self._problem(text, name, graph)
        self.seconds[name] += time.process_time() - started

    def _judge(self, kind: str, text: str, name: str, graph: Any) -> None:
        if FORM.search(text):
            self.outcomes[kind] += 1
        else:
            self._problem(f"not in our form: {text!r:.300}", name, graph)

    def _problem(self, text: str, name: str, graph: Any) -> None:
        self.outcomes["problem"] += 1
        last = list(graph.values())[-2:] if isinstance(graph, dict) else graph
        self.problems.append(f"{name}: {text} | {last!r:.400}")


def main(base: Path, seed: int, values: int, files: int) -> dict[str, Any]:
    """Attack, and tell."""
    torch.set_num_threads(1)
    (base / "secret").mkdir(parents=True)
    Image.new("RGB", (32, 32), (1, 2, 3)).save(base / "secret" / "picture.png")
    attack = Attack(base, seed)
    given = attack.prepare()
    readable = [ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(asyncio.__file__).parent.parent]
    watch = Watch([base / "host"], readable)
    kernel = FolderWatch([base / "secret"])
    watch.on = True
    attack.attack_values(values, given)
    attack.attack_files(files, given)
    sound = attack.host.run(attack.graph_of("UniFashion_RetrieveGarments", given))
    watch.on = False
    return {
        "outcomes": attack.outcomes,
        "by_class": attack.by_class,
        "seconds": {name: round(s, 1) for name, s in attack.seconds.items() if s > 1},
        "problems": attack.problems,
        "touched": sorted(set(watch.found)),
        "kernel": kernel.events(),
        "alive": sound.status,
        "skipped": attack.skipped,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).absolute(), *map(int, sys.argv[2:5]))))
