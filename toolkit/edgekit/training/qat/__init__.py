"""Quantization-aware training: the model is trained with the rounding of its int8 file.

    model -> prepare -> fit -> finish -> (plain model, ranges) -> lowering -> place -> int8

`prepare` folds batch normalization and inserts fake quantization wherever the TFLite graph has a
tensor; its result trains like any Keras model. `finish` removes the fake quantization: the weights
are then on the integer grid, and the trained ranges replace calibration.
"""

from edgekit.training.qat.layers import register
from edgekit.training.qat.ranges import Placed, place
from edgekit.training.qat.transform import (
    FUSED,
    finish,
    left_in_float,
    prepare,
    unrounded_layers,
    why_in_float,
    without_normalization,
)

__all__ = [
    "FUSED",
    "Placed",
    "finish",
    "left_in_float",
    "place",
    "prepare",
    "register",
    "unrounded_layers",
    "why_in_float",
    "without_normalization",
]
