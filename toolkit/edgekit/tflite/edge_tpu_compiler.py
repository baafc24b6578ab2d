"""Run Google's compiler for the Edge TPU, where it is on PATH, and read its verdict.

Its verdict is what it prints with `-s`, a table of operators with the number and the status of
each, and the file that it writes: operators which are still in it run on the CPU. The format was
learned from transcripts of the versions 2.0 to 16.0 in the issues of google-coral/edgetpu on GitHub
(among them 25, 60, 75, 147, 189, 222, 342, 420, 461, 512, 829).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edgekit.errors import ModelError
from edgekit.files import temporary_folder
from edgekit.isolate import with_parent
from edgekit.records import EdgeTpuCompilation, TargetFit
from edgekit.targets.node import Node
from edgekit.tflite.edge_tpu import OPERATOR, edge_tpu_program
from edgekit.tflite.graph import read
from edgekit.tflite.nodes import nodes

PROGRAM: Final = "edgetpu_compiler"
_LIMIT_S: Final = 240
"""Beyond what the compiler allows itself since version 16, which is 180; older ones may not end."""
_MOST_PRINTED: Final = 1 << 20
_MODEL: Final = "model.tflite"
_COMPILED: Final = "model_edgetpu.tflite"
_LOG: Final = "model_edgetpu.log"
_VERSION: Final = re.compile(r"Edge TPU Compiler version (\S{1,40})")
_HEAD: Final = re.compile(r"^Operator\s+Count\s+Status\s*$", re.MULTILINE)
_LINE: Final = re.compile(r"^(?P<name>\S+)\s+(?P<count>\d{1,9})\s+(?P<status>\S.*?)\s*$")
_MAPPED: Final = "Mapped to Edge TPU"
# What it says of a model that it does not compile, the most telling first.
_REASONS: Final = (
    r"Compilation timeout\b.*",
    r"Compilation failed: .+",
    r"ERROR: .+",
    r"Model not quantized",
    r"Model could not be parsed",
    r"Internal compiler error\b.*",
    r"Invalid model\b.*",
)


class Compiled(NamedTuple):
    """The result of running the compiler.

    Attributes:
        fits: Operator index -> whether it runs on the Edge TPU; None where there is no verdict.
        run: The compiler and its program, or why there is no verdict.
    """

    fits: Mapping[int, TargetFit] | None
    run: EdgeTpuCompilation


def compile_for_edge_tpu(content: bytes, operators: Sequence[Node]) -> Compiled | None:
    """Compile a model, and say which of its operators run on the Edge TPU.

    Args:
        content: A plain TFLite file, one that `read` accepted.
        operators: Its operators.

    Returns:
        The result; None where the compiler is not on PATH, or has nothing to do: the model is
        compiled already, or no operator computes in 8 bits.
    """
    program = shutil.which(PROGRAM)
    if program is None or not any(map(_in_codes, operators)):
        return None
    if any(node.name == OPERATOR for node in operators):
        return None
    with temporary_folder() as folder:
        (folder / _MODEL).write_bytes(content)
        failure = _run(program, folder)
        printed = _text(folder / "printed")
        version = _VERSION.search(printed)
        compiler = f"{PROGRAM} {version[1]}" if version else PROGRAM
        if failure is None and not (folder / _COMPILED).is_file():
            failure = _reason(printed)
        if failure is None:
            try:
                return _verdict(folder, operators, compiler, printed)
            except ModelError as error:
                failure = f"what it wrote cannot be read: {error.found or error.what}"
    return Compiled(None, EdgeTpuCompilation(compiler=compiler, message=failure))


def _run(program: str, folder: Path) -> str | None:
    """Run the compiler; return why it did not end as it should, or None."""
    # A file, no pipe: a child of its own that outlives it would keep a pipe open.
    with (folder / "printed").open("wb") as printed:
        try:
            process = subprocess.Popen(
                [program, "-s", _MODEL],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=with_parent(),  # noqa: PLW1509  it imports and allocates nothing
            )
        except OSError as error:
            return f"it cannot be run ({error.strerror})"
        try:
            code = process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"it did not end within {_LIMIT_S} s"
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code < 0:
        return f"it died of {signal.Signals(-code).name}"
    return _reason(_text(folder / "printed")) if code else None


def _verdict(folder: Path, operators: Sequence[Node], compiler: str, printed: str) -> Compiled:
    """Read what the compiler wrote and printed.

    Raises:
        ModelError: The file cannot be read.
    """
    compiled = read(folder / _COMPILED)
    left = {
        tensor.name for node in nodes(compiled) if node.name != OPERATOR for tensor in node.outputs
    }
    gone = [
        node
        for node in operators
        if node.graph == 0 and left.isdisjoint([tensor.name for tensor in node.outputs])
    ]
    table = read_table(printed) or read_table(_text(folder / _LOG))
    mapped = _as_counted(operators, {node.index for node in gone}, table)
    fits = {
        node.index: TargetFit(mapped=True)
        if node.index in mapped
        else TargetFit(mapped=False, reason=_status(node.name, table))
        for node in operators
    }
    return Compiled(fits, EdgeTpuCompilation(compiler=compiler, program=edge_tpu_program(compiled)))


Table = Mapping[str, Mapping[str, int]]
"""Operator -> status -> how many operators have it."""


def read_table(printed: str) -> Table:
    """Read the table of operators; empty where there is none.

    Args:
        printed: What the compiler prints with `-s`, or the content of its operation log.
    """
    head = _HEAD.search(printed)
    found: dict[str, Counter[str]] = {}
    for line in printed[head.end() :].splitlines() if head else ():
        entry = _LINE.match(line)
        if entry is not None:
            found.setdefault(entry["name"], Counter())[entry["status"]] += int(entry["count"])
        elif line.strip():
            break
    return found


def _as_counted(operators: Sequence[Node], mapped: set[int], table: Table) -> set[int]:
    """Return the mapped operators, as many of each kind as the table says.

    The names of tensors tell which; where they tell another number, the first ones are taken: the
    compiler makes one partition, which begins where the model does.
    """
    result = set(mapped)
    for name, statuses in table.items():
        same = [node.index for node in operators if node.name == name]
        told = statuses.get(_MAPPED, 0)
        if len(same) == sum(statuses.values()) and told != len(result.intersection(same)):
            result.difference_update(same)
            result.update(same[:told])
    return result


def _status(name: str, table: Table) -> str:
    """Return why operators of a name stay on the CPU, as far as the table tells."""
    statuses = [status for status in table.get(name, ()) if status != _MAPPED]
    told = " / ".join(statuses) or "no reason given"
    return f"Google's compiler leaves it on the CPU: {told}"


def _in_codes(node: Node) -> bool:
    """Whether an operator computes in 8 bits: of others the compiler takes none."""
    return any(tensor.dtype in ("int8", "uint8") for tensor in node.outputs)


def _reason(printed: str) -> str:
    """Return what the compiler says of a model that it did not compile."""
    for pattern in _REASONS:
        if found := re.search(pattern, printed):
            return f"it says: {found[0].strip():.200}"
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return f"it says: {lines[-1]:.200}" if lines else "it wrote nothing"


def _text(path: Path) -> str:
    """Return the content of a file that the compiler wrote; empty where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_PRINTED).decode(errors="replace")
    except OSError:
        return ""
