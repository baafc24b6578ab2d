"""Build a smaller model without some channels, or the same model with those channels at zero."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import ModelError, UsageError
from edgekit.records import Array
from edgekit.training.kernels import use_statistics
from edgekit.training.shrinking.graph import ChannelGraph, trace
from edgekit.training.shrinking.walk import Weight


def rebuild(model: Any, graph: ChannelGraph, cut: Collection[int]) -> Any:
    """Build the model without the channels `cut`: same layers, same names, fewer filters.

    Args:
        model: The model that `graph` was traced from; it is not changed.
        graph: Its channels.
        cut: Numbers of channels, none of which may be frozen.

    Raises:
        ModelError: A layer cannot be built from its configuration.
    """
    gone = _numbers(cut)

    def narrowed(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
        config = dict(config)
        for key, channels in graph.widths.get(id(layer), {}).items():
            width = int(np.count_nonzero(~np.isin(channels, gone)))
            if key in {"target_shape", "newshape"}:
                config[key] = (*config[key][:-1], width)
            else:
                config[key] = width
        return config

    def sliced(weight: Weight, values: Array) -> Array:
        for axis, channels in weight.axes.items():
            values = np.compress(~np.isin(channels, gone), values, axis=axis)
        return values

    def entered(nested: Any) -> list[int]:
        rows = graph.entries[id(nested)]
        return [int(np.count_nonzero(~np.isin(row, gone))) for row in rows]

    return _clone(model, graph, narrowed, sliced, entered)


def masked(model: Any, removed: Mapping[str, Array]) -> Any:
    """Build the same model with removed channels at zero, so that they contribute exactly nothing.

    Every weight that makes, reads or normalizes such a channel is zero; only a variance, which
    divides, keeps its value.

    Args:
        model: The model before it was shrunk; it is not changed.
        removed: As in `PruningResult`: path of a layer -> indices of the channels it loses.

    Raises:
        UsageError: `removed` names a layer or a channel that the model does not have.
        ModelError: As `trace`.
    """
    graph = trace(model)
    cut: set[int] = set()
    for path, indices in removed.items():
        channels = graph.outputs.get(path, np.empty(0, np.int64))
        if len(indices) and max(indices) >= len(channels):
            raise UsageError(
                f"{model.name!r} has no channel {max(indices)} in a layer {path!r}.",
                hint="Give the model that was shrunk, as it was before.",
            )
        cut.update(channels[np.asarray(indices, int)].tolist())
    gone = _numbers(cut)

    def zeroed(weight: Weight, values: Array) -> Array:
        if weight.role == "divisor":
            return values
        for axis, channels in weight.axes.items():
            shape = [1] * values.ndim
            shape[axis] = -1
            values = values * (~np.isin(channels, gone)).astype(values.dtype).reshape(shape)
        return values

    return _clone(
        model,
        graph,
        lambda _, config: config,
        zeroed,
        lambda nested: [len(row) for row in graph.entries[id(nested)]],
    )


def _numbers(cut: Collection[int]) -> Array:
    return np.fromiter(cut, np.int64, len(cut))


def _clone(
    model: Any,
    graph: ChannelGraph,
    configure: Callable[[Any, dict[str, Any]], dict[str, Any]],
    change: Callable[[Weight, Array], Array],
    entered: Callable[[Any], list[int]],
) -> Any:
    """Copy the model with changed layer configurations and weight values.

    `entered` holds the input widths of each nested model; Keras would keep the old ones.
    """
    import keras

    copies: dict[int, tuple[Any, Any]] = {}

    def copied(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer) and id(layer) not in graph.widths:
            return layer  # an operation of keras.ops, which has no state
        if id(layer) not in copies:
            copies[id(layer)] = (layer, made(layer))
        return copies[id(layer)][1]

    def made(layer: Any) -> Any:
        if id(layer) in graph.entries:
            inputs = _inputs(layer, entered(layer))
            return keras.models.clone_model(layer, inputs, clone_function=copied)
        try:
            return type(layer).from_config(configure(layer, layer.get_config()))
        except Exception as error:
            raise ModelError(
                f"{graph.layers.get(id(layer), layer.name)} ({type(layer).__name__}) cannot be "
                "built again from its configuration.",
                found=str(error).strip().splitlines()[0],
                hint="Make the layer's get_config and from_config consistent.",
            ) from error

    inputs = None  # a sequential model clones its input layer itself, under its name
    if not isinstance(model, keras.Sequential):
        inputs = _inputs(model, [tensor.shape[-1] for tensor in model.inputs])
    clone = keras.models.clone_model(model, inputs, clone_function=copied)
    records = {id(weight.variable): weight for weight in graph.weights}
    for layer, copy in copies.values():
        if id(layer) not in graph.entries and isinstance(layer, keras.layers.Layer):
            for old, new in zip(layer.weights, copy.weights, strict=True):
                new.assign(change(records[id(old)], np.asarray(old)))
    use_statistics(clone)
    return clone


def _inputs(model: Any, widths: Sequence[int | None]) -> Any:
    """Create inputs with the names of the old ones; Keras would use the names of their tensors.

    Args:
        model: A functional or sequential model.
        widths: Length of each input's last axis.
    """
    import keras

    names = {
        id(layer.output): layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.InputLayer)
    }
    fresh = [
        keras.Input(
            batch_shape=(*tensor.shape[:-1], width),
            dtype=tensor.dtype,
            name=names.get(id(tensor), tensor.name),
        )
        for tensor, width in zip(model.inputs, widths, strict=True)
    ]
    structure = model.inputs if isinstance(model, keras.Sequential) else model.input
    return keras.tree.pack_sequence_as(structure, fresh)
