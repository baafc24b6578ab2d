"""What a model is fine-tuned for: of each output with targets its loss, its metrics, its score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from edgekit.evaluation.metrics import Columns
from edgekit.evaluation.tasks import task_named
from edgekit.records import Array, Dataset, Samples, Source
from edgekit.training.losses import FileLoss, compiled, loss_weight, usual_loss
from edgekit.training.multibox import Judged
from edgekit.training.objective import OF_WHOLE_PICTURES, columns_of, score_of
from edgekit.training.sequence import inputs_of

Shown = Callable[[], Any]
"""Gives a model's outputs for some samples, as the model returns them."""


class Goals:
    """The outputs that have targets, and what they are compared by.

    Args:
        model: The model.
        source: Its source.
        dataset: The data, bound to the model.
        file_loss: How the loss in the model's file is read.

    Raises:
        ConversionError: It is a detector whose outputs no loss is known for.

    Attributes:
        judged: Returns of a model's outputs what is compared with the targets of the scored one.
        scored: Name of the scored output where others have targets, too; else empty.
    """

    def __init__(self, model: Any, source: Source, dataset: Dataset, file_loss: FileLoss) -> None:
        self.judged = Judged(source, dataset.output, dataset.head)
        self.scored = (dataset.output or source.outputs[0].name) if dataset.others else ""
        self._views = {self.scored: dataset} | {
            name: replace(
                dataset, task=told.task, labels=told.labels, output=name, head=None, others={}
            )
            for name, told in dataset.others.items()
        }
        self._compiled = {
            name: compiled(model, source, view, file_loss) for name, view in self._views.items()
        }
        self._weights = {name: loss_weight(source, name) for name in self._views}

    def of(self, outputs: Any) -> Any:
        """Return the outputs that have targets: one, or several by their names."""
        first = self.judged(outputs)
        if not self.scored:
            return first
        named = {**self.judged.by_name(outputs), self.scored: first}
        return {name: named[name] for name in self._views}

    def loss(self, shown: Shown) -> Any:
        """Return the loss of the scored output."""
        return self._loss(self.scored, lambda: self.judged(shown()))

    def _loss(self, name: str, output: Shown) -> Any:
        loss, _ = self._compiled[name]
        view = self._views[name]
        if loss is None and view.head is not None:
            return self.judged.loss
        return usual_loss(view.task, np.asarray(output(), np.float32)) if loss is None else loss

    def to_compile(self, shown: Shown) -> dict[str, Any]:
        """Return losses and metrics as `keras.Model.compile` takes them."""
        if not self.scored:
            return {"loss": self.loss(shown), "metrics": self._compiled[""][1]}
        outputs = self.of(shown())
        return {
            "loss": {name: self._loss(name, partial(outputs.get, name)) for name in self._views},
            "metrics": {name: metrics for name, (_, metrics) in self._compiled.items()},
            "loss_weights": self._weights,
        }

    def scores(self, learner: Any, samples: Samples) -> dict[str, float]:
        """Return the usual metrics that are no means over samples, which Keras does not compute.

        Args:
            learner: A model with the outputs that `of` returns.
            samples: What it is run on.
        """
        wanted = {name: v for name, v in self._views.items() if v.task in OF_WHOLE_PICTURES}
        parts: dict[str, list[Columns]] = {name: [] for name in wanted}
        for batch in samples.batches(64) if wanted else ():
            outputs = learner.predict_on_batch(inputs_of(batch))
            for name, view in wanted.items():
                mine = batch if name == self.scored else replace(batch, targets=batch.others[name])
                found: Array = np.asarray(outputs[name] if self.scored else outputs)
                parts[name].append(columns_of(str(view.task), found, mine, view.head))
        found_scores = {}
        for name, view in wanted.items():
            metric = task_named(str(view.task)).metrics[0].name
            label = f"{name}_{metric}" if self.scored else metric
            found_scores[label] = score_of(str(view.task), parts[name])
        return found_scores
