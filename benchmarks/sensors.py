"""The zoo's networks for sensor windows, on engines and people that training has not seen.

`turbofan` is scored on its test engines, `wearable` (benchmarks/wearable.py: made, with the
offsets and habits of each person) on people of its test split; validation takes whole groups. Of
the training windows of turbofan, of which each shares 29 of 30 rows with the next, every third is
taken. Defaults of `edgekit train`, but for the epochs; means over seeds, and the worst.
`cnn1d_dense` was the default of sensor windows before; others of the zoo are scored by

python -m benchmarks.sensors NETWORK...
"""

from __future__ import annotations

import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.wearable import wearable

from edgekit.data import open_data, take
from edgekit.data.store import reader_of

NETWORKS = ("cnn1d", "cnn1d_dense")
SEEDS = (0, 1, 2)
EPOCHS = {"turbofan": 10, "wearable": 25}
STRIDE = 3


def measure(networks: Sequence[str] = NETWORKS) -> list[dict[str, object]]:
    """Train and score networks on both data sets."""
    sets = {"turbofan": take(_engines()), "wearable": take(wearable())}
    return [_line(network, name, data) for name, data in sets.items() for network in networks]


def _engines() -> dict[str, Any]:
    scaling = tomllib.loads(Path("models/turbofan/model.toml").read_text())["preprocessing"]
    dataset = open_data("turbofan", preprocessing=scaling)
    assert dataset.train is not None
    assert dataset.test is not None
    kept = np.arange(0, dataset.train.n, STRIDE)
    train, test = dataset.train.read(kept), dataset.test.read(np.arange(dataset.test.n))
    groups = reader_of(dataset.train).store.groups
    assert groups is not None
    return {
        "x_train": train.inputs["x"],
        "y_train": train.targets,
        "group_train": groups[kept],
        "x_test": test.inputs["x"],
        "y_test": test.targets,
    }


def _line(network: str, name: str, data: Any) -> dict[str, object]:
    started = time.monotonic()
    runs = [_trained(network, name, data, seed) for seed in SEEDS]
    scores = [score for score, _ in runs]
    better = max if name == "turbofan" else min  # of errors the largest is the worst
    line: dict[str, object] = {
        "data": name,
        "network": network,
        "parameters": f"{runs[0][1]:,}",
        "score": "RMSE" if name == "turbofan" else "accuracy",
        "mean": f"{np.mean(scores):.3f}",
        "worst": f"{better(scores):.3f}",
        "seconds a run": f"{(time.monotonic() - started) / len(SEEDS):.0f}",
    }
    print(line, file=sys.stderr, flush=True)
    return line


def _trained(network: str, name: str, data: Any, seed: int) -> tuple[float, int]:
    """Return the score on the test split, and the number of parameters."""
    import keras

    from edgekit.training import TrainingConfig, train

    config = TrainingConfig(
        name=name,
        architecture=network,
        data=data,
        epochs=EPOCHS[name],
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        done = train(config, destination=Path(folder) / "model.keras")
        model = keras.saving.load_model(done.path)
    test = open_data(data).test
    assert test is not None
    batch = test.read(np.arange(test.n))
    predicted = model.predict(np.asarray(batch.inputs["x"], np.float32), verbose=0)
    if name == "turbofan":
        errors = predicted[:, 0] - batch.targets
        return float(np.sqrt(np.mean(errors**2))), done.parameters
    return float(np.mean(predicted.argmax(axis=1) == batch.targets)), done.parameters


if __name__ == "__main__":
    measure(sys.argv[1:])
