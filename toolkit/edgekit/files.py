"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.errors import OutputError


def sha256_of(path: Path) -> str:
    """Digest of a file, or of a folder: every file's relative name and content, sorted."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\0".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def exists(path: Path) -> bool:
    """Tell whether there is anything; a name longer than names can be stands for nothing."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise unless `path` is free or `force` allows to replace it."""
    if exists(path) and not force:
        raise OutputError(
            f"{path} exists already.", cure="Give another --output, or --force to replace it."
        )


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it becomes `path`, on any failure it is gone.

    Raises:
        OutputError: The place cannot be written (full, read-only, not a folder).
    """
    temporary: Path | None = None
    try:
        with _placing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent
            )
            os.close(handle)
            temporary = Path(name)
            temporary.chmod(0o666 & ~_umask())
            yield temporary
            temporary.replace(path)
            temporary = None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside the files of `folder`.

    On success its files move into `folder`, each by one rename; on any failure nothing of it
    remains, and a `folder` that did not exist before does not exist after.
    """
    created = [p for p in (folder, *folder.parents) if not exists(p)]
    stage: Path | None = None
    try:
        with _placing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stage = Path(tempfile.mkdtemp(prefix=".edgekit-", dir=folder))
            yield stage
            for file in sorted(p for p in stage.rglob("*") if p.is_file()):
                goal = folder / file.relative_to(stage)
                goal.parent.mkdir(parents=True, exist_ok=True)
                file.replace(goal)
            created = []
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        for parent in created:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _placing(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write below `path` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not _below(Path(os.fsdecode(error.filename)), path):
            raise
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.",
            cure="Nothing was changed. Free some space or give another --output.",
        ) from error


def _below(name: Path, place: Path) -> bool:
    folder = place.parent.absolute()
    return name.absolute().is_relative_to(folder) or folder.is_relative_to(name.absolute())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
