"""Anomalies: the output is held against the input, and the error against flags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.metrics import AVERAGE_PRECISION, ROC_AUC, Columns, Metric
from edgekit.evaluation.tasks.class_labels import are_flags, as_classes, class_count
from edgekit.evaluation.tasks.task import (
    BoundTargets,
    Evidence,
    Task,
    mean_square,
    shape_mismatch,
)
from edgekit.evaluation.views import histograms, precision_recall
from edgekit.records import Array, Batch, Split, TensorSpec, Views

NORMAL: Final = "normal"
ANOMALY: Final = "anomaly"


class Reconstruction(Task):
    """Targets are 0 (normal) or 1 (anomaly), in the test split; the output rebuilds the input."""

    name: ClassVar[str] = "reconstruction"
    metrics: ClassVar[tuple[Metric, ...]] = (ROC_AUC, AVERAGE_PRECISION)
    missing_targets: ClassVar[str] = "Add y_test, 0 for normal and 1 for anomalies"

    def recognizes(self, evidence: Evidence) -> bool:
        """Whether the output has an input's shape and targets, if any, are flags."""
        if not evidence.mirrors_an_input:
            return False
        if evidence.targets is None:
            return True
        classes, _ = as_classes(evidence.targets)
        two_classes = class_count(evidence.output) == 2
        return are_flags(classes) and (not two_classes or evidence.unlabelled_train)

    def needs(self, output: TensorSpec) -> str:
        """Return what targets have to be, and what the output has to be."""
        return f"flags [n], and inputs {list(output.shape)} like the output"

    def bind(
        self,
        targets: Array,
        output: TensorSpec,
        *,
        split: Split,
        labels: tuple[str, ...] | None,
        place: str,
    ) -> BoundTargets:
        """Return the flags of the test split, int64 `[n]`; training needs none."""
        _ = output, labels
        if split != "test":
            return BoundTargets(targets=None)
        classes, _ = as_classes(targets)
        if classes is None or not are_flags(classes):
            raise DataError(
                f"{place}: a model that rebuilds its input is scored on flags 0 (normal) and 1.",
                found=f"Targets are {targets.dtype} {list(targets.shape)}.",
                hint="Give y_test with 1 for each anomaly, 0 for all else.",
            )
        values = np.unique(classes)
        if len(values) < 2:
            raise DataError(
                f"{place}: all samples carry the flag {values[0]}.",
                found="ROC AUC compares normal samples with anomalies.",
                hint="Add samples of the other kind.",
            )
        return BoundTargets(targets=classes)

    def label_note(self, labels: tuple[str, ...] | None) -> str | None:
        """Return which of two named classes is taken for the anomalies."""
        if labels is None or len(labels) < 2:
            return None
        return f"{labels[1]!r} (label 1) is taken for the anomalies."

    def per_sample(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        """Return `target` (true for anomalies) and `squared`, the reconstruction error.

        And `group`, where samples are windows of a clip or of a machine.
        """
        if batch.targets is None:
            raise DataError("The test split has no targets to score with.")
        flat = outputs.reshape(len(outputs), -1)
        original = next(iter(batch.inputs.values()))
        truth = original.reshape(len(outputs), -1)
        if truth.shape != flat.shape or len(batch.inputs) > 1:
            raise shape_mismatch("inputs", original, outputs)
        flags = batch.targets.reshape(len(outputs), -1)
        if flags.shape[1] != 1 or not np.isin(flags, (0, 1)).all():
            raise DataError(
                "Anomaly targets must be one 0 (normal) or 1 (anomaly) a sample.",
                found=f"Found shape {list(batch.targets.shape[1:])} and values "
                f"{flags.min()} to {flags.max()}.",
            )
        squared = mean_square(flat, truth)
        target = flags[:, 0].astype(bool)
        return {
            "sound": np.isfinite(squared),
            "squared": squared,
            "target": target,
            **({} if batch.groups is None else {"group": batch.groups}),
        }

    def complete(self, columns: Columns) -> Columns:
        """Take the error for the score that tells anomalies, averaged over groups where they are.

        Raises:
            DataError: A group has both normal samples and anomalies.
        """
        if "group" not in columns:
            return {**columns, "score": columns["squared"]}
        _, places = np.unique(columns["group"], return_inverse=True)
        sizes = np.bincount(places)
        ones = np.bincount(places, columns["target"])
        mixed = np.flatnonzero((ones > 0) & (ones < sizes))
        if len(mixed):
            first = int(np.argmax(places == mixed[0]))
            raise DataError(
                f"The group of test sample {first} has both flags.",
                found=f"{int(ones[mixed[0]])} of its {sizes[mixed[0]]} samples are anomalies.",
                hint="All samples of a group need one flag in y_test.",
            )
        error = np.bincount(places, columns["squared"]) / sizes
        return {
            "sound": np.ones(len(sizes), np.bool_),
            "squared": error,
            "target": ones > 0,
            "score": error,
        }

    def views(self, columns: Columns, labels: Sequence[str] | None) -> Views:
        """Return the errors of both kinds, and the precision-recall curve of anomalies."""
        _ = labels
        anomaly, error = columns["target"], columns["score"]
        return Views(
            errors=histograms(error, anomaly, (NORMAL, ANOMALY)),
            curves=(precision_recall(anomaly, error, label=ANOMALY),),
        )


RECONSTRUCTION = Reconstruction()
