"""Run many files of one model on the same samples, and tell how far each is from the float file.

The files are made and run in one child process for each core, and are never all there at once. Of
each file only figures are kept: the distance of its outputs, and its score.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from edgekit.errors import ConversionError, DataError, ModelError
from edgekit.evaluation.drops import paired_drop
from edgekit.evaluation.fidelity import (
    ENOUGH_SQNR_DB,
    WORST_SQNR_DB,
    compare,
    sqnr_db,
)
from edgekit.evaluation.metrics import MetricChoice
from edgekit.evaluation.noise import all_outputs_db, noise_ratio
from edgekit.evaluation.predict import load_model, run_model
from edgekit.evaluation.scores import (
    Evaluation,
    asked_of,
    check_finite,
    columns_of,
    evaluate_pieces,
    metric_of,
)
from edgekit.evaluation.tasks import task_named
from edgekit.files import temporary_folder
from edgekit.isolate import ChildDiedError, report, spread
from edgekit.records import (
    Array,
    Batch,
    ColumnDrop,
    Dataset,
    Drop,
    Listener,
    Progress,
    Samples,
    silent,
    within,
)
from edgekit_runner import state_of, stored_model

MOST_BYTES: Final = 256 << 20
"""Most bytes of the inputs and outputs that a child holds; of larger samples fewer are run."""

Content = Callable[[], bytes | None]
"""Makes a file; None where there is nothing to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRun:
    """What a file computes, beside the float file.

    Attributes:
        sqnr_db: Signal-to-quantization-noise ratio of all outputs in dB (`all_outputs_db`); None
            where they are equal to the last bit.
        per_output: The same of each output, by name.
        value: The score; None where there are no targets.
        loss: The largest loss, of all columns and outputs, over what is accepted: above 1 it is
            lost. Infinite where something collapsed; None where it was not judged.
        least: The same of the lower ends of the losses' 95 % intervals: above 0, it is no chance.
        broken: Why it has no figures: it cannot be made or run, or computes NaN.
    """

    sqnr_db: float | None = None
    per_output: Mapping[str, float | None] = field(default_factory=dict)
    value: float | None = None
    loss: float | None = None
    least: float | None = None
    broken: str = ""

    @property
    def kept(self) -> bool:
        """Whether the loss is accepted."""
        return self.loss is not None and within(self.loss, 1.0)

    @property
    def lost(self) -> bool:
        """Whether the loss is more than is accepted, and no chance."""
        return not self.kept and self.least is not None and self.least > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """How a file is scored.

    Attributes:
        dataset: Tells task, head and metric; bound to the model.
        output: The output that is scored; the data's own where None.
        metric: The metric; the task's default where None.
        max_drop: Accepted loss, as `Metric.budget` takes it.
    """

    dataset: Dataset
    output: str | None = None
    metric: MetricChoice = None
    max_drop: float = 0.0

    def figure(self, outputs: Mapping[str, Array], batch: Batch) -> tuple[str, float] | None:
        """Return the name of the metric and its value; None where there are no targets.

        Raises:
            ModelError: Outputs are not finite.
            DataError: The samples do not allow the metric.
        """
        if self.dataset.task is None or batch.targets is None:
            return None
        asked = asked_of(self.dataset, self.metric)
        columns = columns_of(
            self.dataset, outputs, batch, output=self.output, asked=asked, about="The model"
        )
        check_finite(columns, Path("The model"))
        task = task_named(self.dataset.task)
        columns = {**columns, **task.complete(columns)}
        chosen = metric_of(task, asked[0] if asked else None, columns)
        return chosen.name, float(chosen.value(columns))

    def loss(
        self,
        expected: Mapping[str, Array],
        found: Mapping[str, Array],
        batch: Batch,
        *,
        scored: bool,
    ) -> tuple[float, float]:
        """Return the largest loss over what is accepted, and what of it is no chance.

        They are `TrialRun.loss` and `TrialRun.least`. Without a score, what is accepted is an SQNR
        of `fidelity.ENOUGH_SQNR_DB` of each output, and nothing is left to chance.

        Args:
            expected: Outputs of the float file, by name.
            found: Those of another.
            batch: The samples.
            scored: Whether there is a score.

        Raises:
            ModelError: Outputs are not finite.
        """
        distances, collapses = compare(expected, found)
        if collapses:
            return math.inf, math.inf
        if not scored:
            far = min((d.sqnr_db for d in distances if d.sqnr_db is not None), default=math.inf)
            loss = 10 ** ((ENOUGH_SQNR_DB - far) / 20)
            return loss, loss
        before, after = (self._evaluated(outputs, batch) for outputs in (expected, found))
        if before.task.collapses(before.columns, after.columns, self.dataset.labels):
            return math.inf, math.inf
        drop = paired_drop(before, after, max_drop=self.max_drop)
        drops: list[Drop | ColumnDrop] = [drop, *drop.per_column]
        for other in drop.per_output:
            drops += [other.drop, *other.drop.per_column]
        return (
            max(_share(one.value, one.allowed) for one in drops),
            max(_share(one.ci95[0], one.allowed) for one in drops),
        )

    def _evaluated(self, outputs: Mapping[str, Array], batch: Batch) -> Evaluation:
        return evaluate_pieces(
            [(outputs, batch)],
            self.dataset,
            output=self.output,
            metric=self.metric,
            about=Path("The model"),
        )


def rows_within(samples: Samples, most: int, output_bytes: int) -> Array:
    """Return which samples are run: at most so many, spread over all, that fit in memory."""
    first = samples.read(np.zeros(1, np.int64))
    one = sum(values.nbytes for values in first.inputs.values()) + 2 * output_bytes
    count = min(most, max(1, MOST_BYTES // max(1, one)), samples.n)
    if samples.sequences is not None:
        return np.arange(count)  # in order
    return np.arange(count) * samples.n // count


class TrialRuns:
    """Runs files beside a float file.

    Args:
        floating: Content of the float file.
        samples: What they are run on.
        judge: How they are scored.
        most: Most samples.

    Attributes:
        n: Number of samples that are run.
        max_drop: The accepted loss.
        metric: Name of the metric; None without targets.
        value: Score of the float file.
        note: Why there is no score, or fewer samples; "" otherwise.

    Raises:
        ModelError: The float file cannot be run, or computes NaN.
    """

    def __init__(
        self, floating: bytes, samples: Samples, judge: Judge, *, most: int = 1 << 30
    ) -> None:
        import ai_edge_litert.interpreter  # noqa: F401  imported before the fork, so once for all

        self._floating, self._judge = floating, judge

        def look(path: Path) -> int:
            batch = samples.read(np.zeros(1, np.int64))
            return sum(values.nbytes for values in _outputs(floating, path, batch, None).values())

        with _guarded() as folder:
            output_bytes = spread(look, [folder / "float.tflite"])[0]
        self.max_drop = judge.max_drop
        rows = rows_within(samples, most, output_bytes)
        self.n = len(rows)
        # Read once: children share it.
        starts = samples.starts()
        self._given = samples.read(rows), None if starts is None else starts[rows]
        (known, self.note) = self._reference()
        self.metric: str | None = known[0] if known else None
        self.value: float | None = known[1] if known else None
        if self.n < min(most, samples.n):
            self.note += f" {self.n} of {samples.n} samples are run: they are large."

    def run(
        self,
        contents: Sequence[Content],
        *,
        judged: bool = False,
        stage: str = "measuring operators",
        listener: Listener = silent,
    ) -> list[TrialRun | None]:
        """Make and run files; None where there is none.

        Args:
            contents: Make the files, in the children.
            judged: Whether their losses are judged, which takes longer.
            stage: What the progress is called.
            listener: Progress callback.

        Raises:
            ConversionError: The runtime died of one of them.
        """
        workers = max(1, min(len(os.sched_getaffinity(0)), len(contents)))
        done = 0

        def tick(steps: int) -> None:
            nonlocal done
            done += steps
            listener(Progress(stage=stage, done=done, total=len(contents)))

        def share(worker: int) -> list[TrialRun | None]:
            path = folder / f"{worker}.tflite"
            expected = _outputs(self._floating, path, *self._given)
            found = []
            for content in contents[worker::workers]:
                found.append(self._compared(content, path, expected, judged=judged))
                report(1)
            return found

        with _guarded() as folder:
            shares = spread(share, range(workers), tick=tick)
        return [shares[i % workers][i // workers] for i in range(len(contents))]

    def _reference(self) -> tuple[tuple[str, float] | None, str]:
        def score(path: Path) -> tuple[tuple[str, float] | None, str]:
            outputs = _outputs(self._floating, path, *self._given)
            try:
                return self._judge.figure(outputs, self._given[0]), ""
            except DataError as error:
                return None, f"There is no score: {error.what}"

        with _guarded() as folder:
            return spread(score, [folder / "float.tflite"])[0]

    def _compared(
        self,
        content: Content,
        path: Path,
        expected: Mapping[str, Array],
        *,
        judged: bool,
    ) -> TrialRun | None:
        batch, starts = self._given
        try:
            data = content()
            if data is None:
                return None
            outputs = _outputs(data, path, batch, starts)
            value = self._judge.figure(outputs, batch) if self.metric else None
            loss, least = None, None
            if judged:
                scored = self.metric is not None
                loss, least = self._judge.loss(expected, outputs, batch, scored=scored)
        except (ModelError, ConversionError) as error:
            why = error.found or error.what
            return TrialRun(sqnr_db=WORST_SQNR_DB, loss=math.inf, least=math.inf, broken=why)
        noise = {
            name: noise_ratio(values, found)
            for (name, values), found in zip(expected.items(), outputs.values(), strict=True)
        }
        return TrialRun(
            sqnr_db=all_outputs_db([*noise.values()]),
            per_output={name: sqnr_db(1.0, ratio) for name, ratio in noise.items()},
            value=None if value is None or not math.isfinite(value[1]) else value[1],
            loss=loss,
            least=least,
        )


def _share(loss: float, allowed: float | None) -> float:
    """Return a loss over what is accepted."""
    return loss / allowed if allowed else (math.inf if loss > 0 else 0.0)


def _outputs(data: bytes, path: Path, batch: Batch, starts: Array | None) -> dict[str, Array]:
    path.write_bytes(data)
    return run_model(
        load_model(path, batch.inputs, state_of(stored_model(str(path)))), batch.inputs, starts
    )


@contextmanager
def _guarded() -> Iterator[Path]:
    """Yield a folder for the children's files, and turn a child's death into `ConversionError`."""
    try:
        # The parent's: a child that is killed removes nothing.
        with temporary_folder() as folder:
            yield folder
    except ChildDiedError as death:
        raise ConversionError(
            "The runtime died of a file in which one operator has another precision.",
            found=f"the process ended with {death.reason}",
            hint="Quantize the model as a whole: edgekit quantize names the operator.",
        ) from death
