"""Quantities: the output is held against targets of its own shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.metrics import MAE, R2, RMSE, Columns, Metric
from edgekit.evaluation.tasks.task import (
    BoundTargets,
    Evidence,
    Task,
    shape_mismatch,
    squared_differences,
)
from edgekit.evaluation.views import scatters
from edgekit.records import Array, Batch, Split, TensorSpec, Views

COLUMNS: Final = 64
"""The most columns of an output that are kept apart; of wider ones, such as pictures, means."""


class Regression(Task):
    """Targets are numbers, one for each unit of the output."""

    name: ClassVar[str] = "regression"
    metrics: ClassVar[tuple[Metric, ...]] = (RMSE, MAE, R2)

    def recognizes(self, evidence: Evidence) -> bool:
        """Whether there are targets at all: what is nothing else is quantities."""
        return evidence.targets is not None

    def needs(self, output: TensorSpec) -> str:
        """Return what targets have to be for this output."""
        return f"numbers {['n', *output.shape[1:]]}".replace("'", "")

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
                hint="Leave out the labels, which name classes, or give another --task or model.",
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

        And `target`, `predicted` and `squares`, `[k, columns]`, where an output has at most
        `COLUMNS` of them.
        """
        if batch.targets is None:
            raise DataError("The test split has no targets to score with.")
        flat = outputs.reshape(len(outputs), -1).astype(np.float64)
        truth = batch.targets.reshape(len(outputs), -1)
        if truth.shape != flat.shape:
            raise shape_mismatch("targets", batch.targets, outputs)
        wide = truth.astype(np.float64)
        squares = squared_differences(flat, wide)
        squared = squares.mean(axis=1)
        absolute = np.mean(np.abs(flat - wide), axis=1)
        apart = {"target": wide, "predicted": flat, "squares": squares}
        return {
            "sound": np.isfinite(squared),
            "squared": squared,
            "absolute": absolute,
            # Its spread is that of the targets; of several outputs, at most what theirs average.
            "target_mean": wide.mean(axis=1),
            "target_square": np.square(wide).mean(axis=1),
            **(apart if wide.shape[1] <= COLUMNS else {}),
        }

    def views(self, columns: Columns, labels: Sequence[str] | None) -> Views:
        """Return predicted against true values, where columns are kept apart."""
        _ = labels
        if "predicted" not in columns:
            return Views()
        return Views(scatters=scatters(columns["target"], columns["predicted"]))

    def each_column(self, columns: Columns) -> Mapping[int, Columns]:
        """Return the columns whose targets vary, where an output has 2 to `COLUMNS` columns.

        Where targets are all alike there is nothing to predict, and nothing that a share of the
        error could be accepted of.
        """
        if "squares" not in columns or columns["squares"].shape[1] < 2:
            return {}
        target, squares = columns["target"], columns["squares"]
        return {
            i: {
                "sound": columns["sound"],
                "squared": squares[:, i],
                "absolute": np.sqrt(squares[:, i]),
                "target_mean": target[:, i],
                "target_square": np.square(target[:, i]),
                "target": target[:, i : i + 1],
                "predicted": columns["predicted"][:, i : i + 1],
                "squares": squares[:, i : i + 1],
            }
            for i in np.flatnonzero(np.ptp(target, axis=0) > 0).tolist()
        }


REGRESSION = Regression()
