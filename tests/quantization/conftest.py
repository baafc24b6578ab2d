"""Trained graphs, their data, and TensorFlow's quantizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from array_samples import samples_of

from edgekit.data import bind, open_data
from edgekit.records import Dataset, Samples
from edgekit.tflite import read, signature
from edgekit.worker import Worker

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def speech(golden: Path) -> bytes:
    """The spoken-digit baseline as a float graph."""
    return (golden / "quantize" / "speech_float32.tflite").read_bytes()


@pytest.fixture(scope="session")
def digits(shared_data: Path, speech: bytes) -> Dataset:
    return bind(open_data("spoken-digits"), *signature(read(speech)))


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        # The jobs that these tests ask of TensorFlow.
        patch.setenv("PYTHONPATH", str(TESTS / "quantization"))
        with Worker() as started:
            yield started


@pytest.fixture
def noise() -> Samples:
    """Samples of the speech graph's shape; for errors, where values do not matter."""
    values = np.random.default_rng(0).standard_normal((5, 61, 40, 1)).astype(np.float32)
    return samples_of({"input_layer": values})
