"""Every node registers whichever optional package is missing; ComfyUI must never lose the pack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = [
    *("einops", "tokenizers", "huggingface_hub", "transformers", "diffusers", "accelerate"),
    *("numba", "llvmlite", "numkong", "peft", "qdrant_client", "aiohttp", "cv2", "xformers"),
]

# torch is imported once; each case then runs in a copy of that process.
_LOAD = """
import asyncio, importlib, importlib.util, json, os, pathlib, sys
import numpy, torch, PIL.Image, safetensors.torch
root, base, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]

def load(blocked):
    for name in blocked:
        for known in [m for m in sys.modules if m.split(".")[0] == name]:
            del sys.modules[known]
        sys.modules[name] = None
    spec = importlib.util.spec_from_file_location("a_pack", root + "/__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["a_pack"] = module
    spec.loader.exec_module(module)
    host = importlib.import_module("a_pack.nodes._host")
    nodes = host.pack_nodes(importlib.import_module("a_pack.nodes").comfy_entrypoint)
    found = host.Host(host.Folders.under(base), nodes).object_info()
    return sum(name.startswith("UniFashion_") for name in found)

def case(blocked):
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            answer = load(blocked)
        except BaseException as e:
            answer = f"{type(e).__name__}: {e}"
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        answer = json.load(file)
    os.wait()
    return answer

cases = [[], *([name] for name in names), list(names)]
print(json.dumps({" ".join(blocked): case(blocked) for blocked in cases}))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the cases are forked")
def test_every_node_registers_with_any_optional_package_missing(tmp_path):
    line = [sys.executable, "-c", _LOAD, str(ROOT), str(tmp_path), *OPTIONAL]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found) == len(OPTIONAL) + 2
    assert found[""] >= 33
    assert {name: count for name, count in found.items() if count != found[""]} == {}
