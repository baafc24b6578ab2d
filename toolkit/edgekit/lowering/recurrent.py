"""How recurrent layers are traced: as one fused operator, as a loop, or step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from edgekit.choices import COMPACT, LOOP_STEPS, UNROLLED, RecurrentForm
from edgekit.records import Array

_SIMPLE_LOOP_STEPS: Final = 8
# Every step that is written out takes 30-60 ms of lowering; longer loops are kept.
UNROLLED_STEPS: Final = 512
_GATES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusedLstm:
    """One call of an LSTM layer, traced as a custom operator of one input and one output.

    Attributes:
        scope: The path of the layer, such as `model/both_ways/lstm`.
        kernel: `[inputs, 4 * units]`, gates in the order input, forget, cell, output.
        recurrent_kernel: `[units, 4 * units]`.
        bias: `[4 * units]`.
    """

    scope: str
    kernel: Array
    recurrent_kernel: Array
    bias: Array


@dataclass(slots=True, kw_only=True)
class RecurrentLayers:
    """What is done with the recurrent layers of a model while it is traced.

    Attributes:
        form: `compact`: LSTM layers fused where TFLite's operator computes the same, others as
            loops where that is smaller. `fused`: those others step by step. `unrolled`: all.
        fused: Name of a custom operator -> the call that it stands for.
        steps: Path of each layer that was written out -> its number of steps.
        names: Path -> name of the layer.
    """

    form: RecurrentForm
    fused: dict[str, FusedLstm] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    _weights: dict[int, tuple[Array, Array, Array]] = field(default_factory=dict)

    def unrolled(self) -> list[tuple[str, int]]:
        """Return the names of the layers that were written out, and their numbers of steps."""
        return [(self.names[scope], count) for scope, count in self.steps.items()]

    @contextmanager
    def tracing(self, layer: Any, scope: str, args: tuple[Any, ...]) -> Iterator[None]:
        """Within the context, a call of the layer traces it in this form, with equal outputs.

        Args:
            layer: Any Keras layer; those that are not recurrent are left as they are.
            scope: Its path.
            args: What it is called on.
        """
        count = args[0].shape[1] if args and hasattr(layer, "unroll") else None
        if count is None:
            yield
            return
        loop = _SIMPLE_LOOP_STEPS if type(layer).__name__ == "SimpleRNN" else LOOP_STEPS
        unrolled = count <= (loop if self.form == COMPACT else UNROLLED_STEPS)
        # Keras 2 otherwise selects an operator fused for GPUs, whatever the mask.
        changed = {"unroll": unrolled or layer.unroll, "_could_use_gpu_kernel": False}
        fusing = self.form != UNROLLED and _has_fused_form(layer)
        before = {name: getattr(layer, name) for name in changed if hasattr(layer, name)}
        already = len(self.fused)
        for name in before:
            setattr(layer, name, changed[name])
        if fusing:
            vars(layer)["inner_loop"] = self._fusing(layer, scope, layer.inner_loop)
        try:
            yield
        finally:
            vars(layer).pop("inner_loop", None)
            for name, value in before.items():
                setattr(layer, name, value)
        if changed["unroll"] and len(self.fused) == already:
            self.steps[scope], self.names[scope] = int(count), layer.name

    def _fusing(self, layer: Any, scope: str, loop: Callable[..., Any]) -> Callable[..., Any]:
        def inner_loop(sequences: Any, initial_state: Any, mask: Any, **kwargs: Any) -> Any:
            weights = self._weights_of(layer)
            if mask is not None or weights is None or not _starts_at_zero(initial_state):
                return loop(sequences, initial_state, mask, **kwargs)
            name = f"EdgekitLstm{len(self.fused)}"
            kernel, recurrent_kernel, bias = weights
            self.fused[name] = FusedLstm(
                scope=scope, kernel=kernel, recurrent_kernel=recurrent_kernel, bias=bias
            )
            outputs = _placeholder(name, sequences, len(recurrent_kernel), layer.go_backwards)
            return outputs[:, -1], outputs, initial_state

        return inner_loop

    def _weights_of(self, layer: Any) -> tuple[Array, Array, Array] | None:
        """Return kernel, recurrent kernel and bias; None where they are no constants."""
        import numpy as np
        import tensorflow as tf

        if id(layer) not in self._weights:
            cell = layer.cell
            variables = (
                cell.kernel,
                cell.recurrent_kernel,
                *((cell.bias,) if cell.use_bias else ()),
            )
            values = [tf.get_static_value(tf.convert_to_tensor(v)) for v in variables]
            if any(value is None or value.dtype != np.float32 for value in values):
                return None
            bias = values[2] if cell.use_bias else np.zeros(_GATES * cell.units, np.float32)
            self._weights[id(layer)] = values[0], values[1], bias
        return self._weights[id(layer)]


def _has_fused_form(layer: Any) -> bool:
    """Whether TFLite's operator computes what this layer does, its mask and start aside.

    Its outputs are the sequence alone, and its activations are fixed.
    """
    import keras

    # A subclass may do anything in addition.
    if type(layer) is not keras.layers.LSTM or type(layer.cell) is not keras.layers.LSTMCell:
        return False
    return (
        layer.cell.activation is keras.activations.tanh
        and layer.cell.recurrent_activation is keras.activations.sigmoid
        and not layer.return_state
        and layer.compute_dtype == "float32"
    )


def _starts_at_zero(states: Any) -> bool:
    """Whether all initial states are known, and zero: the operator ignores others silently."""
    import tensorflow as tf

    values = [tf.get_static_value(tf.convert_to_tensor(state)) for state in states]
    return all(value is not None and not value.any() for value in values)


def _placeholder(name: str, sequences: Any, units: int, backwards: bool) -> Any:
    """Return a custom operator's output `[batch, steps, units]`, in the order of processing."""
    import tensorflow as tf

    # The converter makes a custom operator of a function with this attribute, whatever it does.
    attributes = f'name: "{name}" attr {{ key: "tfl_fusable_op" value {{ b: true }} }}'

    @tf.function(autograph=False, experimental_implements=attributes)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def stand_in(x: Any) -> Any:
        shaped = tf.reduce_sum(x, axis=2, keepdims=True) + tf.zeros((1, 1, units))
        return tf.ensure_shape(shaped, (*x.shape[:2], units))

    return stand_in(tf.reverse(sequences, [1]) if backwards else sequences)
