"""Text from files, devices and libraries, made safe to print.

A name may hold anything a file can hold: escape sequences that steer a terminal, marks that turn
the direction of writing, bytes that are no text, a million characters. It is printed with those
escaped, so that they are seen, and shortened in the middle, so that both of its ends are.
"""

from __future__ import annotations

import unicodedata

MOST_NAME = 60
MOST_LINE = 500
MOST_WORD = 255  # no file name is longer
MOST_PATH = 4096  # a path must still open its file, and none is longer
GAP = "..."
# Joiners are letters' business (Persian, Hindi, emoji) and move nothing on a terminal.
_JOINERS = "\u200c\u200d"
_SURROGATE_ESCAPES = range(0xDC80, 0xDD00)


def printable(name: object, width: int = MOST_NAME) -> str:
    r"""Return a name on one line of at most `width` characters, without control characters.

    Args:
        name: Any text; what is harmless and short comes back as it is, so that a path can be
            copied.
        width: Most characters; a longer name loses its middle. At least 8.

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
    r"""Return a sentence or a foreign error's words as one line: its lines are joined.

    >>> one_line("first  line\n   second\x1b[0m ")
    'first  line second\\x1b[0m'
    """
    return printable(" ".join(line.strip() for line in str(text).split("\n")).strip(), width)


def message_line(sentence: str) -> str:
    """Return a line of an error: no name in it, without spaces, has more than 255 characters.

    >>> len(message_line("a" * 307 + " does not exist."))
    271
    """
    # What is longer than a line is cut below; only its ends are read.
    ends = sentence if len(sentence) <= MOST_PATH else printable(sentence, MOST_PATH)
    return printable(" ".join(printable(word, MOST_WORD) for word in ends.split(" ")), MOST_LINE)


def _visible(character: str) -> str:
    """Return the character, or its escape where it is not one that only marks paper."""
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
