"""How good a model's outputs are, with a 95 % interval.

In two steps, because the first runs in the children, piece by piece, and leaves a number or two
per sample: `per_sample` compares outputs with targets, `aggregate` makes the score of all samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation import intervals
from edgekit.evaluation.predict import sweep
from edgekit.records import Array, Batch, ClassScore, Dataset, Listener, Score, Task, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A score and what it was made of, to be compared with another's on the same samples.

    Attributes:
        score: The score.
        judged: `[n]`, by the score's metric: the predicted class (accuracy), the squared error
            (rmse), the reconstruction error (roc_auc).
        targets: `[n]` classes or 0/1 anomaly flags; empty for rmse.
    """

    score: Score
    judged: Array
    targets: Array


def evaluate(
    path: Path,
    dataset: Dataset,
    *,
    output: str | None = None,
    processes: int | None = None,
    listener: Listener = silent,
) -> Evaluation:
    """Score a `.tflite` file on the test split.

    Args:
        path: The file.
        dataset: Bound to the model (its task is known).
        output: The output to score; the only one where None.
        processes: Children at work; one per usable core where None.
        listener: Progress callback.

    Raises:
        ModelError: The file cannot be read or run, or its outputs are not numbers.
        DataError: There is nothing to score on, or it does not fit the outputs.
        UsageError: `output` names none of the outputs, or is needed.
    """
    task = dataset.task
    if dataset.test is None or task is None:
        missing = "test split" if task else "task"
        raise DataError(f"{path.name} cannot be scored: {dataset.name} has no {missing}.")

    def collect(batch: Batch, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return per_sample(_chosen(outputs, output, path), batch, task)

    columns = sweep(path, dataset.test, collect, processes=processes, listener=listener)
    check_finite(columns, path)
    return aggregate(columns, task, labels=dataset.labels)


def check_finite(columns: Mapping[str, Array], path: Path) -> None:
    """Raise where a file's outputs, judged sample by sample, cannot be scored.

    Raises:
        ModelError: Some are NaN or infinite.
    """
    if broken := int(np.sum(~columns["sound"])):
        raise ModelError(
            f"{path} has no score: it computes NaN or infinity.",
            found=f"{broken:,} of {len(columns['sound']):,} test samples end so.",
            hint="Look for weights or activations beyond the precision's range.",
        )


def score(
    outputs: Array, batch: Batch, *, task: Task, labels: Sequence[str] | None = None
) -> Score:
    """Return the score of outputs `[n, ...]`; see `per_sample` and `aggregate`."""
    return aggregate(per_sample(outputs, batch, task), task, labels=labels).score


def per_sample(outputs: Array, batch: Batch, task: Task) -> dict[str, Array]:
    """Compare outputs `[k, ...]` with the targets, sample by sample.

    Returns:
        Columns `[k]`: `sound` (no NaN, and no infinity where errors are squared), and
        `target`, `predicted`, `rank` (classes that score higher than the true one; ties go to the
        lower index, as in an argmax) for a classifier,
        `target`, `value` for a classifier with one unit,
        `squared`, `absolute` (means over a sample's outputs) for regression,
        `target`, `squared` (against the input) for reconstruction.

    Raises:
        DataError: Outputs and targets do not fit.
    """
    if batch.targets is None:
        raise DataError("The test split has no targets to score with.")
    flat = outputs.reshape(len(outputs), -1)
    if task == "classification":
        return _judge_classes(flat, batch.targets)
    if task == "regression":
        truth = batch.targets.reshape(len(outputs), -1)
        if truth.shape != flat.shape:
            raise _unlike("targets", batch.targets, outputs)
        squared = _mean_square(flat, truth)
        absolute = np.mean(np.abs(flat - truth), axis=1)
        return {"sound": np.isfinite(squared), "squared": squared, "absolute": absolute}
    original = next(iter(batch.inputs.values()))
    truth = original.reshape(len(outputs), -1)
    if truth.shape != flat.shape or len(batch.inputs) > 1:
        raise _unlike("inputs", original, outputs)
    flags = batch.targets.reshape(len(outputs), -1)
    if flags.shape[1] != 1 or not np.isin(flags, (0, 1)).all():
        raise DataError(
            "Anomaly targets must be one 0 (normal) or 1 (anomaly) a sample.",
            found=f"Found shape {list(batch.targets.shape[1:])} and values "
            f"{flags.min()} to {flags.max()}.",
        )
    squared = _mean_square(flat, truth)
    return {"sound": np.isfinite(squared), "squared": squared, "target": flags[:, 0].astype(bool)}


def _mean_square(flat: Array, truth: Array) -> Array:
    """Return the mean squared difference of each sample, `[k]`."""
    with np.errstate(over="ignore"):  # what overflows is reported as such
        squares: Array = np.square(flat.astype(np.float64) - truth)
    means: Array = squares.mean(axis=1)
    return means


def _judge_classes(flat: Array, targets: Array) -> dict[str, Array]:
    """Judge class scores `[k, classes]`, or one unit `[k, 1]`, against labels `[k]`."""
    n, units = flat.shape
    classes = max(units, 2)
    truth = targets.reshape(n, -1)
    if truth.shape[1] != 1:
        raise _unlike("targets", targets, flat)
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
    return {"sound": sound, "target": target, "predicted": flat.argmax(axis=1), "rank": rank}


def aggregate(
    columns: Mapping[str, Array], task: Task, *, labels: Sequence[str] | None = None
) -> Evaluation:
    """Make the score of all samples of what `per_sample` said of each.

    One unit stands for two classes, split at 0.5 where all its values lie in [0, 1] (a sigmoid),
    else at 0 (a logit).

    Raises:
        DataError: ROC AUC without two samples of either kind.
    """
    if task == "regression":
        return _conclude_errors(columns)
    if task == "reconstruction":
        return _conclude_anomalies(columns)
    target = columns["target"]
    extras = {}
    if "value" in columns:
        value = columns["value"]
        threshold = 0.5 if value.min() >= 0 and value.max() <= 1 else 0.0
        predicted = (value > threshold).astype(np.int64)
        classes = 2
    else:
        predicted = columns["predicted"]
        classes = max(int(target.max()), int(predicted.max())) + 1
    if labels is not None:
        classes = max(classes, len(labels))
    if "rank" in columns and classes > 5:
        extras["top5_accuracy"] = float(np.mean(columns["rank"] < 5))
    right = int(np.sum(predicted == target))
    return Evaluation(
        score=Score(
            metric="accuracy",
            value=right / len(target),
            n=len(target),
            ci95=intervals.wilson(right, len(target)),
            extras=extras,
            per_class=_per_class(target, predicted, classes, labels),
        ),
        judged=predicted,
        targets=target,
    )


def _per_class(
    target: Array, predicted: Array, classes: int, labels: Sequence[str] | None
) -> tuple[ClassScore, ...]:
    """Return recall and precision of every class; 0 where nothing was there to find."""
    present = np.bincount(target, minlength=classes)
    named = np.bincount(predicted, minlength=classes)
    right = np.bincount(target[target == predicted], minlength=classes)
    return tuple(
        ClassScore(
            label=labels[i] if labels is not None and i < len(labels) else str(i),
            n=int(present[i]),
            recall=float(right[i] / max(1, present[i])),
            precision=float(right[i] / max(1, named[i])),
        )
        for i in range(classes)
    )


def _conclude_errors(columns: Mapping[str, Array]) -> Evaluation:
    squared = columns["squared"]
    return Evaluation(
        score=Score(
            metric="rmse",
            value=float(np.sqrt(squared.mean())),
            n=len(squared),
            ci95=intervals.bootstrap(squared[:, None], lambda means: np.sqrt(means[..., 0])),
            extras={"mae": float(columns["absolute"].mean())},
        ),
        judged=squared,
        targets=np.empty(0),
    )


def _conclude_anomalies(columns: Mapping[str, Array]) -> Evaluation:
    flags, errors = columns["target"], columns["squared"]
    anomalies = int(flags.sum())
    if min(anomalies, len(flags) - anomalies) < 2:
        raise DataError(
            "ROC AUC needs at least two normal and two anomalous test samples.",
            found=f"Found {len(flags) - anomalies} normal and {anomalies} anomalous.",
        )
    areas, covariance = intervals.delong(errors[None], flags)
    area = float(areas[0])
    return Evaluation(
        score=Score(
            metric="roc_auc",
            value=area,
            n=len(flags),
            ci95=intervals.area_interval(area, float(covariance[0, 0]), flags),
        ),
        judged=errors,
        targets=flags,
    )


def _chosen(outputs: Mapping[str, Array], name: str | None, path: Path) -> Array:
    """Return the output to score: the one named, or the first."""
    if name is None:
        return next(iter(outputs.values()))
    if name in outputs:
        return outputs[name]
    raise UsageError(
        f"{path.name} has {len(outputs)} output{'s' * (len(outputs) != 1)}: {', '.join(outputs)}.",
        found=f"None is named {name}.",
        hint="Name the one to score with --score-output.",
    )


def _unlike(what: str, given: Array, outputs: Array) -> DataError:
    return DataError(
        f"The {what} do not fit the model's output.",
        found=f"A sample's {what} have shape {list(given.shape[1:])}, its output "
        f"{list(outputs.shape[1:])}.",
        hint="Check that data and model belong together, and the task.",
    )
