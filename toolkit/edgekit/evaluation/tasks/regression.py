"""Quantities: the output is held against targets of its own shape."""

from __future__ import annotations

import math
from typing import ClassVar, Final

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.metrics import RMSE, Columns, Metric
from edgekit.evaluation.tasks.task import (
    BoundTargets,
    Evidence,
    Task,
    mean_square,
    shape_mismatch,
)
from edgekit.records import Array, Batch, Split, TensorSpec

COLUMNS: Final = 64
"""The most columns of an output that are kept apart; of wider ones, such as pictures, means."""


class Regression(Task):
    """Targets are numbers, one for each unit of the output."""

    name: ClassVar[str] = "regression"
    metrics: ClassVar[tuple[Metric, ...]] = (RMSE,)

    def recognizes(self, evidence: Evidence) -> bool:
        """Whether there are targets at all: what is nothing else is quantities."""
        return evidence.targets is not None

    def bind(
        self,
        targets: Array,
        output: TensorSpec,
        *,
        split: Split,
        labels: tuple[str, ...] | None,
        place: str,
    ) -> BoundTargets:
        """Return the targets, to be read in the output's shape."""
        _ = split
        shape = output.shape[1:]
        if labels is not None:
            raise DataError(
                f"{place}: the targets are {len(labels)} classes, the model predicts quantities.",
                found=f"Output {output.name!r} is {list(output.shape)}.",
                hint="Give a classifier, or numbers as targets.",
            )
        if targets.dtype.kind not in "biuf" or math.prod(targets.shape[1:]) != math.prod(shape):
            raise DataError(
                f"{place}: the targets do not fit the model's output {output.name!r}.",
                found=f"Targets are {targets.dtype} {list(targets.shape)}, the output is "
                f"{list(output.shape)}.",
                hint="Give one number an output unit and sample.",
            )
        return BoundTargets(targets=targets, shape=shape)

    def per_sample(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        """Return `squared`, `absolute`, `target_mean`, `target_square`: means over a sample.

        And `target`, `[k, columns]`, where an output has at most `COLUMNS` of them.
        """
        if batch.targets is None:
            raise DataError("The test split has no targets to score with.")
        flat = outputs.reshape(len(outputs), -1).astype(np.float64)
        truth = batch.targets.reshape(len(outputs), -1)
        if truth.shape != flat.shape:
            raise shape_mismatch("targets", batch.targets, outputs)
        squared = mean_square(flat, truth)
        absolute = np.mean(np.abs(flat - truth), axis=1)
        wide = truth.astype(np.float64)
        apart = {"target": wide} if wide.shape[1] <= COLUMNS else {}
        return {
            "sound": np.isfinite(squared),
            "squared": squared,
            "absolute": absolute,
            # Its spread is that of the targets; of several outputs, at most what theirs average.
            "target_mean": wide.mean(axis=1),
            "target_square": np.square(wide).mean(axis=1),
            **apart,
        }

    def extras(self, columns: Columns) -> dict[str, float]:
        """Return `mae`, the mean absolute error."""
        return {"mae": float(columns["absolute"].mean())}


REGRESSION = Regression()
