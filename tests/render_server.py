"""A server with nodes that wait, fail or count, for tests of `render --server`.

As a script: `render_server.py FOLDER` prints its address and serves until it is killed.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def wait_nodes(comfy: Any) -> list[type]:
    """TestWait: sleeps, then gives a grey picture of its seed; seed 13 fails."""
    import torch

    io = comfy.io

    class TestWait(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> Any:
            return io.Schema(
                node_id="TestWait",
                inputs=[
                    io.Float.Input("seconds", default=0.0),
                    io.Int.Input("seed", default=0),
                    io.Image.Input("image", optional=True),
                ],
                outputs=[io.Image.Output()],
            )

        @classmethod
        def execute(cls, *, seconds: float, seed: int, image: Any = None) -> Any:
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, 0.02))
                comfy.throw_if_interrupted()
            if seed == 13:
                raise ValueError("thirteen is not a seed")
            if image is not None:
                return io.NodeOutput(image)
            return io.NodeOutput(torch.full((1, 8, 8, 3), seed / 255))

    return [TestWait]


def wait_graph(seconds: float = 0.0) -> dict[str, Any]:
    """TestWait into Save Image."""
    return {
        "1": {"class_type": "TestWait", "inputs": {"seconds": seconds, "seed": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }


def main(folder: Path) -> None:
    """Serve until the process is killed."""
    name = "unifashion_render_server"
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    host = importlib.import_module(f"{name}.nodes._host")
    comfy = importlib.import_module(f"{name}.nodes._comfy")
    http = importlib.import_module(f"{name}.nodes._host.http")
    made = host.Host(host.Folders.under(folder), wait_nodes(comfy))
    with http.HostServer(made) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
