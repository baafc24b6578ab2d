"""The two layers of quantization-aware training.

Both use `keras.ops` alone, so they run on every backend, and are saved with the model. A layer is
a subclass of what Keras defines, and importing a module must not import Keras: so the classes come
into being when one is first asked for, and are registered with Keras then.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from edgekit.numerics import octav_scales, symmetric_scales
from edgekit.numerics.affine import quantize
from edgekit.numerics.palette import palette
from edgekit.records import Array

# Ranges follow what batches hold with this inertia, about the last hundred steps.
_MOMENTUM = 0.99
_SMALLEST_SCALE = 1e-8


def __getattr__(name: str) -> Any:
    if name not in ("FakeQuantize", "QuantizedWeights"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return register()[name]


@functools.cache
def register() -> dict[str, Any]:
    """Make the layers known to Keras, so that it can load a saved model that has them.

    Returns:
        Name -> class.
    """
    import keras
    from keras import ops

    @keras.saving.register_keras_serializable("edgekit")
    class FakeQuantize(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        """Rounds an activation to 256 codes, as TFLite stores it: one scale, one zero point.

        Jacob et al. 2018, section 3.1: the range is a moving average of the batches' extremes, the
        gradient passes where a value lies within it. Until the first batch is seen, values pass as
        they are.

        Args:
            fixed: The range, where the kernel that computes the activation prescribes it.
            kwargs: Of every Keras layer.
        """

        def __init__(self, fixed: tuple[float, float] | None = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))

        def build(self, input_shape: Any) -> None:
            """Make the variables; a layer that is called on several shapes has them once."""
            del input_shape
            self.low = self._variable("low")
            self.high = self._variable("high")
            self.seen = self._variable("seen")
            if self.fixed is not None:
                self.observe(*self.fixed)
            self.built = True

        def call(self, inputs: Any, training: bool | None = None, follow: bool = False) -> Any:
            """Quantize.

            Args:
                inputs: Any shape.
                training: Whether the range takes this batch into account.
                follow: Never do so: this tensor only shares the range of another.
            """
            if training and not follow and self.fixed is None:
                self._follow(ops.min(inputs), ops.max(inputs))
            low, high = ops.minimum(self.low, 0.0), ops.maximum(self.high, 0.0)
            scale = ops.maximum((high - low) / 255.0, _SMALLEST_SCALE)
            zero_point = ops.clip(ops.round(-128.0 - low / scale), -128.0, 127.0)
            clipped = ops.clip(inputs, (-128.0 - zero_point) * scale, (127.0 - zero_point) * scale)
            rounded = ops.round(clipped / scale) * scale
            quantized = clipped + ops.stop_gradient(rounded - clipped)
            return ops.where(self.seen > 0.0, quantized, inputs)

        def compute_output_spec(self, inputs: Any, **_: Any) -> Any:
            """Shape and type stay."""
            return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

        def observe(self, low: float, high: float) -> None:
            """Set the range."""
            self.low.assign(low)
            self.high.assign(high)
            self.seen.assign(1.0)

        @property
        def range(self) -> tuple[float, float]:
            """The range as it stands, with 0 in it."""
            low, high = (float(ops.convert_to_numpy(end)) for end in (self.low, self.high))
            return min(low, 0.0), max(high, 0.0)

        def get_config(self) -> dict[str, Any]:
            """What `from_config` takes."""
            return {**super().get_config(), "fixed": self.fixed}

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

        Codes are symmetric and narrow, with a scale for each output channel. With 8 bits the scale
        puts the channel's largest weight on 127, as TensorFlow's converter does. With fewer it is
        trained along (Esser et al. 2020, "Learned step size quantization", equations 1-3), because
        the largest weight then costs all others too much resolution.

        A clustered kernel (8 bits) takes few of the codes: those of a palette, which has 127 and
        -127 in it, so that each channel's largest weight keeps its scale.

        Args:
            layer: The layer, with a `kernel`.
            bits: Width of a code.
            clusters: Number of codes the kernel may take at most; 0 for all.
            kwargs: Of every Keras layer.
        """

        def __init__(self, layer: Any, bits: int = 8, clusters: int = 0, **kwargs: Any) -> None:
            super().__init__(layer, **kwargs)
            self.bits = bits
            self.clusters = clusters
            self._largest = float(2 ** (bits - 1) - 1)
            # Axes of the kernel over which a channel extends.
            depthwise = isinstance(self.layer, keras.layers.DepthwiseConv2D)
            self._rank = 2 if depthwise else None

        def build(self, input_shape: Any) -> None:
            """Build the layer, and the scales where they are trained."""
            super().build(input_shape)
            if self.bits < 8:
                shape = [1] * len(self._axes) + list(self.layer.kernel.shape[len(self._axes) :])
                self.step = self.add_weight(shape=shape, initializer="ones", name="step")
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
            """As the layer's."""
            return self.layer.compute_output_shape(input_shape)

        def reset(self) -> None:
            """Choose the trained scales or the palette anew, for the weights there are."""
            weights = self._by_channel()
            if self.bits < 8:
                scales = octav_scales(weights, 0, self.bits)
                self.step.assign(scales.reshape(self.step.shape))
            elif self.clusters:
                scales = symmetric_scales(weights, 0, self.bits)
                self.palette.assign(code_palette(weights / scales[:, None], self.clusters))

        def grid(self) -> tuple[Array, Array]:
            """The codes, of the kernel's shape, and the scales `[1, ..., channels]`."""
            weights = self._by_channel()
            kernel_shape = tuple(self.layer.kernel.shape)
            if self.bits < 8:
                scales = np.abs(ops.convert_to_numpy(self.step)).reshape(-1)
                scales = np.maximum(scales, _SMALLEST_SCALE)
            else:
                scales = symmetric_scales(weights, 0, self.bits)
            codes = quantize(weights, scales, 0, self.bits)
            if self.bits == 8 and self.clusters:
                palette = ops.convert_to_numpy(self.palette)
                nearest = np.searchsorted(_midpoints(palette), weights / scales[:, None])
                codes = palette[nearest].astype(codes.dtype)
            codes = codes.T.reshape(kernel_shape)
            inner = kernel_shape[len(self._axes) :]
            return codes, scales.reshape((1,) * len(self._axes) + inner)

        def get_config(self) -> dict[str, Any]:
            """What `from_config` takes."""
            return {**super().get_config(), "bits": self.bits, "clusters": self.clusters}

        @property
        def _axes(self) -> tuple[int, ...]:
            """Axes of the kernel over which a channel extends: all before its output channels."""
            return tuple(range(self._rank or len(self.layer.kernel.shape) - 1))

        def _by_channel(self) -> Array:
            """The kernel as `[channels, values]`."""
            kernel = ops.convert_to_numpy(self.layer.kernel)
            channels = int(np.prod(kernel.shape[len(self._axes) :]))
            return np.asarray(kernel.reshape(-1, channels).T)

        def _round(self, kernel: Any) -> Any:
            if self.bits < 8:
                share = 1.0 / np.sqrt(
                    np.prod([kernel.shape[a] for a in self._axes]) * self._largest
                )
                step = ops.maximum(ops.abs(self.step), _SMALLEST_SCALE)
                # The step's gradient sums over all weights of a channel; scaled down it moves no
                # faster, relative to its size, than a weight does (section 2.2).
                step = share * step + ops.stop_gradient((1.0 - share) * step)
                scaled = ops.clip(kernel / step, -self._largest, self._largest)
                return (scaled + ops.stop_gradient(ops.round(scaled) - scaled)) * step
            limit = ops.max(ops.abs(kernel), axis=self._axes, keepdims=True)
            scale = ops.maximum(limit / self._largest, _SMALLEST_SCALE)
            codes = self._pick(kernel / scale) if self.clusters else ops.round(kernel / scale)
            return kernel + ops.stop_gradient(codes * scale - kernel)

        def _pick(self, codes: Any) -> Any:
            """The nearest codes of the palette."""
            palette = ops.convert_to_tensor(self.palette)
            nearest = ops.searchsorted(_midpoints(palette), ops.reshape(codes, (-1,)))
            return ops.reshape(ops.take(palette, nearest), ops.shape(codes))

    return {"FakeQuantize": FakeQuantize, "QuantizedWeights": QuantizedWeights}


def code_palette(codes: Array, clusters: int) -> Array:
    """Choose the codes that a kernel may take.

    Args:
        codes: The kernel in steps of each channel's scale, within [-127, 127], `[channels, n]`.
        clusters: Number of codes, from 4.

    Returns:
        `[clusters]` whole numbers, ascending, the last repeated where fewer will do; -127 and 127
        are among them, and 0 where there are zeros.
    """
    inner = palette(codes, max(2, clusters - 2)).centroids
    chosen = np.unique(np.rint(np.clip(np.concatenate([inner, [-127, 127]]), -127, 127)))
    return np.concatenate([chosen, np.full(clusters - len(chosen), chosen[-1])]).astype(np.float32)


def _midpoints(ascending: Any) -> Any:
    return (ascending[1:] + ascending[:-1]) / 2
