"""Make text from files, devices and libraries safe to print.

A name may contain escape sequences that control a terminal, marks that change the direction of
writing, bytes that are no text, or a million characters. Such characters are escaped, and long
names are shortened in the middle.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

CALLING: Final = "Exception encountered when calling"
"""What Keras's errors of a layer's call begin with."""

MOST_NAME = 60
MOST_LINE = 500
MOST_WORD = 255  # no file name is longer
MOST_PATH = 4096  # a path must still open its file, and none is longer
GAP = "..."
_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
# Joiners are part of text (Persian, Hindi, emoji) and do not control the terminal.
_JOINERS = "\u200c\u200d"
_SURROGATE_ESCAPES = range(0xDC80, 0xDD00)


def printable(name: object, width: int = MOST_NAME) -> str:
    r"""Return a name on one line of at most `width` characters, without control characters.

    Args:
        name: Any text; short text without such characters is returned unchanged, so that paths can
            be copied.
        width: Largest number of characters, at least 8; a longer name is shortened in the middle.

    >>> printable("conv2d\x1b[2J\n")
    'conv2d\\x1b[2J\\n'
    >>> printable("a" * 40 + "/model.tflite", width=24)
    'aaaaaaaaaaa...del.tflite'
    """
    text = str(name)
    if len(text) <= width:
        units = [_visible(character) for character in text]
        if sum(map(len, units)) <= width:
            return "".join(units)
    tail_room = (width - len(GAP)) // 2
    head = _fitting(text[:width], width - len(GAP) - tail_room)
    tail = _fitting(text[-width:][::-1], tail_room)
    return "".join([*head, GAP, *tail[::-1]])


def one_line(text: object, width: int = MOST_LINE) -> str:
    r"""Return a sentence or a library's message as one line: its lines are joined.

    >>> one_line("first  line\n   second\x1b[0m ")
    'first  line second\\x1b[0m'
    """
    return printable(" ".join(line.strip() for line in str(text).split("\n")).strip(), width)


def message_line(sentence: str) -> str:
    """Return a line of an error: no name in it, without spaces, has more than 255 characters.

    >>> len(message_line("a" * 307 + " does not exist."))
    271
    """
    # A longer text is shortened below; only its ends are used.
    ends = sentence if len(sentence) <= MOST_PATH else printable(sentence, MOST_PATH)
    return printable(" ".join(printable(word, MOST_WORD) for word in ends.split(" ")), MOST_LINE)


def capitalized(sentence: str) -> str:
    """Return a sentence with a capital letter, unless it begins with a name or a path.

    >>> capitalized("the process died.")
    'The process died.'
    >>> capitalized("tflite/kernels/div.cc:262 data[i] != zero_point was not true.")
    'tflite/kernels/div.cc:262 data[i] != zero_point was not true.'
    """
    word = sentence.partition(" ")[0].rstrip(",.:;")
    return sentence[:1].upper() + sentence[1:] if _WORD.fullmatch(word) else sentence


def _visible(character: str) -> str:
    """Return a printable character, or the escape of any other."""
    if character.isprintable() or character in _JOINERS:
        return character
    if unicodedata.category(character) == "Zs":  # spaces of other widths
        return character
    if ord(character) in _SURROGATE_ESCAPES:
        return f"\\x{ord(character) - 0xDC00:02x}"  # a byte of a file name that is no UTF-8
    return character.encode("unicode_escape").decode("ascii")


def _fitting(text: str, room: int) -> list[str]:
    """Return the first characters, escaped, that fit into `room`; an escape is never cut."""
    fitting: list[str] = []
    for character in text:
        unit = _visible(character)
        room -= len(unit)
        if room < 0:
            break
        fitting.append(unit)
    return fitting


def telling(error: Exception) -> str:
    """Return the line of an error that says most: of a graph's the last, which follows a trace."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # reasons are printed bold
    lines = [line for line in map(str.strip, plain.splitlines()) if line]
    # Of layers in layers each call says so, before the reason.
    found = [line for line in lines if not line.startswith(("[[", CALLING))] or lines
    if not found:
        return type(error).__name__
    return found[-1 if found[0].startswith("Graph execution error") else 0]
