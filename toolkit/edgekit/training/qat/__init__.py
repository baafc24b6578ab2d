"""Quantization-aware training: the model is trained with the rounding of its int8 file.

    model -> prepare -> fit -> finish -> (plain model, ranges) -> lowering -> tensor_ranges -> int8

`prepare` folds batch normalization and inserts fake quantization wherever the TFLite graph has a
tensor; its result trains like any Keras model. `finish` removes the fake quantization: the weights
are then on the integer grid, and the trained ranges replace calibration.
"""

from edgekit.training.qat.layers import register
from edgekit.training.qat.ranges import tensor_ranges
from edgekit.training.qat.transform import finish, left_in_float, prepare, without_normalization

__all__ = [
    "finish",
    "left_in_float",
    "prepare",
    "register",
    "tensor_ranges",
    "without_normalization",
]
