"""A smaller model without some channels, or the same model with those channels at zero."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from edgekit.errors import ModelError, UsageError
from edgekit.records import Array
from edgekit.training.shrinking.graph import ChannelGraph, Weight, trace


def rebuild(model: Any, graph: ChannelGraph, cut: Collection[int]) -> Any:
    """The model without the channels `cut`: same layers, same names, fewer filters.

    Args:
        model: The model that `graph` was traced from; it is left as it is.
        graph: Its channels.
        cut: Numbers of channels, none of which may be frozen.

    Raises:
        ModelError: A layer cannot be built from its configuration.
    """
    gone = _numbers(cut)

    def narrowed(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
        if id(layer) not in graph.widths:
            return config
        key, channels = graph.widths[id(layer)]
        width = int(np.count_nonzero(~np.isin(channels, gone)))
        if key == "target_shape":
            return {**config, key: (*config[key][:-1], width)}
        return {**config, key: width}

    def sliced(weight: Weight, values: Array) -> Array:
        for axis, channels in weight.axes.items():
            values = np.compress(~np.isin(channels, gone), values, axis=axis)
        return values

    return _clone(model, graph, narrowed, sliced)


def masked(model: Any, removed: Mapping[str, Array]) -> Any:
    """The same model with removed channels at zero, so that they contribute exactly nothing.

    Every weight that makes, reads or normalizes such a channel is zero; only a variance, which
    divides, keeps its value.

    Args:
        model: The model before it was shrunk; it is left as it is.
        removed: As in `Shrunk`: path of a layer -> indices of the channels it no longer puts out.

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
                cure="Give the model that was shrunk, as it was before.",
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

    return _clone(model, graph, lambda _, config: config, zeroed)


def _numbers(cut: Collection[int]) -> Array:
    return np.fromiter(cut, np.int64, len(cut))


def _clone(
    model: Any,
    graph: ChannelGraph,
    configure: Callable[[Any, dict[str, Any]], dict[str, Any]],
    change: Callable[[Weight, Array], Array],
) -> Any:
    """A copy of the model with other configurations and other values of the weights."""
    import keras

    copies: list[tuple[Any, Any]] = []

    def copied(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):
            return layer  # of keras.ops: stateless
        try:
            copy = type(layer).from_config(configure(layer, layer.get_config()))
        except Exception as error:
            raise ModelError(
                f"{graph.layers.get(id(layer), layer.name)} ({type(layer).__name__}) cannot be "
                "built again from its configuration.",
                found=str(error).strip().splitlines()[0],
                cure="Give the layer a get_config and a from_config that belong together.",
            ) from error
        copies.append((layer, copy))
        return copy

    clone = keras.models.clone_model(model, _inputs(model), clone_function=copied, recursive=True)
    records = {id(weight.variable): weight for weight in graph.weights}
    for layer, copy in copies:
        for old, new in zip(layer.weights, copy.weights, strict=True):
            new.assign(change(records[id(old)], np.asarray(old)))
    return clone


def _inputs(model: Any) -> Any:
    """New inputs with the names of the old ones; Keras would take those of their tensors."""
    import keras

    if isinstance(model, keras.Sequential):
        return None  # clones its input layer itself
    names = {
        id(layer.output): layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.InputLayer)
    }
    return keras.tree.map_structure(
        lambda tensor: keras.Input(
            batch_shape=tensor.shape, dtype=tensor.dtype, name=names[id(tensor)]
        ),
        model.input,
    )
