"""Compile a model for an Ethos-U with Arm's compiler Vela, where the package is installed.

It decides which operators run on the NPU and simulates their cycles. It is native code that checks
little, so that each run is a process of its own.
"""

from __future__ import annotations

import csv
import math
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from edgekit.errors import ModelError
from edgekit.files import temporary_folder
from edgekit.isolate import with_parent
from edgekit.records import NpuEstimate, TargetFit
from edgekit.targets.node import Node
from edgekit.tflite.graph import read
from edgekit.tflite.nodes import nodes

_PACKAGE: Final = "ethos-u-vela"
_MODULE: Final = "ethosu.vela"
_LIMIT_S: Final = 300
_NPU_OPERATOR: Final = "ethos-u"
_UNREADABLE: Final = {
    "int4": "Vela cannot read int4 weights (edgekit expand writes int8)",
    "int2": "Vela cannot read int2 weights",
}
# Exceptions for a summary that is cut short, or holds no numbers.
_DAMAGE: Final = (csv.Error, IndexError, KeyError, TypeError, ValueError)
_WARNING: Final = re.compile(
    r"^Warning \([^)]*\) operator: \w+, ofm: '(?P<output>.*)'\s*\n\s*Reason: (?P<reason>.*)$",
    re.MULTILINE,
)

Compiled = tuple[Mapping[int, TargetFit], NpuEstimate]
"""Operator index -> whether it runs on the NPU; and what the compiler says of the whole."""


def compile_for(
    accelerator: str, content: bytes, operators: Sequence[Node], settings: Mapping[str, str]
) -> Compiled:
    """Compile a model, and say which of its operators run on the NPU.

    Args:
        accelerator: A configuration of Vela, such as `ethos-u55-128`.
        content: A plain TFLite file, one that `read` accepted.
        operators: Its operators.
        settings: `system-config` and `memory-mode` of Vela's configuration file; its defaults for
            the accelerator where they are missing.
    """
    # Imported late: it takes as long as reading a small model.
    from importlib.metadata import version

    compiler = f"Vela {version(_PACKAGE)}"
    refused = _unreadable(operators)
    if refused is not None:
        return _failed(compiler, operators, refused)
    with temporary_folder() as folder:
        (folder / "model.tflite").write_bytes(content)
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        try:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", _MODULE, "model.tflite"),
                    *("--accelerator-config", accelerator, "--output-dir", ".", *options),
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_LIMIT_S,
                check=False,
                preexec_fn=with_parent(),
            )
        except subprocess.TimeoutExpired:
            return _failed(compiler, operators, f"Vela did not end within {_LIMIT_S} s")
        if done.returncode:
            return _failed(compiler, operators, _end(done))
        return _read(folder, compiler, operators, done.stdout)


def _read(folder: Path, compiler: str, operators: Sequence[Node], printed: str) -> Compiled:
    """Read what Vela wrote: the summary, and which operators are still those of the model."""
    summaries = sorted(folder.glob("*_summary_*.csv"))
    try:
        compiled = read(folder / "model_vela.tflite")
        with summaries[0].open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file))
        estimate = _estimate(compiler, row)
    except (*_DAMAGE, ModelError, OSError, StopIteration) as error:
        return _failed(compiler, operators, f"what Vela wrote cannot be read ({error})")
    reasons = {found["output"]: found["reason"] for found in _WARNING.finditer(printed)}
    left = {
        tensor.name
        for node in nodes(compiled)
        if node.name != _NPU_OPERATOR
        for tensor in node.outputs
    }
    return {node.index: _fit(node, left, reasons) for node in operators}, estimate


def _fit(node: Node, left: set[str], reasons: Mapping[str, str]) -> TargetFit:
    names = [tensor.name for tensor in node.outputs]
    # Vela gives an activation function that is part of an operator an operator of its own.
    written = (name + end for name in names for end in ("", "_act"))
    known = next((reasons[name] for name in written if name in reasons), None)
    if known is None and node.graph == 0 and left.isdisjoint(names):
        return TargetFit(mapped=True)
    return TargetFit(
        mapped=False, reason=f"Vela leaves it on the CPU: {known or 'no reason given'}"
    )


def _estimate(compiler: str, row: Mapping[str, str]) -> NpuEstimate:
    """Return the figures of a line of Vela's summary, whose memory is in units of 1024 bytes."""

    def number(name: str) -> float:
        found = float(row[name])
        if not 0 <= found < math.inf:
            raise ValueError(f"{name} is {found}")
        return found

    def kib(name: str) -> int:
        return round(1024 * number(name))

    cycles = number("cycles_total")
    runs = cycles > 0
    return NpuEstimate(
        compiler=compiler,
        configuration=f"{row['system_config']}, {row['memory_mode']}",
        cycles=round(cycles) if runs else None,
        clock_hz=number("core_clock"),
        time_ms=1000 * number("inference_time") if runs else None,
        sram_bytes=kib("sram_memory_used"),
        dram_bytes=kib("dram_memory_used"),
        flash_bytes=kib("on_chip_flash_memory_used") + kib("off_chip_flash_memory_used"),
    )


def _unreadable(operators: Sequence[Node]) -> str | None:
    """Return why Vela cannot read a model, where it would die of it."""
    for node in operators:
        for tensor in node.inputs:
            if tensor is not None and tensor.dtype in _UNREADABLE:
                return _UNREADABLE[tensor.dtype]
    return None


def _failed(compiler: str, operators: Sequence[Node], message: str) -> Compiled:
    fit = TargetFit(mapped=False, reason=message)
    return {node.index: fit for node in operators}, NpuEstimate(compiler=compiler, message=message)


def _end(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"Vela died of {signal.Signals(-done.returncode).name}"
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("Warning")]
    return f"Vela refuses it: {lines[-1].strip():.200}" if lines else "Vela refuses it"
