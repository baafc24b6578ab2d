"""What a task is: how targets look, how outputs are compared with them, what is reported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.metrics import Columns, Metric
from edgekit.records import (
    Answer,
    Array,
    Batch,
    ClassScore,
    Collapse,
    Split,
    TensorSpec,
    Views,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of data and model when the task has to be inferred.

    Attributes:
        targets: Those of the test split, else of the train split; None where there are none.
        unlabelled_train: Whether there is a train split without targets.
        inputs: The model's inputs.
        output: The output that is scored.
        headed: Whether it is known how the outputs tell boxes.
    """

    targets: Array | None
    unlabelled_train: bool
    inputs: Sequence[TensorSpec]
    output: TensorSpec
    headed: bool = False

    @property
    def mirrors_an_input(self) -> bool:
        """Whether the output has the shape of an input."""
        return any(spec.shape[1:] == self.output.shape[1:] for spec in self.inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTargets:
    """Targets as a task compares outputs with them.

    Attributes:
        targets: `[n, ...]`, or None where the split needs none.
        shape: The shape of one sample's target when it is read, for targets that are quantities.
        note: What was changed without being asked for, or None.
    """

    targets: Array | None
    shape: tuple[int, ...] | None = None
    note: str | None = None


class Task(ABC):
    """What the targets mean for a model. One instance of each subclass stands in `TASKS`.

    Attributes:
        name: The name in JSON and on the command line.
        metrics: The metrics that can be judged by; the first is the default unless
            `default_metric` has a reason for another.
        missing_targets: What to add where the test split has no targets.
        has_labels: Whether class names apply.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    missing_targets: ClassVar[str] = "Add y_test"
    has_labels: ClassVar[bool] = False

    @abstractmethod
    def recognizes(self, evidence: Evidence) -> bool:
        """Whether data and model look like this task."""

    @abstractmethod
    def needs(self, output: TensorSpec) -> str:
        """Return what targets have to be for this output, in words; empty where nothing fits."""

    @abstractmethod
    def bind(
        self,
        targets: Array,
        output: TensorSpec,
        *,
        split: Split,
        labels: tuple[str, ...] | None,
        place: str,
    ) -> BoundTargets:
        """Check targets against the output, and bring them into the form `per_sample` takes.

        Args:
            targets: `[n, ...]`, as stored.
            output: The output that is scored.
            split: The split they are of.
            labels: Names of the classes, where the data has them.
            place: Data set and split, for messages.

        Raises:
            DataError: They do not fit.
        """

    def check_labels(self, labels: tuple[str, ...] | None, output: TensorSpec, name: str) -> None:
        """Raise a `DataError` where the data's class names do not fit the model."""
        _ = self, labels, output, name

    def label_note(self, labels: tuple[str, ...] | None) -> str | None:
        """Return what is to be said of how the class names were understood, or None."""
        _ = labels
        return None

    @abstractmethod
    def per_sample(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        """Compare outputs `[k, ...]` with the targets of a batch.

        Returns:
            Columns `[k]`; `sound` says which samples have outputs that can be scored at all.

        Raises:
            DataError: Outputs and targets do not fit.
        """

    def complete(self, columns: Columns) -> Columns:
        """Add what can only be told from all samples together."""
        return columns

    def metrics_of(self, columns: Columns) -> tuple[Metric, ...]:
        """Return those of `metrics` that this model and data have.

        Args:
            columns: As `complete` returns them; or the targets alone, under `target`, where the
                model has not been run: then a metric that only the outputs rule out is among them.
        """
        _ = columns
        return self.metrics

    def default_metric(
        self, columns: Columns, labels: Sequence[str] | None = None
    ) -> tuple[Metric, str]:
        """Return the metric that is judged by where none is named, and why if not the usual one.

        Only the targets may decide, so that every file is judged by the same.

        Args:
            columns: At least `target`.
            labels: Names of the classes.

        Returns:
            The metric, and the reason in words; empty for the first of `metrics`.
        """
        _ = columns, labels
        return self.metrics[0], ""

    def extras(self, columns: Columns) -> dict[str, float]:
        """Return further figures, by name."""
        _ = columns
        return {}

    def per_class(self, columns: Columns, labels: Sequence[str] | None) -> tuple[ClassScore, ...]:
        """Return a row for each class, where there are classes."""
        _ = columns, labels
        return ()

    def confusion(
        self, columns: Columns, labels: Sequence[str] | None
    ) -> tuple[tuple[int, ...], ...]:
        """Return counts of samples, `[true class][predicted class]`, where there are classes."""
        _ = columns, labels
        return ()

    def views(self, columns: Columns, labels: Sequence[str] | None) -> Views:
        """Return what is drawn of a score: histograms, scatters, curves."""
        _ = columns, labels
        return Views()

    def quality(self, columns: Columns) -> Array | None:
        """Return how good each sample's output is, `[n]` from 0 to 1, for the worst to be shown.

        None where a single sample, looked at, tells nothing.
        """
        _ = columns
        return None

    def answers(
        self,
        outputs: Mapping[str, Array],
        batch: Batch,
        labels: Sequence[str] | None,
        threshold: float | None = None,
    ) -> tuple[tuple[Answer, ...], ...]:
        """Return what is true of each sample and what files say of it, to be shown beside it.

        Args:
            outputs: Name of the file -> the scored output of it, `[k, ...]`.
            batch: The `k` samples.
            labels: Names of the classes, where there are any.
            threshold: That of the float model's `Views`.
        """
        _ = outputs, batch, labels, threshold
        return ()

    def each_column(self, columns: Columns) -> Mapping[int, Columns]:
        """Return the columns of an output that are judged one by one, by their index.

        Each as if it were the only output, so that every metric of the task takes it.
        """
        _ = columns
        return {}

    def agreement(self, reference: Columns, variant: Columns) -> float | None:
        """Return the share of samples on which two models say the same, where that is defined."""
        _ = reference, variant
        return None

    def collapses(
        self, reference: Columns, variant: Columns, labels: Sequence[str] | None
    ) -> tuple[Collapse, ...]:
        """Return what the variant no longer tells though the float model does, by the targets.

        What an output no longer tells, whatever the targets, is told by `evaluation.fidelity`.

        Args:
            reference: Per-sample statistics of the float model.
            variant: Those of the variant, of the same samples.
            labels: Names of the classes, where there are any.
        """
        _ = self, reference, variant, labels
        return ()


def shape_mismatch(what: str, given: Array, outputs: Array) -> DataError:
    """Return the error for targets or inputs `[n, ...]` that an output `[n, ...]` cannot match."""
    return DataError(
        f"The {what} do not fit the model's output.",
        found=f"A sample's {what} have shape {list(given.shape[1:])}, its output "
        f"{list(outputs.shape[1:])}.",
        hint="Check that data and model belong together, and the task.",
    )


def mean_square(flat: Array, truth: Array) -> Array:
    """Return the mean squared difference of each sample, `[k]`."""
    means: Array = squared_differences(flat, truth).mean(axis=1)
    return means


def squared_differences(flat: Array, truth: Array) -> Array:
    """Return the squared differences, in the shape of both."""
    with np.errstate(over="ignore"):  # what overflows is reported as such
        squares: Array = np.square(flat.astype(np.float64) - truth)
    return squares
