"""Downloading a file once: resumed where it broke off, checked by its digest, placed whole."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgekit.errors import DataError

OFFLINE: Final = "EDGEKIT_OFFLINE"
"""Where this variable is set, nothing is downloaded."""
TRIES: Final = 4
"""Connections to one mirror, each of which goes on where the one before broke off."""
TIMEOUT_S: Final = 30.0
BLOCK_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file to download.

    Attributes:
        name: What it is called here.
        urls: Where it is, the first is tried first.
        most_bytes: Its size is less.
        sha256: Digest of its content, unpacked where it is compressed by gzip; None where what is
            made of it is checked.
    """

    name: str
    urls: tuple[str, ...]
    most_bytes: int
    sha256: str | None = None


def cache_folder() -> Path:
    """Return the folder that downloads are kept in."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "edgekit"


def fetch(part: Part, folder: Path) -> Path:
    """Return the path of a file in `folder`, downloaded if it is not there.

    Raises:
        DataError: It cannot be downloaded, or is not what it should be.
    """
    path = folder / part.name
    hint = f"Download {part.urls[0]} elsewhere, and put it into {folder} as {part.name}."
    if path.is_file():
        if _is_right(path, part):
            return path
        raise DataError(f"{path} is another file, or damaged.", hint=f"Remove it. {hint}")
    if os.environ.get(OFFLINE):
        raise DataError(f"{path} is not there, and {OFFLINE} is set.", hint=hint)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{part.name}.part"
    reasons = []
    with _alone(folder / f".{part.name}.lock"):
        if path.is_file() and _is_right(path, part):  # by another process meanwhile
            return path
        for url in part.urls:
            reason = _download(url, partial, part.most_bytes)
            if not reason and _is_right(partial, part):
                partial.replace(path)
                return path
            if not reason:  # kept bytes may have been of another version
                partial.unlink()
                reason = "its SHA-256 is not the one that is known"
            reasons.append(f"{url}: {reason}")
    raise DataError(f"{part.name} cannot be downloaded.", found=f"{reasons[0]}.", hint=hint)


def _download(url: str, partial: Path, most_bytes: int) -> str:
    """Download to a partial file; return why that failed, else an empty text."""
    reason = ""
    for _ in range(TRIES):
        try:
            if _go_on(url, partial, most_bytes):
                return ""
            reason = "the connection breaks off"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return ""  # all of it is there already, or something else, as its digest tells
            return f"the server answers {error.code} {error.reason}"
        except _TooLargeError as error:
            partial.unlink()
            return str(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
    return reason


class _TooLargeError(Exception):
    """More comes than is expected."""


def _go_on(url: str, partial: Path, most_bytes: int) -> bool:
    """Fetch what is missing; return whether all of it has come."""
    have = partial.stat().st_size if partial.exists() else 0
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url} is no web address")
    request = urllib.request.Request(url, headers={"User-Agent": "edgekit"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        resumed = answer.status == http.client.PARTIAL_CONTENT and answer.headers.get(
            "Content-Range", ""
        ).startswith(f"bytes {have}-")
        done = have if resumed else 0
        length = answer.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else None
        with partial.open("ab" if resumed else "wb") as stream:
            for block in _blocks(answer):
                stream.write(block)
                done += len(block)
                if done > most_bytes:
                    raise _TooLargeError(f"it is larger than {most_bytes >> 20} MB")
                _show(partial.stem, done, total)
    _show(partial.stem, done, done)
    return total is None or done >= total


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = answer.read1(BLOCK_BYTES)
        except http.client.IncompleteRead as error:
            block = error.partial
            if block:
                yield block
            return
        if not block:
            return
        yield block


def _is_right(path: Path, part: Part) -> bool:
    if part.sha256 is None:
        return path.stat().st_size > 0
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        unpacker = zlib.decompressobj(wbits=31) if packed else None
        size = 0
        try:
            while block := stream.read(BLOCK_BYTES):
                content = unpacker.decompress(block) if unpacker else block
                size += len(content)
                if size > 64 * part.most_bytes:
                    return False
                digest.update(content)
        except zlib.error:
            return False
    return digest.hexdigest() == part.sha256


def say(words: Sequence[str]) -> None:
    """Print lines for people, where they see them and no program reads them."""
    for line in words:
        print(line, file=sys.stderr)


def _show(name: str, done: int, total: int | None) -> None:
    """Draw a bar on a terminal, as often as its text changes."""
    if not sys.stderr.isatty():
        return
    end = "\n" if done == total else ""
    share = f" {done / total:4.0%}" if total else ""
    bar = "#" * round(30 * done / total) if total else ""
    print(f"\r{name} [{bar:<30}]{share} {done / 1e6:.1f} MB", end=end, file=sys.stderr, flush=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other processes from downloading the same file."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
