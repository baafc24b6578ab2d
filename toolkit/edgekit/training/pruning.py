"""Magnitude pruning of Keras models: at once, or by a callback during training.

The result is a plain Keras model with zeros in its kernels. No layer is wrapped, so there is
nothing to strip, and masks need not be saved: they are where the kernel is not zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.choices import Scope
from edgekit.errors import UsageError
from edgekit.numerics.sparsity import (
    Blocks,
    Mask,
    Pattern,
    Schedule,
    check_agreement,
    magnitude_masks,
    misfit,
    parse_pattern,
)
from edgekit.recipe import Prune
from edgekit.records import Array
from edgekit.training.kernels import Kernel, kernels_of, left_alone, nothing_to
from edgekit.training.learner import after_each_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What pruning did to a model.

    Attributes:
        share: Share of zeros over all pruned kernels.
        layers: Layer -> share of zeros, of every layer with a kernel, pruned or not.
        left_dense: Layer, or kernel of a layer with several -> why it was not pruned.
    """

    share: float
    layers: Mapping[str, float]
    left_dense: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The kernels to prune, the pattern, and the layers that are skipped."""

    kernels: tuple[Kernel, ...]
    pattern: Pattern
    scope: Scope
    left_dense: Mapping[str, str] = field(default_factory=dict)

    def masks(self, sparsity: float) -> list[Mask]:
        """Return masks in the layout of the variables."""
        values = [kernel.read() for kernel in self.kernels]
        return [
            np.moveaxis(mask, (-2, -1), kernel.axes) if kernel.axes else mask
            for kernel, mask in zip(
                self.kernels,
                magnitude_masks(values, sparsity, self.pattern, self.scope),
                strict=True,
            )
        ]

    def hold(self, masks: Sequence[Any]) -> None:
        for kernel, mask in zip(self.kernels, masks, strict=True):
            kernel.hold(mask)

    def share(self) -> float:
        values = [kernel.read() for kernel in self.kernels]
        zeros = sum(value.size - np.count_nonzero(value) for value in values)
        return float(zeros / sum(value.size for value in values))


def prune(
    model: Any,
    sparsity: float,
    *,
    scope: Scope = "global",
    pattern: str = "unstructured",
    exclude: Sequence[str] = (),
) -> Pruning:
    """Set the smallest weights of a Keras model to zero, in place, without training.

    Args:
        model: Any built Keras model, subclassed ones included.
        sparsity: Share of weights to prune; with an N:M pattern, the share that it implies.
        scope: Whether magnitudes are compared across layers, or within each.
        pattern: `unstructured`, `N:M` (2:4) or `block RxC` (R outputs by C inputs).
        exclude: Names, or regular expressions for whole names, of layers to leave alone, or of
            layers and models they are part of.

    Raises:
        UsageError: Sparsity or pattern is invalid, or an exclusion matches no layer.
        ModelError: There is no kernel to prune.
    """
    choice = _choose(model, scope, pattern, exclude, sparsity)
    choice.hold(choice.masks(sparsity))
    return Pruning(share=choice.share(), layers=sparsity_of(model), left_dense=choice.left_dense)


def pruning_callback(
    schedule: Schedule,
    *,
    scope: Scope = "global",
    pattern: str = "unstructured",
    exclude: Sequence[str] = (),
    every: int = 20,
    initial_step: int = 0,
) -> Any:
    """Make a Keras callback that prunes during `model.fit`, with any optimizer.

    Masks are re-applied after every batch (after every execution, under `steps_per_execution`), so
    no momentum restores a pruned weight. A weight that is zero when training starts remains zero:
        `Constant(0.0)` thus fine-tunes a pruned model. Callbacks that restore earlier weights,
    such as `EarlyStopping`, belong before this one, and should wait until the schedule has ended.

    An interrupted run resumes from its saved weights, with `initial_step` the number of steps done
    before. A custom training loop calls `set_model`, `on_train_begin`, `on_epoch_begin` before an
    epoch, `on_train_batch_end` with the batch's number in it, and `on_train_end`.

    Args:
        schedule: Step -> share of weights to prune.
        scope: As for `prune`.
        pattern: As for `prune`.
        exclude: As for `prune`.
        every: Steps between updates of the masks, while the sparsity increases.
        initial_step: Steps done before the training starts.

    Returns:
        The callback. Its `step` counts batches, `finished` says whether the schedule has ended, and
        `pruning()` returns the result so far (a `Pruning`).

    Raises:
        UsageError: The pattern is invalid or implies a sparsity other than the schedule's last, or
            `every` is not positive. When training starts: an exclusion matches no layer.
        ModelError: When training starts: there is no kernel to prune.
    """
    check_agreement(schedule.final, parse_pattern(pattern))
    if every < 1:
        raise UsageError(f"Masks cannot be chosen every {every} steps.", hint="Give 1 or more.")

    import keras
    import tensorflow as tf

    class PruneCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        """Updates masks by a schedule and applies them."""

        step = initial_step

        @property
        def finished(self) -> bool:
            return self.step >= schedule.end

        def pruning(self) -> Pruning:
            return Pruning(
                share=self._choice.share(),
                layers=sparsity_of(self.model),
                left_dense=self._choice.left_dense,
            )

        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  Keras's signature
            self._choice = _choose(self.model, scope, pattern, exclude, schedule.final)
            self._epoch_start = self.step
            self._masks = [
                tf.Variable(mask, trainable=False) for mask in self._choose_masks(self.step)
            ]

            def hold() -> None:
                self._choice.hold(self._masks)

            self._hold = tf.function(hold, autograph=False)
            self._hold()
            self._after_batch = after_each_step(self.model, hold)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self._epoch_start = self.step

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            # With steps_per_execution the callback is not called for every batch.
            self.step = self._epoch_start + batch + 1
            self._after_batch()
            due = self.step - self._grown_at >= every or self.finished
            if due and schedule(self.step) > self._sparsity:
                chosen = self._choose_masks(self.step)
                for mask, values in zip(self._masks, chosen, strict=True):
                    mask.assign(values)
                self._hold()

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            # An optimizer with weight averaging replaces the weights after the last batch.
            self._hold()
            if not self.finished:
                warnings.warn(
                    f"Training ended at step {self.step}, before the pruning schedule did (at step "
                    f"{schedule.end}): {self._choice.share():.1%} of the weights are zero, not "
                    f"{schedule.final:.1%}.",
                    stacklevel=2,
                )

        def _choose_masks(self, step: int) -> list[Mask]:
            self._sparsity = schedule(step)
            self._grown_at = step
            return self._choice.masks(self._sparsity)

    return PruneCallback()


def sparsity_of(model: Any) -> dict[str, float]:
    """Return layer -> share of zeros in its kernels, for every layer with a kernel."""
    found: dict[str, list[Array]] = {}
    for kernel in kernels_of(model):
        found.setdefault(kernel.layer, []).append(kernel.read())
    return {
        layer: float(np.mean(np.concatenate([value.ravel() for value in values]) == 0))
        for layer, values in found.items()
    }


def _choose(
    model: Any, scope: Scope, pattern: str, exclude: Sequence[str], sparsity: float
) -> _Choice:
    """Find the kernels to prune.

    Raises:
        UsageError: The pattern implies another sparsity, or an exclusion matches no layer.
        ModelError: There is no kernel to prune.
    """
    shape = parse_pattern(pattern)
    check_agreement(sparsity, shape)
    kernels = kernels_of(model, exclude)
    chosen, left_dense = [], {}
    for kernel in kernels:
        if reason := _objection(kernel, exclude, shape):
            left_dense[kernel.name] = reason
        else:
            chosen.append(kernel)
    if not chosen:
        raise nothing_to(Prune.kind, left_dense, "Give another pattern, such as unstructured.")
    return _Choice(kernels=tuple(chosen), pattern=shape, scope=scope, left_dense=left_dense)


def _objection(kernel: Kernel, exclude: Sequence[str], pattern: Pattern) -> str | None:
    """Return why a kernel is not pruned; None where it can be."""
    if reason := left_alone(kernel, exclude):
        return reason
    values = kernel.read()
    if not values.any():
        return "its kernel is all zeros"
    if pattern == Blocks():
        return None
    if kernel.axes is None:
        return "which axes of its kernel are inputs and outputs is not known"
    return misfit(values.shape, pattern)
