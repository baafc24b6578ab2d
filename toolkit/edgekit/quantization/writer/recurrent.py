"""Weights and states of a fused LSTM in integers, as its 8-bit kernel with 16-bit cells takes them.

Source: TFLite's `lstm_eval` and the operator's entry in its quantization specification; measured in
LiteRT 2.3: without the last intermediate tensor, which has the scale of the outputs, outputs are
wrong; without all five, the file does not load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from edgekit.quantization.writer.constants import (
    Codes,
    bias_codes,
    fit_bias,
    weight_codes,
    weight_scales,
)
from edgekit.quantization.writer.operators import Parameters
from edgekit.records import Array
from edgekit.tflite.lstm import BIAS_INPUTS, LEAST_CELL, WEIGHT_INPUTS

INTERMEDIATES: Final = 5
"""Number of tensors for the values inside: one for each gate, and one for the outputs."""


def lstm_codes(values: Mapping[int, Array], step: float) -> dict[int, Codes]:
    """Return the codes of all weights, a single scale each, and of the biases.

    A bias is added to the products of the input and its gate's first weights.

    Args:
        values: Weights and biases, by input number.
        step: Scale of the input.
    """
    found = {}
    for weight, bias in zip(WEIGHT_INPUTS, (*BIAS_INPUTS, *(None,) * 4), strict=True):
        scales = weight_scales(values[weight], None)
        if bias is not None:
            largest = abs(values[bias]).max(keepdims=True)
            scales = fit_bias(scales, largest, step)
            found[bias] = bias_codes(values[bias], scales, step, 8)
        found[weight] = weight_codes(values[weight], scales, None)
    return found


def cell_parameters(low: float, high: float) -> Parameters:
    """Return the parameters of a cell state: 16 bits, and a power of two.

    >>> cell_parameters(-0.7, 0.6).scale * 32768
    2.0
    """
    exponent = math.ceil(math.log2(max(abs(low), abs(high), LEAST_CELL)))
    return Parameters(16, math.ldexp(1.0, exponent - 15), 0)
