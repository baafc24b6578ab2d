"""Pixel scalings tried with the source itself, where neither the user nor the model says which."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgekit import data, evaluation, tflite
from edgekit.data.boxes import as_seen
from edgekit.data.formats.images import naming_files
from edgekit.data.store import (
    adopted,
    array_store,
    reader_of,
    sized_targets,
    subset,
    targets_by_output,
    whole,
)
from edgekit.evaluation.tasks import (
    CLASSIFICATION,
    DETECTION,
    MULTI_LABEL,
    NO_TASK,
    RECONSTRUCTION,
    REGRESSION,
    SEGMENTATION,
    Task,
    task_named,
)
from edgekit.evaluation.tasks.detection import detections_of
from edgekit.records import Array, Batch, Dataset, InputScaling, Samples, Source, TensorSpec
from edgekit.worker import TensorFlowProcess

TRIED = 64
"""Training samples that scalings are tried on."""
CHANCE = 0.01
"""The best is chosen where its lead would come about by chance less often than this."""

GUESSING: Final = "guessing"
"""What the best constant answer is called among the changes."""
_RMSE: Final = "RMSE"
_TITLES: Final = {
    REGRESSION.name: _RMSE,
    SEGMENTATION.name: SEGMENTATION.metrics[0].title,
    DETECTION.name: DETECTION.metrics[0].title,
}

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
        trained_on: The preprocessing that edgekit trained it with, where its file says that.
    """

    name: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    predict: Predict
    read_scaling: Callable[[], InputScaling | None]
    trained_on: Mapping[str, Any] | None = None

    @cached_property
    def scaling(self) -> InputScaling | None:
        """What its first operators do to its input, read once."""
        return self.read_scaling()


def model_of_source(
    source: Source, outputs: Sequence[TensorSpec], tensorflow: TensorFlowProcess
) -> ImageModel:
    """The model that a process with TensorFlow has loaded, with the scored output first."""
    from edgekit.training.saving import PREPROCESSING, read_notes

    stored = read_notes(source.path).get(PREPROCESSING)
    return ImageModel(
        name=source.name,
        inputs=source.inputs,
        outputs=outputs,
        predict=tensorflow.predict,
        read_scaling=tensorflow.input_scaling,
        trained_on=stored if isinstance(stored, Mapping) else None,
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
        losses: Name of the change -> loss of each sample: 0 or 1 for a class, one less its quality
            for a picture with masks or boxes, else squared errors.
        guess: Loss of each sample for the best constant answer: the majority class, the mean, no
            box.
        scores: Name of the change, or `GUESSING` -> the figure of all samples together.
        title: What the figure is; a share of right answers where empty.
    """

    losses: Mapping[str, Array]
    guess: Array
    scores: Mapping[str, float]
    title: str

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
        """The score with a change, or of `GUESSING`, in words."""
        value = self.scores[name]
        return f"{self.title} {value:.3g}" if self.title else f"{value:.0%}".replace("%", " %")

    @property
    def words(self) -> str:
        """The two best: "98 % of 64 training images, the others at most 35 %"."""
        first, *others = self.ranked
        highest = self.title != _RMSE
        second = (max if highest else min)(others, key=lambda name: self.scores[name])
        return (
            f"{self.figure(first)} {'on' if self.title else 'of'} {self.n} training images, "
            f"the others {'at most' if highest else 'at least'} {self.figure(second)}"
        )

    @property
    def table(self) -> str:
        """All of them: "0..255 33 %, 0..1 35 %, guessing 33 %"."""
        return ", ".join(f"{name} {self.figure(name)}" for name in (*self.losses, GUESSING))


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
    some = as_seen(sized_targets(reader, model.outputs[0]))[0](np.arange(len(order)))
    named = targets_by_output(reader.store)
    by_output = {name: array[reader.index] for name, array in named.items()}
    unnamed = not any(reader.targets is array for array in named.values())
    targets = some.targets if unnamed else None
    few = whole("train", array_store(some.inputs, targets, by_output=by_output), {"kind": "none"})
    with naming_files(reader.store, reader.index):
        bound = data.bind(
            Dataset(
                name=dataset.name,
                task=dataset.task,
                train=few,
                calibrate=None,
                test=None,
                labels=dataset.labels,
                any_targets=dataset.any_targets,
                others=dataset.others,
                head=dataset.head,
            ),
            model.inputs,
            model.outputs,
        )
    assert bound.train is not None
    batch = bound.train.read(np.arange(few.n))
    # The training samples of a reconstruction carry no flags.
    if bound.task in (None, NO_TASK.name, RECONSTRUCTION.name) or batch.targets is None:
        return None
    task = task_named(bound.task)
    ((name, pixels),) = batch.inputs.items()
    losses: dict[str, Array] = {}
    scores: dict[str, float] = {}
    answers = np.empty(0)
    for change, apply in changes.items():
        inputs = {name: apply(pixels).astype(pixels.dtype, copy=False)}
        told = model.predict(inputs)
        answers = (
            np.asarray(told[bound.output or model.outputs[0].name])
            if bound.head is None
            else detections_of(told, bound.head, model.name)
        )
        losses[change], scores[change] = _judged(task, answers, batch.targets)
    guess, scores[GUESSING] = _judged(task, _constant(task, answers, batch.targets), batch.targets)
    return Trial(losses=losses, guess=guess, scores=scores, title=_TITLES.get(task.name, ""))


def untried(dataset: Dataset) -> str:
    """Why no scaling was tried."""
    samples = dataset.train or dataset.calibrate
    if samples is None:
        return "there are no training images to try scalings on"
    if reader_of(samples).targets is None:
        return "the training images have no targets to try scalings by"
    return "scalings are not tried on reconstructions"


def _judged(task: Task, outputs: Array, targets: Array) -> tuple[Array, float]:
    """Return the loss of each sample, and the figure of all."""
    columns = task.complete(task.per_sample(outputs, Batch(inputs={}, targets=targets)))
    if "squared" in columns:
        squared = np.where(columns["sound"], columns["squared"], np.inf)
        return squared, float(squared.mean()) ** 0.5
    quality = task.quality(columns)
    assert quality is not None, "every other task has one"
    losses = np.where(columns["sound"], 1 - quality, 1.0)
    if task.name in _TITLES:
        return losses, task.metrics[0].value(columns)
    return losses, 1 - float(losses.mean())


def _constant(task: Task, outputs: Array, targets: Array) -> Array:
    """Return outputs that are the best answer without looking at the pixels."""
    if task is DETECTION:
        return np.full_like(outputs[:, :1], -1)
    answer = targets.astype(np.float64).mean(axis=0)
    if task is MULTI_LABEL:
        answer = answer >= 1 / 2
    elif task in (CLASSIFICATION, SEGMENTATION):
        most = int(np.bincount(targets[targets >= 0].astype(np.int64)).argmax())
        answer = np.eye(outputs.shape[-1])[most] if outputs.shape[-1] > 1 else np.array([most])
    return np.broadcast_to(answer, outputs.shape).astype(np.float32)


def _beats(losses: Array, others: Array) -> bool:
    """Whether losses are lower, sample by sample, more often than chance would have it."""
    wins, defeats = int((losses < others).sum()), int((losses > others).sum())
    trials = wins + defeats
    tail: int = sum(math.comb(trials, k) for k in range(wins, trials + 1))
    return tail <= CHANCE * float(2**trials)
