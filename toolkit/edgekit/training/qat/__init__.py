"""Quantization-aware training: a model that computes while training what its int8 file will.

    model -> prepare -> fit -> finish -> (plain model, ranges) -> lowering -> tensor_ranges -> int8

`prepare` folds batch normalization and puts fake quantization wherever the TFLite graph has a
tensor; its result trains like any Keras model. `finish` takes the fake quantization out again: the
weights then sit on the integer grid, and the ranges that training found replace calibration.
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
