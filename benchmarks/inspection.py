"""Time and memory of `edgekit inspect` for a chain of ADD operators, and of a model of 4 MB.

Time and processor time are those of the whole process, its start included (of three runs the
fastest); memory is the largest resident set. Ten times the operators should take about ten times
the time. The model is MobileNetV2 in int8, of the shared data; with `check` as well. Modules are
compiled before, as those of an installed package are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.tflite import operators, read, write

SIZES = (3_000, 30_000, 300_000)
WAYS = {
    "inspect": [],
    "inspect --target coral": ["--target", "coral"],
    "inspect --json": ["--json"],
}
MODEL = "coral_pairs/mobilenet_v2_1.0_224_quant.tflite"
PAGE = "page.html"
OF_MODEL = {
    **WAYS,
    "inspect -o F.html": ["-o", PAGE],
    "check --no-float --target coral": ["--no-float", "--max-size", "9M", "--target", "coral"],
}
# A separate process, whose only child is this command.
TIMED = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "edgekit.cli", *sys.argv[1:]], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""
TIMES = 3


def measure() -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small = folder / "small.tflite"
        small.write_bytes(chain(1))
        for way, options in WAYS.items():
            _row(folder, (small, 1), way, options)
        return list(_rows(folder))


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    model = Path(os.environ.get("EDGEKIT_DATA", "")) / MODEL
    if model.is_file():
        count = sum(1 for _ in operators(read(model)))
        for way, options in OF_MODEL.items():
            yield _row(folder, (model, count), way, options, times=TIMES)
    for size in SIZES:
        path = folder / f"{size}.tflite"
        path.write_bytes(chain(size))
        for way, options in WAYS.items():
            yield _row(folder, (path, size), way, options)


def _row(
    folder: Path, model: tuple[Path, int], way: str, options: list[str], *, times: int = 1
) -> dict[str, str]:
    """Run one command on a file of so many operators; return the line of the fastest run."""
    path, count = model
    found = []
    for _ in range(times):
        (folder / PAGE).unlink(missing_ok=True)
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", TIMED, way.partition(" ")[0], str(path), *options],
            check=True,
            cwd=folder,
            env={**_environment(), "PYTHONPYCACHEPREFIX": str(folder / "compiled")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wall = time.perf_counter() - begun
        processor, memory = map(float, done.stderr.split()[-2:])
        found.append((wall, processor, memory))
    wall, processor, memory = min(found)
    return {
        "operators": f"{count:,}",
        "file, MB": f"{path.stat().st_size / 1e6:.1f}",
        "command": way,
        "time, s": f"{wall:.2f}",
        "processor time, s": f"{processor:.2f}",
        "memory, MB": f"{memory / 1000:.0f}",
    }


def _environment() -> dict[str, str]:
    return {key: text for key, text in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


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
