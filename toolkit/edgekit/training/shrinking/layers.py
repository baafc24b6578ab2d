"""Rules, one per kind of Keras layer, that map input channels to output channels.

Channels are not traced through any other kind of layer: none of its input and output channels is
removed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.errors import ModelError
from edgekit.records import Array
from edgekit.training.shrinking.attention import attention
from edgekit.training.shrinking.walk import Role, Walk, Weight

# Layers that process each channel separately and keep the channels on the last axis.
_CHANNELWISE = {
    *("ReLU", "LeakyReLU", "ELU", "Identity", "ActivityRegularization"),
    *("Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout"),
    *(f"SpatialDropout{rank}D" for rank in (1, 2, 3)),
    *(
        f"{kind}{rank}D"
        for rank in (1, 2, 3)
        for kind in (
            *("MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling"),
            *("ZeroPadding", "Cropping", "UpSampling"),
        )
    ),
    # operations of keras.ops
    *("Relu", "Relu6", "Sigmoid", "Silu", "HardSigmoid", "HardSilu", "Gelu", "Elu", "Tanh"),
}
_ELEMENTWISE = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"}
_ACTIVATIONS = {
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("sigmoid", "hard_sigmoid", "log_sigmoid", "hard_silu", "tanh", "hard_tanh", "softplus"),
    *("softsign", "exponential"),
}
_CONVOLUTIONS = {f"Conv{rank}D" for rank in (1, 2, 3)}
_TRANSPOSED = {f"Conv{rank}DTranspose" for rank in (1, 2, 3)}
_DEPTHWISE = {"DepthwiseConv1D", "DepthwiseConv2D"}
_SEPARABLE = {"SeparableConv1D", "SeparableConv2D"}


def follow(walk: Walk, model: Any, incoming: list[Array], *, prefix: str) -> list[Array]:
    """Return the channels of a model's outputs, given those of its inputs.

    Args:
        walk: The state that the rules update.
        model: A functional or sequential model.
        incoming: Channels of each input.
        prefix: Path of a nested model, with a slash at its end.
    """
    import keras

    graph = keras.Model(model.inputs, model.outputs)
    tensors = {id(tensor): row for tensor, row in zip(graph.inputs, incoming, strict=True)}
    by_depth = graph._nodes_by_depth  # noqa: SLF001 - the order of calls has no public name
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            if node.is_input:
                continue
            rows = [tensors[id(tensor)] for tensor in node.input_tensors]
            outgoing = _through(walk, node, rows, prefix + node.operation.name)
            for tensor, row in zip(node.output_tensors, outgoing, strict=True):
                tensors[id(tensor)] = row
    return [tensors[id(tensor)] for tensor in graph.outputs]


def _through(walk: Walk, node: Any, rows: list[Array], path: str) -> list[Array]:
    """Return the output channels of one layer call."""
    import keras

    operation = node.operation
    walk.layers[id(operation)] = path
    for tensor in (*node.input_tensors, *node.output_tensors):
        if None in tensor.shape[1:]:
            raise ModelError(
                f"{path} works on an axis without a fixed length.",
                found=f"Its shape is {tuple(tensor.shape)}.",
                hint="Build the model with a fixed input shape, as the device needs it anyway.",
            )
    if isinstance(operation, keras.Model) and (
        isinstance(operation, keras.Sequential) or hasattr(operation, "operations")
    ):
        for first, row in zip(walk.entries.setdefault(id(operation), (*rows,)), rows, strict=True):
            walk.tie(first, row)
        return follow(walk, operation, rows, prefix=f"{path}/")
    outgoing = _known(walk, node, rows, path)
    if outgoing is not None:
        return [outgoing]
    name = f"{path} ({type(operation).__name__})"
    for row in rows:
        walk.freeze(row, f"is read by {name}, which is not supported")
    for variable in getattr(operation, "weights", ()):
        walk.add(Weight(layer=path, variable=variable, role="other", axes={}))
    made = []
    for tensor in node.output_tensors:
        made.append(walk.make(tensor.shape[-1] if len(tensor.shape) > 1 else 1))
        walk.freeze(made[-1], f"is tied to the output of {name}, which is not supported")
    return made


def _known(walk: Walk, node: Any, rows: list[Array], path: str) -> Array | None:
    """Return the output channels of a supported kind of layer, else None."""
    operation = node.operation
    kind = type(operation).__name__
    if (
        not type(operation).__module__.startswith("keras.")
        or getattr(operation, "data_format", None) == "channels_first"
        or not rows
        or len(node.output_tensors) != 1
    ):
        return None
    if kind == "MultiHeadAttention":
        return attention(walk, node, rows, path)
    if kind in _WEIGHTED:
        return _weighted(walk, node, rows[0], path)
    if kind in _CHANNELWISE or (kind == "Activation" and _elementwise(operation.activation)):
        return rows[0]
    if kind in _ELEMENTWISE:
        return _merged(walk, node, rows)
    if kind == "Concatenate":
        return _concatenated(walk, node, rows)
    if kind in {"Reshape", "Flatten"}:
        return _reshaped(walk, node, rows[0])
    if kind in {"Mean", "Max"}:
        rank = len(node.input_tensors[0].shape)
        axes = {int(axis) % rank for axis in np.atleast_1d(operation.axis or 0)}
        return None if axes & {0, rank - 1} else rows[0]
    return None


def _elementwise(activation: Any) -> bool:
    import keras

    return keras.activations.serialize(activation) in _ACTIVATIONS


def _merged(walk: Walk, node: Any, rows: list[Array]) -> Array | None:
    """Merge channels of elementwise operands; an operand of width 1 broadcasts to all channels."""
    import keras

    arguments = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    tensors = {id(tensor) for tensor in node.input_tensors}
    if any(np.ndim(value) for value in arguments if id(value) not in tensors):
        return None  # a constant per channel
    ranks = {len(tensor.shape) for tensor in node.input_tensors}
    if len(ranks) > 1 or min(ranks) == 1:
        return None
    width = max(map(len, rows))
    wide = [row for row in rows if len(row) == width]
    for row in wide[1:]:
        walk.tie(wide[0], row)
    return wide[0]


def _concatenated(walk: Walk, node: Any, rows: list[Array]) -> Array | None:
    rank = len(node.output_tensors[0].shape)
    if node.operation.axis % rank == rank - 1:
        return np.concatenate(rows)
    for row in rows[1:]:
        walk.tie(rows[0], row)
    return rows[0]


def _reshaped(walk: Walk, node: Any, row: Array) -> Array | None:
    """Flatten the channels of all positions and regroup them into rows of the new shape."""
    before, after = node.input_tensors[0].shape[1:], node.output_tensors[0].shape[1:]
    if not before or not after:
        return None
    flat = np.tile(row, math.prod(before[:-1]))
    table = flat.reshape(-1, after[-1])
    for other in table[1:]:
        if not np.array_equal(table[0], other):
            walk.tie(table[0], other)
    out: Array = table[0]
    if type(node.operation).__name__ == "Reshape":
        # That of keras.ops.reshape, which is no layer, counts the batch too.
        key = "target_shape" if hasattr(node.operation, "target_shape") else "newshape"
        if key == "newshape" and not _keeps_batch(node):
            return None
        walk.widths[id(node.operation)] = {key: out}
    return out


def _keeps_batch(node: Any) -> bool:
    """Whether a call of keras.ops.reshape only reshapes samples, at most one size being open."""
    shape = getattr(node.operation, "newshape", None)
    after = node.output_tensors[0].shape
    return (
        isinstance(shape, list | tuple)
        and len(shape) == len(after)
        and after[0] == node.input_tensors[0].shape[0]
        and None not in after[1:]
    )


def _weighted(walk: Walk, node: Any, row: Array, path: str) -> Array | None:
    """Return the output channels of a layer with weights, the same at every call."""
    layer = node.operation
    positions = math.prod(node.output_tensors[0].shape[1:-1])
    if type(layer).__name__ in _TRANSPOSED:
        positions = math.prod(node.input_tensors[0].shape[1:-1])
    described: _Described = _WEIGHTED[type(layer).__name__](walk, layer, row)
    if described is None:
        return None
    out, roles = described
    variables = [(getattr(layer, name), *rest) for name, *rest in roles]
    variables = [item for item in variables if item[0] is not None]
    # adapters (LoRA) and quantized kernels add variables
    if {id(item[0]) for item in variables} != {id(variable) for variable in layer.weights}:
        return None
    for variable, role, axes, made in variables:
        macs = positions if role in {"kernel", "filters"} else 0
        walk.add(Weight(layer=path, variable=variable, role=role, axes=axes, made=made, macs=macs))
    first_in, first_out = walk.calls.setdefault(id(layer), (row, out))
    walk.tie(first_in, row)
    walk.outputs[path] = first_out
    if made_key := _WIDTH_KEYS.get(type(layer).__name__):
        walk.widths[id(layer)] = {made_key: first_out}
        if _is_depthwise(layer):
            walk.widths[id(layer)]["groups"] = first_in
    activation = getattr(layer, "activation", None)
    if activation is not None and not _elementwise(activation):
        walk.freeze(first_out, f"passes the activation of {path}, which mixes channels")
    return first_out


# (output channels, (variable, role, channels along its axes, axis of new channels)...)
_Roles = list[tuple[str, Role, dict[int, Array], int | None]]
_Described = tuple[Array, _Roles] | None


def _convolution(walk: Walk, layer: Any, row: Array) -> _Described:
    out = walk.make(layer.filters)
    last = len(layer.kernel.shape) - 1
    axes = {last - 1: row, last: out}
    if _is_depthwise(layer):
        # The channel of a group goes with the filters that read it.
        out = np.repeat(row, layer.filters // layer.groups)
        return out, [("kernel", "kernel", {last: out}, None), ("bias", "bias", {0: out}, None)]
    if layer.groups > 1:
        # Groups stay of one size: a channel goes with those at its place in the other groups.
        for channels in (row, out):
            table = channels.reshape(layer.groups, -1)
            for other in table[1:]:
                walk.tie(table[0], other)
        axes = {last - 1: row[: len(row) // layer.groups], last: out}
    return out, [("kernel", "filters", axes, last), ("bias", "bias", {0: out}, None)]


def _is_depthwise(layer: Any) -> bool:
    """Whether each group of a convolution reads one channel, as in a depthwise one."""
    return getattr(layer, "groups", 1) > 1 and layer.kernel.shape[-2] == 1


def _transposed(walk: Walk, layer: Any, row: Array) -> _Described:
    """Return the record of a kernel `[..., out, in]`."""
    out = walk.make(layer.filters)
    last = len(layer.kernel.shape) - 1
    axes = {last - 1: out, last: row}
    return out, [("kernel", "filters", axes, last - 1), ("bias", "bias", {0: out}, None)]


def _depthwise(_: Walk, layer: Any, row: Array) -> _Described:
    """Return the record of a kernel `[..., in, m]`: output channel `i * m + j` reads input `i`."""
    out = np.repeat(row, layer.depth_multiplier)
    axes = {len(layer.kernel.shape) - 2: row}
    return out, [("kernel", "kernel", axes, None), ("bias", "bias", {0: out}, None)]


def _separable(walk: Walk, layer: Any, row: Array) -> _Described:
    out = walk.make(layer.filters)
    last = len(layer.pointwise_kernel.shape) - 1
    between = np.repeat(row, layer.depth_multiplier)
    return out, [
        ("depthwise_kernel", "kernel", {last - 1: row}, None),
        ("pointwise_kernel", "filters", {last - 1: between, last: out}, last),
        ("bias", "bias", {0: out}, None),
    ]


def _dense(walk: Walk, layer: Any, row: Array) -> _Described:
    out = walk.make(layer.units)
    return out, [("kernel", "filters", {0: row, 1: out}, 1), ("bias", "bias", {0: out}, None)]


def _batch_normalization(_: Walk, layer: Any, row: Array) -> _Described:
    shape = (layer.gamma if layer.scale else layer.moving_mean).shape
    if layer.axis not in {-1, layer.input_spec.ndim - 1} or len(shape) != 1:
        return None
    return row, [
        ("gamma", "scale", {0: row}, None),
        ("beta", "bias", {0: row}, None),
        ("moving_mean", "other", {0: row}, None),
        ("moving_variance", "divisor", {0: row}, None),
    ]


def _prelu(_: Walk, layer: Any, row: Array) -> _Described:
    last = len(layer.alpha.shape) - 1
    axes = {last: row} if layer.alpha.shape[-1] == len(row) else {}
    return row, [("alpha", "other", axes, None)]


_WEIGHTED = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_TRANSPOSED, _transposed),
    **dict.fromkeys(_DEPTHWISE, _depthwise),
    **dict.fromkeys(_SEPARABLE, _separable),
    "Dense": _dense,
    "BatchNormalization": _batch_normalization,
    "PReLU": _prelu,
}
_WIDTH_KEYS = {
    **dict.fromkeys((*_CONVOLUTIONS, *_TRANSPOSED, *_SEPARABLE), "filters"),
    "Dense": "units",
}
