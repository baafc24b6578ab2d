"""Pixel scalings tried with the source itself, where neither the user nor the model says which."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgekit import data, evaluation, tflite
from edgekit.data.store import (
    adopted,
    array_store,
    reader_of,
    sized_targets,
    subset,
    whole,
)
from edgekit.evaluation.tasks import DETECTION, RECONSTRUCTION, Task, task_named
from edgekit.records import Array, Batch, Dataset, InputScaling, Samples, Source, TensorSpec
from edgekit.worker import TensorFlowProcess

TRIED = 64
"""Training samples that scalings are tried on."""
CHANCE = 0.01
"""The best is chosen where its lead would come about by chance less often than this."""

Predict = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Inputs `[n, ...]` by name -> outputs by name."""
Change = Callable[[Array], Array]


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """A source, or a file made of one, as far as it tells how it wants pixels.

    Attributes:
        name: What to call it.
        inputs: Its inputs, in real units where they are quantized.
        outputs: Its outputs; the scored one first.
        predict: Runs it: input name -> `[n, ...]` to output name -> `[n, ...]`.
        read_scaling: Reads what its first operators do to its input.
    """

    name: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    predict: Predict
    read_scaling: Callable[[], InputScaling | None]

    @cached_property
    def scaling(self) -> InputScaling | None:
        """What its first operators do to its input, read once."""
        return self.read_scaling()


def model_of_source(
    source: Source, outputs: Sequence[TensorSpec], tensorflow: TensorFlowProcess
) -> ImageModel:
    """The model that a process with TensorFlow has loaded, with the scored output first."""
    return ImageModel(
        name=source.name,
        inputs=source.inputs,
        outputs=outputs,
        predict=tensorflow.predict,
        read_scaling=tensorflow.input_scaling,
    )


def model_of_file(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> ImageModel:
    """A `.tflite` file, with its inputs in real units and the scored output first."""
    return ImageModel(
        name=path.name,
        inputs=inputs,
        outputs=outputs,
        predict=run_file(path),
        read_scaling=lambda: tflite.input_scaling(tflite.read(path)),
    )


def run_file(path: Path) -> Predict:
    """Return a function that runs a `.tflite` file on arrays."""

    def predict(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        return evaluation.predict(path, as_samples(Batch(inputs=arrays)), processes=1)

    return predict


def as_samples(batch: Batch) -> Samples:
    """Arrays at hand, as samples that files are run on."""
    return Samples(
        split="calibrate",
        n=len(next(iter(batch.inputs.values()))),
        sha256="",
        read=lambda rows: Batch(inputs={k: v[rows] for k, v in batch.inputs.items()}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How well a model does on the same training samples, changed in several ways.

    Attributes:
        losses: Name of the change -> loss of each sample: 0 or 1 for a class, else squared errors.
        guess: Loss of each sample for the best constant answer: the majority class or the mean.
        classes: Whether the answers are classes.
    """

    losses: Mapping[str, Array]
    guess: Array
    classes: bool

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.guess)

    @property
    def ranked(self) -> list[str]:
        """The names, from the least loss to the largest."""
        return sorted(self.losses, key=lambda name: float(self.losses[name].mean()))

    def best(self) -> str | None:
        """The change that is clearly better than every other one and than guessing, or None.

        Compared sample by sample: the sign test (McNemar's exact test where the losses are 0
        and 1; McNemar 1947) at a level of `CHANCE`.
        """
        first, *others = self.ranked
        rivals = [self.losses[name] for name in others] + [self.guess]
        return first if all(_beats(self.losses[first], rival) for rival in rivals) else None

    def beats(self, name: str, other: str) -> bool:
        """Whether one change is clearly better than another and than guessing."""
        return all(_beats(self.losses[name], rival) for rival in (self.losses[other], self.guess))

    def figure(self, name: str) -> str:
        """The score with a change: the share of right classes, or the RMSE."""
        return self._words(float(self.losses[name].mean()))

    @property
    def words(self) -> str:
        """The two best: "98 % of 64 training images, the others at most 35 %"."""
        first, second, *_ = self.ranked
        bound = "at most" if self.classes else "at least"
        of = "of" if self.classes else "on"
        return (
            f"{self.figure(first)} {of} {self.n} training images, the others {bound} "
            f"{self.figure(second)}"
        )

    @property
    def table(self) -> str:
        """All of them: "0..255 33 %, 0..1 35 %, guessing 33 %"."""
        each = [f"{name} {self.figure(name)}" for name in self.losses]
        return ", ".join([*each, f"guessing {self._words(float(self.guess.mean()))}"])

    def _words(self, loss: float) -> str:
        return f"{1 - loss:.0%}".replace("%", " %") if self.classes else f"RMSE {loss**0.5:.3g}"


def try_changes(dataset: Dataset, model: ImageModel, changes: Mapping[str, Change]) -> Trial | None:
    """Score a model on some training samples, changed in each of several ways.

    Args:
        dataset: Not bound to the model. Its training samples are read as their spec says; the
            test split stays out of it.
        model: What is scored.
        changes: Name -> what is done to the samples `[n, height, width, channels]`, float32.

    Returns:
        None where there are no training samples with targets, or the task tells no loss.

    Raises:
        DataError: The samples do not fit the model.
        ModelError: It cannot be run.
    """
    samples = dataset.train or dataset.calibrate
    if samples is None or reader_of(samples).targets is None:
        return None
    order = np.random.default_rng(0).permutation(samples.n)[:TRIED]
    reader = reader_of(subset(adopted(samples), np.sort(order), "train"))
    some = sized_targets(reader, model.outputs[0])(np.arange(len(order)))
    few = whole("train", array_store(some.inputs, some.targets), {"kind": "none"})
    bound = data.bind(
        Dataset(
            name=dataset.name,
            task=dataset.task,
            train=few,
            calibrate=None,
            test=None,
            labels=dataset.labels,
            head=dataset.head,
        ),
        model.inputs,
        model.outputs,
    )
    assert bound.train is not None
    batch = bound.train.read(np.arange(few.n))
    if bound.task is None or batch.targets is None:
        return None
    task = task_named(bound.task)
    ((name, pixels),) = batch.inputs.items()
    losses: dict[str, Array] = {}
    for change, apply in changes.items():
        inputs = {name: apply(pixels).astype(pixels.dtype, copy=False)}
        outputs = model.predict(inputs)[model.outputs[0].name]
        found = _losses(task, np.asarray(outputs), Batch(inputs=inputs, targets=batch.targets))
        if found is None:
            return None
        losses[change], classes = found
    return Trial(losses=losses, guess=_guess(batch.targets, classes=classes), classes=classes)


def _losses(task: Task, outputs: Array, batch: Batch) -> tuple[Array, bool] | None:
    """Loss of each sample, and whether it is that of a class; None where the task has none."""
    # The training samples of the first carry no flags; the loss of boxes is not told by a picture.
    if task in (RECONSTRUCTION, DETECTION):
        return None
    columns = task.complete(task.per_sample(outputs, batch))
    if "predicted" in columns and columns["predicted"].ndim == 1:
        wrong = (columns["predicted"] != columns["target"]) | ~columns["sound"]
        return wrong.astype(np.float64), True
    if "squared" in columns:
        return np.where(columns["sound"], columns["squared"], np.inf), False
    return None


def _guess(targets: Array, *, classes: bool) -> Array:
    flat = targets.reshape(len(targets), -1).astype(np.float64)
    if classes:
        values, counts = np.unique(flat, return_counts=True)
        return np.asarray(flat[:, 0] != values[counts.argmax()], np.float64)
    return np.asarray(np.square(flat - flat.mean(axis=0)).mean(axis=1))


def _beats(losses: Array, others: Array) -> bool:
    """Whether losses are lower, sample by sample, more often than chance would have it."""
    wins, defeats = int((losses < others).sum()), int((losses > others).sum())
    trials = wins + defeats
    tail: int = sum(math.comb(trials, k) for k in range(wins, trials + 1))
    return tail <= CHANCE * float(2**trials)
