"""Errors of the user's own code, told with the line that raised them."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path


def failure_of(error: BaseException) -> str:
    """Return the kind of an error, the first line of its words, and the user's line.

    The user's line is the last one that is in none of the installed packages.
    """
    words = str(error).splitlines() or ["no message"]
    return f"{type(error).__name__}: {words[0]}{_line_of(error)}"


def hint_for(error: BaseException) -> str:
    """Return what to do about an error that `failure_of` tells of."""
    what = "that line" if _line_of(error) else "it"
    return f"Correct {what}; --debug shows the traceback."


def _line_of(error: BaseException) -> str:
    """Return the file, the number and the text of the user's line in brackets, or nothing."""
    paths = sysconfig.get_paths()
    installed = (
        *(paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[2]),
    )
    if isinstance(error, SyntaxError) and error.filename:
        line = (error.text or "").strip()
        return f" ({Path(error.filename).name}, line {error.lineno}: {line})"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_file() and not _is_below(frame.filename, installed)
    ]
    if not own:
        return ""
    last = own[-1]
    return f" ({Path(last.filename).name}, line {last.lineno}: {last.line})"


def _is_below(name: str, folders: tuple[str, ...]) -> bool:
    return any(Path(name).is_relative_to(folder) for folder in folders)
