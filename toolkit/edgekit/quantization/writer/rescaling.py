"""Find the operators whose kernels cannot rescale what they compute to the scale of their outputs.

- A layer whose outputs one or two steps of its products would span, as where few samples pass a
  ReLU and hardly, is refused by XNNPACK and computed wrong by other kernels, which rescale by less
  than 256.
- A sum, or a squared difference, far narrower than what it is the sum of ends the process in which
  the file is loaded; so does one whose scale, times what kernels shift it by, is infinite.
- A division by a constant that is rounded to 0 is refused when the file is run.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edgekit.quantization.writer.constants import NARROWEST, activation_codes
from edgekit.quantization.writer.operators import OPERATORS
from edgekit.quantization.writer.precisions import real_inputs, real_outputs
from edgekit.quantization.writer.scales import Scales, parameters_of_values
from edgekit.records import Array
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.contents import of_content

# Kernels multiply sums of products with less than this: 256, and what rounding may add.
_LARGEST_FACTOR: Final = 250.0
_CODES: Final = 127
_SUMS: Final = frozenset({"ADD", "SUB"})
# Width of activations -> how many steps of a sum are less than the larger step of what it is of.
_OF_SUM: Final = {8: 1 << 19, 16: 1 << 14}
_OF_SQUARE: Final = 1 << 12
# Of a scale: kernels multiply it with up to 2^20, in single precision.
_LARGEST_STEP: Final = 1e30
_SQUARE: Final = "SQUARED_DIFFERENCE"
_QUOTIENT: Final = "DIV"


def refusal(node: Node, scales: Scales) -> str | None:
    """Say why an operator cannot compute in the scales around it; None if it can.

    Args:
        node: An operator in integers, whose ranges are known.
        scales: The parameters around it.
    """
    row = OPERATORS[node.name]
    if row.weight is not None and row.bias is not None:
        return _of_layer(node, scales)
    if node.name == _QUOTIENT:
        return _of_quotient(node)
    if node.name not in _SUMS and node.name != _SQUARE:
        return None
    output = real_outputs(node)[0]
    step = scales.own[output.index].scale
    if step > _LARGEST_STEP:
        return f"{output.name.split(';')[0]} reaches further than kernels can rescale"
    given = max(_step(node, tensor, scales) for _, tensor in real_inputs(node))
    reached = given**2 / _OF_SQUARE if node.name == _SQUARE else given / _OF_SUM[scales.bits]
    return _narrow(output, "what it is computed of") if reached >= step else None


def _of_layer(node: Node, scales: Scales) -> str | None:
    row = OPERATORS[node.name]
    assert row.weight is not None
    activation, weights = node.inputs[row.activation], node.inputs[row.weight]
    if activation is None or weights is None or (widest := _widest(weights)) is None:
        return None
    output = real_outputs(node)[0]
    step = scales.wanted(node, activation.index).scale * widest / _CODES
    if not step >= _LARGEST_FACTOR * scales.own[output.index].scale:
        return None  # or NaN, which is told where it is read
    return _narrow(output, "the products that it adds up")


def _of_quotient(node: Node) -> str | None:
    divisor = node.inputs[1]
    values = None if divisor is None else _values(divisor)
    if values is None or not np.isfinite(values).all():
        return None
    parameters = parameters_of_values(values, 8)
    if (activation_codes(values, parameters).values != parameters.zero_point).all():
        return None
    return "some of what it divides by would be rounded to 0"


def _widest(weights: Tensor) -> float | None:
    """Return the largest distance of weights from 0, at least that of `weight_scales`."""
    values, content = _values(weights), weights.data
    if values is None or content is None:
        return None

    def found() -> float:
        ends = float(values.max(initial=0.0)), -float(values.min(initial=0.0))
        return max(*ends, NARROWEST / 2)

    return of_content(content, "widest", found)


def _narrow(output: Tensor, what: str) -> str:
    return f"{output.name.split(';')[0]} is too narrow for {what}"


def _step(node: Node, tensor: Tensor, scales: Scales) -> float:
    """Return the step of an input; 0.0 where it is unknown."""
    if not tensor.constant:
        return scales.wanted(node, tensor.index).scale
    values = _values(tensor)
    if values is None or not np.isfinite(values).all():
        return 0.0
    return parameters_of_values(values, scales.bits).scale


def _values(tensor: Tensor) -> Array | None:
    """Return the values of a constant; None where it is damaged, which is told where it is read."""
    if tensor.data is None or tensor.data.size != 4 * tensor.elements:
        return None
    values: Array = np.asarray(tensor.data).view(np.float32)
    return values
