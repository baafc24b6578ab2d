"""Evaluation throughput against a bare loop on one core: `python -m benchmarks evaluation`.

The bare loop is set_tensor, invoke, get_tensor on samples in the input's type, with the interpreter
loaded before the timing; edgekit's time is that of all of `predict`: children, loading, quantizing,
running, collecting. Repetitions alternate. A model of 50 microseconds must be no slower than the
loop, one of 3 milliseconds at least 1.7 times faster (on two cores).
"""

from __future__ import annotations

import gzip
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from edgekit.evaluation import predict
from edgekit.records import Batch, Samples

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EDGEKIT_DATA") or REPOSITORY.parent / "shared" / "data")
REPETITIONS = 7


def fashion() -> tuple[Path, np.ndarray]:
    raw = gzip.decompress((DATA / "fashion_mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1) / np.float32(255)
    return REPOSITORY / "tests/golden/evaluate/fashion_int8.tflite", images


def mobilenet() -> tuple[Path, np.ndarray]:
    cat = np.asarray(Image.open(DATA / "coral_pairs/cat.bmp").convert("RGB"))
    room = np.array(cat.shape[:2]) - 224
    corners = np.random.default_rng(0).integers(0, room + 1, (400, 2))
    crops = np.stack([cat[y : y + 224, x : x + 224] for y, x in corners])
    return DATA / "coral_pairs/mobilenet_v2_1.0_224_quant.tflite", crops


def measure() -> list[dict[str, Any]]:
    rows = []
    for model, read, bound in (
        ("Fashion-MNIST CNN int8", fashion, 1.0),
        ("MobileNetV2 1.0/224 int8", mobilenet, 1.7),
    ):
        try:
            path, inputs = read()
        except FileNotFoundError as error:
            print(f"{model}: {error.filename} is not here, left out", file=sys.stderr)
            continue
        bare_s, edgekit_s = [], []
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        stored = _stored(inputs, interpreter.get_input_details()[0])
        samples = Samples(
            split="test",
            n=len(inputs),
            sha256="",
            read=lambda rows, inputs=inputs: Batch(inputs={"x": inputs[rows]}),
        )
        for _ in range(REPETITIONS):
            bare_s.append(_timed(lambda: _bare(interpreter, stored)))  # noqa: B023  called at once
            edgekit_s.append(_timed(lambda: predict(path, samples)))  # noqa: B023  called at once
        ratios = [bare / ours for bare, ours in zip(bare_s, edgekit_s, strict=True)]
        rows.append(
            {
                "model": model,
                "samples": len(inputs),
                "bare loop, us per sample": _microseconds(bare_s, len(inputs)),
                "edgekit, us per sample": _microseconds(edgekit_s, len(inputs)),
                "times faster": round(statistics.median(ratios), 2),
                "wanted": bound,
            }
        )
    return rows


def _stored(inputs: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    if inputs.dtype == detail["dtype"]:
        return inputs
    scale, zero_point = detail["quantization"]
    return np.clip(np.rint(inputs / scale) + zero_point, -128, 127).astype(detail["dtype"])


def _bare(interpreter: Interpreter, stored: np.ndarray) -> None:
    into = interpreter.get_input_details()[0]["index"]
    out = interpreter.get_output_details()[0]["index"]
    results = []
    for position in range(len(stored)):
        interpreter.set_tensor(into, stored[position : position + 1])
        interpreter.invoke()
        results.append(interpreter.get_tensor(out))


def _microseconds(seconds: list[float], samples: int) -> float:
    return round(statistics.median(seconds) / samples * 1e6, 1)


def _timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    rows = measure()
    print(f"On {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}.\n")
    for cells in (rows[0], ["---"] * len(rows[0]), *(row.values() for row in rows)):
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
