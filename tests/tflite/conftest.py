"""A trained float graph, and how to run one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def speech(golden: Path) -> bytes:
    """The spoken-digit baseline: convolutions, depthwise convolutions, a dense layer."""
    return (golden / "quantize" / "speech_float32.tflite").read_bytes()


@pytest.fixture(scope="session")
def run():
    def run(data: bytes, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs `[n, ...]` by signature name for inputs `[n, ...]`, sample by sample."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=data, num_threads=1)
        runner = interpreter.get_signature_runner()
        n = len(next(iter(inputs.values())))
        rows = [runner(**{k: v[i : i + 1] for k, v in inputs.items()}) for i in range(n)]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return run
