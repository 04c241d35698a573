"""A hub on this machine: files over HTTP, with the faults that a test asks for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any


class Hub:
    """What the server hands out, and what it was asked.

    Attributes:
        files: Content by path.
        cut_after: How many bytes each of the next answers gives before the connection ends.
        tag: The version that it tells; None for none.
        redirects: Where a path is handed on to.
        status: What a path answers instead.
        ranges: Whether it can send the rest of a file.
        asked: Path and Range header of every request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.cut_after: list[int] = []
        self.tag: str | None = '"v1"'
        self.redirects: dict[str, str] = {}
        self.status: dict[str, int] = {}
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []

    def sha256(self, path: str) -> str:
        """Of a file's content."""
        return hashlib.sha256(self.files[path]).hexdigest()


@contextmanager
def stand_in_hub() -> Iterator[Hub]:
    """Run one on a free port of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            _answer(hub, self)

    server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(hub: Hub, handler: BaseHTTPRequestHandler) -> None:
    path, wanted = handler.path, handler.headers.get("Range")
    hub.asked.append((path, wanted))
    handler.close_connection = True
    if path in hub.redirects:
        handler.send_response(302)
        handler.send_header("Location", hub.redirects[path])
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    content = hub.files.get(path)
    code = hub.status.get(path, 404 if content is None else 200)
    if content is None or code != 200:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    start = 0
    same = handler.headers.get("If-Range") in (None, hub.tag)
    if wanted is not None and hub.ranges and same:
        start, code = int(wanted.removeprefix("bytes=").rstrip("-")), 206
    if start >= len(content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    # Before the first byte leaves: a client that is told the size may be done with this at once.
    stop = start + hub.cut_after.pop(0) if hub.cut_after else len(content)
    handler.send_response(code)
    if code == 206:
        end = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.send_header("Content-Range", end)
    if hub.tag is not None:
        handler.send_header("ETag", hub.tag)
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start:stop])
