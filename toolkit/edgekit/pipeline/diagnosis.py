"""Why a model scores no better than guessing: what would make it score, found by trying.

Each finding is a sentence with what to declare. Nothing is changed: the reader decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from edgekit.data.pixels import PLAIN, PixelScaling, image_shape, option_of, scaling_of
from edgekit.data.preprocessing import AFFINE_DEFAULTS
from edgekit.evaluation.found_boxes import confused_boxes
from edgekit.evaluation.intervals import wilson
from edgekit.evaluation.metrics import Columns
from edgekit.evaluation.scores import Evaluation, aggregate, scored_output
from edgekit.evaluation.tasks import DETECTION
from edgekit.pipeline.pixel_trial import Predict
from edgekit.records import Array, Batch, Score, TensorSpec

CLEARLY: Final = 0.5
"""Share of the way from guessing to a perfect score that an explanation has to go at least."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of all pixels: from the range that they have to another one, or to BGR."""

    goal: PixelScaling | None
    scale: float = 1.0
    offset: float = 0.0
    reverse: bool = False

    def apply(self, values: Array) -> Array:
        changed = values.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return changed[..., ::-1] if self.reverse else changed

    def __str__(self) -> str:
        words = f"scaled to {self.goal.name}" if self.goal else "in the range they have"
        return f"{words}, channels in BGR order" if self.reverse else words


def explanations(
    source: Evaluation,
    *,
    labels: Sequence[str] | None,
    batch: Batch,
    predict: Predict,
    output: str | None,
    preprocessing: Mapping[str, Any],
    head: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return what would explain the score of a source that is no better than guessing.

    Args:
        source: Its evaluation.
        labels: Names of the classes, where the data has them.
        batch: Some samples with targets, as the source takes them.
        predict: Runs the source.
        output: The output that is scored; the first where None.
        preprocessing: How raw input became the samples.
        head: How the outputs of a detector tell boxes.
    """
    read = partial(scored_output, name=output, head=head)
    found = [
        _label_order(source, labels),
        _threshold(source.columns),
        _scaling(source, batch, predict, read, preprocessing),
    ]
    return [sentence for sentence in found if sentence]


def _label_order(source: Evaluation, labels: Sequence[str] | None) -> str | None:
    """Say which order of the classes fits, where the model numbers them in another one."""
    boxes = source.task is DETECTION
    counts = (
        confused_boxes(source.columns, len(labels or ()))
        if boxes
        else np.array(source.score.confusion)
    )
    order = label_order(counts) if counts.size else None
    if order is None:
        return None
    names = [labels[i] if labels else str(i) for i in order]
    right = float(sum(counts[true, model] for model, true in enumerate(order)) / counts.sum())
    listed = ",".join(names)
    figure = f"the accuracy is {right:.1%} on the same samples"
    if boxes:
        figure = f"{right:.1%} of the boxes that are found have the right class"
    return (
        f"Another order of the labels fits: with {', '.join(names)} {figure}. "
        f"Declare the model's order: --classes {listed}"
    )


def label_order(counts: Array) -> tuple[int, ...] | None:
    """Return the order of the classes in which the predictions are right, if it is another one.

    Args:
        counts: Samples or boxes, `[true class, predicted class]`.

    Returns:
        For each class of the model the class of the data, or None where the order given fits as
        well as any, or no order fits clearly.
    """
    classes = len(counts)
    if counts.shape != (classes, classes) or classes < 2:
        return None
    order: list[int | None] = [None] * classes
    # The most frequent pair first; each class is used once.
    for place in np.argsort(-counts, axis=None, kind="stable"):
        true, predicted = divmod(int(place), classes)
        if order[predicted] is None and true not in order:
            order[predicted] = true
    fitting = tuple(one for one in order if one is not None)
    n = int(counts.sum())
    if n == 0:
        return None
    guess = float(counts.sum(axis=1).max()) / n
    right = int(sum(counts[true, predicted] for predicted, true in enumerate(fitting)))
    if fitting == tuple(range(classes)) or not _explains(right, n, guess):
        return None
    return fitting


def _threshold(columns: Columns) -> str | None:
    """Say at which value a single unit separates the classes, where it is not the usual one."""
    if "value" not in columns:
        return None
    value, target = columns["value"], columns["target"]
    order = np.argsort(value, kind="stable")
    ones = np.concatenate([[0], np.cumsum(target[order])])
    n = len(target)
    # Samples up to a place are class 0, those beyond it class 1.
    right = (np.arange(n + 1) - ones) + (ones[-1] - ones)
    place = int(np.argmax(right))
    guess = max(ones[-1], n - ones[-1]) / n
    if not 0 < place < n or not _explains(int(right[place]), n, float(guess)):
        return None
    threshold = float(value[order[place - 1 : place + 1]].mean())
    used = 0.5 if value.min() >= 0 and value.max() <= 1 else 0.0
    kind = "probabilities" if used else "logits"
    return (
        f"Its output separates the classes at {threshold:.3g}, not at {used:g}: it was taken for "
        f"{kind}. Split there it is right in {right[place] / n:.1%}. End the model with a sigmoid "
        "that is 0.5 at that value"
    )


def _scaling(
    source: Evaluation,
    batch: Batch,
    predict: Predict,
    read: Callable[[Mapping[str, Array]], Array],
    preprocessing: Mapping[str, Any],
) -> str | None:
    """Say with which scaling or channel order of pictures the source scores."""
    if len(batch.inputs) != 1:
        return None
    ((name, values),) = batch.inputs.items()
    if image_shape([TensorSpec(name=name, shape=(1, *values.shape[1:]), dtype="float32")]) is None:
        return None
    tried = []
    for change in _changes(values):
        inputs = {name: change.apply(values)}
        found = _score(source, read(predict(inputs)), batch)
        if found is not None:
            tried.append((change, found))
    better = [(change, found) for change, found in tried if _is_clear(source, found)]
    if not better:
        return None
    higher = source.metric.higher_is_better
    best, score = (max if higher else min)(better, key=lambda entry: entry[1].value)
    figure = f"{score.value:.1%}" if source.metric.unit == "percent" else f"{score.value:.3g}"
    return (
        f"Other pixels fit: {best}, {score.n} of the samples score {figure}. "
        f"{_declaration(best, preprocessing)}"
    )


def _declaration(best: _Change, spec: Mapping[str, Any]) -> str:
    """Say how the scaling is declared, on top of what was applied already."""
    scale, mean, std = (spec.get(key, plain) for key, plain in AFFINE_DEFAULTS.items())
    if any(np.size(value) > 1 for value in (scale, mean, std)):
        return "Declare that scaling in the preprocessing"
    whole = scale * best.scale / std
    offset = mean * best.scale / std - best.offset
    lines = [f"scale = {whole:.8g}", f"mean = {offset:.8g}"]
    image = spec.get("kind") == "image"
    if best.reverse and not image:
        return "Reverse the last axis of the arrays: x[..., ::-1]"
    if best.reverse:
        lines.append('order = "bgr"')
    if image:
        return f"Declare it: {option_of('image', ', '.join(lines))}"
    return f"Declare it: {option_of('affine', ', '.join(lines))}"


def _changes(values: Array) -> list[_Change]:
    own, changes = scaling_of(values), []
    if own is not None:
        low, high = own.ends
        for goal in PLAIN:
            if goal is not own:
                least, most = goal.ends
                factor = (most - least) / (high - low)
                changes.append(_Change(goal, factor, least - low * factor))
    if values.shape[-1] != len("rgb"):
        return changes
    return [*changes, *(replace(one, reverse=True) for one in (_Change(None), *changes))]


def _score(source: Evaluation, output: Array, batch: Batch) -> Score | None:
    columns = source.task.per_sample(output, batch)
    if not columns["sound"].all():
        return None
    return aggregate(columns, source.task, metric=source.metric).score


def _is_clear(source: Evaluation, found: Score) -> bool:
    guess = found.guess
    if guess is None:
        return False
    low, high = found.ci95
    if source.metric.higher_is_better:
        return low > guess and found.value >= guess + CLEARLY * (source.metric.ceiling - guess)
    return high < guess and found.value <= (1 - CLEARLY) * guess


def _explains(right: int, n: int, guess: float) -> bool:
    low, _ = wilson(right, n)
    return low > guess and right / n >= guess + CLEARLY * (1 - guess)
