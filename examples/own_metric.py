"""Judge files by a metric of your own: the macro-averaged F1 score, with intervals.

A metric is a value and two intervals over per-sample columns. For a classifier the task makes
`target` and `predicted`, each `[n]`.

python examples/own_metric.py DATA REFERENCE.tflite VARIANT.tflite...
"""

import sys
from pathlib import Path

import numpy as np

import edgekit
from edgekit import evaluation
from edgekit.data import bind, open_data
from edgekit.evaluation import intervals
from edgekit.evaluation.metrics import Columns, Metric
from edgekit.records import Array


def counts(columns: Columns) -> Array:
    """Return per sample and class whether it is found, is there, and is predicted, `[n, 3 k]`."""
    classes = np.unique(columns["target"])
    there = columns["target"][:, None] == classes
    predicted = columns["predicted"][:, None] == classes
    return np.concatenate([there & predicted, there, predicted], axis=1).astype(np.float64)


def f1_of(means: Array) -> Array:
    """Return the mean over classes of 2 * found / (there + predicted), from means `[..., 3 k]`."""
    found, there, predicted = np.split(means, 3, axis=-1)
    scores: Array = np.mean(2 * found / np.maximum(there + predicted, 1e-12), axis=-1)
    return scores


def paired_interval(reference: Columns, variant: Columns) -> intervals.Interval:
    """Return the interval of the loss, of both models on the same samples."""
    both = np.concatenate([counts(reference), counts(variant)], axis=1)

    def loss(means: Array) -> Array:
        before, after = np.split(means, 2, axis=-1)
        return f1_of(before) - f1_of(after)

    return intervals.bootstrap(both, loss)


MACRO_F1 = Metric(
    name="macro_f1",
    title="macro F1",
    unit="fraction",
    value=lambda columns: float(f1_of(counts(columns).mean(axis=0))),
    interval=lambda columns: intervals.bootstrap(counts(columns), f1_of),
    paired_interval=paired_interval,
    meaning="The mean over classes of the harmonic mean of precision and recall.",
)


def main() -> None:
    """Score every file, and compare all with the first."""
    data, *files = sys.argv[1:]
    details = edgekit.inspect(files[0])
    dataset = bind(open_data(data), details.inputs, details.outputs)
    reference = None
    for file in map(Path, files):
        found = evaluation.evaluate(file, dataset, metric=MACRO_F1)
        low, high = found.score.ci95
        line = f"{file.stem}: macro F1 {found.score.value:.4f} ({low:.4f} to {high:.4f})"
        if reference is not None:
            drop = evaluation.paired_drop(reference, found, max_drop=1)
            line += f", drop {drop.value:+.4f} ({drop.ci95[0]:+.4f} to {drop.ci95[1]:+.4f})"
            line += f", {drop.verdict}"
        print(line)
        reference = reference or found


if __name__ == "__main__":
    main()
