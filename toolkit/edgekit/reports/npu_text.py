"""Words for what a target takes of a model, and for what an NPU's compiler says of it."""

from __future__ import annotations

from edgekit.printable import printable
from edgekit.records import EdgeTpuCompilation, EdgeTpuProgram, Inspection, NpuEstimate
from edgekit.reports.formatting import latency_text, size_text

PREDICTED = "predicted"


def said_by(inspection: Inspection, target: str) -> str:
    """Return how it is known what a target takes: predicted, or by what runs or compiles for it."""
    compiler = inspection.decided_by(target)
    if compiler is not None:
        compiled = "compiled, " if target in inspection.compiled else ""
        return f"{compiled}{printable(compiler)}"
    return inspection.judge(target) or PREDICTED


def fit_text(inspection: Inspection, target: str) -> str:
    """Return how many operators a target takes."""
    asked = sum(target in op.targets for op in inspection.ops)
    return f"{asked - len(inspection.unmapped(target))} of {asked} operators"


def npu_text(estimate: NpuEstimate) -> str:
    """Return what the compiler says of the whole model, in one line."""
    if estimate.message is not None:
        return printable(estimate.message)
    memory = (
        ("SRAM", estimate.sram_bytes),
        ("DRAM", estimate.dram_bytes),
        ("flash", estimate.flash_bytes),
    )
    parts = [f"{size_text(size)} {name}" for name, size in memory if size]
    if estimate.time_ms is None:
        return "nothing runs on it"
    clock = f" at {estimate.clock_hz / 1e6:,.0f} MHz" if estimate.clock_hz else ""
    cycles = f"{estimate.cycles:,} cycles{clock}" if estimate.cycles else ""
    figures = ", ".join([latency_text(estimate.time_ms), cycles, *parts])
    return f"{figures} (simulated: {printable(estimate.configuration)})"


def program_text(program: EdgeTpuProgram) -> str:
    """Return what a model that was compiled for an Edge TPU needs, in one line."""
    parts = [
        f"libedgetpu runtime {program.min_runtime} or newer",
        f"{size_text(program.cached_bytes)} of parameters in the chip's memory",
        f"{size_text(program.streamed_bytes)} sent for every inference",
    ]
    if program.cycles:
        parts.append(f"{program.cycles:,} cycles by its compiler's estimate")
    return "; ".join(parts)


def compilation_text(run: EdgeTpuCompilation) -> str:
    """Return the result of compiling a model for an Edge TPU, in one line."""
    if run.message is not None:
        return printable(f"{run.compiler} gave no verdict: {run.message}", 300)
    return "nothing was mapped" if run.program is None else program_text(run.program)
