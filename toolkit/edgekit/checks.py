"""Hold a file against conditions: what they ask for is measured, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artifacts import open_artifact
from edgekit.conditions import CONDITIONS, option_of
from edgekit.errors import DataError, UsageError
from edgekit.records import Check, DataRequest, Listener, Report, Row, silent
from edgekit.tflite.inspect import inspect

if TYPE_CHECKING:
    from edgekit.devices import DeviceEntry, DeviceSetup
    from edgekit.evaluation.metrics import MetricChoice
    from edgekit.pipeline import MeasureSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What is checked, and how it is measured.

    Attributes:
        path: The file.
        wanted: The conditions (`conditions.read_conditions`).
        data: What it is scored on, where a condition asks for that.
        baseline: The file that its loss is measured against, likewise.
        metric: The metric to judge by; the task's default where None or none.
        score_output: The output that is scored; the first where None.
        device: Where it is scored and timed; None for this machine.
        setup: What is installed there; None for nothing.
        threads: Interpreter threads; None takes the device's own number, here 1.
        runs: Invocations to time; None stops when the measurement has settled.
        runtime: The runtime; None takes the first found.
    """

    path: Path
    wanted: Mapping[str, Any]
    data: DataRequest | None = None
    baseline: Path | None = None
    metric: MetricChoice = None
    score_output: str | None = None
    device: DeviceEntry | None = None
    setup: DeviceSetup | None = None
    threads: int | None = None
    runs: int | None = None
    runtime: str | None = None

    def __post_init__(self) -> None:
        """Refuse what a condition lacks, and what none needs.

        Raises:
            UsageError: Data or baseline is missing, or given without effect.
        """
        drops = self.asking("drop")
        scores = [*self.asking("score"), *drops]
        _check_given(
            "--data DATA", scores, "--min-score or --max-drop", given=self.data is not None
        )
        _check_given("--baseline FILE", drops, "--max-drop", given=self.baseline is not None)
        if self.data is None and self.metric:
            raise UsageError("--metric has no effect without --data.", hint="Add --data.")
        if self.device is not None and not (scores or self.asking("latency")):
            raise UsageError(
                "--device has no effect: no condition is measured.",
                hint="Add --max-latency, or leave --device out.",
            )

    def asking(self, need: str) -> list[str]:
        """Return the options of the conditions that need something."""
        return [option_of(name) for name in self.wanted if CONDITIONS[name].needs == need]

    def settings(self) -> MeasureSettings:
        """Return how the file is scored and timed."""
        from edgekit.devices import RunSettings
        from edgekit.pipeline import MeasureSettings

        settings = MeasureSettings(
            score_output=self.score_output,
            metric=self.metric,
            run=RunSettings(
                threads=self.threads or (None if self.device else 1),
                runs=self.runs,
                runtime=self.runtime,
            ),
        )
        budget = self.wanted.get("max_drop")
        return settings if budget is None else replace(settings, max_drop=budget)


def _check_given(option: str, asking: list[str], askers: str, *, given: bool) -> None:
    name = option.split(maxsplit=1)[0]
    if asking and not given:
        raise UsageError(f"{asking[0]} needs {name}.", hint=f"Add {option}.")
    if given and not asking:
        raise UsageError(
            f"{name} has no effect without {askers}.", hint=f"Add {askers}, or leave {name} out."
        )


def check(request: CheckRequest, *, listener: Listener = silent) -> Check:
    """Measure what the conditions ask for, and judge each.

    Raises:
        ModelError: A file cannot be read or run.
        DataError: The data does not fit, or has no targets or no test split.
        DeviceError: No runtime is here.
        UsageError: A limit can never be met.
    """
    artifact = open_artifact(request.path, deflate=False)
    target = request.wanted.get("target")
    row = Row(
        model=str(artifact.manifest.get("model", artifact.variant)),
        artifact=artifact,
        inspection=inspect(request.path, targets=[target] if target else [], compiled=True),
    )
    warnings = list(row.inspection.without_verdict if row.inspection else ())
    if request.data is not None:
        row = _scored(request, row, warnings, listener)
    if request.asking("latency"):
        row = _timed(request, row, warnings, listener)
    return Check(
        path=request.path,
        results=tuple(
            CONDITIONS[name].judge(name, limit, row) for name, limit in request.wanted.items()
        ),
        row=row,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _scored(request: CheckRequest, row: Row, warnings: list[str], listener: Listener) -> Row:
    """Return the row with its score, and its loss against the baseline if there is one."""
    assert request.data is not None
    paths = [path for path in (request.baseline, request.path) if path is not None]
    report = _measured(request, paths, request.data, listener)
    scored = report.rows[-1]
    if scored.score is None:
        raise DataError("The data has no targets to score files with.", hint="Add y_test.")
    warnings += report.warnings
    return replace(
        row,
        score=scored.score,
        drop=scored.drop,
        agreement=scored.agreement,
        fidelity=scored.fidelity,
        collapses=scored.collapses,
        device=scored.place,
    )


def _timed(request: CheckRequest, row: Row, warnings: list[str], listener: Listener) -> Row:
    """Return the row with its latencies."""
    report = _measured(request, [request.path], None, listener)
    warnings += report.warnings
    return replace(row, timing=report.rows[0].timing)


def _measured(
    request: CheckRequest, paths: Sequence[Path], data: DataRequest | None, listener: Listener
) -> Report:
    """Score files where there is data, else time them, here or on the request's device."""
    from edgekit import pipeline
    from edgekit.devices import DeviceSetup

    settings = replace(request.settings(), latency=data is None)
    if request.device is None:
        return pipeline.measured(paths, data, settings, listener=listener)
    deployment = pipeline.Deployment(
        paths=paths,
        data=data,
        settings=settings,
        setup=request.setup or DeviceSetup(),
        skip_failed=False,
    )
    done = pipeline.deploy(deployment, [request.device], listener=listener)
    if (error := pipeline.first_error(done.outcomes)) is not None:
        raise error
    return done.report
