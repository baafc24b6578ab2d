"""Rank the channels of a model by importance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgekit.choices import Importance
from edgekit.errors import DataError, UsageError
from edgekit.evaluation.tasks import CLASSIFICATION, MULTI_LABEL, SEGMENTATION
from edgekit.records import Array
from edgekit.training.losses import usual_loss
from edgekit.training.shrinking.graph import ChannelGraph
from edgekit.training.shrinking.walk import Weight

Inputs = Array | Mapping[str, Array]
"""Samples `[n, ...]` of a model's only input, or of each of its inputs by name."""

BATCH = 16
"""Samples per gradient; small, because gradients of one batch cancel before they are squared."""


def importances(
    model: Any,
    graph: ChannelGraph,
    criterion: Importance = "l2",
    *,
    data: tuple[Inputs, Array] | None = None,
) -> dict[int, float]:
    """Compute the importance of every channel that a layer computes.

    `l2`: L2 norm of the filter; Li et al., "Pruning filters for efficient ConvNets", arXiv
    1608.08710, section 3.1, with the L2 norm of section 4.4 there. `bn_scale`: size of the batch
    normalization's gamma; Liu et al., "Learning efficient convolutional networks through network
    slimming", arXiv 1708.06519, section 3. Channels that are not normalized fall back to `l2`.
    `taylor`: squared change of the loss, to first order, without the channel: `(g w)^2` of a gate
    on it, averaged over batches; Molchanov et al., "Importance estimation for neural network
    pruning", arXiv 1906.10771, equation (8). The gate stands after the batch normalization where
    there is one.

    All layers of a group of tied channels have equal weight: the values of a layer are divided by
        their mean before they are summed.

    Args:
        model: The model.
        graph: Its channels.
        criterion: How channels are ranked.
        data: `(x [n, ...], y [n, ...])` for `taylor`; x is a mapping by input name where there are
            several inputs.

    Raises:
        UsageError: `taylor` without data.
        DataError: The data does not fit the model or its loss.
    """
    made = [weight for weight in graph.weights if weight.made is not None]
    scales = [weight for weight in graph.weights if weight.role == "scale"]
    if criterion == "taylor":
        if data is None:
            raise UsageError(
                "Taylor importance is measured on samples.",
                hint="Give data=(x, y), or take l2 or bn_scale.",
            )
        figures = _taylor(model, graph, [*made, *scales], *data)
    else:
        figures = [_norms(weight) for weight in (*made, *scales)]
    sums = _added(made, figures[: len(made)])
    if criterion == "l2":
        return sums
    # All channels of a family are ranked by the same measure: tied channels share normalizations.
    return sums | _added(scales, figures[len(made) :])


def _norms(weight: Weight) -> Array:
    """Return the L2 norm of the weights of each channel."""
    values = np.asarray(weight.variable, np.float64)
    return np.asarray(np.sqrt(np.square(values).sum(axis=_others(weight))))


def _others(weight: Weight) -> tuple[int, ...]:
    kept = weight.made or 0
    return tuple(axis for axis in range(len(weight.variable.shape)) if axis != kept)


def _added(weights: list[Weight], figures: list[Array]) -> dict[int, float]:
    """Sum the values of each channel over the layers it belongs to, each divided by its mean."""
    sums: dict[int, float] = {}
    for weight, row in zip(weights, figures, strict=True):
        mean = float(row.mean()) or 1.0
        channels = weight.axes[weight.made or 0].tolist()
        for channel, figure in zip(channels, (row / mean).tolist(), strict=True):
            sums[channel] = sums.get(channel, 0.0) + figure
    return sums


def _taylor(
    model: Any, graph: ChannelGraph, gates: list[Weight], x: Inputs, y: Array
) -> list[Array]:
    """Return the squared derivative of the loss by a gate on each channel, averaged over batches.

    A channel is linear in its filter and bias, or in its gamma and beta: the derivative by a
    factor on it is the sum of `g w` over them.
    """
    import tensorflow as tf

    biases = {weight.layer: weight for weight in graph.weights if weight.role == "bias"}
    parts = [(gate, gate) for gate in gates]
    parts += [(gate, biases[gate.layer]) for gate in gates if gate.layer in biases]
    variables = [part.variable.value for _, part in parts]
    places = {id(gate): number for number, gate in enumerate(gates)}
    totals = [np.zeros(gate.variable.shape[gate.made or 0]) for gate in gates]
    loss_of = _loss(model, y)
    count = 0
    for inputs, targets in _batches(x, y):
        try:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                loss = tf.reduce_mean(loss_of(targets, model(inputs, training=False)))
        except Exception as error:
            raise DataError(
                f"The loss of {model.name!r} cannot be computed on these samples.",
                found=str(error).strip().splitlines()[0],
                hint="Compile the model with the loss it was trained with, or take l2.",
            ) from error
        gradients = tape.gradient(loss, variables)
        slopes = [np.zeros_like(total) for total in totals]
        for (gate, part), variable, gradient in zip(parts, variables, gradients, strict=True):
            if gradient is not None:
                product = np.asarray(gradient, np.float64) * np.asarray(variable)
                slopes[places[id(gate)]] += product.sum(axis=_others(part))
        totals = [total + slope**2 for total, slope in zip(totals, slopes, strict=True)]
        count += 1
    return [total / count for total in totals]


def _batches(x: Inputs, y: Array) -> Iterator[tuple[Inputs, Array]]:
    inputs = x if isinstance(x, Mapping) else {"x": x}
    for values in inputs.values():
        if not len(values) or len(values) != len(y):
            raise DataError(
                f"Taylor importance needs samples in pairs: {len(values)} x, {len(y)} y."
            )
    for start in range(0, len(y), BATCH):
        some = {name: values[start : start + BATCH] for name, values in inputs.items()}
        yield some if isinstance(x, Mapping) else some["x"], y[start : start + BATCH]


def _loss(model: Any, y: Array) -> Any:
    """Return the loss the model was compiled with, else the default for such targets."""
    import keras

    if model.compiled:
        return lambda targets, outputs: model.compute_loss(y=targets, y_pred=outputs)
    ends = getattr(model.layers[-1], "activation", None)
    softmax = ends is keras.activations.softmax
    if np.issubdtype(y.dtype, np.integer):
        task = SEGMENTATION if y.ndim > 2 else MULTI_LABEL if y.shape[1:] > (1,) else CLASSIFICATION
        return lambda targets, outputs: usual_loss(task.name, np.asarray(outputs))(targets, outputs)
    if softmax:
        return keras.losses.CategoricalCrossentropy()
    # [n] against [n, 1] would broadcast to [n, n]
    return lambda targets, outputs: keras.losses.MeanSquaredError()(
        np.reshape(targets, tuple(outputs.shape)), outputs
    )
