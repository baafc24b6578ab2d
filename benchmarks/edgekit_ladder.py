"""Make the same six files with edgekit, by the functions that `edgekit quantize` calls.

python benchmarks/edgekit_ladder.py MODEL.keras CALIBRATION.npy FOLDER
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from edgekit.data.store import adopted
from edgekit.pipeline import sources
from edgekit.pipeline.quantize import make
from edgekit.recipe import default_plan
from edgekit.records import Batch, Dataset, Samples, Source
from edgekit.worker import Worker

source, folder = Path(sys.argv[1]), Path(sys.argv[3])
samples = np.load(sys.argv[2], mmap_mode="r")
# Looked through once, as where `edgekit quantize` opens its data while TensorFlow is imported.
train = adopted(
    Samples(
        split="train",
        n=len(samples),
        sha256="",
        read=lambda rows: Batch(inputs={"x": samples[rows]}),
    )
)
calibrate = Samples(split="calibrate", n=train.n, sha256="", read=train.read)
dataset = Dataset(
    name="calibration", task="reconstruction", train=train, calibrate=calibrate, test=None
)
plans = [
    *(default_plan(mode) for mode in ("float32", "float16", "dynamic", "int8")),
    default_plan("int8", io="float32"),
    default_plan("int16x8"),
]
stages: list[tuple[float, str]] = []


def listen(progress: object) -> None:
    variant = progress.detail if progress.stage == "quantizing" else ""
    stages.append((time.perf_counter(), variant or progress.stage))


class NotedWorker(Worker):
    """Notes when the model is loaded, which is not timed on either side."""

    def load(self, path: Path, **options: object) -> Source:
        """As of `Worker`."""
        loaded = super().load(path, **options)
        stages.append((time.perf_counter(), "first operators"))
        return loaded


with NotedWorker() as tensorflow:
    imported = sources.lower(
        source, dataset, folder / "float32.tflite", tensorflow, plans=plans, listener=listen
    )
    make(imported, plans, folder, tensorflow, listener=listen)
    done = time.perf_counter()

begun = next(begun for begun, stage in stages if stage == "first operators")
seconds = {"total": done - begun}
for (begun, stage), (ended, _) in zip(stages, [*stages[1:], (done, "")], strict=True):
    seconds[stage] = seconds.get(stage, 0.0) + ended - begun
(folder / "seconds.json").write_text(json.dumps(seconds))
