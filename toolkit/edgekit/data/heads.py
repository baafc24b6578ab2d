"""Detection heads: declared in TOML, found beside a model, or told by the shapes of its outputs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edgekit.errors import DataError
from edgekit.files import FILE, check_input, what_is
from edgekit.parsing import ParseError, read_toml
from edgekit.printable import capitalized
from edgekit.records import TensorSpec
from edgekit_runner import CANDIDATES, HEAD_WORDS, Head, check_head, recognize_head

SUFFIX: Final = ".head.toml"
_FORM: Final = """--head '{kind = "yolo"}', or a file with [head] (docs/data.md, Boxes)"""
_OUTPUT: Final = "the name of an output, in quotes"
_FLAG: Final = "true or false"
_ACCEPTED: Final[Mapping[str, str]] = {
    "score": "a number from 0 to 1",
    "iou": "a number from 0 to 1",
    "most": f"a whole number from 1 to {CANDIDATES}",
    "background": _FLAG,
    "objectness": _FLAG,
    "corners": _FLAG,
    "variances": "four numbers above 0, such as [0.1, 0.1, 0.2, 0.2]",
    "anchors": "[[centre x, centre y, width, height], ...], shares of the picture",
    "levels": "[{grid = [rows, columns], sizes = [[width, height], ...]}, ...], shares of the "
    "picture",
    "size": "[width, height] of the picture in pixels",
    **dict.fromkeys(("boxes", "scores", "output", "heatmap", "sizes", "offsets", "count"), _OUTPUT),
}
"""What `check_head` accepts for each key whose values are no words."""


def parse_head(text: str) -> dict[str, Any]:
    """Read a head that stands in one line: `{kind = "yolo", unit = "pixels"}`.

    Raises:
        DataError: It is no TOML, or an invalid head.
    """
    try:
        table = tomllib.loads(f"head = {text}")["head"]
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"--head is no table of TOML: {text!r:.80}.",
            found=f"{str(error).partition(chr(10))[0]}.",
            hint=f"Write it as {_FORM}.",
        ) from error
    return checked_head(table, "head")


def read_head(path: Path) -> dict[str, Any]:
    """Read the table `[head]` of a TOML file, or the whole file where it has none.

    Raises:
        DataError: The file cannot be read, or the head is invalid.
    """
    check_input(path, DataError, hint=f"Give {_FORM}.")
    try:
        document = read_toml(path)
    except (OSError, ParseError) as error:
        raise DataError(f"{path} cannot be read.", found=f"{error}.", hint="Correct it.") from error
    return checked_head(document.get("head", document), str(path))


def head_beside(model: Path) -> tuple[dict[str, Any], str] | None:
    """Return the head in `<stem>.head.toml` beside a model, and the file's name.

    Raises:
        DataError: The file cannot be read, or the head is invalid.
    """
    if not model.name:  # the current folder, which a command refuses later
        return None
    path = model.with_name(f"{model.stem}{SUFFIX}")
    return (read_head(path), path.name) if what_is(path) == FILE else None


def checked_head(table: Any, place: str) -> dict[str, Any]:
    """Return a head with its defaults written out.

    Raises:
        DataError: It is invalid.
    """
    try:
        return check_head(dict(table) if isinstance(table, Mapping) else table)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{place}: the detection head is invalid.",
            found=f"{capitalized(str(error))}.",
            hint=_accepted(table, str(error).split(" ", 1)[0]),
        ) from error


def _accepted(table: Any, key: str) -> str:
    """Return what the key that is wrong may be, or how a head is written where it is not one."""
    kind = table.get("kind") if isinstance(table, Mapping) else None
    words = HEAD_WORDS.get(str(kind))
    if words is None:
        return f"Give {_FORM}."
    if key not in (*words, *_ACCEPTED, "classes"):
        return f"Correct the head: docs/data.md, Boxes, lists the keys of kind {kind}."
    if key == "classes":
        return f"classes: {'a whole number above 0' if kind == 'yolo' else _OUTPUT}."
    return f"{key}: {', '.join(words[key]) if key in words else _ACCEPTED[key]}."


def bound_head(
    head: Mapping[str, Any] | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    labels: Sequence[str] | None = None,
    boxes: bool = False,
) -> tuple[Head | None, str | None]:
    """Return the head as the outputs of a model need it, and a note if their shapes told it.

    Args:
        head: As declared; None where it was not.
        inputs: The model's inputs: boxes in pixels are those of the first.
        outputs: The model's outputs.
        labels: Names of the classes, where they are known.
        boxes: Whether the targets are boxes: without these, many outputs look like YOLO's.

    Raises:
        DataError: It does not fit the outputs.
    """
    shapes = [(output.name, output.shape) for output in outputs]
    table = None if head is None else checked_head(head, "head")
    note = None
    if table is None:
        table = recognize_head(shapes, len(labels) if labels else None)
        if table is None or not (boxes or table["kind"] == "postprocess"):
            return None, None
        note = f"The outputs were taken for those of a {table['kind']} head, by their shapes."
    shape = inputs[0].shape
    size = (shape[2], shape[1]) if len(shape) == 4 and min(shape[1:3]) > 0 else None
    if size is not None and "size" in table and table["size"] is None:
        table = {**table, "size": list(size)}
    try:
        return Head(table, shapes, size), note
    except ValueError as error:
        raise DataError(
            "The declared head does not fit the outputs of the model.",
            found=f"{capitalized(str(error))}.",
            hint="Correct the head, or name its outputs in it.",
        ) from error


def undeclared_head(
    place: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> DataError:
    """Return the error for boxes where it is not known how the outputs tell them."""
    listed = ", ".join(f"{output.name} {list(output.shape)}" for output in outputs)
    return DataError(
        f"{place}: the targets are boxes, but how the outputs tell boxes is not declared.",
        found=f"The outputs are {listed}.",
        hint=f"Declare it, such as --head '{_example(inputs, outputs)}'",
    )


def _example(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """Return a head that the outputs could have, in one line of TOML."""
    rows = [output for output in outputs if len(output.shape) == 3]
    boxes = next((output for output in rows if output.shape[2] == 4), None)
    scores = next((output for output in rows if output is not boxes), None)
    if boxes is not None and scores is not None:
        n = boxes.shape[1]
        shape = inputs[0].shape
        aspect = shape[1] / shape[2] if len(shape) == 4 and shape[2] > 0 else 1.0
        pairs = [(k, n // k) for k in range(1, n + 1) if n % k == 0]
        grid = min(pairs, key=lambda pair: abs(pair[0] / pair[1] - aspect))
        return (
            f'{{kind = "ssd", boxes = "{boxes.name}", scores = "{scores.name}", '
            f"levels = [{{grid = [{grid[0]}, {grid[1]}], sizes = [[0.1, 0.1]]}}]}}"
        )
    if len([output for output in outputs if len(output.shape) == 4]) == 3:
        return '{kind = "center"}'
    return f'{{kind = "yolo", output = "{outputs[0].name}"}}'
