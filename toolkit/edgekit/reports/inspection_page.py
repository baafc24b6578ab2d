"""What is inside a file as one HTML page: facts, memory over time, and the graph to unfold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from edgekit.printable import MOST_PATH, printable
from edgekit.records import Inspection, Operator
from edgekit.reports.formatting import count_text, significant, size_text
from edgekit.reports.memory_text import memory_text
from edgekit.reports.npu_text import compilation_text, fit_text, npu_text, said_by
from edgekit.reports.page import document
from edgekit.reports.page_text import escaped, fact_list
from edgekit.reports.terminal_inspection import fact_lines, tensor_text

# The most operators that are listed, and bars that are drawn.
MOST_OPERATORS: Final = 2000
MOST_BARS: Final = 380
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 760, 220, 64, 24, 12


def inspection_html(inspection: Inspection) -> str:
    """Return the page."""
    name = printable(inspection.path, MOST_PATH)
    parts = [
        fact_list(_facts(inspection), names=True),
        "<h2>Memory over time</h2>",
        _memory(inspection),
        "<h2>Operators</h2>",
        *_graph(inspection),
    ]
    main = "".join(f"{part}\n" for part in parts if part)
    return document(f"{name}: edgekit inspect", "edgekit inspect", name, main)


def _facts(inspection: Inspection) -> dict[str, str]:
    facts = {
        "size": f"{size_text(inspection.size_bytes)}: "
        + ", ".join(f"{size_text(n)} {part}" for part, n in inspection.bytes.items()),
        "inputs": "; ".join(map(tensor_text, inspection.inputs)),
        "outputs": "; ".join(map(tensor_text, inspection.outputs)),
        "work": f"{inspection.macs:,} MACs, {inspection.parameters:,} parameters",
        "constants": ", ".join(
            f"{size_text(n)} {dtype}" for dtype, n in inspection.weight_dtypes.items()
        ),
        **dict(fact_lines(inspection)),
    }
    for target in dict.fromkeys(name for op in inspection.ops for name in op.targets):
        facts[f"fit on {printable(target)}"] = (
            f"{said_by(inspection, target)}: {fit_text(inspection, target)}"
        )
    for target, run in inspection.compiled.items():
        facts[f"Edge TPU of {printable(target)}"] = compilation_text(run)
    for target, estimate in inspection.estimates.items():
        facts[f"NPU of {printable(target)}"] = npu_text(estimate)
    for target in inspection.memory:
        facts[f"memory of {printable(target)}"] = memory_text(inspection, target)
    return {name: text for name, text in facts.items() if text}


def _memory(inspection: Inspection) -> str:
    """Draw a bar an operator: the bytes of all activations alive; the largest is marked."""
    peak = inspection.peak
    if peak is None or not peak.alive_bytes:
        return "<p>No operator has activations of a known size.</p>"
    bars = list(_largest(inspection.ops))
    width = (_WIDTH - _LEFT) / len(bars)
    height = _HEIGHT - _TOP - _BOTTOM

    def y(size: float) -> float:
        return _TOP + height * (1 - size / peak.alive_bytes)

    drawn = "".join(
        f'<rect x="{_LEFT + n * width:.2f}" y="{y(op.alive_bytes):.2f}" '
        f'width="{max(width - (1 if width > 4 else 0), 0.5):.2f}" '
        f'height="{height * op.alive_bytes / peak.alive_bytes:.2f}" '
        f'fill="var(--{"accent" if op is peak else "other"})"><title>{_said(op)}</title></rect>'
        for n, op in enumerate(bars)
    )
    lines = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(size):.1f}" y2="{y(size):.1f}" '
        f'stroke="var(--grid)"/><text x="{_LEFT - 6}" y="{y(size) + 4:.1f}" '
        f'text-anchor="end">{size_text(size)}</text>'
        for size in (0, peak.alive_bytes / 2, peak.alive_bytes)
    )
    count = len(inspection.ops)
    ends = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">operator 0</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 6}" text-anchor="end">{count - 1}</text>'
    )
    return (
        '<figure aria-labelledby="memory-caption"><figcaption id="memory-caption">'
        "<strong>Activations alive at each operator</strong>"
        f"<p>Most at operator {_said(peak)}. Scratch memory of kernels comes on top.</p>"
        f'</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="12" '
        f'fill="var(--muted)" aria-labelledby="memory-caption">{lines}{drawn}{ends}</svg></figure>'
    )


def _largest(ops: Sequence[Operator]) -> Iterator[Operator]:
    """Yield at most `MOST_BARS` operators: of each stretch the one with most memory alive."""
    step = -(-len(ops) // MOST_BARS)
    for start in range(0, len(ops), step):
        yield max(ops[start : start + step], key=lambda op: op.alive_bytes)


def _said(op: Operator) -> str:
    layer = f" {escaped(printable(op.layer))}" if op.layer else ""
    return f"{op.index} {escaped(printable(op.name))}{layer}: {size_text(op.alive_bytes)}"


def _graph(inspection: Inspection) -> Iterator[str]:
    """Yield a fold for each run of operators of one layer, in execution order."""
    for layer, group in groupby(inspection.ops[:MOST_OPERATORS], key=lambda op: op.layer):
        ops = list(group)
        size, work = sum(op.bytes for op in ops), sum(op.macs or 0 for op in ops)
        figures = [
            f"{ops[-1].dtype} {'x'.join(map(str, ops[-1].shape))}",
            *([size_text(size)] if size else []),
            *([f"{count_text(work)} MACs"] if work else []),
            *(["in float"] if any(op.in_float for op in ops) else []),
        ]
        names = ", ".join(dict.fromkeys(printable(op.name) for op in ops))
        yield (
            f'<details class="card"><summary>{ops[0].index} <b>{escaped(printable(layer) or names)}'
            f"</b> {escaped(names)}: {escaped(', '.join(figures))}</summary>"
            f"{_table(ops)}</details>"
        )
    left = len(inspection.ops) - MOST_OPERATORS
    if left > 0:
        yield f"<p>... and {left:,} more operators; --json lists all of them.</p>"


def _table(ops: Sequence[Operator]) -> str:
    targets = list(dict.fromkeys(name for op in ops for name in op.targets))
    heads = [
        *("#", "operator", "version", "reads", "weights", "writes", "shape", "step", "zero point"),
        *("bytes", "MACs", "alive", *map(printable, targets)),
    ]
    rows = "".join(
        "<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in _cells(op, targets)) + "</tr>"
        for op in ops
    )
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in heads)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cells(op: Operator, targets: Sequence[str]) -> tuple[str, ...]:
    fits = (op.targets.get(name) for name in targets)
    return (
        str(op.index),
        printable(op.name),
        str(op.version),
        ", ".join(map(printable, op.inputs)),
        printable(op.weights or ""),
        printable(op.dtype),
        "x".join(map(str, op.shape)),
        "" if op.scale is None else significant(op.scale, 4),
        "" if op.zero_point is None else str(op.zero_point),
        size_text(op.bytes) if op.bytes else "",
        count_text(op.macs) if op.macs else "",
        size_text(op.alive_bytes),
        *("" if fit is None else "yes" if fit.mapped else fit.reason or "no" for fit in fits),
    )
