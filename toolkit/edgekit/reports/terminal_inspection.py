"""The contents of a .tflite file, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.printable import MOST_PATH, printable
from edgekit.records import Inspection, Operator, TensorSpec
from edgekit.reports.formatting import count_text, plain, size_text
from edgekit.reports.memory_text import memory_text
from edgekit.reports.npu_text import (
    compilation_text,
    fit_text,
    npu_text,
    program_text,
    said_by,
)
from edgekit.reports.plain_table import plain_table, say, show

if TYPE_CHECKING:
    from rich.console import Console


# The most operators that are listed on a terminal.
MOST_OPERATORS = 1000
MOST_LAYER = 22  # characters of a layer's name
WIDE = 100  # columns of a terminal with room for shapes
MOST_NAMED = 5  # operators that a line names
_LABELS = {
    "largest": "most",
    "activations": "alive",
    "runtimes": "needs",
    "Edge TPU": "tpu",
    "metadata": "meta",
    "signatures": "sign",
}
_RUNTIMES = {"litert": "ai-edge-litert", "tflite": "tflite-runtime", "tensorflow": "TensorFlow"}


def tensor_text(tensor: TensorSpec) -> str:
    """Return name, type, shape, and what a code `q` stands for."""
    shape, grid = " x ".join(map(str, tensor.shape)), ""
    if tensor.scale is not None:
        zero_point = tensor.zero_point or 0
        code = f"(q {'-' if zero_point > 0 else '+'} {abs(zero_point)})" if zero_point else "q"
        grid = f", {tensor.scale:.6g} x {code}"
    return f"{printable(tensor.name)}: {printable(tensor.dtype)} {shape}{grid}"


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print the contents of a file: totals first, then one line per operator."""
    from rich.text import Text

    say(console, printable(inspection.path, MOST_PATH), "bold")
    for side, tensors in (("in", inspection.inputs), ("out", inspection.outputs)):
        for tensor in tensors:
            say(console, tensor_text(tensor), label=f"{side:>4}  ")
    kinds = ", ".join(f"{size_text(n)} {kind}" for kind, n in inspection.weight_dtypes.items())
    shares = ", ".join(f"{size_text(n)} {part}" for part, n in inspection.bytes.items())
    targets = list(dict.fromkeys(name for op in inspection.ops for name in op.targets))
    said = [
        ("size", f"{size_text(inspection.size_bytes)}: {shares}"),
        ("work", f"{inspection.macs:,} MACs, {inspection.parameters:,} parameters"),
        *([("data", kinds)] if kinds else []),
        *((_LABELS.get(label, label), line) for label, line in fact_lines(inspection)),
        *(("fit", _fit_line(inspection, target)) for target in targets),
        *(
            ("npu", f"{printable(target)}: {npu_text(estimate)}")
            for target, estimate in inspection.estimates.items()
        ),
        *(
            ("tpu", f"{printable(target)}: {compilation_text(run)}")
            for target, run in inspection.compiled.items()
        ),
        *(
            ("mem", f"{printable(target)}: {memory_text(inspection, target)}")
            for target in inspection.memory
        ),
    ]
    for label, line in said:
        say(console, plain(line), label=f"{label:<5} ")
    wide = console.width >= WIDE
    has_alive = wide or not targets
    table = plain_table()
    table.add_column("#", justify="right", min_width=len(str(len(inspection.ops) - 1)))
    table.add_column("operator", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    table.add_column("type", no_wrap=True, min_width=4)
    if wide:
        table.add_column("shape", no_wrap=True)
    for heading in ("bytes", "MACs", *(["alive"] if has_alive else [])):
        table.add_column(heading, justify="right", no_wrap=True, min_width=6)
    for target in targets:
        table.add_column(Text(printable(target)), min_width=6)
    for op in inspection.ops[:MOST_OPERATORS]:
        fits = [op.targets.get(target) for target in targets]
        table.add_row(
            str(op.index),
            Text(printable(op.name)),
            Text(printable(op.layer, MOST_LAYER if wide else MOST_LAYER - 4)),
            Text(printable(op.dtype)),
            *(["x".join(map(str, op.shape))] if wide else []),
            size_text(op.bytes) if op.bytes else "",
            count_text(op.macs) if op.macs else "",
            *([size_text(op.alive_bytes) if op.alive_bytes else ""] if has_alive else []),
            *(
                Text("" if fit is None else "yes" if fit.mapped else plain(fit.reason or "no"))
                for fit in fits
            ),
        )
    show(console, table)
    left = len(inspection.ops) - MOST_OPERATORS
    if left > 0:
        say(console, f"... and {left:,} more operators; --json lists all of them")


def _fit_line(inspection: Inspection, target: str) -> str:
    said = said_by(inspection, target)
    return f"{printable(target)}, {said}: {fit_text(inspection, target)}"


def fact_lines(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """Yield what the operators add up to: the largest, float ones, memory, runtimes, metadata."""
    if heavy := sorted(filter(lambda op: op.bytes, inspection.ops), key=lambda op: -op.bytes):
        yield (
            "largest",
            ", ".join(
                f"{_named(op)} {size_text(op.bytes)} ({op.bytes / inspection.size_bytes:.0%})"
                for op in heavy[:3]
            ),
        )
    if floats := inspection.in_float:
        if len(floats) == len(inspection.ops):
            yield "float", f"all {len(floats)} operators compute with float activations"
        else:
            named = ", ".join(f"{op.index} {_named(op)}" for op in floats[:MOST_NAMED])
            more = ", ..." if len(floats) > MOST_NAMED else ""
            yield "float", f"{len(floats)} of {len(inspection.ops)} operators: {named}{more}"
    if (peak := inspection.peak) is not None and peak.alive_bytes:
        size = size_text(peak.alive_bytes)
        where = f"operator {peak.index} {_named(peak)}"
        yield (
            "activations",
            f"{size} at most, at {where}; kernels' scratch comes on top",
        )
    if (program := inspection.edge_tpu) is not None:
        yield "Edge TPU", program_text(program)
    if inspection.runtimes:
        yield (
            "runtimes",
            ", ".join(
                f"{_RUNTIMES.get(name, printable(name))} {_release(inspection, name)}"
                for name in inspection.runtimes
            ),
        )
    if inspection.metadata:
        yield (
            "metadata",
            ", ".join(
                f"{printable(name)} {size_text(n)}" for name, n in inspection.metadata.items()
            ),
        )
    if inspection.signatures:
        yield "signatures", ", ".join(map(printable, inspection.signatures))


def _release(inspection: Inspection, runtime: str) -> str:
    """Return from which release on a runtime loads a file, or what it lacks."""
    version = inspection.runtimes[runtime]
    if version:
        return f"{printable(version)} or newer"
    if runtime not in inspection.lacking:
        return "(no release known)"
    lacks = inspection.lacking[runtime]
    if not lacks:
        return "2.14 as the runner unpacks it"
    more = ", ..." if len(lacks) > MOST_NAMED else ""
    return f"does not load it: it lacks {', '.join(map(printable, lacks[:MOST_NAMED]))}{more}"


def _named(op: Operator) -> str:
    """Return an operator's name with its layer's, if it has one."""
    layer = printable(op.layer, MOST_LAYER)
    return f"{printable(op.name)} {layer}" if layer else printable(op.name)
