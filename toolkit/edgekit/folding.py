"""Fold sentences to the width of a terminal; in a pipe or a file a sentence stays one line.

Everything that commands print for people goes through `fold`. What must stay whole so that it can
be copied, a path, a URL or a command, is never broken, and may be wider than the terminal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, TextIO

TERMINAL: Final = 80
"""Columns of tables where there is no terminal."""
HANG: Final = "  "
"""Before the lines of a sentence after its first."""
_PROGRAMS: Final = frozenset({"edgekit", "pip", "python3", "make", "edgetpu_compiler", "sudo"})
_VERB: Final = re.compile(r"-?[a-z]")
_ARGUMENT: Final = re.compile(r"-|[A-Z]+\b|['\"]|.*[/=_]|.*\.\w")
_ENDS: Final = tuple(".,;:)`")


def columns(stream: TextIO) -> int | None:
    """Return to how many columns lines on a stream are folded; None if they are not.

    `COLUMNS` says so where it is set, as it does to other programs; else a terminal does.
    """
    said = os.environ.get("COLUMNS", "")
    if said.isascii() and said.isdigit() and int(said) > 0:
        return int(said)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError, AttributeError):  # no terminal, or closed
        return None


def fold(text: str, width: int | None, *, label: str = "") -> list[str]:
    """Return a sentence in lines of a width.

    Args:
        text: One line. A word, and a command in it, stays whole.
        width: In characters; None for one line.
        label: What stands before it; lines after the first begin below its beginning. Without one
            they are indented.

    >>> fold("wanted at most 5 B", 16, label="met  ")
    ['met  wanted at', '     most 5 B']
    >>> fold("There is none. Try: pip install 'keras>=3'", 24)
    ['There is none. Try:', "  pip install 'keras>=3'"]
    """
    whole = f"{label}{text}".rstrip()
    if width is None or len(whole) <= width:
        return [whole]
    own = len(text) - len(text.lstrip())
    below = " " * len(label) if label else f"{text[:own]}{HANG}"
    if 2 * len(below) > width:  # else nothing would be left of a narrow terminal
        below = HANG
    lines, line, is_empty = [], f"{label}{text[:own]}", True
    for piece in _pieces(text[own:]):
        if is_empty and not piece:  # spaces between two columns
            continue
        # What fits on no line stays where it is.
        if not is_empty and width - len(below) >= len(piece) > width - 1 - len(line):
            lines.append(line.rstrip())
            line, is_empty = below, True
        line += piece if is_empty else f" {piece}"
        is_empty = False
        if len(line) > width:
            lines.append(line)
            line, is_empty = below, True
    return lines if is_empty else [*lines, line.rstrip()]


def _pieces(text: str) -> Iterator[str]:
    """Yield the parts of a line between which it may be broken."""
    words = text.split(" ")
    start = 0
    while start < len(words):
        end = _end_of_code(words, start) or _end_of_command(words, start) or start + 1
        yield " ".join(words[start:end])
        start = end


def _end_of_code(words: list[str], start: int) -> int | None:
    """Return where code in backticks ends that begins here."""
    word = words[start].lstrip("(")
    if not word.startswith("`") or word.count("`") > 1:
        return None
    return next((n + 1 for n in range(start + 1, len(words)) if "`" in words[n]), None)


def _end_of_command(words: list[str], start: int) -> int | None:
    """Return where a command ends that begins here, as far as can be told from its words."""
    following = words[start + 1 : start + 2]
    if words[start].lstrip("(") not in _PROGRAMS or not following:
        return None
    if not _VERB.match(following[0]) or following[0].endswith(_ENDS):
        return None
    end = start + 2
    quote = ""
    while end < len(words):
        word, before = words[end], words[end - 1]
        if quote:
            quote = "" if word.rstrip(".,;:)").endswith(quote) else quote
        elif before.endswith(_ENDS) or not (_ARGUMENT.match(word) or before.startswith("-")):
            break
        elif word[:1] in {"'", '"'} and word.count(word[0]) == 1:
            quote = word[0]
        end += 1
    return end
