"""Augmentation of training samples, applied to arrays and so no part of the saved model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.errors import UsageError
from edgekit.evaluation.tasks import DETECTION, SEGMENTATION
from edgekit.records import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Settings of the augmentation; the default changes nothing.

    Attributes:
        shift: Largest shift along each of the first axes of a sample, in pixels, frames or
            steps; `(2, 2)` moves an image by up to two pixels each way. Edges are repeated.
        flip: Whether images are mirrored left to right, with probability 1/2.
        noise: Standard deviation of Gaussian noise, in the unit of the inputs.
    """

    shift: tuple[int, ...] = ()
    flip: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        # TOML has lists, not tuples
        object.__setattr__(self, "shift", tuple(self.shift))
        if not all(type(step) is int and 0 <= step <= 1 << 16 for step in self.shift):
            raise UsageError(
                "augment.shift must be whole numbers from 0.",
                found=f"Found {list(self.shift)}.",
                hint="For images: shift = [2, 2].",
            )
        if not 0 <= self.noise <= 1e30:
            raise UsageError(
                "augment.noise must be a number from 0.", found=f"Found {self.noise!r}."
            )

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Raise a `UsageError` unless the settings apply to samples of this shape."""
        axes = len(sample_shape) - 1
        if len(self.shift) > max(axes, 0) or (self.flip and axes != 2):
            raise UsageError(
                f"Samples of shape {list(sample_shape)} cannot be augmented with these settings.",
                found=f"Found shift = {list(self.shift)}, flip = {str(self.flip).lower()}.",
                hint="shift needs an axis for each number, before the channels; flip an image.",
            )

    def apply(self, inputs: Array, random: np.random.Generator) -> Array:
        """Augment a batch of inputs `[n, ...]`; see `apply_to_both`."""
        return self.apply_to_both(inputs, None, None, random)[0]

    def apply_to_both(
        self,
        inputs: Array,
        targets: Array | None,
        task: str | None,
        random: np.random.Generator,
    ) -> tuple[Array, Array | None]:
        """Augment a batch; masks and boxes move as their pictures do.

        Args:
            inputs: `[n, ...]`; not changed, as the targets.
            targets: `[n, ...]` as the task binds them, or None.
            task: What they mean: where it names no places in the inputs, they stay as they are.
            random: Random number generator.

        Returns:
            Arrays of the same shapes and types.
        """
        if self.flip:
            mirrored = random.random(len(inputs)) < 0.5
            inputs = _where(mirrored, inputs[:, :, ::-1], inputs)
            if targets is not None:
                targets = _where(mirrored, _flipped_targets(targets, task), targets)
        for axis, step in enumerate(self.shift, 1):
            if step:
                steps = random.integers(-step, step + 1, len(inputs))
                inputs = _shifted(inputs, axis, steps)
                if task == SEGMENTATION.name and targets is not None:
                    targets = _shifted(targets, axis, steps)
                if task == DETECTION.name and targets is not None:
                    targets = _moved_boxes(targets, axis, steps / inputs.shape[axis])
        if self.noise:
            inputs = inputs + random.normal(0, self.noise, inputs.shape).astype(inputs.dtype)
        return inputs, targets


def _flipped_targets(targets: Array, task: str | None) -> Array:
    """Return targets as they are of mirrored pictures."""
    if task == SEGMENTATION.name:
        return targets[:, :, ::-1]
    if task != DETECTION.name:
        return targets
    return np.concatenate(
        [1 - targets[..., 2:3], targets[..., 1:2], 1 - targets[..., :1], targets[..., 3:]], axis=-1
    )


def _moved_boxes(targets: Array, axis: int, shares: Array) -> Array:
    """Move the boxes of each picture down (axis 1) or right (axis 2) by a share of its side.

    They are cut at the edges; those of which nothing is left become padding.
    """
    low, high = (1, 3) if axis == 1 else (0, 2)
    moved = targets.copy()
    moved[..., [low, high]] = np.clip(targets[..., [low, high]] + shares[:, None, None], 0, 1)
    gone = moved[..., high] <= moved[..., low]
    moved[..., 4] = np.where(gone, -1, moved[..., 4])
    return moved


def _where(rows: Array, changed: Array, given: Array) -> Array:
    """Return `changed` in the rows that are marked, `given` in the others."""
    return np.where(rows.reshape(-1, *[1] * (given.ndim - 1)), changed, given)


def _shifted(inputs: Array, axis: int, steps: Array) -> Array:
    """Shift each sample along `axis` by its own number of steps, repeating the edge."""
    size = inputs.shape[axis]
    source = np.clip(np.arange(size)[None, :] - steps[:, None], 0, size - 1)
    shape = [1] * inputs.ndim
    shape[0], shape[axis] = source.shape
    return np.take_along_axis(inputs, source.reshape(shape), axis=axis)
