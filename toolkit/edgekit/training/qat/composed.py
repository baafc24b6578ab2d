"""Layers that TFLite computes with several operators, each of whose outputs is rounded.

The layers stay what they are, in the model that is trained and in the one that is finished;
`parts.py` finds the tensors again by the names of their parts. The classes are created by
`layers.register`, because importing this module must not import Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edgekit.numerics.palette import palette
from edgekit.records import Array
from edgekit.training.qat.layer_rules import FIXED_RANGES
from edgekit.training.qat.recurrent import recurrent_classes

SMALLEST_SCALE: Final = 1e-8
# The smallest variance whose root is computed: below, the integer kernel returns its largest code.
_SMALLEST_VARIANCE: Final = 1e-12
_NEVER: Final = -1e9
# Parts of 16 bits: only their range matters.
_WIDE: Final = ("cell",)
# Parts whose range their operator prescribes.
_FIXED_PARTS: Final = {
    "probabilities": "softmax",
    "update": "sigmoid",
    "reset": "sigmoid",
    "new": "tanh",
}


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


def nearest(codes: Any, known: Any) -> Any:
    """Return the nearest of known codes, which ascend, to codes of any shape."""
    from keras import ops

    known = ops.convert_to_tensor(known)
    found = ops.searchsorted((known[1:] + known[:-1]) / 2, ops.reshape(codes, (-1,)))
    return ops.reshape(ops.take(known, found), ops.shape(codes))


def code_palette(codes: Array, clusters: int) -> Array:
    """Choose the codes that a kernel may take.

    Args:
        codes: The kernel divided by each channel's scale, `[channels, n]`, within [-127, 127].
        clusters: Number of codes, from 4.

    Returns:
        `[clusters]` whole numbers in ascending order, the last repeated where fewer suffice; they
        include -127 and 127, and 0 where the kernel has zeros.
    """
    inner = palette(codes, max(2, clusters - 2)).centroids
    chosen = np.unique(np.rint(np.clip(np.concatenate([inner, [-127, 127]]), -127, 127)))
    return np.concatenate([chosen, np.full(clusters - len(chosen), chosen[-1])]).astype(np.float32)


def classes(keras: Any, fake_quantize: Any) -> dict[str, Any]:
    """Return the classes by the names of the layers that they wrap.

    Args:
        keras: The package.
        fake_quantize: The class that rounds activations.
    """
    ops = keras.ops

    class Composed(keras.layers.Wrapper):  # type: ignore[misc]  # Keras has no types
        """A layer with rounded kernels, and a range for each of its parts.

        Args:
            layer: The layer.
            clusters: Largest number of distinct codes of each of `kernels`; 0 for all.
            kwargs: Arguments of every Keras layer.
        """

        parts: tuple[str, ...] = ()
        # Names of `kernels` within the layer, as `Kernel.name` has them.
        kernel_names: tuple[str, ...] = ()
        inputs = 1

        def __init__(self, layer: Any, clusters: Sequence[int] = (), **kwargs: Any) -> None:
            super().__init__(layer, **kwargs)
            self.supports_masking = bool(layer.supports_masking)
            self.clusters = tuple(map(int, clusters))
            # Position of a kernel -> its codes in ascending order.
            self.palettes: dict[str, Any] = {}
            self.ranges = {
                part: fake_quantize(_fixed(part), part in _WIDE, name=part) for part in self.parts
            }
            # Part -> extremes; while it is a dict, parts are observed and pass as they are.
            self.observed: dict[str, tuple[float, float]] | None = None

        def build_parts(self, *shapes: Any) -> None:
            """Build the layer, unless it is, and create the ranges and palettes."""
            if not self.layer.built:
                self.layer.build(*shapes)
            for part in self.ranges.values():
                part.build(None)
            for position, clusters in enumerate(self.clusters):
                if clusters:
                    self.palettes[str(position)] = self.add_weight(
                        shape=(clusters,),
                        initializer="zeros",
                        trainable=False,
                        name=f"palette{position}",
                    )
            self.built = True

        def kernels(self) -> list[tuple[Any, tuple[int, ...], tuple[int, ...]]]:
            """Return every rounded kernel, the shape to see it in, its axes with a common scale."""
            return []

        def reset(self) -> None:
            """Recompute the palettes from the current weights."""
            for position, variable in self.palettes.items():
                kernel, shape, axes = self.kernels()[int(position)]
                codes, _ = on_grid(ops.reshape(kernel, shape), axes)
                found = code_palette(ops.convert_to_numpy(codes), self.clusters[int(position)])
                variable.assign(found)

        def written(self, position: int) -> Any:
            """Return a kernel on its integer grid."""
            kernel, shape, axes = self.kernels()[position]
            kernel = ops.convert_to_tensor(kernel)
            codes, scale = on_grid(ops.reshape(kernel, shape), axes)
            chosen = self.palettes.get(str(position))
            codes = ops.round(codes) if chosen is None else nearest(codes, chosen)
            return ops.reshape(codes * scale, kernel.shape)

        def rounded(self, position: int) -> Any:
            """Return a kernel on its integer grid, through which gradients pass."""
            kernel = ops.convert_to_tensor(self.kernels()[position][0])
            return kernel + ops.stop_gradient(self.written(position) - kernel)

        def finished(self) -> Any:
            """Return the layer with its kernels on the integer grid."""
            for position, (kernel, _, _) in enumerate(self.kernels()):
                kernel.assign(self.written(position))
            return self.layer

        def get_config(self) -> dict[str, Any]:
            """Return the arguments of `from_config`."""
            return {**super().get_config(), "clusters": self.clusters}

        def compute_output_spec(self, *args: Any, **options: Any) -> Any:
            """Return the spec of the layer's output, for which Keras would trace `call`."""
            named = (options[name] for name in ("inputs", "query", "value") if name in options)
            shapes = [given.shape for given in (*args, *named)][: self.inputs]
            shape = self.layer.compute_output_shape(*shapes)
            return keras.KerasTensor(shape, dtype=self.compute_dtype)

        def part(self, name: str, value: Any, training: bool | None) -> Any:
            """Return a part rounded to its range."""
            if self.observed is not None:
                self.observed[name] = float(ops.min(value)), float(ops.max(value))
                return value
            return self.ranges[name](value, training=training)

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
        kernel_names = ("query", "key", "value", "attention_output")
        inputs = 2

        def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
            """Build the layer and its parts."""
            self.build_parts(query_shape, value_shape, key_shape)

        def kernels(self) -> list[tuple[Any, tuple[int, ...], tuple[int, ...]]]:
            """Return the kernels of the projections."""
            layer = self.layer
            first = (layer.query_dense, layer.key_dense, layer.value_dense)
            found = [*((each.kernel, (0,)) for each in first), (layer.output_dense.kernel, (0, 1))]
            return [(kernel, tuple(kernel.shape), axes) for kernel, axes in found]

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

            def project(position: int, projection: Any, values: Any) -> Any:
                mapping = [(projection.kernel, self.rounded(position))]
                with keras.StatelessScope(state_mapping=mapping):
                    return projection.call(values)

            queries = project(0, layer.query_dense, query)
            scale = layer.key_dim**-0.5
            # With dropout, Keras scales the queries, which the converter does in their kernel.
            late = not layer.dropout
            queries = part("query", queries if late else queries * scale)
            keys = part("key", project(1, layer.key_dense, key))
            scores = part("scores", ops.einsum("bthd,bshd->bhts", queries, keys))
            if late:
                scores = part("weighed", scores * scale)
            if use_causal_mask:
                here = ops.arange(scores.shape[-2])[:, None] >= ops.arange(scores.shape[-1])
                scores = ops.where(here, scores, _NEVER)
            probabilities = part("probabilities", ops.softmax(scores))
            if not late:
                probabilities = layer._dropout_layer(probabilities, training=training)  # noqa: SLF001
            values = part("value", project(2, layer.value_dense, value))
            context = part("context", ops.einsum("bhts,bshd->bthd", probabilities, values))
            return project(3, layer.output_dense, context)

    return {
        "LayerNormalization": QuantizedNormalization,
        "MultiHeadAttention": QuantizedAttention,
        **recurrent_classes(keras, Composed, fake_quantize),
    }


def _fixed(part: str) -> tuple[float, float] | None:
    return FIXED_RANGES[_FIXED_PARTS[part]] if part in _FIXED_PARTS else None
