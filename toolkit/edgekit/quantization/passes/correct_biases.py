"""Take from every bias what rounded weights add to the mean of its channel.

The mean of each output channel over the samples is measured in the float graph and, before the
activation, in the graph whose weights are rounded and whose earlier biases are corrected; the
difference goes into the bias: Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction" (arXiv 1906.04721), section 4.2 and appendix D; Finkelstein et al.
2019, "Fighting Quantization Bias With Bias" (arXiv 1906.03193), section 3.1. Activations remain
float meanwhile: their rounding errors have a mean of about zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.quantization.passes.patches import patches, response
from edgekit.quantization.passes.side_by_side import Change, Pair, fitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ai_edge_litert.schema_py_generated import ModelT
    from numpy.typing import NDArray

    from edgekit.quantization.observe import Observed
    from edgekit.quantization.passes.layers import Layer
    from edgekit.records import Array, Plan


def correct_biases(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Return a graph whose biases make up for the rounding of its weights.

    Args:
        model: A float graph; it is not changed.
        observed: The samples, and the graph whose means are to be reached.
        settings: Mode and rules, which say how weights are rounded.
    """
    return fitted(model, observed, settings, _corrected)


CORRECT_BIASES: Final = GraphPass(
    name="correct_biases",
    meaning="Correct biases by what rounded weights add to the means of their channels.",
    apply=correct_biases,
    observes=True,
    moves_activations=True,
    fits=True,
)


def _corrected(pair: Pair) -> Change | None:
    exact, rounded = pair.exact, pair.rounded
    bias = exact.bias
    if bias is None or not rounded.can_add():
        return None
    wanted = response(exact, exact.weights, _mean_patch(exact, pair.exact_given))
    found = response(rounded, pair.stored, _mean_patch(rounded, pair.rounded_given))
    corrected = (bias.reshape(-1) + wanted - found).astype(np.float32)
    return Change(bias=corrected.reshape(bias.shape))


def _mean_patch(layer: Layer, given: Sequence[Array]) -> NDArray[np.float64]:
    means = [patches(layer, values).mean(axis=0, dtype=np.float64) for values in given]
    return np.asarray(np.mean(means, axis=0), np.float64)
