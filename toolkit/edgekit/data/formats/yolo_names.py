"""Names of classes of a YOLO data set: the entry `names` of a YAML file, or a list in a text file.

Of YAML only what that entry can be is read: a list or a mapping from numbers, in brackets or one
a line, with or without quotes. Nothing else of the file is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekit.errors import DataError
from edgekit.parsing import ParseError, read_text
from edgekit_runner import parse_labels

NAME_LISTS = ("classes.txt", "obj.names", "names.txt", "labels.txt")
"""Text files of names, one a line."""
MOST_BYTES = 4 << 20
_KEY = re.compile(r"^names[ \t]*:[ \t]*(.*)$", re.MULTILINE)
_ENTRY = re.compile(r"^([ \t]*)(-|[0-9]{1,6}[ \t]*:)(?:[ \t]+(.*))?$")
_WORD = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|([^,\[\]{}"']*))\s*""")


def read_names(root: Path, labels: Sequence[Path]) -> tuple[tuple[str, ...] | None, str, bool]:
    """Return the names in order, where they are from, and whether boxes have keypoints.

    Args:
        root: Folder of the data set.
        labels: Folders of the text files, where some tools put the list.

    Raises:
        DataError: The file is damaged.
    """
    places = [root / "data.yaml", *sorted(p for p in root.iterdir() if _is_yaml(p))]
    lists = [folder / name for folder in (root, *labels) for name in NAME_LISTS]
    for place in dict.fromkeys(path for path in (*places, *lists) if path.is_file()):
        try:
            text = read_text(place, MOST_BYTES)
            if not _is_yaml(place):
                return tuple(map(_tidy, parse_labels(text))), place.name, False
            names = parse_names(text)
        except (OSError, ParseError) as error:
            raise DataError(
                f"{place} names no classes.",
                found=f"{error}.",
                hint='Write names: ["first", "second"], or a classes.txt with one name a line.',
            ) from error
        if names is not None:
            return names, place.name, re.search("^kpt_shape[ \t]*:", text, re.MULTILINE) is not None
    return None, "nowhere: they have numbers", False


def parse_names(text: str) -> tuple[str, ...] | None:
    r"""Return the entry `names` of YAML, None where there is none.

    >>> parse_names("nc: 2\nnames: [cat, 'big dog']  # two")
    ('cat', 'big dog')
    >>> parse_names("names:\n  0: cat\n  1: dog\n")
    ('cat', 'dog')

    Raises:
        ParseError: It is of another form, or numbers are missing.
    """
    found = _KEY.search(text)
    if found is None:
        return None
    value = found[1].strip()
    if value[:1] in ("[", "{"):
        pairs = list(_flow(text[found.start(1) :].lstrip()))
    elif value and not value.startswith("#"):
        raise ParseError(f"names is {value[:40]!r}, no list")
    else:
        pairs = list(_block(text[found.end() :]))
    if not pairs:
        raise ParseError("names is empty")
    names = {
        place if number is None else number: name for place, (number, name) in enumerate(pairs)
    }
    missing = [number for number in range(len(pairs)) if number not in names]
    if missing:
        raise ParseError(f"names has no class {missing[0]}")
    return tuple(names[number] for number in range(len(names)))


def _flow(text: str) -> Iterator[tuple[int | None, str]]:
    """Yield number and name of what stands in brackets, over several lines."""
    text = re.sub(r"(?m)(^|\s)#.*$", "", text)
    close = {"[": "]", "{": "}"}[text[0]]
    place = 1
    while True:
        number = None
        key = re.compile(r"\s*['\"]?([0-9]{1,6})['\"]?\s*:\s").match(text, place)
        if key and close == "}":
            number, place = int(key[1]), key.end()
        word = _WORD.match(text, place)
        if word is None:
            raise ParseError("names is cut short")
        name, place = _unquoted(word), word.end()
        if text[place : place + 1] not in (",", close):
            raise ParseError(f"names holds {text[place : place + 20]!r}")
        if name or word[3] is None:
            if close == "}" and number is None:
                raise ParseError(f"names has {name[:40]!r} without a number")
            yield number, _tidy(name)
        if text[place] == close:
            return
        place += 1


def _block(text: str) -> Iterator[tuple[int | None, str]]:
    """Yield number and name of entries that stand one a line."""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = _ENTRY.match(line)
        if entry is None or (entry[2] != "-" and not entry[1]):
            return  # the next key of the file
        value = (entry[3] or "").strip()
        word = _WORD.match(value) if value[:1] in ("'", '"') else None
        name = _unquoted(word) if word else re.sub(r"\s+#.*$", "", value)
        yield None if entry[2] == "-" else int(entry[2].rstrip(" \t:")), _tidy(name)


def _unquoted(word: re.Match[str]) -> str:
    if word[1] is not None:
        return re.sub(r"\\(.)", r"\1", word[1])
    return word[2].replace("''", "'") if word[2] is not None else word[3].strip()


def _tidy(name: str) -> str:
    return " ".join(name.split())


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")
