"""What a pack's own folders give the page: templates, help, translations, subgraph blueprints."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ...unifashion_core.deps import require
from ...unifashion_core.errors import FolderError
from .host import PACK_MODULE, PACK_NAME
from .paths import is_inside, parts_of

_WORDS = ("main", "nodeDefs", "commands", "settings")


class PackRoutes:
    """Serves the folders that ComfyUI reads in a pack, by ComfyUI's routes.

    Args:
        root: The pack's folder; None serves nothing.
    """

    def __init__(self, root: Path | None):
        self.web: Any = require("aiohttp.web", package="aiohttp", minimum="3.11.8")
        self.root = root

    def routes(self) -> list[tuple[str, str, Any]]:
        """Method, path and handler of each."""
        return [
            ("GET", "/extensions", self.scripts),
            ("GET", f"/extensions/{PACK_NAME}/{{file:.+}}", self.web_file),
            ("GET", "/i18n", self.translations),
            ("GET", "/workflow_templates", self.templates),
            ("GET", "/workflow_templates/{pack}/{file}", self.template),
            ("GET", "/global_subgraphs", self.blueprints),
            ("GET", "/global_subgraphs/{id}", self.blueprint),
        ]

    def _folder(self, name: str) -> Path | None:
        folder = self.root / name if self.root is not None else None
        return folder if folder is not None and folder.is_dir() else None

    async def scripts(self, request: Any) -> Any:
        """Scripts that the page is to load."""
        web = self._folder("web")
        if web is None:
            return self.web.json_response([])
        found = [path.relative_to(web).as_posix() for path in sorted(web.rglob("*.js"))]
        return self.web.json_response([f"/extensions/{PACK_NAME}/{path}" for path in found])

    async def web_file(self, request: Any) -> Any:
        """A file of the web folder: help pages and their pictures."""
        web = self._folder("web")
        try:
            parts = parts_of(request.match_info["file"], "Path")
        except FolderError as e:
            raise self.web.HTTPForbidden(text=str(e)) from e
        if web is None or not web.joinpath(*parts).is_file():
            raise self.web.HTTPNotFound
        path = web.joinpath(*parts)
        if not is_inside(path, web):
            raise self.web.HTTPForbidden(text="Path: it leaves the folder.")
        return self.web.FileResponse(path)

    async def translations(self, request: Any) -> Any:
        """Words of every language, as the page merges them."""
        return self.web.json_response(read_translations(self._folder("locales")))

    async def templates(self, request: Any) -> Any:
        """Names of the workflows, by pack."""
        return self.web.json_response({PACK_NAME: _names(self._folder("workflows"))})

    async def template(self, request: Any) -> Any:
        """A workflow or its picture."""
        name, folder = request.match_info["file"], self._folder("workflows")
        if folder is None or Path(name).stem not in _names(folder) or "/" in name:
            raise self.web.HTTPNotFound
        path = folder / name
        if path.suffix not in (".json", ".jpg") or not path.is_file():
            raise self.web.HTTPNotFound
        return self.web.FileResponse(path)

    async def blueprints(self, request: Any) -> Any:
        """Every blueprint, without its graph."""
        known = {key: _about(path) for key, path in self._blueprints().items()}
        return self.web.json_response(known)

    async def blueprint(self, request: Any) -> Any:
        """A blueprint with its graph as text."""
        path = self._blueprints().get(request.match_info["id"])
        if path is None:
            raise self.web.HTTPNotFound
        return self.web.json_response({**_about(path), "data": path.read_text("utf-8")})

    def _blueprints(self) -> dict[str, Path]:
        folder = self._folder("subgraphs")
        files = sorted(folder.glob("*.json")) if folder is not None else []
        return {hashlib.sha256(path.name.encode()).hexdigest(): path for path in files}


def read_translations(folder: Path | None) -> dict[str, dict[str, Any]]:
    """By language: what main.json holds, and the other files under their names.

    Args:
        folder: A pack's `locales`; None has no language.
    """
    languages = sorted(p for p in folder.iterdir() if p.is_dir()) if folder is not None else []
    found: dict[str, dict[str, Any]] = {}
    for language in languages:
        words = found.setdefault(language.name, {})
        for name in _WORDS:
            path = language / f"{name}.json"
            if path.is_file():
                words |= _json(path) if name == "main" else {name: _json(path)}
    return found


def _about(path: Path) -> dict[str, Any]:
    return {
        "source": "custom_node",
        "name": path.stem,
        "info": {"node_pack": PACK_MODULE},
        "data": "",
    }


def _names(folder: Path | None) -> list[str]:
    files = folder.glob("*.json") if folder is not None else ()
    return sorted(p.stem for p in files if isinstance(_json(p), dict))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
