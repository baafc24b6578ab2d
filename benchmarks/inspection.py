"""Time and memory of `edgekit inspect` for a chain of ADD operators.

Time and processor time are those of the whole process, its start included; memory is the largest
resident set. Ten times the operators should take about ten times the time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.tflite import write

SIZES = (3_000, 30_000, 300_000)
WAYS = {"terminal": [], "--target coral": ["--target", "coral"], "--json": ["--json"]}
# A separate process, whose only child is this command.
TIMED = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "edgekit.cli", *sys.argv[1:]], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""


def measure() -> list[dict[str, str]]:
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in SIZES:
            path = Path(temporary) / f"{size}.tflite"
            path.write_bytes(chain(size))
            for way, options in WAYS.items():
                begun = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", TIMED, "inspect", str(path), *options],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                wall = time.perf_counter() - begun
                processor, memory = done.stderr.split()[-2:]
                rows.append(
                    {
                        "operators": f"{size:,}",
                        "file, MB": f"{path.stat().st_size / 1e6:.1f}",
                        "output": way,
                        "time, s": f"{wall:.1f}",
                        "processor time, s": f"{float(processor):.1f}",
                        "memory, MB": f"{int(memory) / 1000:.0f}",
                    }
                )
    return rows


def chain(operators: int) -> bytes:
    """Return a float graph of a chain of ADD operators with unique names."""
    shape = np.array([1, 8], np.int32)
    graph = schema.SubGraphT(
        tensors=[
            schema.TensorT(shape=shape, name=f"model/layer_{i}/add") for i in range(operators + 1)
        ],
        inputs=np.array([0], np.int32),
        outputs=np.array([operators], np.int32),
        operators=[
            schema.OperatorT(
                inputs=np.array([i, i], np.int32),
                outputs=np.array([i + 1], np.int32),
                builtinOptionsType=schema.BuiltinOptions.AddOptions,
                builtinOptions=schema.AddOptionsT(),
            )
            for i in range(operators)
        ],
    )
    return write(
        schema.ModelT(
            version=3,
            operatorCodes=[schema.OperatorCodeT(version=1)],
            buffers=[schema.BufferT()],
            subgraphs=[graph],
        )
    )
