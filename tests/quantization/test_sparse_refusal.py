"""What is said of a file that is no smaller when its kernels are stored sparse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.errors import ConversionError
from edgekit.recipe import default_plan

SOURCE = Path(__file__).parents[2] / "quantized" / "turbofan" / "float32.tflite"


def test_a_kernel_whose_name_was_shortened_is_told_by_its_operator(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((20, 30, 14), dtype=np.float32)
    np.savez(tmp_path / "windows.npz", x_train=x[:10], x_test=x[10:])

    with pytest.raises(ConversionError) as refused:
        edgekit.quantize(
            SOURCE,
            data=str(tmp_path / "windows.npz"),
            plans=[default_plan("int8", sparse=True, ranges="minmax")],
            output=tmp_path / "out",
            latency=False,
        )

    assert str(refused.value.found).startswith("CONV_2D: It is no smaller when sparse")
