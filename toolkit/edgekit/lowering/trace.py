"""Trace a model with batch size 1 to a TensorFlow graph, with constant weights where possible."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from edgekit.choices import RecurrentForm
from edgekit.lowering.freeze import frozen
from edgekit.lowering.recurrent import RecurrentLayers
from edgekit.records import TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A traced model.

    Attributes:
        function: TensorFlow's concrete function, with batch size 1.
        outputs: Its outputs, by the names of the layers that computed them where possible.
        graph: Its graph, with all weights as constants; None where they could not be made that.
        recurrent: What was done with recurrent layers.
    """

    function: Any
    outputs: tuple[Any, ...]
    graph: Any | None
    recurrent: RecurrentLayers


def trace(
    call: Callable[[Sequence[Any]], Sequence[Any]],
    inputs: Sequence[TensorSpec],
    model: Any,
    form: RecurrentForm,
    plain: Any | None = None,
) -> Trace:
    """Trace `call` at the given shapes, unless that was done already.

    The weights of Keras 3 models become constants here, so that the converter need not freeze
    them; other models keep their variables, which the converter then freezes.

    Args:
        call: Tensors in the order of `inputs` -> tensors.
        inputs: Inputs, with shapes of batch size 1.
        model: The Keras model that `call` runs, or any other object.
        form: How recurrent layers are traced.
        plain: What `plain_function` returns for the same model. It is used where it is all that is
            needed: there are no recurrent layers, and variables are only read.
    """
    import keras
    import tensorflow as tf

    recurrent = RecurrentLayers(form=form)
    if plain is not None and not any(hasattr(layer, "unroll") for layer in layers_of(model)):
        function = plain.get_concrete_function()
        graph = frozen(function)
        if graph is not None or not isinstance(model, keras.Model):
            return Trace(
                function=function,
                outputs=_named_outputs(function.outputs),
                graph=graph,
                recurrent=recurrent,
            )
    weights = (
        [(weight, weight.numpy()) for weight in (*model.variables, *_states(model))]
        if isinstance(model, keras.Model)
        else []
    )

    def traced(*tensors: Any) -> Sequence[Any]:
        constants = [(weight, tf.constant(value)) for weight, value in weights]
        with keras.StatelessScope(state_mapping=constants):
            return call(tensors)

    with _layer_by_layer(model, recurrent):
        function = tf.function(traced, autograph=False).get_concrete_function(*_specs(inputs))
    return Trace(
        function=function,
        outputs=_named_outputs(function.outputs),
        # All that is captured are variables, which the converter has to freeze.
        graph=None if function.captured_inputs else function.graph.as_graph_def(),
        recurrent=recurrent,
    )


def plain_function(
    call: Callable[[Sequence[Any]], Sequence[Any]], inputs: Sequence[TensorSpec], model: Any
) -> Any:
    """Return `call` as a TensorFlow function of the given shapes, traced when it first runs.

    Its weights are variables and its layers as they are: it computes what the model computes. Its
    operators have the names of layers, so that it can be lowered too.

    Args:
        call: Tensors in the order of `inputs` -> tensors.
        inputs: Inputs, with shapes of batch size 1.
        model: The Keras model that `call` runs, or any other object.
    """
    import tensorflow as tf

    @tf.function(autograph=False, input_signature=_specs(inputs))  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def run(*tensors: Any) -> Sequence[Any]:
        with _layer_by_layer(model, None):
            return call(tensors)

    return run


def traced_by_operation(
    call: Callable[[Sequence[Any]], Sequence[Any]], inputs: Sequence[TensorSpec], model: Any
) -> Any:
    """Return a graph whose operators are named after Keras' operations too, not after layers alone.

    An operation such as `keras.ops.erf` is no layer: otherwise its operators have the name of the
    model that calls it. Such a graph is for messages; files keep their names.

    Args:
        call: As of `plain_function`.
        inputs: As of `plain_function`.
        model: As of `plain_function`.

    Returns:
        A GraphDef.
    """
    import tensorflow as tf

    def traced(*tensors: Any) -> Sequence[Any]:
        return call(tensors)

    with _layer_by_layer(model, None, operations=True):
        function = tf.function(traced, autograph=False).get_concrete_function(*_specs(inputs))
    return function.graph.as_graph_def()


def _specs(inputs: Sequence[TensorSpec]) -> list[Any]:
    import tensorflow as tf

    return [tf.TensorSpec(s.shape, s.dtype, name=_identifier(s.name)) for s in inputs]


def layers_of(model: Any) -> list[Any]:
    """Return all layers of a Keras model, also those inside layers; of other objects none."""
    # Keras has no public access to layers inside layers (of Bidirectional, of subclasses).
    return list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else []  # noqa: SLF001  see above


def _states(model: Any) -> list[Any]:
    """Return the states of stateful recurrent layers, which are not among a model's variables."""
    states = (getattr(layer, "states", None) or () for layer in layers_of(model))
    # Those of stacked cells are nested: they remain variables.
    return [state for found in states for state in found if hasattr(state, "assign")]


@contextmanager
def _layer_by_layer(
    model: Any, recurrent: RecurrentLayers | None, *, operations: bool = False
) -> Iterator[None]:
    """Within the context, name operators exactly after their layers, and treat recurrent ones.

    Keras opens a layer's name scope twice in one call, so that TensorFlow numbers the second one:
    operators of `conv2d` appear below `conv2d_1`, which is another layer's name.

    Args:
        model: The Keras model whose layers are wrapped; other objects are ignored.
        recurrent: How recurrent layers are traced; None leaves them as they are.
        operations: Whether operators of operations that are no layers are named after these.
    """
    import tensorflow as tf

    path: list[str] = []

    def wrapped(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def inside(*args: Any, **kwargs: Any) -> Any:
            path.append(layer.name)
            scope = "/".join(map(_identifier, path))
            try:
                # A trailing slash selects the scope of exactly this name.
                with (
                    tf.name_scope(f"{scope}/"),
                    nullcontext() if recurrent is None else recurrent.tracing(layer, scope, args),
                ):
                    return call(*args, **kwargs)
            finally:
                path.pop()

        return inside

    layers = layers_of(model)
    if operations:
        inside = (each for layer in layers for each in getattr(layer, "operations", ()))
        layers = list({id(each): each for each in (*layers, *inside)}.values())
    for layer in layers:
        vars(layer)["call"] = wrapped(layer, layer.call)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["call"]


def _named_outputs(outputs: Sequence[Any]) -> tuple[Any, ...]:
    """Return the tensors before the unnamed Identity at each output, where they have names."""
    behind = [o.op.inputs[0] if o.op.type == "Identity" else o for o in outputs]
    names = [tensor.name for tensor in behind]
    return tuple(
        output
        if names.count(tensor.name) > 1 or tensor.op.type in ("Placeholder", "Const")
        else tensor
        for output, tensor in zip(outputs, behind, strict=True)
    )


def _identifier(name: str) -> str:
    """Make a name that TensorFlow accepts for an operator."""
    return re.sub(r"^[^A-Za-z0-9.]|[^\w.\-]", "_", name)
