"""Trace a model with batch size 1 to a TensorFlow graph, with constant weights where possible."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgekit.records import TensorSpec

# Recurrent layers of at most this many steps are unrolled. Every step costs 3-4 kB of graph and
# 30-60 ms of lowering.
UNROLLED_STEPS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A traced model.

    Attributes:
        function: TensorFlow's concrete function, with batch size 1.
        outputs: Its outputs, by the names of the layers that computed them where possible.
        frozen: Whether all weights are constants.
        notes: Changes made during tracing, for the user.
    """

    function: Any
    outputs: tuple[Any, ...]
    frozen: bool
    notes: tuple[str, ...]


def trace(
    call: Callable[[Sequence[Any]], Sequence[Any]], inputs: Sequence[TensorSpec], model: Any
) -> Trace:
    """Trace `call` at the given shapes.

    The weights of Keras 3 models become constants here, so that the converter need not freeze
    them; other models keep their variables, which the converter then freezes.

    Args:
        call: Tensors in the order of `inputs` -> tensors.
        inputs: Inputs, with shapes of batch size 1.
        model: The Keras model that `call` runs, or any other object.
    """
    import keras
    import tensorflow as tf

    weights = (
        [(weight, weight.numpy()) for weight in model.variables]
        if isinstance(model, keras.Model)
        else []
    )
    steps: dict[str, int] = {}

    def traced(*tensors: Any) -> Sequence[Any]:
        constants = [(weight, tf.constant(value)) for weight, value in weights]
        with keras.StatelessScope(state_mapping=constants):
            return call(tensors)

    specs = [tf.TensorSpec(s.shape, s.dtype, name=_identifier(s.name)) for s in inputs]
    with _layer_by_layer(model, steps):
        function = tf.function(traced, autograph=False).get_concrete_function(*specs)
    return Trace(
        function=function,
        outputs=_named_outputs(function.outputs),
        frozen=not function.captured_inputs,
        notes=tuple(
            f"{name}: its {n} steps were unrolled; the outputs are the same"
            for name, n in steps.items()
        ),
    )


@contextmanager
def _layer_by_layer(model: Any, steps: dict[str, int]) -> Iterator[None]:
    """Within the context, name operators exactly after their layers and unroll recurrent layers.

    Keras opens a layer's name scope twice in one call, so that TensorFlow numbers the second one:
    operators of `conv2d` appear below `conv2d_1`, which is another layer's name.

    Args:
        model: The Keras model whose layers are wrapped; other objects are ignored.
        steps: Receives the name of every unrolled layer and its number of steps.
    """
    import tensorflow as tf

    path: list[str] = []

    def wrapped(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def inside(*args: Any, **kwargs: Any) -> Any:
            path.append(layer.name)
            try:
                # A trailing slash selects the scope of exactly this name.
                with (
                    tf.name_scope("/".join(map(_identifier, path)) + "/"),
                    _unrolled(layer, args, steps),
                ):
                    return call(*args, **kwargs)
            finally:
                path.pop()

        return inside

    # Keras has no public access to layers inside layers (of Bidirectional, of subclasses).
    layers = list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else []  # noqa: SLF001  see above
    for layer in layers:
        vars(layer)["call"] = wrapped(layer, layer.call)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["call"]


@contextmanager
def _unrolled(layer: Any, args: tuple[Any, ...], steps: dict[str, int]) -> Iterator[None]:
    """Unroll a recurrent layer within the context; the outputs are the same.

    TensorFlow's quantizer crashes on loops.
    """
    count = args[0].shape[1] if args and getattr(layer, "unroll", None) is False else None
    if count is None or count > UNROLLED_STEPS:
        yield
        return
    # Keras 2 otherwise selects an operator fused for GPUs, which the quantizer cannot calibrate.
    changed = {"unroll": True, "_could_use_gpu_kernel": False}
    before = {name: getattr(layer, name) for name in changed if hasattr(layer, name)}
    for name in before:
        setattr(layer, name, changed[name])
    steps[layer.name] = int(count)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(layer, name, value)


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
