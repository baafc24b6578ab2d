"""The source itself is scored on the test split: can any figure be believed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgekit.errors import ModelError
from edgekit.evaluation import Evaluation, evaluate_pieces
from edgekit.evaluation.predict import piece_size
from edgekit.evaluation.trust import difference_alert, guessing_alert, is_guessing, lacks_samples
from edgekit.pipeline.diagnosis import explanations
from edgekit.pipeline.measure import MeasureSettings
from edgekit.pipeline.pixel_trial import Predict
from edgekit.records import (
    SOURCE,
    Array,
    Artifact,
    Batch,
    Dataset,
    Listener,
    Progress,
    Row,
    Score,
    Source,
    silent,
)
from edgekit.worker import TensorFlowProcess

_TRIED_SAMPLES: Final = 128
"""Samples on which explanations are tried: enough to tell them apart, few enough to be quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScore:
    """How the source scores.

    Attributes:
        row: Its row in the report.
        evaluation: Its score, to compare the float32 file with.
        alerts: What is wrong with the source, and the likely reason; empty where nothing is.
    """

    row: Row
    evaluation: Evaluation
    alerts: tuple[str, ...] = ()

    def against(self, converted: Score | None, max_drop: float) -> tuple[str, ...]:
        """Return the alerts, with those of the float32 file's score."""
        differs = converted and difference_alert(self.evaluation, converted, max_drop)
        return (*self.alerts, *([differs] if differs else []))


def score_source(
    source: Source,
    dataset: Dataset | None,
    tensorflow: TensorFlowProcess,
    settings: MeasureSettings,
    *,
    model: str,
    listener: Listener = silent,
) -> SourceScore | None:
    """Score a loaded source on the test split.

    Args:
        source: The source, loaded in `tensorflow`.
        dataset: Bound to it.
        tensorflow: Runs it.
        settings: The output and the metric.
        model: Name of the model in tables.
        listener: Progress callback.

    Returns:
        The score; None where there is nothing to score on.

    Raises:
        ModelError: The source cannot be run, or computes NaN or infinity.
    """
    if dataset is None or dataset.test is None or dataset.task is None:
        return None
    samples = dataset.test
    size = piece_size(samples.read(np.zeros(1, np.int64)))

    def pieces() -> Iterator[tuple[Mapping[str, Array], Batch]]:
        for position, batch in enumerate(samples.batches(size), start=1):
            outputs = tensorflow.predict(batch.inputs)
            yield outputs, batch
            done = min(size * position, samples.n)
            listener(Progress(stage="scoring the source", done=done, total=samples.n))

    output = settings.score_output
    found = evaluate_pieces(
        pieces(), dataset, output=output, metric=settings.metric, about=source.path
    )
    return SourceScore(
        row=Row(model=model, artifact=_artifact(source), score=found.score),
        evaluation=found,
        alerts=alerts_of(source.name, found, dataset, tensorflow.predict, output),
    )


_UNEXPLAINED: Final = (
    "No reason was found. Check that the samples are scaled and ordered as in training, that the "
    "targets are those of this model, and that it was trained long enough."
)


def alerts_of(
    name: str, found: Evaluation, dataset: Dataset, run: Predict, output: str | None
) -> tuple[str, ...]:
    """Return what is wrong with a model that is no better than guessing, and the likely reason.

    Args:
        name: The model.
        found: Its evaluation.
        dataset: Bound to it, with a test split.
        run: Runs it.
        output: The output that is scored; the first where None.
    """
    assert dataset.test is not None
    if not is_guessing(found.score):
        return ()
    n = dataset.test.n
    # Spread over the split, which may be sorted by class.
    rows = np.unique(np.linspace(0, n - 1, min(n, _TRIED_SAMPLES)).astype(np.int64))
    reasons = explanations(
        found,
        labels=dataset.labels,
        batch=dataset.test.read(rows),
        predict=run,
        output=output or dataset.output,
        preprocessing=dataset.preprocessing,
        head=dataset.head,
    )
    if not reasons and not lacks_samples(found.score):
        reasons = [_UNEXPLAINED]
    return (guessing_alert(f"The source {name}", found.score), *reasons)


def _artifact(source: Source) -> Artifact:
    path = source.path
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    size = sum(p.stat().st_size for p in files if p.exists())
    return Artifact(
        path=path,
        variant=SOURCE,
        mode=None,
        size_bytes=size,
        size_deflated_bytes=size,
        sha256=source.sha256,
    )


def unscored(source: Source, error: ModelError) -> str:
    """Say that the source has no score."""
    reason = error.found or error.what
    return f"The source {source.name} could not be scored; nothing is compared with it: {reason}"
