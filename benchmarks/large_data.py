"""Peak memory on a 1.4 GB `.npz`, stored and deflated: `python -m benchmarks large_data`.

12,700 float32 images of 96x96x3, 11,000 of them for training, and a CNN of three classes with 1,443
parameters. The peak is that of the command with its children (`benchmarks.memory`); the
arrays alone take 1,405 MB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.memory import run_watched

EDGEKIT = [sys.executable, "-m", "edgekit.cli"]
MODEL = """
import keras, sys
layers = keras.layers
keras.Sequential([
    keras.Input((96, 96, 3)),
    layers.Conv2D(8, 3, strides=2, activation="relu"),
    layers.Conv2D(16, 3, strides=2, activation="relu"),
    layers.GlobalAveragePooling2D(),
    layers.Dense(3, activation="softmax"),
]).save(sys.argv[1])
"""


def write(path: Path, method: int) -> None:
    draw = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for split, n in (("train", 11_000), ("test", 1_700)):
            with archive.open(f"x_{split}.npy", "w", force_zip64=True) as stream:
                header = {"descr": "<f4", "fortran_order": False, "shape": (n, 96, 96, 3)}
                np.lib.format.write_array_header_1_0(stream, header)
                for start in range(0, n, 100):
                    size = min(100, n - start)
                    pixels = draw.integers(0, 256, (size, 96, 96, 3), np.uint8)
                    stream.write((pixels / np.float32(255)).tobytes())
            with archive.open(f"y_{split}.npy", "w") as stream:
                np.lib.format.write_array(stream, draw.integers(0, 3, n))


def measure() -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "m.keras"
        subprocess.run([sys.executable, "-c", MODEL, model], check=True, capture_output=True)
        float32 = folder / "m.tflite"
        importing = [*EDGEKIT, "import", str(model), "-o", str(float32), "-q"]
        subprocess.run(importing, check=True, capture_output=True)
        for saved, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
            data = folder / f"{saved}.npz"
            write(data, method)
            for command in (
                ["eval", float32],
                ["quantize", model, "--mode", "int8", "--no-bench", "-o", folder / saved],
            ):
                words = [*EDGEKIT, *map(str, command), "--data", str(data), "-q"]
                started = time.perf_counter()
                peak = run_watched(words, stdout=subprocess.DEVNULL)
                rows.append(
                    {
                        "command": command[0],
                        ".npz": f"{saved}, {data.stat().st_size / 1e6:,.0f} MB",
                        "peak memory, MB": round(peak / 1e6),
                        "seconds": round(time.perf_counter() - started),
                    }
                )
    return rows
