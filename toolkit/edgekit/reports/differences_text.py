"""Two models compared operator by operator: for a terminal of 80 columns, and for a graph."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from edgekit.printable import printable
from edgekit.records import LayerDifferences, OperatorDifference
from edgekit.reports.formatting import TERMINAL, decibels, plain, significant

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


def difference_lines(found: LayerDifferences) -> Iterator[str]:
    """Yield a table of 80 columns in the order of execution, and where the two part."""
    yield from textwrap.wrap(plain(f"A: {found.first}"), TERMINAL)
    yield from textwrap.wrap(plain(f"B: {found.second}"), TERMINAL)
    yield f"{found.n} samples"
    yield ""
    heads = "".join(f"{head:>{width}}" for head, width in zip(_HEADS, _widths(), strict=True))
    yield f"{'layer':{_LAYER + 1}}{'operator':{_OPERATOR}}{heads}"
    for number, one in enumerate(found.operators):
        yield _line(one) + (" <" if number == found.parts_at else "")
    for one in found.outputs:
        yield _line(one)
    yield ""
    said = [
        _LEGEND,
        _where(found),
        *found.notes,
    ]
    if found.unmatched:
        said.append(f"Only in B: {', '.join(map(printable, found.unmatched))}.")
    for text in filter(None, said):
        yield from textwrap.wrap(plain(text), TERMINAL)


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


def _line(one: OperatorDifference) -> str:
    share = one.largest_error / one.largest_value if one.largest_value else one.largest_error
    cells = (
        decibels(one.sqnr_db),
        f"{one.cosine:.4f}",
        f"{100 * share:.1f} %" if share < _MOST else f">{_MOST}x",
        "" if one.saturated is None else f"{100 * one.saturated:.1f} %",
        f"{one.dead}" if one.dead else "",
    )
    figures = "".join(f"{cell:>{width}}" for cell, width in zip(cells, _widths(), strict=True))
    kind = one.operator or "(output)"
    layer = f"{printable(one.layer, _LAYER):{_LAYER + 1}}"
    return f"{layer}{printable(kind, _OPERATOR):{_OPERATOR}}{figures}"
