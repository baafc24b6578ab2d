"""Insert fake quantization into a model, and remove it after training."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from edgekit.errors import ModelError, UsageError
from edgekit.records import Ranges
from edgekit.training.kernels import excluded_layers
from edgekit.training.qat.expansion import expand
from edgekit.training.qat.fold import fold
from edgekit.training.qat.graph import Graph, Step, build, record
from edgekit.training.qat.insertion import has_masks, insert
from edgekit.training.qat.layer_rules import (
    KINDS,
    PREPARING,
    QUANTIZED,
    REWRITTEN,
    WRAPPED,
    fixed_range,
    is_transparent,
    kind_of,
)
from edgekit.training.qat.parts import BIAS

FUSED: Final = "fused"
"""What `left_in_float` says of a clipping that is part of the operator before it."""
MASKED: Final = " with a mask"
"""What `left_in_float` adds to the class of a layer that has no quantized form with a mask."""
_MASKED = ("MultiHeadAttention", "LSTM", "GRU")
# Operations that make masks: their values are no numbers, so they are nothing in float.
_LOGICAL = ("Any", "All", "Equal", "NotEqual", "LogicalAnd", "LogicalNot", "LogicalOr")
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
    the TFLite graph has tensors: after the fused activation, and once for all tensors that must
    share a scale. An output that is a softmax, sigmoid or tanh is not rounded, because the loss
    needs its full resolution: the file rounds probabilities to 1/256. A layer without a quantized
    form (`layer_rules.KINDS`) computes in float, and nothing is rounded between two of them.

    Args:
        model: A functional or Sequential Keras 3 model, trained; it is not changed.
        weight_bits: 8, or 4 for convolutions and dense layers (depthwise ones keep 8).
        data: Samples that initialize the ranges, in the model's own input structure. With None the
            first training batch initializes them.
        palettes: Kernel -> largest number of distinct codes of its weights, from 4; for 8 bits.
            None takes those of kernels that have few distinct weights (`clustering.palettes_of`).
        exclude: Names, or regular expressions for whole names, of layers that remain float, or of
            models they are part of.

    Returns:
        A functional model, not compiled.

    Raises:
        ModelError: No layer with weights has a quantized form, or the model has no graph.
        UsageError: `weight_bits` is neither 8 nor 4, or an exclusion matches no layer.
    """
    from edgekit.training.clustering import palettes_of
    from edgekit.training.qat.layers import QuantizedWeights

    if weight_bits not in (8, 4):
        raise UsageError(f"weight_bits must be 8 or 4, not {weight_bits}.")
    kept = excluded_layers(model, exclude)
    recorded = record(model)
    if palettes is None:
        palettes = palettes_of(recorded)
    graph = expand(fold(recorded, for_integers=True), kept)
    inserted = insert(graph, weight_bits, palettes, kept)
    if not any(isinstance(step.layer, QuantizedWeights) for step in inserted.steps):
        names = sorted({type(s.layer).__name__ for s in graph.steps if kind_of(s.layer) is None})
        raise ModelError(
            f"{model.name} has no layer that can be trained for quantization.",
            found=f"Without a quantized form: {', '.join(names)}." if names else None,
            hint="Exclude fewer layers." if kept else "Quantize it as it is: edgekit quantize.",
        )
    prepared = build(inserted)
    _start(prepared, data)
    return prepared


def without_normalization(model: Any) -> Any:
    """Return the same model with batch normalization folded, as lowering folds it.

    Args:
        model: A functional or Sequential Keras 3 model; it is not changed.

    Raises:
        ModelError: It has no graph of layers.
    """
    return build(fold(record(model)))


def finish(model: Any) -> tuple[Any, Ranges]:
    """Remove the fake quantization.

    Args:
        model: A model that `prepare` made, trained.

    Returns:
        A plain functional model with its kernels on the integer grid, and the trained range of
        every layer's output, by layer name, and of what operations on tensors computed, as
        `layer/position` of the layers that take it (`place` maps them to a lowered graph).

    Raises:
        ModelError: The model has no fake quantization, or its ranges were never set.
    """
    import keras

    from edgekit.training.qat.layers import FakeQuantize, QuantizedWeights

    graph = record(model)
    composed = composed_classes()
    ends = _ranges_of(graph)
    alias: dict[int, int] = {}
    steps: list[Step] = []
    for step in graph.steps:
        inputs = tuple(alias.get(value, value) for value in step.inputs)
        if isinstance(step.layer, FakeQuantize):
            alias[step.output] = inputs[0]
        elif isinstance(step.layer, composed):
            steps.append(replace(step, layer=step.layer.finished(), inputs=inputs))
        elif isinstance(step.layer, QuantizedWeights):
            codes, scales = step.layer.grid()
            layer = step.layer.layer
            layer.set_weights([(codes * scales).astype(np.float32), *layer.get_weights()[1:]])
            steps.append(replace(step, layer=layer, inputs=inputs))
        else:
            steps.append(replace(step, inputs=inputs))
    outputs = tuple(alias.get(value, value) for value in graph.outputs)
    # The tensors of two calls have different ranges, which are known by the names of layers.
    names = _names_of_calls(steps)
    plain = build(replace(graph, steps=tuple(steps), outputs=outputs), names)
    named = dict(enumerate(tensor.name for tensor in graph.inputs))
    named.update(zip((step.output for step in steps), names, strict=True))
    known = {name: ends[value] for value, name in named.items() if value in ends}
    rounded = (s for s in graph.steps if not isinstance(s.layer, FakeQuantize))
    for step, name in zip(rounded, names, strict=True):
        if isinstance(step.layer, composed):
            known |= {f"{name}/{part}": ends for part, ends in _parts_of(step.layer).items()}
    for step, name in zip(steps, names, strict=True):
        if name in known and type(step.layer) is keras.layers.Dense and step.layer.use_bias:
            bias = np.asarray(step.layer.bias)
            known[f"{name}/{BIAS}"] = float(bias.min()), float(bias.max())
    unnamed = {s.output for s in steps if not isinstance(s.layer, keras.layers.Layer)}
    for step, name in zip(steps, names, strict=True):
        for position, value in enumerate(step.inputs):
            if value in unnamed and value in ends:
                known[f"{name}/{position}"] = ends[value]
    return plain, Ranges(
        method="trained",
        low={name: low for name, (low, _) in known.items()},
        high={name: high for name, (_, high) in known.items()},
        n=0,
    )


def composed_classes() -> tuple[Any, ...]:
    """Return the classes of layers of several operators."""
    from edgekit.training.qat.layers import register

    return tuple(register()[name] for name in KINDS["composed"])


def unrounded_layers(prepared: Any) -> list[Any]:
    """Return the layers of a prepared model whose weights are not rounded."""
    from edgekit.training.qat.layers import QuantizedWeights

    rounded = (QuantizedWeights, *composed_classes())
    return [layer for layer in prepared.layers if not isinstance(layer, rounded)]


def _parts_of(layer: Any) -> dict[str, tuple[float, float]]:
    """Return the range of every part of a layer of several operators that was computed."""
    return {name: part.range for name, part in layer.ranges.items() if float(part.seen)}


def _names_of_calls(steps: Sequence[Step]) -> list[str]:
    """Return a name for every call of a layer; the first call has the name of the layer."""
    known = {step.layer.name for step in steps}
    called: dict[int, int] = {}
    names = []
    for step in steps:
        name = step.layer.name
        called[id(step.layer)] = number = called.get(id(step.layer), 0) + 1
        if number > 1:
            name = f"{name}_call{number}"
            while name in known:
                name += "_"
            known.add(name)
        names.append(name)
    return names


def left_in_float(prepared: Any) -> dict[str, str]:
    """Return the layers of a prepared model that compute in float, and their classes.

    `finish` keeps their names; they remain float in the file, too. A clipping after one of them,
    which the converter fuses into it, is of class `FUSED`; attention, an LSTM or a GRU that is left
    for its mask has `MASKED` after its class.
    """
    from edgekit.training.qat.layers import FakeQuantize, QuantizedWeights

    graph = record(prepared)
    found: dict[str, str] = {}
    floats: set[int] = set()
    rounded = (FakeQuantize, QuantizedWeights, *composed_classes())
    for step in graph.steps:
        if isinstance(step.layer, rounded):
            continue
        passing = any(
            isinstance(taker.layer, FakeQuantize) and taker.layer.passing
            for taker in graph.consumers(step.output)
        )
        if kind_of(step.layer) in (None, *WRAPPED) or passing:
            kind = type(step.layer).__name__
            given = {key for key in step.options if key.endswith("mask")} - {"use_causal_mask"}
            masked = kind in _MASKED and bool(given or has_masks(graph))
            found[step.layer.name] = kind + MASKED * masked
            floats |= set(step.outputs)
        elif (
            kind_of(step.layer) == "selecting"
            and not is_transparent(step.layer)
            and step.inputs[0] in floats
            and graph.only_consumer(step.inputs[0]) is step
        ):
            found[step.layer.name] = FUSED
    return found


def why_in_float(
    left: Mapping[str, str], excluded: Collection[str]
) -> tuple[list[str], list[str], list[str]]:
    """Tell apart the layers that `left_in_float` returned.

    Args:
        left: What it returned.
        excluded: Names of excluded layers; those of layers without a quantized form do not count.

    Returns:
        Names of the layers that have a quantized form, and were excluded; of those that prepare an
        input; and of those without a quantized form, followed by their classes.
    """
    chosen, preparing, islands = [], [], []
    for name, kind in left.items():
        if kind in (FUSED, *_LOGICAL):
            continue
        if kind in PREPARING:
            preparing.append(name)
        elif re.sub(r"_call\d+_*$", "", name) in excluded and kind in (*QUANTIZED, *REWRITTEN):
            chosen.append(name)
        else:
            islands.append(f"{name} ({kind})")
    return chosen, preparing, islands


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
    # Parts of layers are observed in the layers.
    composed = [s for s in graph.steps if isinstance(s.layer, composed_classes())]
    ends_of = (*(value for _, value in observed), *(step.output for step in composed))
    probe = build(replace(graph, outputs=ends_of))
    parts: dict[tuple[str, str], list[tuple[float, float]]] = {}
    n = len(keras.tree.flatten(data)[0])
    found: list[list[tuple[float, float]]] = []
    for start in range(0, n, _BATCH):
        batch = keras.tree.map_structure(lambda a, s=start: np.asarray(a[s : s + _BATCH]), data)
        for step in composed:
            probe.get_layer(step.layer.name).observed = {}
        values = probe(batch, training=False)
        arrays = [np.asarray(v) for v in keras.tree.flatten(values)][: len(observed)]
        for step in composed:
            for part, seen in probe.get_layer(step.layer.name).observed.items():
                parts.setdefault((step.layer.name, part), []).append(tuple(seen))
        found.append([(float(a.min()), float(a.max())) for a in arrays])
    # [observed ranges, 2]
    ends = np.mean(np.asarray(found), axis=0)
    for (name, _), (low, high) in zip(observed, ends, strict=True):
        prepared.get_layer(name).observe(low, high)
    for (name, part), pairs in parts.items():
        if (layer := prepared.get_layer(name).ranges[part]).fixed is None:
            layer.observe(*np.mean(np.asarray(pairs), axis=0))


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
        elif "outputs" in getattr(step.layer, "parts", ()):
            found[step.output] = step.layer.ranges["outputs"].range
        elif is_transparent(step.layer) and step.inputs[0] in found:
            found[step.output] = found[step.inputs[0]]
        elif kind_of(step.layer) == "fixed":
            found[step.output] = fixed_range(step.layer)
    if not any(isinstance(step.layer, FakeQuantize) for step in graph.steps):
        raise ModelError(
            f"{graph.name} has no fake quantization.", hint="Give the model that prepare returned."
        )
    # A value that is rounded later has the range of its rounded value.
    values = [*range(len(graph.inputs)), *(v for step in graph.steps for v in step.outputs)]
    for value in reversed(values):
        takers = graph.consumers(value)
        takers.sort(key=lambda step: not isinstance(step.layer, FakeQuantize))
        for step in takers:
            shares = kind_of(step.layer) in ("selecting", "joining")
            rounds = isinstance(step.layer, FakeQuantize)
            if value not in found and (rounds or shares) and step.output in found:
                found[value] = found[step.output]
    return found
