"""Two models compared operator by operator: for a terminal, and for a graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from edgekit.folding import fold
from edgekit.printable import printable
from edgekit.records import LayerDifferences, OperatorDifference
from edgekit.reports.formatting import decibels, plain, significant
from edgekit.reports.plain_table import narrowed

_LAYER, _OPERATOR, _CELL = 20, 18, 8
_LEGEND: Final = (
    "SQNR: A is the signal. error: largest, over the largest value of A. beyond: share of values "
    "that B's integers cannot hold. dead: channels that are constant in B only."
)
_HEADS: Final = ("SQNR, dB", "cosine", "error", "beyond", "dead")
_MOST: Final = 9
"""Times the largest value of A beyond which an error is not told more closely, to fit its cell."""
EQUAL_DB: Final = 150.0
"""Stands for equal values, where a number is needed: more than float32 can tell."""
_COLOURS: Final = ((10.0, "#d73027"), (20.0, "#fc8d59"), (30.0, "#fee08b"))


def difference_lines(found: LayerDifferences, width: int | None = None) -> Iterator[str]:
    """Yield a table in the order of execution, and where the two part.

    Args:
        found: The differences.
        width: To which sentences are folded; None for 80 columns of the table, and no folding.
    """
    layer, operator = narrowed(width, _LAYER, _OPERATOR)
    yield from fold(plain(found.first), width, label="A: ")
    yield from fold(plain(found.second), width, label="B: ")
    yield f"{found.n} samples"
    yield ""
    heads = "".join(f"{head:>{room}}" for head, room in zip(_HEADS, _widths(), strict=True))
    yield f"{'layer':{layer + 1}}{'operator':{operator}}{heads}"
    for number, one in enumerate(found.operators):
        yield _line(one, layer, operator) + (" <" if number == found.parts_at else "")
    for one in found.outputs:
        yield _line(one, layer, operator)
    yield ""
    said = [
        _LEGEND,
        _where(found),
        *found.notes,
    ]
    if found.unmatched:
        said.append(f"Only in B: {', '.join(map(printable, found.unmatched))}.")
    for text in filter(None, said):
        yield from fold(plain(text), width)


def model_explorer_data(found: LayerDifferences) -> dict[str, Any]:
    """Return the SQNR of every operator of B as node data of Google's Model Explorer.

    The format is `GraphNodeData` of `model_explorer/node_data_builder.py` in
    google-ai-edge/model-explorer: `results` by the name of any output tensor of a node, and
    `thresholds`, each the upper end of a range of values with its colour. Load it there beside B
    ("Node data", or `model_explorer.config().add_node_data_from_path`).
    """
    results = {
        one.tensor: {"value": EQUAL_DB if one.sqnr_db is None else round(one.sqnr_db, 2)}
        for one in found.operators
        if one.tensor
    }
    thresholds = [{"value": value, "bgColor": colour} for value, colour in _COLOURS]
    return {"results": results, "thresholds": thresholds}


def _widths() -> tuple[int, ...]:
    return (_CELL + 1, _CELL, _CELL, _CELL, 6)


def _where(found: LayerDifferences) -> str:
    limit = f"{significant(found.threshold_db)} dB"
    if not found.operators:
        worst = min(found.outputs, key=lambda one: math.inf if one.sqnr_db is None else one.sqnr_db)
        if worst.sqnr_db is None:
            return "All outputs are equal to the bit."
        if worst.sqnr_db >= found.threshold_db:
            return f"No output is below {limit}."
        return f"Output {printable(worst.layer)} is below {limit}: {decibels(worst.sqnr_db)} dB."
    if found.parts_at is None:
        return f"No operator is below {limit}."
    one = found.operators[found.parts_at]
    return (
        f"They part at {printable(one.layer)} ({one.operator}), the first below {limit}: "
        f"{decibels(one.sqnr_db)} dB."
    )


def _line(one: OperatorDifference, layer: int, operator: int) -> str:
    share = one.largest_error / one.largest_value if one.largest_value else one.largest_error
    cells = (
        decibels(one.sqnr_db),
        f"{one.cosine:.4f}",
        f"{100 * share:.1f} %" if share < _MOST else f">{_MOST}x",
        "" if one.saturated is None else f"{100 * one.saturated:.1f} %",
        f"{one.dead}" if one.dead else "",
    )
    figures = "".join(f"{cell:>{room}}" for cell, room in zip(cells, _widths(), strict=True))
    name = f"{printable(one.layer, layer):{layer + 1}}"
    kind = printable(one.operator or "(output)", operator)
    return f"{name}{kind:{operator}}{figures}"
