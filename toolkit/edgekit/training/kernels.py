"""The kernels of a Keras model, which pruning and clustering change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgekit.errors import ModelError, UsageError
from edgekit.records import Array

KERNELS = {"kernel", "recurrent_kernel", "pointwise_kernel", "depthwise_kernel"}
"""Attribute names of kernels; biases, normalizations and embeddings have other names."""
_EXCLUDED: Final = "excluded"
_FROZEN: Final = "frozen (trainable=False)"
# Kernels that an error names.
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel: its layer, the Keras variable, and its output and input axes.

    `inlined` is the layer's name once nested models are inlined. `axes` is None where the layout is
    unknown; then only unstructured pruning applies.
    """

    layer: str
    inlined: str
    owner: Any
    variable: Any
    axes: tuple[int, int] | None

    @property
    def name(self) -> str:
        """Return the layer's name, followed by the kernel's where the layer has several."""
        own = self.variable.name
        return self.layer if own == "kernel" else f"{self.layer}/{own}"

    def read(self) -> Array:
        """Return the values as `[..., outputs, inputs]`."""
        values = np.asarray(self.variable, np.float32)
        return np.moveaxis(values, self.axes, (-2, -1)) if self.axes else values

    def hold(self, mask: Any) -> None:
        """Set weights to zero where the mask, in the layout of the variable, is false."""
        import keras

        # A product would give -0.0 for negative weights, whose bits are not all zero.
        zeros = keras.ops.zeros_like(self.variable)
        self.variable.assign(keras.ops.where(mask, self.variable, zeros))


def kernels_of(model: Any, exclude: Sequence[str] = ()) -> list[Kernel]:
    """List every kernel of a model, in the order of its layers.

    Args:
        model: Any built Keras model, subclassed ones included.
        exclude: Names or regular expressions; each must match a layer.

    Raises:
        UsageError: An exclusion is no regular expression or matches no layer.
    """
    kernels = list(_walk(model, ""))
    check_names(exclude, [kernel.layer for kernel in kernels])
    return kernels


def check_names(exclude: Sequence[str], layers: Iterable[str]) -> None:
    """Raise unless each name or expression matches one of the layers.

    Raises:
        UsageError: One is no regular expression or matches no layer.
    """
    known = list(dict.fromkeys(layers))
    for name in exclude:
        try:
            re.compile(name)
        except re.error as error:
            raise UsageError(
                f"{name!r} is no regular expression.",
                found=f"{error}.",
                hint="Escape special characters with a backslash.",
            ) from error
        if not any(means(name, layer) for layer in known):
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:5]
            raise UsageError(
                f"There is no layer {name!r} to exclude.",
                hint=f"Layers that can be are {', '.join(close)}"
                + (f", and {len(known) - len(close)} more." if len(known) > len(close) else "."),
            )


def use_statistics(layer: Any) -> None:
    """Let normalizations compute with their weights, after these were set.

    An adapted `Normalization` computes with constants that it makes of them only when it is loaded.

    Args:
        layer: A layer or a model.
    """
    import keras

    for part in layer._flatten_layers():  # noqa: SLF001  no public attribute lists layers in layers
        if isinstance(part, keras.layers.Normalization):
            part.finalize_state()


def excluded(model: Any, exclude: Sequence[str]) -> set[str]:
    """Return the names, without those of nested models, of layers with a kernel to exclude.

    Raises:
        UsageError: As `kernels_of`.
    """
    return {k.inlined for k in kernels_of(model, exclude) if _is_excluded(k, exclude)}


def excluded_layers(model: Any, exclude: Sequence[str]) -> set[str]:
    """Return the names, without those of nested models, of layers to exclude, of any kind.

    A layer that is part of another excludes the other.

    Raises:
        UsageError: As `kernels_of`.
    """
    found = [(models + layer, layer) for models, layer, _ in _layers(model, "")]
    check_names(exclude, [whole for whole, _ in found])
    return {
        layer.split("/")[0] for whole, layer in found if any(means(name, whole) for name in exclude)
    }


def left_alone(kernel: Kernel, exclude: Sequence[str]) -> str | None:
    """Return why pruning and clustering skip a kernel; None where they do not."""
    import keras

    if _is_excluded(kernel, exclude):
        return _EXCLUDED
    depthwise = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
    if isinstance(kernel.owner, depthwise) or kernel.variable.name == "depthwise_kernel":
        return "depthwise kernels have few weights, and accuracy depends on each"
    return None if kernel.variable.trainable else _FROZEN


def nothing_to(verb: str, left: Mapping[str, str], otherwise: str) -> ModelError:
    """Return the error of a pass that found no kernel, with a hint for the reasons.

    Args:
        verb: What it does with kernels.
        left: Kernel -> why it was left alone.
        otherwise: The hint where a reason is neither of `left_alone`'s.
    """
    reasons = [f"{name}: {reason}" for name, reason in left.items()]
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    if not left:
        hint = "Build it on a sample first if it is not; or quantize it as it is: edgekit quantize."
    elif _EXCLUDED in left.values():
        hint = "Exclude fewer layers."
    elif _FROZEN in left.values():
        hint = "Set trainable=True in these layers, and save the model again."
    else:
        hint = otherwise
    return ModelError(
        f"The model has no kernel to {verb}.",
        found="; ".join(reasons[:_SHOWN]) + more
        or "No layer has a kernel, or the model is not built yet.",
        hint=hint,
    )


def _walk(model: Any, prefix: str) -> Iterator[Kernel]:
    """Yield every kernel of a model; those of a shared layer once."""
    seen: set[int] = set()
    for models, layer, owner in _layers(model, prefix):
        # Sublayers are visited separately.
        for variable in (*owner._trainable_variables, *owner._non_trainable_variables):  # noqa: SLF001
            if variable.name in KERNELS and len(variable.shape) > 1 and id(variable) not in seen:
                seen.add(id(variable))
                yield Kernel(
                    layer=models + layer,
                    inlined=layer,
                    owner=owner,
                    variable=variable,
                    axes=_axes(owner),
                )


def _layers(model: Any, prefix: str) -> Iterator[tuple[str, str, Any]]:
    """Yield every layer with its path: names of enclosing models and its own, joined by `/`."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer, f"{prefix}{layer.name}/")
            continue
        # No public attribute lists the cells of recurrent layers and the layers in wrappers.
        for part in layer._flatten_layers():  # noqa: SLF001
            path = part.path or part.name
            yield prefix, path.removeprefix(prefix), part


def _axes(layer: Any) -> tuple[int, int] | None:
    """Return the output axis and the input axis of a layer's kernel."""
    import keras

    of = keras.layers
    transposed = (of.Conv1DTranspose, of.Conv2DTranspose, of.Conv3DTranspose)
    convolutions = (of.Conv1D, of.Conv2D, of.Conv3D, of.SeparableConv1D, of.SeparableConv2D)
    if isinstance(layer, transposed):
        return -2, -1
    cells = (of.LSTMCell, of.GRUCell, of.SimpleRNNCell)
    return (-1, -2) if isinstance(layer, (of.Dense, *convolutions, *cells)) else None


def _is_excluded(kernel: Kernel, exclude: Sequence[str]) -> bool:
    return any(means(name, kernel.layer) for name in exclude)


def means(name: str, layer: str) -> bool:
    """Whether a name or expression matches a layer, or a model or layer that contains it."""
    parts = layer.split("/")
    wholes = {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return any(name == whole or re.fullmatch(name, whole) for whole in {*wholes, parts[-1]})
