"""Layers that TFLite computes with several operators, each of whose outputs is rounded.

The layers stay what they are, in the model that is trained and in the one that is finished;
`parts.py` finds the tensors again by the names of their parts. The classes are created by
`layers.register`, because importing this module must not import Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from edgekit.training.qat.layer_rules import FIXED_RANGES

SMALLEST_SCALE: Final = 1e-8
# The smallest variance whose root is computed: below, the integer kernel returns its largest code.
_SMALLEST_VARIANCE: Final = 1e-12
_NEVER: Final = -1e9
# Parts of 16 bits: only their range matters.
_WIDE: Final = ("cell",)


def on_grid(kernel: Any, axes: Sequence[int], largest: float = 127.0) -> tuple[Any, Any]:
    """Return the codes of a kernel, not rounded, and their scales, by output channel.

    Args:
        kernel: Any shape.
        axes: The axes with a common scale: all but those of the output channels.
        largest: The code of each channel's largest weight.
    """
    from keras import ops

    limit = ops.max(ops.abs(kernel), axis=tuple(axes), keepdims=True)
    scale = ops.maximum(limit / largest, SMALLEST_SCALE)
    return kernel / scale, scale


def classes(keras: Any, fake_quantize: Any) -> dict[str, Any]:
    """Return the classes by the names of the layers that they wrap.

    Args:
        keras: The package.
        fake_quantize: The class that rounds activations.
    """
    ops = keras.ops

    class Composed(keras.layers.Wrapper):  # type: ignore[misc]  # Keras has no types
        """A layer with rounded kernels, and a range for each of its parts."""

        parts: tuple[str, ...] = ()
        inputs = 1

        def __init__(self, layer: Any, **kwargs: Any) -> None:
            super().__init__(layer, **kwargs)
            self.supports_masking = bool(layer.supports_masking)
            self.ranges = {
                part: fake_quantize(_fixed(part), part in _WIDE, name=part) for part in self.parts
            }
            # Part -> extremes; while it is a dict, parts are observed and pass as they are.
            self.observed: dict[str, tuple[float, float]] | None = None

        def build_parts(self, *shapes: Any) -> None:
            """Build the layer, unless it is, and create the ranges."""
            if not self.layer.built:
                self.layer.build(*shapes)
            for part in self.ranges.values():
                part.build(None)
            self.built = True

        def kernels(self) -> list[tuple[Any, tuple[int, ...]]]:
            """Return every rounded kernel, and its axes with a common scale."""
            return []

        def finished(self) -> Any:
            """Return the layer with its kernels on the integer grid."""
            for kernel, axes in self.kernels():
                kernel.assign(written(kernel, axes))
            return self.layer

        def part(self, name: str, value: Any, training: bool | None) -> Any:
            """Return a part rounded to its range."""
            if self.observed is not None:
                self.observed[name] = float(ops.min(value)), float(ops.max(value))
                return value
            return self.ranges[name](value, training=training)

    def rounded(kernel: Any, axes: Sequence[int]) -> Any:
        kernel = ops.convert_to_tensor(kernel)
        codes, scale = on_grid(kernel, axes)
        return kernel + ops.stop_gradient(ops.round(codes) * scale - kernel)

    def written(kernel: Any, axes: Sequence[int]) -> Any:
        codes, scale = on_grid(ops.convert_to_tensor(kernel), axes)
        return ops.round(codes) * scale

    def constant(values: Any, shape: Sequence[int]) -> Any:
        """Return a vector rounded as a constant tensor is: one scale and zero point for all."""
        values = ops.reshape(ops.convert_to_tensor(values), shape)
        low, high = ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0)
        scale = ops.maximum((high - low) / 255.0, SMALLEST_SCALE)
        return values + ops.stop_gradient(ops.round(values / scale) * scale - values)

    @keras.saving.register_keras_serializable("edgekit")
    class QuantizedNormalization(Composed):
        """Layer normalization: mean, variance, inverse root and affine part have 8 bits each."""

        parts = (
            *("mean", "deviation", "variance", "floored", "inverse", "factor", "offset"),
            *("shift", "scaled"),
        )

        def build(self, input_shape: Any) -> None:
            """Build the layer and its parts."""
            self.build_parts(input_shape)

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            """Normalize the inputs, in the order of the TFLite operators."""
            layer = self.layer
            axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
            shape = [1] * (len(inputs.shape) - 1) + [-1]

            def part(name: str, value: Any) -> Any:
                return self.part(name, value, training)

            mean = part("mean", ops.mean(inputs, axes, keepdims=True))
            deviation = part("deviation", ops.square(inputs - mean))
            variance = part("variance", ops.mean(deviation, axes, keepdims=True))
            floored = part("floored", variance + layer.epsilon)
            factor = part("inverse", ops.rsqrt(ops.maximum(floored, _SMALLEST_VARIANCE)))
            if layer.scale:
                factor = part("factor", factor * constant(layer.gamma, shape))
            shift = part("offset", -mean * factor)
            if layer.center:
                shift = part("shift", shift + constant(layer.beta, shape))
            return part("scaled", inputs * factor) + shift

    @keras.saving.register_keras_serializable("edgekit")
    class QuantizedAttention(Composed):
        """Attention of several heads: projections, scores and probabilities have 8 bits each."""

        parts = ("query", "key", "value", "scores", "weighed", "probabilities", "context")
        inputs = 2

        def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
            """Build the layer and its parts."""
            self.build_parts(query_shape, value_shape, key_shape)

        def kernels(self) -> list[tuple[Any, tuple[int, ...]]]:
            """Return the kernels of the projections."""
            layer = self.layer
            first = (layer.query_dense, layer.key_dense, layer.value_dense)
            return [
                *((projection.kernel, (0,)) for projection in first),
                (layer.output_dense.kernel, (0, 1)),
            ]

        def call(
            self,
            query: Any,
            value: Any,
            key: Any = None,
            use_causal_mask: bool = False,
            training: bool | None = None,
        ) -> Any:
            """Attend, in the order of the TFLite operators; see Keras for the arguments."""
            layer, key = self.layer, value if key is None else key

            def part(name: str, value: Any) -> Any:
                return self.part(name, value, training)

            def project(projection: Any, values: Any, axes: tuple[int, ...] = (0,)) -> Any:
                mapping = [(projection.kernel, rounded(projection.kernel, axes))]
                with keras.StatelessScope(state_mapping=mapping):
                    return projection.call(values)

            queries = project(layer.query_dense, query)
            scale = layer.key_dim**-0.5
            # With dropout, Keras scales the queries, which the converter does in their kernel.
            late = not layer.dropout
            queries = part("query", queries if late else queries * scale)
            keys = part("key", project(layer.key_dense, key))
            scores = part("scores", ops.einsum("bthd,bshd->bhts", queries, keys))
            if late:
                scores = part("weighed", scores * scale)
            if use_causal_mask:
                here = ops.arange(scores.shape[-2])[:, None] >= ops.arange(scores.shape[-1])
                scores = ops.where(here, scores, _NEVER)
            probabilities = part("probabilities", ops.softmax(scores))
            if not late:
                probabilities = layer._dropout_layer(probabilities, training=training)  # noqa: SLF001
            values = part("value", project(layer.value_dense, value))
            context = part("context", ops.einsum("bhts,bshd->bthd", probabilities, values))
            return project(layer.output_dense, context, (0, 1))

    @keras.saving.register_keras_serializable("edgekit")
    class QuantizedLSTM(Composed):
        """An LSTM with a scale for each gate's kernels, outputs of 8 bits and a cell of 16."""

        parts = ("outputs", "cell")

        def build(self, input_shape: Any) -> None:
            """Build the layer and its parts."""
            self.build_parts(input_shape)

        def finished(self) -> Any:
            """Return the layer with the kernel of each gate on the integer grid."""
            for kernel in (self.layer.cell.kernel, self.layer.cell.recurrent_kernel):
                kernel.assign(by_gate(kernel, written))
            return self.layer

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            """Return what the layer does; its outputs are rounded before they are fed back."""
            cell = self.layer.cell
            kernel = by_gate(cell.kernel, rounded)
            recurrent = by_gate(cell.recurrent_kernel, rounded)

            def dropped(values: Any, rate: float) -> Any:
                if not training or not rate:
                    return values
                return keras.random.dropout(values, rate, seed=cell.seed_generator)

            masks = dropped(ops.ones_like(inputs[:, :1]), cell.dropout)
            sums = ops.matmul(inputs * masks, kernel)
            if cell.use_bias:
                sums = sums + cell.bias
            start = ops.zeros_like(sums[:, 0, : cell.units])
            kept = dropped(ops.ones_like(start), cell.recurrent_dropout)

            def step(state: Any, given: Any) -> Any:
                fed, carried = state
                gates = given + ops.matmul(fed * kept, recurrent)
                let, forget, new, out = ops.split(gates, 4, axis=-1)
                carried = ops.sigmoid(forget) * carried + ops.sigmoid(let) * ops.tanh(new)
                output = ops.sigmoid(out) * ops.tanh(carried)
                fed = output
                if self.observed is None:
                    fed = self.ranges["outputs"](output, training=training, follow=True)
                return (fed, carried), (output, carried)

            _, (outputs, cells) = ops.scan(step, (start, start), ops.swapaxes(sums, 0, 1))
            self.part("cell", cells, training)
            outputs = self.part("outputs", ops.swapaxes(outputs, 0, 1), training)
            return outputs if self.layer.return_sequences else outputs[:, -1]

    def by_gate(kernel: Any, change: Any) -> Any:
        """Return the kernel of four gates with each changed apart."""
        values = ops.convert_to_tensor(kernel)
        rows, columns = values.shape
        changed = change(ops.reshape(values, (rows, 4, columns // 4)), (0, 2))
        return ops.reshape(changed, (rows, columns))

    return {
        "LSTM": QuantizedLSTM,
        "LayerNormalization": QuantizedNormalization,
        "MultiHeadAttention": QuantizedAttention,
    }


def _fixed(part: str) -> tuple[float, float] | None:
    return FIXED_RANGES["softmax"] if part == "probabilities" else None
