"""The pack's structure: who imports whom, what stays out of the files, how large they get."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("nodes", "unifashion_core")
FILE_LINES, TEST_LINES, MODEL_LINES, FUNCTION_LINES = 400, 600, 800, 40
SAY_WHY = "split it, or give the reason in a comment: # Size: <reason>"
REASON = re.compile(r"#\s*Size:\s*\S{3,}")

PARTS = {"encoder", "retrieval", "caption", "prepare", "tryon"}
UPPER = {"rendering", "training", "evaluation"}
SIDE = {"wardrobe", "pocket"}
BASE = {"types", "errors", "deps", "imaging", "cutout", "text", "attention", "weights", "garments"}
TRAINING_FOR_EVALUATION = {"losses", "warp_loss"} | {
    # try-on is measured on pictures and texts of the kind that it is trained on
    *("tryon_layout", "wardrobe_pairs", "describe", "grammar")
}
RUN_ONLY = (  # parts that a graph needs when it runs, and not while ComfyUI lists the nodes
    *("encoder", "training", "evaluation", "wardrobe", "prepare.networks", "prepare.preparer"),
    *("tryon.sampling", "tryon.denoiser", "tryon.decoding", "rendering.run", "rendering.item"),
    *("rendering.sheets", "caption.qformer", "caption.llm", "retrieval.search"),
)
LIBRARIES = {"torch", "numpy", "PIL", "safetensors"}


@dataclass(frozen=True)
class Import:
    """One import: the importing module, the imported name (dotted, from the pack's root), where."""

    module: str
    name: str
    relative: bool
    line: int
    for_types: bool
    in_function: bool

    @property
    def top(self) -> str:
        return self.name.split(".")[0]


def shipped() -> list[Path]:
    files = [ROOT / "__init__.py"]
    for folder in FOLDERS:
        files += sorted((ROOT / folder).rglob("*.py"))
    return files


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parse(path)))


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """The trees of all files are a million objects: none of them stays for other files' tests."""
    yield
    for kept in (parse, nodes_of, imports_of):
        kept.cache_clear()


def module_name(path: Path) -> str:
    """`nodes._cli.index` for nodes/_cli/index.py, `nodes` for its __init__, "" for the root."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Every import of a file, in functions too; relative ones resolved to the pack's root."""
    return tuple(_imports_of(path))


def import_nodes(
    node: ast.AST, for_types: bool = False, later: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    """Every import below a node, whether it is for types alone, and whether in a function."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, for_types, later
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for_types = True
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        later = True
    if not isinstance(node, ast.expr):  # a file is mostly expressions, and none holds an import
        for inner in ast.iter_child_nodes(node):
            yield from import_nodes(inner, for_types, later)


def _imports_of(path: Path) -> Iterator[Import]:
    name = module_name(path)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [p for p in package if p]
    for node, *where in import_nodes(parse(path)):
        when = (node.lineno, *where)
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, False, *when)
        elif node.level == 0:
            yield Import(name, node.module or "", False, *when)
        else:
            base = package[: len(package) - (node.level - 1)]
            base += node.module.split(".") if node.module else []
            for alias in node.names:  # `from . import x` may name a module or a value
                whole = ".".join([*base, alias.name])
                target = whole if exists(whole) else ".".join(base)
                yield Import(name, target, True, *when)


def place(name: str) -> str:
    """Which row of ARCHITECTURE.md's import table a module is in."""
    first, *rest = name.split(".") if name else ["root"]
    if first == "root" or (first == "nodes" and not rest):
        return first
    if first == "nodes":
        return rest[0] if rest[0].startswith("_") else "topic"
    if not rest:
        return "core"
    if rest[0] in BASE:
        return "base"
    return rest[0]


def allowed(source: str, target: str, name: str) -> bool:
    """Whether a module in place `source` may import `name`, which is in place `target`."""
    in_core = {"base", *PARTS, *UPPER, *SIDE}
    shared = {"_preparer", "_encoder", "_caption", "_tryon", "_page"}
    errors = name.split(".")[1:2] in (["types"], ["errors"])
    optional = errors or name.split(".")[1:2] == ["deps"]  # a web library goes through deps
    rows: dict[str, bool] = {
        "root": target in {"nodes"},
        "nodes": target in {"topic", "_comfy"},
        "topic": target in {"_comfy", "_convert", "_types", *shared, *in_core},
        "_preparer": target in {"_comfy", "_types", "base", "prepare", "pocket"},
        "_encoder": target in {"_comfy", "_types", "base", "encoder", "pocket"},
        "_caption": target in {"_comfy", "_convert", "_types", *in_core},
        "_tryon": target in {"_comfy", "_convert", "_types", "_preparer", "_encoder", *in_core},
        "_convert": target in {"_comfy", "_types", "base"},
        "_types": target in {"_comfy", "base"},
        "_page": target == "_page",
        "_comfy": target == "_host" or errors,
        "_host": target == "_host" or optional,
        "_remote": optional,
        "_cli": True,
        "base": target == "base",
        "core": target == "base",
        **{part: target in {part, "base"} for part in PARTS | SIDE},
        **{part: target in {part, "base", *PARTS, *SIDE} for part in UPPER},
    }
    if (source, target) == ("evaluation", "training"):  # parity compares the losses too
        return name.split(".")[2] in TRAINING_FOR_EVALUATION
    return rows[source]


@pytest.mark.parametrize("path", shipped(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_architecture(path):
    wrong: list[str] = []
    for found in imports_of(path):
        if found.relative:
            source, target = place(found.module), place(found.name)
            if not allowed(source, target, found.name):
                wrong.append(f"line {found.line}: {source} may not import {found.name}")
        elif found.top in {*FOLDERS, ROOT.name}:
            wrong.append(f"line {found.line}: {found.name} is ours: import it relatively")
    assert not wrong, "\n".join(wrong)


HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "execution", "server"}


@pytest.mark.parametrize("path", shipped(), ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_are_imported_where_they_may_be(path):
    name = module_name(path)
    wrong: list[str] = []
    for found in imports_of(path):
        if found.relative or found.top in sys.stdlib_module_names:
            continue
        if found.top in HOST and name != "nodes._comfy":
            wrong.append(f"line {found.line}: only nodes/_comfy.py touches the host")
        if (
            name.startswith("unifashion_core")
            and not found.for_types
            and found.top not in LIBRARIES
        ):
            wrong.append(f"line {found.line}: {found.top} goes through deps.require")
    assert not wrong, "\n".join(wrong)


def test_what_only_a_run_needs_is_not_imported_when_the_pack_loads():
    ways: dict[str, str] = {}  # each module that loading the nodes brings in, and who asks for it
    todo = [(module_name(path), "") for path in sorted((ROOT / "nodes").glob("*.py"))]
    while todo:
        name, asker = todo.pop()
        path = ROOT / name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in ways or not path.is_file():
            continue
        ways[name] = asker
        now = [i for i in imports_of(path) if not i.for_types and not i.in_function]
        todo += [(i.name, f"{name}, line {i.line}") for i in now if i.relative]
    assert "unifashion_core.types" in ways  # the search finds what is imported
    found = {
        name.removeprefix("unifashion_core."): asker
        for name, asker in ways.items()
        if name.startswith(tuple(f"unifashion_core.{part}" for part in RUN_ONLY))
    }
    assert found == {}, "import it inside the run (CONTRIBUTING.md)"


def test_commands_import_the_standard_library_alone_at_the_top():
    wrong: list[str] = []
    folder = ROOT / "nodes" / "_cli"
    set_up = [folder / f"_{name}.py" for name in ("environment", "homes", "install", "lock")]
    for path in [folder / "__init__.py", *set_up, *folder.glob("[!_]*.py")]:
        tree = parse(path)
        for node in tree.body:
            if isinstance(node, ast.Import):
                tops = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                tops = [(node.module or "").split(".")[0]]
            elif isinstance(node, ast.ImportFrom) and node.level > 1:
                tops = [] if node.module == "unifashion_core.errors" else [f"..{node.module}"]
            else:
                continue
            wrong += [f"{path.name}: {t}" for t in tops if t not in sys.stdlib_module_names]
    assert not wrong, "\n".join(wrong)


def test_nothing_shipped_touches_the_path_or_prints():
    wrong: list[str] = []
    for path in [*shipped(), ROOT / "run.py"]:
        where = path.relative_to(ROOT).as_posix()
        for node in nodes_of(path):
            of = getattr(node.value, "id", "") if isinstance(node, ast.Attribute) else ""
            if isinstance(node, ast.Attribute) and (of, node.attr) == ("sys", "path"):
                wrong.append(f"{where}:{node.lineno} sys.path")
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
            if called == "basicConfig" or (called == "print" and "_cli" not in path.parts):
                wrong.append(f"{where}:{node.lineno} {called}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_core_imports_without_host_nodes_and_optional_packages():
    names = [module_name(p) for p in shipped() if "unifashion_core" in p.parts]
    blocked = sorted(HOST | {"nodes", "transformers", "diffusers", "accelerate", "tokenizers"})
    blocked += ["cv2", "xformers", "peft", "einops", "huggingface_hub", "aiohttp"]
    code = (
        "import importlib, json, sys\n"
        f"blocked = {blocked!r}\n"
        "for name in blocked: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


NETWORK = {"socket", "ssl", "http", "urllib", "ftplib", "smtplib", "requests", "httpx", "aiohttp"}
MAY_TALK = {
    "unifashion_core.weights.transfer",  # the download node and command
    "unifashion_core.weights.known",  # puts addresses together
    "unifashion_core.retrieval.server",  # a server gallery that the user connected
    "unifashion_core.retrieval.qdrant",
    "unifashion_core.retrieval.connections",
    "nodes._host.http",  # the embedded host, on this machine
    "nodes._host.http_files",
}
RUNS_CODE = {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib", "cloudpickle", "pip"}
NAMES_ERRORS = {"unifashion_core.weights.pickles"}  # catches what torch's safe loading raises
CALLS_THAT_RUN_CODE = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "eval",
    "exec",
    "compile",
    "__import__",
}


def test_no_file_of_the_pack_runs_code_that_it_reads():
    """No pickle, eval or pip; torch.load only with weights_only; no remote code."""
    wrong: list[str] = []
    for path in shipped():
        where = path.relative_to(ROOT).as_posix()
        wrong += [
            f"{where}:{found.line} {found.name}"
            for found in imports_of(path)
            if not found.relative and found.top in RUNS_CODE and found.module not in NAMES_ERRORS
        ]
        for call in (node for node in nodes_of(path) if isinstance(node, ast.Call)):
            text, words = ast.unparse(call.func), {k.arg: k.value for k in call.keywords}
            if text in CALLS_THAT_RUN_CODE or text.endswith(("os.system", "os.popen")):
                wrong.append(f"{where}:{call.lineno} {text}")
            if text == "torch.load" and not _is_true(words.get("weights_only")):
                wrong.append(f"{where}:{call.lineno} torch.load without weights_only")
            if "trust_remote_code" in words and _is_true(words["trust_remote_code"]):
                wrong.append(f"{where}:{call.lineno} trust_remote_code")
    assert not wrong, "\n".join(wrong)


def _is_true(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def test_only_the_named_files_speak_to_a_network():
    """`_remote` is the client of `render --server`; the set-up of a command runs pip."""
    wrong = [
        f"{found.module}:{found.line} {found.name}"
        for path in shipped()
        for found in imports_of(path)
        if not found.relative
        and found.top in NETWORK
        and found.name not in ("http.client.HTTPException", "urllib.parse")
        and not found.module.startswith(("nodes._cli", "nodes._remote"))
        and found.module not in MAY_TALK
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_keeps_models():
    """What is kept for a process is made by `once_a_process`, or is small data behind @cache."""
    wrong: list[str] = []
    for path in shipped():
        for node in parse(path).body:
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                continue
            text = ast.unparse(node.value)
            if re.search(r"\b(WeakValueDictionary|LRUCache|OrderedDict)\(", text):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {text[:60]}")
    assert not wrong, "\n".join(wrong)


def _public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a module, and the public methods of its public classes."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef) and not _is_module(node):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield inner


def _is_module(node: ast.ClassDef) -> bool:
    """Whether a class is a network, whose `forward` its own docstring describes."""
    return any(ast.unparse(base).endswith("Module") for base in node.bases)


def _is_short(node: ast.AST) -> bool:
    """A one-statement property or method: its name says it."""
    return isinstance(node, ast.FunctionDef) and len(node.body) == 1 and node.args.args[:1] != []


def test_public_functions_of_the_core_have_docstrings():
    lacking: list[str] = []
    for path in shipped():
        if "unifashion_core" not in path.parts:
            continue
        tree = parse(path)
        if ast.get_docstring(tree) is None:
            lacking.append(f"{path.relative_to(ROOT)}: the module")
        tops = set(tree.body)
        for node in _public(tree):
            if ast.get_docstring(node) is None and (node in tops or not _is_short(node)):
                lacking.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not lacking, "\n".join(lacking)


def test_files_are_short_or_say_why():
    long: list[str] = []
    for path in [*shipped(), *sorted((ROOT / "tests").rglob("*.py")), ROOT / "run.py"]:
        text = path.read_text("utf-8")
        lines = text.count("\n")
        most = TEST_LINES if "tests" in path.relative_to(ROOT).parts else FILE_LINES
        if lines > MODEL_LINES or (lines > most and not REASON.search(text)):
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
    assert not long, "\n".join([SAY_WHY, *long])


DECLARATIONS = {"define_schema", "add_arguments"}
"""Functions that list things and decide nothing."""


def _code_lines(node: ast.FunctionDef, lines: list[str]) -> int:
    """Lines of a function without its docstring, comments and blank lines."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not body:
        return 0
    text = lines[body[0].lineno - 1 : node.end_lineno]
    return sum(1 for line in text if line.strip() and not line.strip().startswith("#"))


def test_functions_are_short_or_say_why():
    long: list[str] = []
    for path in [*shipped(), ROOT / "run.py"]:
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for node in nodes_of(path):
            if not isinstance(node, ast.FunctionDef) or node.name in DECLARATIONS:
                continue
            whole = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            count = _code_lines(node, lines)
            if count > FUNCTION_LINES and not REASON.search(whole):
                long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {count} lines")
    assert not long, "\n".join([SAY_WHY, *long])


# What no file of the project holds, this one included: hence the pieces.
FORBIDDEN = [
    re.compile(re.escape(word), re.IGNORECASE)
    for word in (
        "py" + "pi.org",
        "files.python" + "hosted",
        "registry.npm" + "js",
        "deb.deb" + "ian.org",
        "/ro" + "ot/",
        "/wo" + "rk/",
        "." + "library",
        "../sh" + "ared",
    )
]
MAY_NAME = {(".ci/run", FORBIDDEN[-1])}
TEXT = {".py", ".md", ".txt", ".toml", ".json", ".lock", ".jsonl", ".csv", ".html", ".mjs", ".js"}
NOT_OURS = {".git", ".venv", "__pycache__", ".ruff_cache", ".pytest_cache", ".hypothesis"}


def _text_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        if NOT_OURS & set(inside) or "node_modules" in inside or not path.is_file():
            continue
        if path.suffix in TEXT or (path.suffix == "" and path.stat().st_size < 1_000_000):
            yield path


def test_no_file_names_a_machine_or_a_package_index():
    wrong: list[str] = []
    for path in _text_files():
        where = path.relative_to(ROOT).as_posix()
        text = path.read_text("utf-8", "replace")
        wrong += [
            f"{where}: {word.pattern}"
            for word in FORBIDDEN
            if word.search(text) and (where, word) not in MAY_NAME
        ]
    assert not wrong, "\n".join(wrong)


# Packaging.


def _project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _requirements() -> list[str]:
    return [x for x in (ROOT / "requirements.txt").read_text("utf-8").split("\n") if x]


def test_requirements_can_not_hurt_a_comfyui():
    lines = _requirements()
    assert "torch" in lines
    assert [x for x in lines if not re.fullmatch(r"[A-Za-z0-9_-]+(>=[0-9.]+)?", x)] == []
    names = {re.split(r">=", x)[0] for x in lines}
    assert not names & {"torchvision", "xformers", "opencv-python", "opencv-python-headless"}


def test_requirements_project_and_lock_agree():
    project, lock = _project(), json.loads((ROOT / "requirements.lock").read_text("utf-8"))
    assert project["project"]["dependencies"] == _requirements()

    def normal(lines: list[str]) -> list[str]:
        return [re.sub("_", "-", line) for line in lines]

    extras = project["project"]["optional-dependencies"]
    assert lock["requires"]["run"] == normal([*_requirements(), *extras["fast"]])
    assert lock["requires"]["train"] == extras["train"]
    assert lock["requires"]["test"] == project["dependency-groups"]["test"]


def test_project_file_suits_the_registry():
    project = _project()
    assert re.fullmatch(r"[a-z][a-z0-9._-]{0,98}", project["project"]["name"])
    assert "comfyui" not in project["project"]["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["project"]["version"])
    assert project["project"]["license"] == {"file": "LICENSE"}
    assert project["tool"]["comfy"]["requires-comfyui"].startswith(">=")
    assert (ROOT / "CHANGELOG.md").read_text("utf-8").count(project["project"]["version"])


def test_root_has_no_unexpected_entries():
    allowed_here = {
        "__init__.py", "run.py", "nodes", "unifashion_core", "workflows", "tests",
        "web", "locales", "subgraphs",
        "pyproject.toml", "requirements.txt", "requirements.lock", "LICENSE", "NOTICE",
        "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "ARCHITECTURE.md",
        ".ci", ".git", ".gitignore", ".gitattributes",
    }  # fmt: skip
    made = NOT_OURS | {"unifashion-demo", "node_modules"}
    assert {p.name for p in ROOT.iterdir()} - allowed_here - made == set()
