"""The layers of quantization-aware training.

They use only `keras.ops`, so they run on every backend, and are saved with the model. The classes
are created and registered with Keras on first access, because importing this module must not import
Keras.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from edgekit.numerics import octav_scales, symmetric_scales
from edgekit.numerics.affine import quantize
from edgekit.records import Array
from edgekit.training.qat.composed import (
    SMALLEST_SCALE,
    classes,
    code_palette,
    nearest,
    on_grid,
)

# Momentum of the moving average of batch ranges: about the last hundred steps.
_MOMENTUM = 0.99


def __getattr__(name: str) -> Any:
    if name not in ("FakeQuantize", "QuantizedWeights"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return register()[name]


@functools.cache
def register() -> dict[str, Any]:
    """Register the layers with Keras, so that it can load saved models that contain them.

    Returns:
        Name -> class; those of `composed` by the names of the layers that they stand for.
    """
    import keras
    from keras import ops

    @keras.saving.register_keras_serializable("edgekit")
    class FakeQuantize(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        """Rounds an activation to 256 codes, as in TFLite: one scale, one zero point per tensor.

        Jacob et al. 2018, section 3.1: the range is a moving average of the batches' extremes, the
        gradient passes where a value lies within it. Until the first batch is seen, values pass as
        they are.

        Args:
            fixed: The range, where the TFLite kernel of the activation prescribes it.
            passing: Only observe the range, and pass the values as they are.
            kwargs: Arguments of every Keras layer.
        """

        def __init__(
            self,
            fixed: tuple[float, float] | None = None,
            passing: bool = False,
            **kwargs: Any,
        ) -> None:
            super().__init__(**kwargs)
            self.supports_masking = True
            self.passing = passing
            self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))

        def build(self, input_shape: Any) -> None:
            """Create the variables, once for a layer that is called on several shapes."""
            del input_shape
            self.low = self._variable("low")
            self.high = self._variable("high")
            self.seen = self._variable("seen")
            if self.fixed is not None:
                self.observe(*self.fixed)
            self.built = True

        def call(self, inputs: Any, training: bool | None = None, follow: bool = False) -> Any:
            """Round the inputs to the grid.

            Args:
                inputs: Any shape.
                training: Whether this batch updates the range.
                follow: Never update: this tensor shares the range of another.
            """
            if training and not follow and self.fixed is None:
                self._follow(ops.min(inputs), ops.max(inputs))
            if self.passing:
                return ops.convert_to_tensor(inputs)
            return self.on_codes(inputs, self.grid())

        def grid(self) -> tuple[Any, Any, Any, Any]:
            """Return the step of the codes, their ends, and whether there is a range."""
            low, high = ops.minimum(self.low, 0.0), ops.maximum(self.high, 0.0)
            scale = ops.maximum((high - low) / 255.0, SMALLEST_SCALE)
            zero_point = ops.clip(ops.round(-128.0 - low / scale), -128.0, 127.0)
            ends = (-128.0 - zero_point) * scale, (127.0 - zero_point) * scale
            return scale, *ends, self.seen > 0.0

        @staticmethod
        def on_codes(inputs: Any, grid: tuple[Any, Any, Any, Any]) -> Any:
            """Round values to a grid, through which gradients pass."""
            scale, low, high, seen = grid
            clipped = ops.clip(inputs, low, high)
            rounded = ops.round(clipped / scale) * scale
            quantized = clipped + ops.stop_gradient(rounded - clipped)
            return ops.where(seen, quantized, inputs)

        def compute_output_spec(self, inputs: Any, **_: Any) -> Any:
            """Return the spec of the inputs: shape and type do not change."""
            return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

        def observe(self, low: float, high: float) -> None:
            """Set the range."""
            self.low.assign(low)
            self.high.assign(high)
            self.seen.assign(1.0)

        @property
        def range(self) -> tuple[float, float]:
            """Return the current range, extended to include 0."""
            low, high = (float(ops.convert_to_numpy(end)) for end in (self.low, self.high))
            return min(low, 0.0), max(high, 0.0)

        def get_config(self) -> dict[str, Any]:
            """Return the arguments of `from_config`."""
            return {**super().get_config(), "fixed": self.fixed, "passing": self.passing}

        def _follow(self, low: Any, high: Any) -> None:
            share = ops.where(self.seen > 0.0, 1.0 - _MOMENTUM, 1.0)
            self.low.assign(self.low + share * (low - self.low))
            self.high.assign(self.high + share * (high - self.high))
            self.seen.assign(ops.ones(()))

        def _variable(self, name: str) -> Any:
            return self.add_weight(shape=(), initializer="zeros", trainable=False, name=name)

    @keras.saving.register_keras_serializable("edgekit")
    class QuantizedWeights(keras.layers.Wrapper):  # type: ignore[misc]  # Keras has no types
        """A convolution or dense layer that computes with a rounded kernel.

        Codes are symmetric and narrow-range (-127 to 127 for 8 bits), with a scale per output
        channel. With 8 bits the scale maps the channel's largest weight to 127, as TensorFlow's
        converter does. With fewer the scale is trained (Esser et al. 2020, "Learned step size
        quantization", equations 1-3), because a scale set by the largest weight then leaves too
        little resolution for the others.

        A clustered kernel (8 bits) uses only the codes of a palette, which includes 127 and -127,
        so that each channel's largest weight determines its scale as before.

        Args:
            layer: The layer, with a `kernel`.
            bits: Bit width of a code.
            clusters: Largest number of distinct codes; 0 for all.
            kwargs: Arguments of every Keras layer.
        """

        def __init__(self, layer: Any, bits: int = 8, clusters: int = 0, **kwargs: Any) -> None:
            super().__init__(layer, **kwargs)
            self.bits = bits
            self.clusters = clusters
            self._largest = float(2 ** (bits - 1) - 1)
            self.supports_masking = bool(self.layer.supports_masking)

        def build(self, input_shape: Any) -> None:
            """Build the layer, and its scales or palette where they are variables."""
            super().build(input_shape)
            if self.bits < 8:
                self.step = self.add_weight(
                    shape=self._scales_shape, initializer="ones", name="step"
                )
            elif self.clusters:
                self.palette = self.add_weight(
                    shape=(self.clusters,), initializer="zeros", trainable=False, name="palette"
                )
            self.reset()

        def call(self, inputs: Any) -> Any:
            """Call the layer with its kernel rounded."""
            kernel = self.layer.kernel
            values = [(weight, ops.convert_to_tensor(weight)) for weight in self.layer.weights]
            rounded = self._round(ops.convert_to_tensor(kernel))
            mapping = [(w, rounded if w is kernel else value) for w, value in values]
            with keras.StatelessScope(state_mapping=mapping):
                return self.layer.call(inputs)

        def compute_output_shape(self, input_shape: Any) -> Any:
            """Return the output shape of the wrapped layer."""
            return self.layer.compute_output_shape(input_shape)

        def reset(self) -> None:
            """Recompute trained scales or the palette from the current weights."""
            weights = self._by_channel()
            if self.bits < 8:
                scales = octav_scales(weights, 0, self.bits)
                self.step.assign(scales.reshape(self.step.shape))
            elif self.clusters:
                scales = symmetric_scales(weights, 0, self.bits)
                self.palette.assign(code_palette(weights / scales[:, None], self.clusters))

        def grid(self) -> tuple[Array, Array]:
            """Return the codes, of the kernel's shape, and the scales, 1 on all other axes."""
            weights = self._by_channel()
            if self.bits < 8:
                scales = np.abs(ops.convert_to_numpy(self.step)).reshape(-1)
                scales = np.maximum(scales, SMALLEST_SCALE)
            else:
                scales = symmetric_scales(weights, 0, self.bits)
            codes = quantize(weights, scales, 0, self.bits)
            if self.bits == 8 and self.clusters:
                found = nearest(weights / scales[:, None], self.palette)
                codes = ops.convert_to_numpy(found).astype(codes.dtype)
            *outer, one, other = self.layer.kernel.shape
            if self._transposed:
                codes = np.swapaxes(codes.T.reshape(*outer, other, one), -1, -2)
            else:
                codes = codes.T.reshape(self.layer.kernel.shape)
            return codes, scales.reshape(self._scales_shape)

        def get_config(self) -> dict[str, Any]:
            """Return the arguments of `from_config`."""
            return {**super().get_config(), "bits": self.bits, "clusters": self.clusters}

        @property
        def _transposed(self) -> bool:
            """Whether the kernel is `[..., outputs, inputs]`."""
            of = keras.layers
            return isinstance(self.layer, (of.Conv1DTranspose, of.Conv2DTranspose))

        @property
        def _axes(self) -> tuple[int, ...]:
            """Return the kernel axes with a common scale: all but those of the output channels."""
            of = keras.layers
            rank = len(self.layer.kernel.shape)
            if self._transposed:
                return (*range(rank - 2), rank - 1)
            depthwise = isinstance(self.layer, (of.DepthwiseConv1D, of.DepthwiseConv2D))
            return tuple(range(rank - 2 if depthwise else rank - 1))

        @property
        def _scales_shape(self) -> tuple[int, ...]:
            shape = enumerate(self.layer.kernel.shape)
            return tuple(1 if axis in self._axes else int(size) for axis, size in shape)

        def _by_channel(self) -> Array:
            """Return the kernel as `[channels, values]`."""
            kernel = ops.convert_to_numpy(self.layer.kernel)
            if self._transposed:
                kernel = np.swapaxes(kernel, -1, -2)
            return np.asarray(kernel.reshape(-1, int(np.prod(self._scales_shape))).T)

        def _round(self, kernel: Any) -> Any:
            if self.bits < 8:
                share = 1.0 / np.sqrt(
                    np.prod([kernel.shape[a] for a in self._axes]) * self._largest
                )
                step = ops.maximum(ops.abs(self.step), SMALLEST_SCALE)
                # The gradient of the step is a sum over all weights of a channel; it is scaled so
                # that the step changes no faster, relative to its size, than a weight does (section
                # 2.2).
                step = share * step + ops.stop_gradient((1.0 - share) * step)
                scaled = ops.clip(kernel / step, -self._largest, self._largest)
                return (scaled + ops.stop_gradient(ops.round(scaled) - scaled)) * step
            codes, scale = on_grid(kernel, self._axes, self._largest)
            codes = nearest(codes, self.palette) if self.clusters else ops.round(codes)
            return kernel + ops.stop_gradient(codes * scale - kernel)

    return {
        "FakeQuantize": FakeQuantize,
        "QuantizedWeights": QuantizedWeights,
        **classes(keras, FakeQuantize),
    }
