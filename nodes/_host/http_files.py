"""File routes of the server: pictures to look at, uploads, and what the page keeps for its user."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from ...unifashion_core.deps import require
from ...unifashion_core.errors import FolderError
from .folders import Folders
from .paths import is_inside, parts_of

_KINDS = ("input", "output", "temp")
_EMPTY = {  # the page asks for them at each start, whether they were ever made or not
    "user.css": ("", "text/css"),
    "comfy.templates.json": ("[]", "application/json"),
}
_SHOWN = ("image/", "audio/", "video/", "text/plain", "application/json")


class FileRoutes:
    """Reads and writes below the host's folders, nowhere else.

    Args:
        folders: The host's folders.
    """

    def __init__(self, folders: Folders):
        self.web: Any = require("aiohttp.web", package="aiohttp", minimum="3.11.8")
        self.folders = folders
        self.settings: dict[str, Any] = {"Comfy.TutorialCompleted": True}

    def routes(self) -> list[tuple[str, str, Any]]:
        """Method, path and handler of each."""
        return [
            ("GET", "/view", self.view),
            ("POST", "/upload/image", self.upload),
            ("GET", "/settings", self.get_settings),
            ("POST", "/settings", self.set_settings),
            ("GET", "/settings/{name}", self.get_setting),
            ("POST", "/settings/{name}", self.set_setting),
            ("GET", "/user.css", self.user_style),
            ("GET", "/userdata", self.list_user),
            ("GET", "/v2/userdata", self.list_user),
            ("GET", "/userdata/{file}", self.read_user),
            ("POST", "/userdata/{file}", self.write_user),
            ("DELETE", "/userdata/{file}", self.delete_user),
        ]

    def _below(self, root: Path, *names: str) -> Path:
        """A path in a folder, or the answer 403."""
        try:
            parts = [part for name in names if name for part in parts_of(name, "Path")]
        except FolderError as e:
            raise self.web.HTTPForbidden(text=str(e)) from e
        path = root.joinpath(*parts)
        if not is_inside(path, root):
            raise self.web.HTTPForbidden(text="Path: it leaves the folder.")
        return path

    def _folder(self, kind: str) -> Path:
        if kind not in _KINDS:
            raise self.web.HTTPBadRequest(text=f"type: {kind!r} is none of {_KINDS}.")
        return getattr(self.folders, kind)

    async def view(self, request: Any) -> Any:
        """A picture of the input, output or temp folder."""
        query = request.query
        name = query.get("filename", "")
        if not name:
            raise self.web.HTTPBadRequest(text="filename: it is missing.")
        extra = self.folders.extra_inputs.get(name)
        root = self._folder(query.get("type", "output"))
        path = extra or self._below(root, query.get("subfolder", ""), name)
        if not path.is_file():
            raise self.web.HTTPNotFound
        kind = mimetypes.guess_type(path.name)[0] or ""
        if not kind.startswith(_SHOWN) or "svg" in kind:
            kind = "application/octet-stream"  # a page must not run what lies in a folder
        return self.web.FileResponse(
            path, headers={"Content-Type": kind, "X-Content-Type-Options": "nosniff"}
        )

    async def upload(self, request: Any) -> Any:
        """Put a picture into the input (or temp) folder; a taken name gets a number."""
        form = await request.post()
        image = form.get("image")
        if image is None or not getattr(image, "filename", ""):
            raise self.web.HTTPBadRequest(text="image: it is missing.")
        kind, sub = form.get("type", "input"), form.get("subfolder", "")
        folder = self._below(self._folder(kind), sub)
        path = self._below(folder, Path(image.filename.replace("\\", "/")).name)
        folder.mkdir(parents=True, exist_ok=True)
        content = image.file.read()
        stem, number = path.stem, 0
        overwrite = form.get("overwrite") in ("true", "1")
        while path.exists() and not overwrite and path.read_bytes() != content:
            number += 1
            path = path.with_name(f"{stem} ({number}){path.suffix}")
        path.write_bytes(content)
        return self.web.json_response({"name": path.name, "subfolder": sub, "type": kind})

    async def get_settings(self, request: Any) -> Any:
        """Every setting of the page."""
        return self.web.json_response(self.settings)

    async def set_settings(self, request: Any) -> Any:
        """Change some settings; they last as long as the server."""
        self.settings |= await request.json()
        return self.web.Response()

    async def get_setting(self, request: Any) -> Any:
        """One setting."""
        return self.web.json_response(self.settings.get(request.match_info["name"]))

    async def set_setting(self, request: Any) -> Any:
        """Change one setting."""
        self.settings[request.match_info["name"]] = await request.json()
        return self.web.Response()

    @property
    def _user(self) -> Path:
        return self.folders.user / "default"

    async def list_user(self, request: Any) -> Any:
        """Files that the page keeps, below `dir` (or `path`)."""
        query = request.query
        wanted = query.get("dir") or query.get("path") or ""
        root = self._below(self._user, wanted)
        everything = root.rglob("*") if query.get("recurse") == "true" else root.glob("*")
        files = sorted(p for p in everything if p.is_file())
        if query.get("full_info") == "true":
            return self.web.json_response([_about(p, root) for p in files])
        names = [p.relative_to(root).as_posix() for p in files]
        if query.get("split") == "true":
            return self.web.json_response([[name, *name.split("/")] for name in names])
        return self.web.json_response(names)

    async def read_user(self, request: Any) -> Any:
        """A file that the page keeps."""
        name = request.match_info["file"]
        path = self._below(self._user, name)
        if path.is_file():
            return self.web.FileResponse(path)
        if name in _EMPTY:
            text, kind = _EMPTY[name]
            return self.web.Response(text=text, content_type=kind)
        raise self.web.HTTPNotFound

    async def user_style(self, request: Any) -> Any:
        """The user's own style sheet, which this host does not have."""
        return self.web.Response(text="", content_type="text/css")

    async def write_user(self, request: Any) -> Any:
        """Keep a file for the page."""
        path = self._below(self._user, request.match_info["file"])
        if path.exists() and request.query.get("overwrite") == "false":
            raise self.web.HTTPConflict(text=f"{path.name}: it exists.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(await request.read())
        if request.query.get("full_info") == "true":
            return self.web.json_response(_about(path, self._user))
        return self.web.json_response(path.relative_to(self._user).as_posix())

    async def delete_user(self, request: Any) -> Any:
        """Remove a file that the page keeps."""
        path = self._below(self._user, request.match_info["file"])
        if not path.is_file():
            raise self.web.HTTPNotFound
        path.unlink()
        return self.web.Response(status=204)


def _about(path: Path, root: Path) -> dict[str, Any]:
    stat = path.stat()
    return {
        "path": path.relative_to(root).as_posix(),
        "size": stat.st_size,
        "modified": int(stat.st_mtime * 1000),
        "created": int(stat.st_ctime * 1000),
    }
