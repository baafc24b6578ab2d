"""One class a sample, told by the highest of `k` scores or by one unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.metrics import (
    ACCURACY,
    AVERAGE_PRECISION,
    BALANCED_ACCURACY,
    F1,
    PRECISION,
    ROC_AUC,
    Columns,
    Metric,
)
from edgekit.evaluation.tasks.class_labels import (
    are_flags,
    are_shares,
    as_classes,
    class_count,
    label_of,
)
from edgekit.evaluation.tasks.recalls import lost_recalls
from edgekit.evaluation.tasks.task import BoundTargets, Evidence, Task, shape_mismatch
from edgekit.evaluation.views import precision_recall
from edgekit.records import (
    TRUTH,
    Answer,
    Array,
    Batch,
    ClassScore,
    Collapse,
    Split,
    TensorSpec,
    Views,
)

RARE: Final = 0.05
"""A class with a smaller share of the test samples is rare, if it also has less than half of what
it would have were all classes alike: of a hundred like classes none is rare."""

CONFUSION_CLASSES: Final = 100
"""Of more classes there is no confusion matrix."""


class Classification(Task):
    """Targets are classes, counted from 0; the output is `[1, classes]` or `[1, 1]`."""

    name: ClassVar[str] = "classification"
    metrics: ClassVar[tuple[Metric, ...]] = (
        ACCURACY,
        BALANCED_ACCURACY,
        F1,
        PRECISION,
        AVERAGE_PRECISION,
        ROC_AUC,
    )
    has_labels: ClassVar[bool] = True

    def recognizes(self, evidence: Evidence) -> bool:
        """Whether targets are classes and the output has a unit for each."""
        if evidence.targets is None or class_count(evidence.output) is None:
            return False
        classes, _ = as_classes(evidence.targets)
        return classes is not None and (are_flags(classes) or evidence.output.shape[-1] > 1)

    def needs(self, output: TensorSpec) -> str:
        """Return what targets have to be for this output."""
        classes = class_count(output)
        return f"whole numbers [n] from 0 to {classes - 1}" if classes else ""

    def bind(
        self,
        targets: Array,
        output: TensorSpec,
        *,
        split: Split,
        labels: tuple[str, ...] | None,
        place: str,
    ) -> BoundTargets:
        """Return the classes, int64 `[n]`."""
        _ = split
        n_classes = class_count(output)
        if n_classes is None:
            raise DataError(
                f"{place}: a classifier's output is [1, classes].",
                found=f"Output {output.name!r} is {list(output.shape)}.",
                hint="Give task regression or reconstruction, or another model.",
            )
        classes, note = as_classes(targets)
        if classes is None:
            raise DataError(
                f"{place}: the targets are no class labels.",
                found=f"They are {targets.dtype} of shape {list(targets.shape)}, the model has "
                f"{n_classes} classes.",
                hint="Give whole numbers [n], one-hot rows or texts, or task regression.",
            )
        if targets.ndim == 2 and targets.shape[1] > 1 and targets.shape[1] != n_classes:
            raise DataError(
                f"{place}: the one-hot labels have {targets.shape[1]} columns, the model has "
                f"{n_classes} classes.",
                hint="Make both from the same list of classes.",
            )
        outside = np.flatnonzero((classes < 0) | (classes >= n_classes))
        if len(outside):
            row = int(outside[0])
            known = labels is not None and 0 <= classes[row] < len(labels)
            named = f" ({labels[classes[row]]!r:.40})" if labels is not None and known else ""
            raise DataError(
                f"{place}: sample {row} has label {classes[row]}{named}, the model has "
                f"{n_classes} classes.",
                found=f"{len(outside)} of {len(classes)} labels are not in 0-{n_classes - 1}.",
                hint="Number the classes from 0, or give a model with an output for each.",
            )
        return BoundTargets(targets=classes, note=note)

    def check_labels(self, labels: tuple[str, ...] | None, output: TensorSpec, name: str) -> None:
        """Raise where the data names another number of classes than the model has."""
        n_classes = class_count(output)
        if labels is not None and len(labels) != n_classes:
            names = ", ".join(labels[:6]) + (", ..." if len(labels) > 6 else "")
            raise DataError(
                f"{name} has {len(labels)} classes, the model has {n_classes}.",
                found=f"Classes: {names}.",
                hint="List the model's classes in its order (labels.txt in the folder, or labels).",
            )

    def per_sample(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        """Return `target`; `predicted`, `rank` and `units`, or `value` for a model with one unit.

        And `pair`, the scores of both classes, for a model with two. `rank` counts the classes
        that score higher than the true one; ties go to the lower index, as in an argmax.
        """
        if batch.targets is None:
            raise DataError("The test split has no targets to score with.")
        flat = outputs.reshape(len(outputs), -1)
        n, units = flat.shape
        classes = max(units, 2)
        truth = batch.targets.reshape(n, -1)
        if truth.shape[1] != 1:
            raise shape_mismatch("targets", batch.targets, flat)
        target = truth[:, 0].astype(np.int64)
        if target.min() < 0 or target.max() >= classes:
            raise DataError(
                f"The labels do not fit the model: it knows {classes} classes.",
                found=f"Labels from {target.min()} to {target.max()}.",
                hint="Labels count from 0. Check that data and model belong together.",
            )
        sound = np.logical_not(np.isnan(flat).any(axis=1))
        if units == 1:
            return {"sound": sound, "target": target, "value": flat[:, 0].astype(np.float64)}
        true_score = np.take_along_axis(flat, truth.astype(np.int64), axis=1)
        ahead = (flat == true_score) & (np.arange(units) < target[:, None])
        rank = np.sum((flat > true_score) | ahead, axis=1)
        return {
            "sound": sound,
            "target": target,
            "predicted": flat.argmax(axis=1),
            "rank": rank,
            "units": np.full(n, units),
            **({"pair": flat.astype(np.float64)} if units == 2 else {}),
        }

    def complete(self, columns: Columns) -> Columns:
        """Split a single unit into two classes; add `score`, that of class 1, where there are two.

        A unit is split at 0.5 where all its values lie in [0, 1] (a sigmoid), else at 0 (a logit).
        The score of class 1 is its own where all are in [0, 1], else what it is ahead of class 0.
        """
        if "value" in columns:
            value = columns["value"]
            predicted = (value > _threshold(value)).astype(np.int64)
            return {**columns, "predicted": predicted, "score": value}
        if "pair" in columns:
            zero, one = columns["pair"].T
            return {**columns, "score": one if are_shares(columns["pair"]) else one - zero}
        return columns

    def metrics_of(self, columns: Columns) -> tuple[Metric, ...]:
        """Return all metrics for two classes; for more, those that need no score of one class."""
        known = "predicted" in columns  # of the outputs
        two = "score" in columns if known else int(columns["target"].max()) < 2
        return self.metrics if two else tuple(m for m in self.metrics if m not in _OF_TWO_CLASSES)

    def default_metric(
        self, columns: Columns, labels: Sequence[str] | None = None
    ) -> tuple[Metric, str]:
        """Return balanced accuracy where a class is rare: accuracy hardly tells if it is found.

        See `RARE`. A class without samples does not count.
        """
        classes, counts = np.unique(columns["target"], return_counts=True)
        share = float(counts.min() / counts.sum())
        if share >= min(RARE, 1 / (2 * len(classes))):
            return ACCURACY, ""
        label = label_of(int(classes[counts.argmin()]), labels)
        return BALANCED_ACCURACY, f"{label!r} is {100 * share:.2g} % of the samples"

    def extras(self, columns: Columns) -> dict[str, float]:
        """Return `top5_accuracy`, where the model has more than five classes."""
        if "rank" not in columns or columns["units"][0] <= 5:
            return {}
        return {"top5_accuracy": float(np.mean(columns["rank"] < 5))}

    def per_class(self, columns: Columns, labels: Sequence[str] | None) -> tuple[ClassScore, ...]:
        """Return recall and precision of every class; 0 where nothing was there to find."""
        classes = max(_class_total(columns), len(labels or ()))
        target, predicted = columns["target"], columns["predicted"]
        present = np.bincount(target, minlength=classes)
        named = np.bincount(predicted, minlength=classes)
        right = np.bincount(target[target == predicted], minlength=classes)
        return tuple(
            ClassScore(
                label=label_of(i, labels),
                n=int(present[i]),
                recall=float(right[i] / max(1, present[i])),
                precision=float(right[i] / max(1, named[i])),
            )
            for i in range(classes)
        )

    def confusion(
        self, columns: Columns, labels: Sequence[str] | None
    ) -> tuple[tuple[int, ...], ...]:
        """Return counts of samples, for up to `CONFUSION_CLASSES` classes."""
        classes = max(_class_total(columns), len(labels or ()))
        if classes > CONFUSION_CLASSES:
            return ()
        pairs = columns["target"] * classes + columns["predicted"]
        counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        return tuple(tuple(row) for row in counts.tolist())

    def views(self, columns: Columns, labels: Sequence[str] | None) -> Views:
        """Return the precision-recall curve of the rarer class, where there are two."""
        if "score" not in columns:
            return Views()
        target, score = columns["target"], columns["score"]
        rarer = int(np.mean(target == 1) <= 0.5)
        ranked = score if rarer else -score
        label = label_of(rarer, labels)
        return Views(
            curves=(precision_recall(target == rarer, ranked, label=label),),
            threshold=_threshold(columns["value"]) if "value" in columns else None,
        )

    def quality(self, columns: Columns) -> Array:
        """Return 1 where the class is right, else 0."""
        right: Array = (columns["predicted"] == columns["target"]).astype(np.float64)
        return right

    def answers(
        self,
        outputs: Mapping[str, Array],
        batch: Batch,
        labels: Sequence[str] | None,
        threshold: float | None = None,
    ) -> tuple[tuple[Answer, ...], ...]:
        """Return the class of each sample, and the class that files give it, with its score."""
        assert batch.targets is not None
        target = batch.targets.reshape(-1).astype(np.int64).tolist()
        scores = _scores(outputs, threshold)
        shares = threshold != 0 and all(map(are_shares, scores.values()))

        def answer(name: str, row: int) -> Answer:
            number = int(scores[name][row].argmax())
            value = scores[name][row, number]
            text = f"{100 * value:.0f} %" if shares else f"score {value:.3g}"
            right = number == target[row]
            return Answer(
                name=name,
                text=f"{label_of(number, labels)}, {text}",
                right=right,
                quality=float(right),
            )

        return tuple(
            (
                Answer(name=TRUTH, text=label_of(truth, labels)),
                *(answer(name, row) for name in scores),
            )
            for row, truth in enumerate(target)
        )

    def agreement(self, reference: Columns, variant: Columns) -> float | None:
        """Return the share of samples that are given the same class by both."""
        return float(np.mean(reference["predicted"] == variant["predicted"]))

    def collapses(
        self, reference: Columns, variant: Columns, labels: Sequence[str] | None
    ) -> tuple[Collapse, ...]:
        """Return the classes that the variant no longer finds; see `recalls.lost_recalls`."""
        target = reference["target"]
        before, after = (side["predicted"] == target for side in (reference, variant))
        classes = int(target.max()) + 1
        n, *counts = (
            np.bincount(target, weights=flags, minlength=classes).astype(int)
            for flags in (
                np.ones(len(target)),
                before,
                after,
                before & ~after,
                after & ~before,
            )
        )
        return lost_recalls(n, *counts, labels=labels)


_OF_TWO_CLASSES = (AVERAGE_PRECISION, ROC_AUC)


def _threshold(value: Array) -> float:
    """Return where a single unit is split: a probability at 0.5, a logit at 0."""
    return 0.5 if are_shares(value) else 0.0


def _scores(outputs: Mapping[str, Array], threshold: float | None) -> dict[str, Array]:
    """Return the scores of each class, `[k, classes]`; of one unit, those of both classes."""
    flat = {name: values.reshape(len(values), -1) for name, values in outputs.items()}
    if any(values.shape[1] > 1 for values in flat.values()):
        return flat
    return {
        name: np.concatenate([1 - one if threshold else -one, one], axis=1)
        for name, one in flat.items()
    }


def _class_total(columns: Columns) -> int:
    if "value" in columns:
        return 2
    return max(int(columns["target"].max()), int(columns["predicted"].max())) + 1


CLASSIFICATION = Classification()
