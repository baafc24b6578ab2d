"""The contents of a .tflite file, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.printable import MOST_PATH, printable
from edgekit.records import Inspection
from edgekit.reports.formatting import count_text, plain, size_text
from edgekit.reports.memory_text import memory_text
from edgekit.reports.terminal_table import plain_table

if TYPE_CHECKING:
    from rich.console import Console


# The most operators that are listed on a terminal.
MOST_OPERATORS = 1000
MOST_LAYER = 22  # characters of a layer's name


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print the contents of a file: totals first, then one line per operator."""
    from rich.text import Text

    console.print(Text(printable(inspection.path, MOST_PATH), style="bold"))
    for side, tensors in (("in", inspection.inputs), ("out", inspection.outputs)):
        for tensor in tensors:
            shape = " x ".join(map(str, tensor.shape))
            grid = (
                "" if tensor.scale is None else f", {tensor.scale:.6g} x (q - {tensor.zero_point})"
            )
            console.print(
                Text(
                    f"{side:>4}  {printable(tensor.name)}: {printable(tensor.dtype)} {shape}{grid}"
                )
            )
    kinds = ", ".join(f"{size_text(n)} {kind}" for kind, n in inspection.weight_dtypes.items())
    shares = ", ".join(f"{size_text(n)} {part}" for part, n in inspection.bytes.items())
    console.print(Text(f"size  {size_text(inspection.size_bytes)}: {shares}"))
    console.print(Text(f"work  {inspection.macs:,} MACs, {inspection.parameters:,} parameters"))
    if kinds:
        console.print(Text(f"data  {kinds}"))
    targets = list(dict.fromkeys(name for op in inspection.ops for name in op.targets))
    for target in targets:
        mapped = sum(op.targets[target].mapped for op in inspection.ops if target in op.targets)
        console.print(
            Text(
                f"fit   {printable(target)}, predicted: {mapped} of {len(inspection.ops)} operators"
            )
        )
    for target in inspection.memory:
        line = f"mem   {printable(target)}: {memory_text(inspection, target)}"
        console.print(Text(line), soft_wrap=True)
    table = plain_table()
    table.add_column("#", justify="right")
    table.add_column("operator", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    for target in targets:
        table.add_column(Text(printable(target)), min_width=6)
    for op in inspection.ops[:MOST_OPERATORS]:
        fits = [op.targets.get(target) for target in targets]
        table.add_row(
            str(op.index),
            Text(printable(op.name)),
            Text(printable(op.layer, MOST_LAYER)),
            Text(printable(op.dtype)),
            size_text(op.bytes) if op.bytes else "",
            count_text(op.macs) if op.macs else "",
            *(
                Text("" if fit is None else "yes" if fit.mapped else plain(fit.reason or "no"))
                for fit in fits
            ),
        )
    console.print(table)
    left = len(inspection.ops) - MOST_OPERATORS
    if left > 0:
        console.print(Text(f"... and {left:,} more operators; --json lists all of them"))
