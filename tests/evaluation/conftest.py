"""Real data for the models of tests/golden/evaluate."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from edgekit.records import Array, Batch, Dataset, Samples


def samples_of(inputs: Array, targets: Array | None = None) -> Samples:
    return Samples(
        split="test",
        n=len(inputs),
        sha256="",
        read=lambda rows: Batch(
            inputs={"x": inputs[rows]}, targets=None if targets is None else targets[rows]
        ),
    )


def dataset_of(task: str, inputs: Array, targets: Array | None) -> Dataset:
    test = samples_of(inputs, targets)
    return Dataset(name="given", task=task, train=None, calibrate=None, test=test)


@pytest.fixture(scope="session")
def models(golden: Path) -> Path:
    return golden / "evaluate"


@pytest.fixture(scope="session")
def fashion(shared_data: Path) -> Dataset:
    def idx(name: str, header: int) -> Array:
        raw = gzip.decompress((shared_data / "fashion_mnist" / name).read_bytes())
        return np.frombuffer(raw, np.uint8, offset=header)

    images = idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1) / np.float32(255)
    return dataset_of("classification", images, idx("t10k-labels-idx1-ubyte.gz", 8))


@pytest.fixture(scope="session")
def turbofan(shared_data: Path) -> Dataset:
    """The last 30 cycles of 100 engines; targets are cycles left, over 125 and capped there."""
    folder = shared_data / "cmapss_fd001"
    sensors = [c + 4 for c in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)]
    train = np.loadtxt(folder / "train_FD001.txt.gz")[:, sensors]
    table = np.loadtxt(folder / "test_FD001.txt.gz")
    low, high = train.min(axis=0), train.max(axis=0)
    scaled = (2 * (table[:, sensors] - low) / (high - low) - 1).astype(np.float32)
    windows = []
    for unit in range(1, 101):
        cycles = scaled[table[:, 0] == unit][-30:]
        windows.append(np.concatenate([np.repeat(cycles[:1], 30 - len(cycles), axis=0), cycles]))
    remaining = np.minimum(125, np.loadtxt(folder / "RUL_FD001.txt")) / 125
    return dataset_of("regression", np.stack(windows), remaining.astype(np.float32))


@pytest.fixture(scope="session")
def fours() -> Dataset:
    """Digits the autoencoder has not seen, fours among them as anomalies."""
    from sklearn.datasets import load_digits

    pixels, digit = load_digits(return_X_y=True)
    return dataset_of(
        "reconstruction", (pixels[1200:] / 16).astype(np.float32), (digit[1200:] == 4).astype(int)
    )
