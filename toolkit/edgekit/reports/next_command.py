"""The command to type after a report: the recommended file goes to the device it is meant for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from edgekit.printable import MOST_PATH, printable
from edgekit.records import Report, Row

DEVICE = "NAME"
"""Stands for the user's device."""

# Options of the command that made the files which mean the same to the next one.
_SHARED = (
    *("--data", "--column", "--task", "--preprocess", "--metric", "--max-drop", "--score-output"),
    *("--classes", "--head", "--max-unpacked", "--split", "--window", "--stride", "--group"),
    "--ignore",
)
_SHORT = {"-d": "--data"}
_CORAL = "coral"
_SOUND = "recording.wav"
_INPUTS = {"image": "photo.jpg", "log-mel": _SOUND, "mfcc": _SOUND, "micro": _SOUND}
_OTHER_INPUT = "input.npy"


def next_command(report: Report, row: Row) -> str:
    """Return the command for a recommended file.

    A file that was measured here is scored and timed on a device; one that was measured on its
    device already is run there. For a microcontroller, which nothing reaches over SSH, it becomes C
    sources.

    Args:
        report: The report.
        row: Its recommended file.

    Returns:
        What can be typed where the command before was; `DEVICE`, and the name of an input, stand
        for what only the user knows.
    """
    given = options_of(report.asked.get("command", ""))
    path = str(row.artifact.shipped)
    place = f"./{path}" if path.startswith("-") else path
    words = ["edgekit", "deploy", place]
    device = report.asked.get("device")
    named = report.asked.get("target", "").split(", ")
    # Only what a microcontroller needs of memory is looked at.
    needs = row.inspection.memory if row.inspection else {}
    firmware = [name for name in named if name in needs]
    if firmware and not device:
        words = ["edgekit", "export", place, "--target", firmware[0], "-o", "firmware"]
    elif device:
        words += ["--device", device, *_all(given, "--devices"), "--run", _input(row)]
    else:
        words += ["--device", DEVICE, *shared_options(given)]
    return printable(shlex.join(words), 2 * MOST_PATH)


def compiler_command(report: Report, row: Row) -> str:
    """Return the command that compiles a file for an Edge TPU; "" if that was not the target.

    Args:
        report: The report.
        row: Its recommended file.
    """
    named = report.asked.get("target", "").split(", ")
    inspection = row.inspection
    if _CORAL not in named or inspection is None:
        return ""
    if len(inspection.unmapped(_CORAL)) == len(inspection.ops):
        return ""
    return printable(shlex.join(["edgetpu_compiler", "-s", str(row.artifact.path)]), 2 * MOST_PATH)


def sensitivity_command(report: Report) -> str:
    """Return the command that measures what each operator costs; "" where it is not known.

    Args:
        report: The report of `quantize`, with data.
    """
    command = report.asked.get("command", "")
    given = options_of(command)
    words = command.split() if given else []
    if words[:2] != ["edgekit", "quantize"] or "--data" not in dict(given):
        return ""
    source = next(iter(shlex.split(command)[2:]), "-")
    if source.startswith("-"):
        return ""
    # --max-drop is of the search for a recipe.
    named = shared_options(given, "--custom", "--calibration-samples", "--seed")
    flags = [word for word in ("--unroll", "--trust-code") if word in words]
    asked = ["edgekit", "sensitivity", source, *named, *flags, "-o", "sensitivity.html"]
    return printable(shlex.join(asked), 2 * MOST_PATH)


def explanation(command: str) -> str:
    """Say what stands for something in a command of `next_command`; "" where nothing does."""
    words = command.split()
    if DEVICE in words:
        return f"{DEVICE}: your device, such as pi@raspberrypi.local, or a name of devices.toml"
    return next((f"{name}: a file of yours" for name in words if name in _STAND_INS), "")


_STAND_INS = (*_INPUTS.values(), _OTHER_INPUT)


def _input(row: Row) -> str:
    """Name an input of the kind that the file takes."""
    # A manifest is read from a file: it may hold anything.
    described = row.artifact.manifest.get("preprocessing")
    kind = described.get("kind") if isinstance(described, Mapping) else None
    return _INPUTS.get(str(kind), _OTHER_INPUT)


def _all(options: list[tuple[str, str]], wanted: str) -> Iterator[str]:
    for name, value in options:
        if name == wanted:
            yield from (name, value)


def shared_options(given: list[tuple[str, str]], *more: str) -> list[str]:
    """Return the words of options that mean the same to the next command.

    Args:
        given: As of `options_of`.
        more: Further options that the next command has as well.
    """
    return [word for name in (*_SHARED, *more) for word in _all(given, name)]


def options_of(command: str) -> list[tuple[str, str]]:
    """Return the options of a command that have values; none of several commands in one line."""
    reader = shlex.shlex(command, posix=True, punctuation_chars=";")
    reader.whitespace_split = True
    reader.commenters = ""
    try:
        words = list(reader)
    except ValueError:  # an open quote: no command of ours
        return []
    if any(set(word) == {";"} for word in words):
        return []
    found = []
    for position, word in enumerate(words):
        name, has_value, value = word.partition("=")
        if word in _SHORT or (name.startswith("--") and not has_value):
            after = words[position + 1 : position + 2]
            found += [(_SHORT.get(word, word), value) for value in after]
        elif name.startswith("--"):
            found.append((name, value))
    return found
