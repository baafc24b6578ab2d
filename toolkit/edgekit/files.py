"""Check input files, and write output files atomically.

what_is(path)                  a file, a folder, a named pipe, ...
check_input(path, Error)       refuses what is no file: a pipe or a device may block, or be endless
refuse_existing(path, force)   refuses to replace a file without force, or anything but a file
writing(path), staging(folder) temporary places whose content is renamed to its final place at once
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.errors import EdgekitError, OutputError
from edgekit.temporary import PREFIX, new_file, new_folder, sweep
from edgekit_runner import DeferSigint

FILE = "a file"
FOLDER = "a folder"
MISSING = "missing"

# Error numbers of a file system without hard links.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
# What to do where a file cannot be written; without an entry, another name helps.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = dict.fromkeys(_FULL, "Free some space or give another name.") | {
    errno.ENOENT: "Run it again.",  # removed by another process, since it existed or was made
}
# Error numbers that concern the process rather than a disk.
_ELSEWHERE = (ConnectionError, ChildProcessError, ProcessLookupError, TimeoutError)


def sha256_of(path: Path) -> str:
    """Return the digest of a file, or of a folder: the sorted names and contents of its files."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\0".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def what_is(path: Path) -> str:
    """Return FILE, FOLDER, MISSING, or a description of what else a path is; never raises."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except (OSError, ValueError) as error:  # too long a name, a loop of links, a null byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"out of reach ({reason})"
    for fits, words in (
        (stat.S_ISREG, FILE),
        (stat.S_ISDIR, FOLDER),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if fits(mode):
            return words
    return "a device"


def check_input(
    path: Path, raises: type[EdgekitError], *, folder: bool = False, hint: str | None = None
) -> str:
    """Check an input before it is read; return FILE, or FOLDER if `folder` allows one.

    Args:
        path: The input.
        raises: The error class for a missing file, a pipe, a device, or missing permission.
        folder: Whether a folder is accepted.
        hint: What to give instead.
    """
    found = what_is(path)
    if found == FILE or (folder and found == FOLDER):
        if os.access(path, os.R_OK):
            return found
        found = "not readable for this user"
    if found == MISSING:
        raise raises(f"{path} does not exist.", hint=hint)
    raise raises(f"{path} is {found}.", hint=hint)


def refuse_existing(path: Path, *, force: bool, option: str = "--output") -> None:
    """Check an output path before the file is written.

    Args:
        path: The file to write.
        force: Whether a file that exists is replaced.
        option: What names it on the command line.

    Raises:
        OutputError: The file exists and `force` is false; or the path is never replaced: a folder,
            a device, a pipe, a link out of its folder.
    """
    goal = _goal(path)
    found = what_is(goal)
    if found in {FILE, MISSING}:
        if not force and os.path.lexists(path):
            raise OutputError(
                f"{path} exists already.", hint=f"Give another {option}, or --force to replace it."
            )
        return
    raise OutputError(
        f"{path} is {found}.", hint=f"Give another {option}: only files are replaced."
    )


@contextmanager
def writing(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to `path` on success, and removed on failure.

    Args:
        path: The final path. Of a link to a file in the same folder, the target is written.
        replace: Whether a file may be replaced; if not, one that appeared meanwhile is kept.

    Raises:
        OutputError: The place cannot be written (full, read-only, not a folder), or exists.
    """
    refuse_existing(path, force=True)
    goal = _goal(path)
    temporary: Path | None = None
    created: list[Path] = []
    own = [path, goal]
    try:
        with _placing(path, own):
            sweep(goal.parent)
            with DeferSigint():
                _make_folder(goal.parent, created)
                temporary = new_file(goal.parent, goal.suffix)
            own.append(temporary)
            with _removal_noticed(path, goal.parent, goal.parent):
                yield temporary
                with DeferSigint():
                    _move(temporary, goal, replace=replace)
                    temporary = None
    finally:
        with DeferSigint():
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            _remove_empty(created)


@contextmanager
def staging(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder, whose files are moved to `folder` on success.

    A new folder is created with all its files by one rename. Into an existing one each file is
    renamed, and if one cannot be, the others are moved back. After a failure no file remains, and a
    `folder` that did not exist before does not exist.

    Args:
        folder: The final folder.
        replace: Whether files in it may be replaced; if not, files that appeared meanwhile are
            kept, and an error is raised.

    Raises:
        OutputError: The place cannot be written (full, read-only, a file), or a file in it exists.
    """
    check_folder(folder)
    created: list[Path] = []
    stage: Path | None = None
    own = [folder]
    try:
        with _placing(folder, own):
            is_new = what_is(folder) == MISSING
            place = folder.parent if is_new else folder
            sweep(place)
            with DeferSigint():
                _make_folder(place, created)
                stage = new_folder(place)
            own.append(stage)
            with _removal_noticed(folder, place, stage):
                yield stage
                with DeferSigint():
                    if any(stage.iterdir()) and not (is_new and _became(stage, folder)):
                        _move_all(stage, folder, replace=replace)
    except EdgekitError as error:
        if stage is not None:
            error.relocate(stage, folder)
        raise
    finally:
        with DeferSigint():
            if stage is not None:
                _remove(stage)
            _remove_empty(created)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a private folder in the system's temporary folder, removed at the end."""
    place = Path(tempfile.gettempdir())
    folder: Path | None = None
    try:
        sweep(place)
        with DeferSigint():
            folder = new_folder(place, mode=0o700)
        yield folder
    finally:
        with DeferSigint():
            if folder is not None:
                _remove(folder)


@contextmanager
def cleared(folder: Path) -> Iterator[None]:
    """At the end, remove temporary files that ended processes left in a folder."""
    try:
        yield
    finally:
        with DeferSigint():
            sweep(folder)


def check_folder(folder: Path, *, hint: str = "Give a folder to --output.") -> None:
    """Raise unless files can go into `folder`, which need not exist.

    Raises:
        OutputError: It exists and is no folder.
    """
    found = what_is(folder)
    if found == MISSING and folder.is_symlink():
        found = "a link to nothing"
    if found not in {FOLDER, MISSING}:
        raise OutputError(f"{folder} is {found}.", hint=hint)


def _goal(path: Path) -> Path:
    """Return the file that is written for `path`: itself, or the target of a link beside it.

    Raises:
        OutputError: It links out of its folder, where no files may be changed.
    """
    if not os.path.islink(path):  # noqa: PTH114  the other raises where a name is too long
        return path
    target = Path(os.path.realpath(path))
    if target.parent != Path(os.path.realpath(path.parent)):
        raise OutputError(
            f"{path} is a link to {target}.",
            hint="Give that place to --output; links out of their folder are not followed.",
        )
    return target


def _became(stage: Path, folder: Path) -> bool:
    """Rename the whole stage; return False if the folder was created meanwhile, with files."""
    try:
        stage.rename(folder)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    return True


def _move_all(stage: Path, folder: Path, *, replace: bool) -> None:
    """Move every file of the stage into the folder, or none."""
    files = sorted(
        Path(root, name) for root, _, names in os.walk(stage, onerror=_raise) for name in names
    )
    goals = [_goal(folder / file.relative_to(stage)) for file in files]
    created: list[Path] = []
    # Beside the new files, so that they are removed with these.
    kept = new_folder(stage)
    placed: list[tuple[Path, Path | None]] = []
    try:
        for number, (file, goal) in enumerate(zip(files, goals, strict=True)):
            refuse_existing(goal, force=True)
            _make_folder(goal.parent, created)
            backup = _copy(goal, kept / str(number)) if replace else None
            _move(file, goal, replace=replace)
            placed.append((goal, backup))
    except BaseException:
        for goal, backup in reversed(placed):
            if backup is None:
                goal.unlink(missing_ok=True)
            else:
                backup.replace(goal)
        _remove_empty(created)
        raise


def _copy(path: Path, backup: Path) -> Path | None:
    """Keep a file under a second name; return None if there is no file."""
    try:
        backup.hardlink_to(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(path, backup)
    return backup


def _move(file: Path, goal: Path, *, replace: bool) -> None:
    """Rename a file to its final name; without `replace`, never over another file."""
    if replace:
        file.replace(goal)
        return
    try:
        try:
            goal.hardlink_to(file)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Another file may still appear between these two calls, on systems without hard links.
            if os.path.lexists(goal):
                raise FileExistsError from error
            file.replace(goal)
        else:
            file.unlink()
    except FileExistsError as error:
        raise OutputError(
            f"{goal} exists already.",
            found="It was created while this command ran.",
            hint="Give another name, or --force to replace it.",
        ) from error


def _make_folder(folder: Path, created: list[Path]) -> None:
    """Make a folder with its parents; return which of them are new, the deepest first."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    created[:0] = new
    folder.mkdir(parents=True, exist_ok=True)


def _remove(folder: Path) -> None:
    # A worker that is being ended may still write into it before the removal.
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty, or removed
            folder.rmdir()


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _placing(path: Path, own: list[Path]) -> Iterator[None]:
    """Turn an error of the operating system about one of `own` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        if not _about(error, own):
            raise
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.",
            hint=f"Nothing was changed. {_REMEDIES.get(error.errno or 0, 'Give another name.')}",
        ) from error


@contextmanager
def _removal_noticed(path: Path, folder: Path, needed: Path) -> Iterator[None]:
    """Turn any error into one about `needed`, if another process has removed that.

    Args:
        path: The file or folder being written.
        folder: The folder of the temporary place.
        needed: The temporary place, or `folder`.
    """
    try:
        yield
    except Exception as error:  # errors about files inside it are reported separately
        if what_is(needed) != MISSING:
            raise
        raise OutputError(
            f"The temporary folder for {path} was removed while this command ran."
            if what_is(folder) == FOLDER
            else f"The output folder {folder} was removed while this command ran.",
            hint="Nothing was written. Run it again.",
        ) from error


def _about(error: OSError, own: list[Path]) -> bool:
    if error.filename is None:
        return not isinstance(error, _ELSEWHERE)
    name = Path(os.fsdecode(error.filename)).absolute()
    places = [path.absolute() for path in own]
    # If a parent is no folder, the error is about that parent.
    return name.name.startswith(PREFIX) or any(
        name.is_relative_to(place) or place.is_relative_to(name) for place in places
    )
