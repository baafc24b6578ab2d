"""Insert fake quantization into a model, and remove it after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.errors import ModelError, UsageError
from edgekit.records import Ranges
from edgekit.training.kernels import excluded
from edgekit.training.qat.fold import fold
from edgekit.training.qat.graph import Graph, Step, build, record
from edgekit.training.qat.insertion import insert
from edgekit.training.qat.layer_rules import (
    CLIPPING,
    LINEAR,
    activation_of,
    fixed_range,
    is_transparent,
    kind_of,
    why_not,
)

# Batch size of the observation, as in training.
_BATCH = 32


def prepare(
    model: Any,
    *,
    weight_bits: int = 8,
    data: Any = None,
    palettes: Mapping[str, int] | None = None,
    exclude: Sequence[str] = (),
) -> Any:
    """Make a model that is trained with the rounding of its int8 file.

    Batch normalization is folded. Kernels are rounded per channel. Activations are rounded where
        the TFLite graph has tensors: after the fused activation, and once for all tensors that
    must share a scale. An output that is a softmax, sigmoid or tanh is not rounded, because the
        loss needs its full resolution: the file rounds probabilities to 1/256.

    Args:
        model: A functional or Sequential Keras 3 model, trained; it is not changed.
        weight_bits: 8, or 4 for convolutions and dense layers (depthwise ones keep 8).
        data: Samples that initialize the ranges, in the model's own input structure. With None the
            first training batch initializes them.
        palettes: Layer -> largest number of distinct codes of its weights, from 4; for 8 bits
            (`clustering.palettes_of` returns them for a clustered model).
        exclude: Names, or regular expressions for whole names, of layers whose weights remain
            float, or of models they are part of.

    Returns:
        A functional model, not compiled.

    Raises:
        ModelError: A layer has no quantized form here; all such layers are named.
        UsageError: `weight_bits` is neither 8 nor 4, or an exclusion matches no layer.
    """
    if weight_bits not in (8, 4):
        raise UsageError(f"weight_bits must be 8 or 4, not {weight_bits}.")
    graph = fold(record(model))
    _check(graph)
    float_layers = excluded(model, exclude)
    prepared = build(insert(_split(graph), weight_bits, palettes or {}, float_layers))
    _start(prepared, data)
    return prepared


def without_normalization(model: Any) -> Any:
    """Return the same model with batch normalization folded, as lowering folds it.

    Args:
        model: A functional or Sequential Keras 3 model; it is not changed.

    Raises:
        ModelError: It has no graph of layers, or a normalization that cannot be folded.
    """
    return build(fold(record(model)))


def finish(model: Any) -> tuple[Any, Ranges]:
    """Remove the fake quantization.

    Args:
        model: A model that `prepare` made, trained.

    Returns:
        A plain functional model with its kernels on the integer grid, and the trained range of
        every layer's output, by layer name (`tensor_ranges` maps them to a lowered graph).

    Raises:
        ModelError: The model has no fake quantization, or its ranges were never set.
    """
    from edgekit.training.qat.layers import FakeQuantize, QuantizedWeights

    graph = record(model)
    ends = _ranges_of(graph)
    alias: dict[int, int] = {}
    steps = []
    for step in graph.steps:
        inputs = tuple(alias.get(value, value) for value in step.inputs)
        if isinstance(step.layer, FakeQuantize):
            alias[step.output] = inputs[0]
        elif isinstance(step.layer, QuantizedWeights):
            codes, scales = step.layer.grid()
            layer = step.layer.layer
            layer.set_weights([(codes * scales).astype(np.float32), *layer.get_weights()[1:]])
            steps.append(replace(step, layer=layer, inputs=inputs))
        else:
            steps.append(replace(step, inputs=inputs))
    outputs = tuple(alias.get(value, value) for value in graph.outputs)
    plain = build(replace(graph, steps=tuple(steps), outputs=outputs))
    names = dict(enumerate(tensor.name for tensor in graph.inputs))
    names.update({step.output: step.layer.name for step in steps})
    return plain, Ranges(
        method="trained",
        low={name: ends[value][0] for value, name in names.items()},
        high={name: ends[value][1] for value, name in names.items()},
        n=0,
    )


def left_in_float(prepared: Any) -> list[str]:
    """Return the layers of a prepared model whose weights are not rounded.

    `finish` keeps their names; a rule per layer keeps them float in the file.
    """
    return [layer.name for layer in prepared.layers if kind_of(layer) == "weighted"]


def _check(graph: Graph) -> None:
    refused = [
        f"{step.layer.name} ({type(step.layer).__name__}): {reason}"
        for step in graph.steps
        if (reason := why_not(step.layer, len(step.inputs)))
    ]
    if refused:
        raise ModelError(
            f"{graph.name} cannot be trained for quantization.",
            found=f"{'; '.join(refused)}.",
            hint="Replace these layers, or quantize after training.",
        )


def _split(graph: Graph) -> Graph:
    """Split off activations that do more than clip: TFLite has separate operators for them.

    The layer of an output keeps its name, by which compiled losses are matched.
    """
    import keras

    steps: list[Step] = []
    shapes = dict(graph.shapes)
    for step in graph.steps:
        if kind_of(step.layer) != "weighted" or activation_of(step.layer) in CLIPPING:
            steps.append(step)
            continue
        name, activation = step.layer.name, activation_of(step.layer)
        last = step.output in graph.outputs
        config = {**step.layer.get_config(), "activation": "linear"}
        linear = type(step.layer).from_config(
            {**config, "name": f"{name}{LINEAR}" if last else name}
        )
        linear.build(shapes[step.inputs[0]])
        linear.set_weights(step.layer.get_weights())
        after = keras.layers.Activation(activation, name=name if last else f"{name}_{activation}")
        between = len(shapes)
        shapes[between] = shapes[step.output]
        steps.append(replace(step, layer=linear, output=between))
        steps.append(Step(after, (between,), step.output, {}))
    return replace(graph, steps=tuple(steps), shapes=shapes)


def _start(prepared: Any, data: Any) -> None:
    """Initialize the ranges with the mean of the batches' extremes."""
    import keras

    from edgekit.training.qat.layers import FakeQuantize

    if data is None:
        return
    graph = record(prepared)
    # Identity copies, whose inputs are the observed values.
    observed = [
        (step.layer.name, step.inputs[0])
        for step in graph.steps
        if isinstance(step.layer, FakeQuantize)
        and step.layer.fixed is None
        and not step.options.get("follow")
    ]
    probe = build(replace(graph, outputs=tuple(value for _, value in observed)))
    n = len(keras.tree.flatten(data)[0])
    found: list[list[tuple[float, float]]] = []
    for start in range(0, n, _BATCH):
        batch = keras.tree.map_structure(lambda a, s=start: np.asarray(a[s : s + _BATCH]), data)
        values = probe(batch, training=False)
        arrays = [np.asarray(v) for v in keras.tree.flatten(values)]
        found.append([(float(a.min()), float(a.max())) for a in arrays])
    # [observed ranges, 2]
    ends = np.mean(np.asarray(found), axis=0)
    for (name, _), (low, high) in zip(observed, ends, strict=True):
        prepared.get_layer(name).observe(low, high)


def _ranges_of(graph: Graph) -> dict[int, tuple[float, float]]:
    """Return the range of every value of a graph with fake quantization."""
    from edgekit.training.qat.layers import FakeQuantize

    found: dict[int, tuple[float, float]] = {}
    for step in graph.steps:
        if isinstance(step.layer, FakeQuantize):
            if not float(step.layer.seen):
                raise ModelError(
                    f"The range {step.layer.name} was never set.",
                    hint="Train the model first, or give prepare some data.",
                )
            found[step.output] = step.layer.range
        elif is_transparent(step.layer) and step.inputs[0] in found:
            found[step.output] = found[step.inputs[0]]
        elif kind_of(step.layer) == "fixed":
            found[step.output] = fixed_range(step.layer)
    if not any(isinstance(step.layer, FakeQuantize) for step in graph.steps):
        raise ModelError(
            f"{graph.name} has no fake quantization.", hint="Give the model that prepare returned."
        )
    # A value that is rounded later has the range of its rounded value.
    values = [*range(len(graph.inputs)), *(step.output for step in graph.steps)]
    for value in reversed(values):
        if value not in found:
            found[value] = found[graph.consumers(value)[0].output]
    return found
