"""Fetch one file over HTTP so that it is there whole or not at all, and goes on where it stopped.

Standard library only. Bytes go into a part file beside the target, which is renamed once its size
and its SHA-256 are right.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import DownloadError

OnBytes = Callable[[int, int], None]
"""Called with (bytes there, bytes in all or 0 where not known); may raise to cancel."""

TIMEOUT_S = 30.0
SPARE_BYTES = 64 * 1024**2  # what a disk keeps free beside the file
_TRIES = 4
_WAIT_S = 0.5  # before the second try, doubled each time
_BLOCK = 1 << 20
_REDIRECTS = 5
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# The hub hands large files out from hosts below these names.
_HANDED_ON = ("huggingface.co", "hf.co")


@dataclass(frozen=True)
class Wanted:
    """What a file must be.

    Attributes:
        url: Where it is fetched from.
        target: Where it goes.
        size: In bytes, None where not known.
        sha256: None where not known.
        about_bytes: Its size as far as it is known, for the free-space check.
    """

    url: str
    target: Path
    size: int | None = None
    sha256: str | None = None
    about_bytes: int = 0

    @property
    def part(self) -> Path:
        """Where its bytes are collected."""
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def state(self) -> Path:
        """What is remembered of the part: which version of which address it is."""
        return self.target.with_name(f".{self.target.name}.part.json")

    @property
    def where(self) -> str:
        """How an error begins."""
        return f"download {self.target.name}"


class _Cut(Exception):
    """The connection ended early; another try may go on."""


def check_address(url: str) -> None:
    """Refuse addresses that nothing is fetched from.

    Raises:
        DownloadError: If it is not https, nor http on this machine.
    """
    parts = urlsplit(url)
    if not parts.hostname or not (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    ):
        raise DownloadError(
            f"download from {url!r}: not an https address. Give one that starts with https://."
        )


def may_hand_on(source: str, target: str) -> bool:
    """Whether one address may redirect to another.

    The same host may; so may any to the hub's hosts. https never becomes http.
    """
    old, new = urlsplit(source), urlsplit(target)
    host = new.hostname or ""
    if new.scheme == old.scheme and host == old.hostname and new.port == old.port:
        return True
    hub = any(host == name or host.endswith(f".{name}") for name in _HANDED_ON)
    return new.scheme == "https" and hub


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not may_hand_on(req.full_url, newurl):
            host = urlsplit(newurl).netloc
            raise DownloadError(
                f"download from {req.full_url}: it is handed on to {host!r}, which is not a host "
                "of this list. Use another mirror, or place the file by hand."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and nothing else: no file:, no ftp:, no data:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def fetch_file(wanted: Wanted, on_bytes: OnBytes = lambda done, total: None) -> str:
    """Fetch a file; what an earlier try has left is gone on from.

    Args:
        wanted: What and where to. An existing target is replaced.
        on_bytes: Called after each block; what it raises goes through, and the part stays.

    Returns:
        The SHA-256 that was seen.

    Raises:
        DownloadError: If it can't be fetched, the disk is too small, or it is another file.
    """
    check_address(wanted.url)
    seen = _try_often(wanted, on_bytes)
    _verify(wanted, seen)
    with wanted.part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(wanted.part, wanted.target)
    wanted.state.unlink(missing_ok=True)
    return seen


def _try_often(wanted: Wanted, on_bytes: OnBytes) -> str:
    tried = 0
    while True:
        tried += 1
        try:
            return _one_try(wanted, on_bytes)
        except _Cut as cut:
            if tried == _TRIES:
                got = wanted.part.stat().st_size if wanted.part.is_file() else 0
                raise DownloadError(
                    f"{wanted.where}: the connection was cut {_TRIES} times ({cut}), "
                    f"{got:,} bytes are kept. Run it again: it goes on from there."
                ) from cut
            time.sleep(_WAIT_S * 2 ** (tried - 1))


def _one_try(wanted: Wanted, on_bytes: OnBytes) -> str:
    have, tag = _kept(wanted)
    if wanted.size is not None and have == wanted.size:
        return file_sha256(wanted.part)
    headers = {"User-Agent": "unifashion", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    request = urllib.request.Request(wanted.url, headers=headers)
    try:
        answer: Any = _opener().open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as e:
        return _refused(wanted, e, have)
    except urllib.error.URLError as e:
        raise _unreachable(wanted, e) from e
    except (OSError, http.client.HTTPException) as e:
        if isinstance(e, DownloadError):
            raise
        raise _Cut(e) from e
    with answer:
        return _receive(wanted, answer, have, on_bytes)


def _kept(wanted: Wanted) -> tuple[int, str]:
    """How many bytes of the part can be gone on from, and the version that they are of."""
    if not wanted.part.is_file():
        return 0, ""
    try:
        state = json.loads(wanted.state.read_text(encoding="utf-8"))
        tag = str(state["tag"]) if state["url"] == wanted.url else ""
    except (OSError, ValueError, KeyError, TypeError):
        tag = ""  # written by nobody or half: without a version only a hash can tell
    have = wanted.part.stat().st_size
    known = tag or wanted.sha256 is not None
    if not known or (wanted.size is not None and have > wanted.size):
        wanted.part.unlink()
        return 0, ""
    return have, tag


def _refused(wanted: Wanted, error: urllib.error.HTTPError, have: int) -> str:
    """What a status of 400 and more means."""
    if error.code == 416 and have:  # the part is whole already, or not of this file
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total is not None and int(total[1]) == have:
            return file_sha256(wanted.part)
        wanted.part.unlink()
        raise _Cut("the part that was there was not of this file") from error
    if error.code >= 500 or error.code == 429:
        raise _Cut(f"the server answered {error.code}") from error
    why = {401: "it asks for a login", 403: "it asks for a login or consent", 404: "not there"}
    raise DownloadError(
        f"{wanted.where}: {wanted.url} answered {error.code} "
        f"({why.get(error.code, error.reason)}). Use a mirror, or place the file by hand."
    ) from error


def _unreachable(wanted: Wanted, error: urllib.error.URLError) -> Exception:
    """The error for a server that did not answer: cut off, or no network at all."""
    cause = error.reason
    if isinstance(cause, (TimeoutError, ConnectionResetError, http.client.HTTPException)):
        return _Cut(cause)
    host = urlsplit(wanted.url).netloc
    return DownloadError(
        f"{wanted.where}: {host} can't be reached ({cause}). Check the network, use a mirror, or "
        "place the file by hand."
    )


def _receive(wanted: Wanted, answer: Any, have: int, on_bytes: OnBytes) -> str:
    headers = answer.headers
    start = _start(answer.status, headers.get("Content-Range"), have)
    length = headers.get("Content-Length")
    total = start + int(length) if length is not None and length.isdigit() else None
    if wanted.size is not None and total is not None and total != wanted.size:
        raise DownloadError(
            f"{wanted.where}: {total:,} bytes are offered, {wanted.size:,} wanted. It is another "
            "file: use another mirror, or place the right one by hand."
        )
    _check_space(wanted, (total or wanted.about_bytes) - start)
    _remember(wanted, headers.get("ETag"))
    digest = _digest_of(wanted.part, start)
    done = start
    try:
        with wanted.part.open("r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            on_bytes(done, total or 0)
            while block := _read(answer):
                file.write(block)
                digest.update(block)
                done += len(block)
                on_bytes(done, total or 0)
    except OSError as e:
        if e.errno != errno.ENOSPC or isinstance(e, DownloadError):
            raise
        raise _disk_full(wanted, e) from e
    if total is not None and done < total:
        raise _Cut(f"{done:,} of {total:,} bytes came")
    return digest.hexdigest()


def _start(status: int, content_range: str | None, have: int) -> int:
    """Where the answer's bytes begin: a server may send the whole file instead of the rest."""
    found = re.match(r"bytes (\d+)-", content_range or "")
    return int(found[1]) if status == 206 and found is not None and int(found[1]) <= have else 0


def _read(answer: Any) -> bytes:
    try:
        return answer.read(_BLOCK)
    except http.client.IncompleteRead as e:
        return e.partial
    except (TimeoutError, ConnectionError) as e:
        raise _Cut(e) from e


def _check_space(wanted: Wanted, missing: int) -> None:
    free = shutil.disk_usage(wanted.target.parent).free
    if free < missing + SPARE_BYTES:
        raise DownloadError(
            f"{wanted.where}: {missing:,} bytes to come, but {free:,} are free in "
            f"{wanted.target.parent}. Free some space, or choose another folder."
        )


def _disk_full(wanted: Wanted, error: OSError) -> DownloadError:
    got = wanted.part.stat().st_size
    return DownloadError(
        f"{wanted.where}: the disk is full ({error.strerror}), {got:,} bytes are kept. Free some "
        "space and run it again: it goes on from there."
    )


def _remember(wanted: Wanted, tag: str | None) -> None:
    """Keep a strong version tag; a weak one does not promise the same bytes."""
    strong = tag if tag and not tag.startswith("W/") else ""
    wanted.state.write_text(json.dumps({"url": wanted.url, "tag": strong}), encoding="utf-8")


def _digest_of(path: Path, count: int) -> Any:
    """A SHA-256 that has seen a file's first bytes."""
    digest = hashlib.sha256()
    if count:
        with path.open("rb") as file:
            left = count
            while left and (block := file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
    return digest


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    return str(_digest_of(path, path.stat().st_size).hexdigest())


def _verify(wanted: Wanted, seen: str) -> None:
    """Refuse another file than the known one; what came is removed, since it is no part of it."""
    size = wanted.part.stat().st_size
    problem = ""
    if wanted.size is not None and size != wanted.size:
        problem = f"{size:,} bytes came, {wanted.size:,} wanted"
    elif wanted.sha256 is not None and seen != wanted.sha256:
        problem = f"its SHA-256 is {seen}, {wanted.sha256} wanted"
    if problem:
        wanted.part.unlink()
        wanted.state.unlink(missing_ok=True)
        raise DownloadError(
            f"{wanted.where}: {problem}. It was not kept: try again, use another mirror, or place "
            "the right file by hand."
        )
