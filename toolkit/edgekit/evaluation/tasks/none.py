"""No task: targets mean what a metric of the user's own takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NoReturn

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.metrics import Columns, Metric
from edgekit.evaluation.tasks.task import BoundTargets, Evidence, Task
from edgekit.records import Array, Batch, Split, TensorSpec


class NoTask(Task):
    """Targets are anything with an entry for each sample; only the user's own function scores."""

    name: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def recognizes(self, evidence: Evidence) -> bool:
        """Never: it is what is left where a metric of the user's own is given."""
        _ = evidence
        return False

    def needs(self, output: TensorSpec) -> str:
        """Return nothing: it is no choice where targets fit no task."""
        _ = output
        return ""

    def bind(
        self,
        targets: Array,
        output: TensorSpec,
        *,
        split: Split,
        labels: tuple[str, ...] | None,
        place: str,
    ) -> BoundTargets:
        """Return the targets as they are."""
        _ = output, split, labels, place
        return BoundTargets(targets=targets)

    def per_sample(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        """Return `sound` alone."""
        _ = batch
        flat = outputs.reshape(len(outputs), -1)
        return {"sound": np.logical_not(np.isnan(flat).any(axis=1))}

    def default_metric(self, columns: Columns, labels: Sequence[str] | None = None) -> NoReturn:
        """Raise: nothing is known of the targets."""
        _ = columns, labels
        raise DataError(
            "Nothing is known of the targets: no metric of edgekit's can be judged by.",
            hint="Give --metric file.py:function, or --task.",
        )


NO_TASK = NoTask()
