"""Files that exist become subjects of a measurement: read, hashed and bound to data, once each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import data, tflite
from edgekit.artifacts import open_artifact
from edgekit.data.formats.sounds import undeclared_sounds
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation import compared
from edgekit.evaluation.metrics import MetricChoice, listed
from edgekit.evaluation.tasks import TASKS
from edgekit.pipeline.heads import with_head
from edgekit.pipeline.measure import MeasureSettings, Subject
from edgekit.pipeline.pixel_trial import model_of_file
from edgekit.pipeline.preprocessing import settle
from edgekit.pipeline.report import accepted_loss, as_compiled
from edgekit.pipeline.request import judged_by
from edgekit.pipeline.sources import scored_first
from edgekit.records import Artifact, DataRequest, Dataset, TaskChoice
from edgekit.tflite.stored import content_of, stem_of
from edgekit_runner import SOUND_KINDS, state_of, stored_model


class Opener:
    """Opens data as files need it, and each data set once.

    Args:
        request: The data as the user named it.
        metric: What files will be judged by.
    """

    def __init__(self, request: DataRequest, metric: MetricChoice = None) -> None:
        self._request = request
        self._metric = metric
        self._opened: dict[tuple[str, ...], Dataset] = {}

    def open_for(self, artifact: Artifact) -> Dataset:
        """Return the data, with the task that the user or the file's manifest names.

        Recordings whose features nobody declares have those of the manifest, as in the runner.
        """
        request = self._request
        if isinstance(request.data, Dataset):
            return judged_by(data.open_request(request), self._metric)
        task = request.task or _task_of(artifact)
        opened = self._open(replace(request, task=task))
        features = artifact.manifest.get("preprocessing") or {}
        splits = (opened.train, opened.test, opened.calibrate)
        if features.get("kind") in SOUND_KINDS and any(
            undeclared_sounds(samples) is not None for samples in splits if samples
        ):
            request = replace(request, preprocessing=features)
            opened = self._open(replace(request, task=task))
        labels = _labels_of(artifact)
        numbered = opened.labels is not None and not opened.others and request.classes is None
        if not numbered or opened.labels == labels or sorted(opened.labels or ()) != sorted(labels):
            return opened
        ordered = self._open(replace(request, task=task, classes=labels))
        note = f"The classes of {opened.name} are in the order of the manifest of {artifact.path}."
        return replace(ordered, notes=(*ordered.notes, note))

    def _open(self, request: DataRequest) -> Dataset:
        key = (str(request.task), str(request.preprocessing), *(request.classes or ()))
        if key not in self._opened:
            self._opened[key] = judged_by(data.open_request(request, needed="test"), self._metric)
        return self._opened[key]


def _labels_of(artifact: Artifact) -> tuple[str, ...]:
    """The classes that a file's manifest names, in the model's order; none where it does not."""
    labels = artifact.manifest.get("labels")
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def _task_of(artifact: Artifact) -> TaskChoice:
    """The task that a file's manifest names, or those of several outputs; None where it does not.

    A task that there is not counts as none.
    """
    described = artifact.manifest.get("data")
    if not isinstance(described, Mapping):
        return None
    task = next((name for name in TASKS if name == described.get("task")), None)
    others = described.get("outputs")
    if not isinstance(others, Mapping) or task is None:
        return task
    named = {str(name): str(one) for name, one in others.items() if one in TASKS}
    first = described.get("output")
    return {**named, str(first): task} if first else (named and {**named, "": task}) or task


def bind_to_file(opener: Opener, artifact: Artifact, *, output: str | None = None) -> Dataset:
    """Open data as the file's manifest says, and check that it fits the file.

    Raises:
        ModelError: The file cannot be read, or has no inputs or outputs.
        DataError: The data does not fit.
        UsageError: There is no such output.
    """
    path = artifact.path
    inputs, outputs = tflite.signature(tflite.read(path))
    tflite.check_interface(str(path), inputs, outputs)
    # A quantized file takes the float samples that its float source took.
    floats = [
        replace(i, dtype="float32", scale=None, zero_point=None) if i.scale else i for i in inputs
    ]
    model = model_of_file(path, floats, scored_first(outputs, output))
    opened = with_head(opener.open_for(artifact), path, artifact.manifest)
    dataset = settle(opened, model, described(artifact))
    bound = data.bind(dataset, model.inputs, model.outputs)
    told = (artifact.manifest.get("data") or {}).get("metric")
    return as_compiled(bound, [told] if isinstance(told, str) else []) or bound


def described(artifact: Artifact) -> Mapping[str, Any]:
    """What a file's manifest says, completed from the metadata in the file as the runner does."""
    manifest_says = artifact.manifest
    if manifest_says.get("preprocessing"):
        return manifest_says
    found = tflite.read_metadata(content_of(artifact.path))
    first = found.inputs[0] if found and found.inputs else None
    if first is None or not (first.mean and first.std):
        return manifest_says
    mean, std = (list(v) if len(v) > 1 else v[0] for v in (first.mean, first.std))
    return {**manifest_says, "preprocessing": {"kind": "affine", "mean": mean, "std": std}}


def open_subjects(
    paths: Sequence[Path],
    request: DataRequest | None,
    settings: MeasureSettings,
    *,
    skip_failed: bool = False,
) -> list[Subject]:
    """Read files, and bind the data to each.

    Args:
        paths: The files.
        request: The data; None for none.
        settings: How the files are scored.
        skip_failed: Whether a damaged file becomes a subject without data, which says why
            (`Subject.unreadable`), as long as another can be read.

    Raises:
        ModelError: A file cannot be read.
        DataError: The data does not fit, or has no test split.
        UsageError: A metric is named, but no data.
    """
    if request is None and listed(settings.metric):
        raise UsageError("--metric has no effect without --data.", hint="Add --data.")
    opener = Opener(request, settings.metric) if request else None
    subjects = []
    for path in paths:
        artifact = open_artifact(path)
        model = str(artifact.manifest.get("model", stem_of(path)))
        dataset = None
        if opener is not None:
            try:
                dataset = bind_to_file(opener, artifact, output=settings.score_output)
            except ModelError as error:
                if not skip_failed:
                    raise
                subjects.append(Subject(artifact=artifact, model=model, unreadable=error))
                continue
            if dataset.test is None and _has_targets(dataset):
                raise DataError(
                    f"{dataset.name} has no test split to score on.",
                    hint="Add x_test and y_test, or draw one: --split 0.2",
                )
            # Also refuses a metric that the task does not have.
            accepted_loss(settings.max_drop, dataset, settings.metric)
        subjects.append(Subject(artifact=artifact, model=model, dataset=dataset))
    unreadable = [subject.unreadable for subject in subjects if subject.unreadable]
    if unreadable and len(unreadable) == len(subjects):
        raise unreadable[0]
    return subjects


def _has_targets(dataset: Dataset) -> bool:
    """Whether the samples that files would be run on have targets."""
    samples = compared(dataset)
    return samples is not None and samples.read(np.zeros(1, np.int64)).targets is not None


def dataset_of(subjects: Sequence[Subject]) -> Dataset | None:
    """Return the data that a report describes: those of the first file that has any."""
    return next((subject.dataset for subject in subjects if subject.dataset), None)


def notes_of(subjects: Sequence[Subject]) -> list[str]:
    """What was done to the data without being asked for, and to files that keep a state."""
    notes = [note for subject in subjects if subject.dataset for note in subject.dataset.notes]
    for subject in subjects:
        samples = subject.dataset.test if subject.dataset else None
        path = subject.artifact.path
        if samples is not None and samples.sequences is None and state_of(stored_model(str(path))):
            notes.append(
                f"{path.name} keeps a state, which was reset before each sample. If the samples "
                "are a stream, declare it: sequence_test in the data."
            )
    return notes
