"""Verbs for a build: check a file, compare an old one with a new one, verify a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.api.data import Data, metrics, request_of, taken
from edgekit.api.measuring_device import device_setup, one_device
from edgekit.records import (
    EACH_ROW,
    Check,
    Comparison,
    Listener,
    Proof,
    TableOptions,
    TaskChoice,
    silent,
)

if TYPE_CHECKING:
    from edgekit.data.own_metric import Asked


def check(
    path: str | Path,
    *,
    target: str | None = None,
    max_size: int | str | None = None,
    max_flash: int | str | None = None,
    max_arena: int | str | None = None,
    max_memory: int | str | None = None,
    max_latency: float | str | None = None,
    min_score: float | None = None,
    max_drop: float | None = None,
    no_float: bool = False,
    data: Data = None,
    baseline: str | Path | None = None,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    task: TaskChoice = None,
    preprocessing: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    metric: Asked | Sequence[Asked] | None = None,
    score_output: str | None = None,
    device: str | None = None,
    devices: str | Path | None = None,
    setup: bool = False,
    wheels: str | Path | None = None,
    keep: bool = False,
    threads: int | None = None,
    runs: int | None = None,
    runtime: str | None = None,
    listener: Listener = silent,
) -> Check:
    """Hold a `.tflite` file against conditions, and measure what they ask for.

    Args:
        path: The file, plain or packed with gzip.
        target: Every operator runs on this target.
        max_size: Bytes of the plain file; text such as "500k" is read likewise.
        max_flash: Bytes of the file as it is stored.
        max_arena: Bytes of activations that are alive at once, as predicted.
        max_memory: Bytes of weights and arena, as measured here.
        max_latency: Milliseconds at the median, or such as "10ms@p90".
        min_score: The worst score that is accepted, in the metric's own unit.
        max_drop: Accepted loss against `baseline`: points, or percent of an error.
        no_float: No operator reads or writes activations in floating point.
        data: What files are scored on; see `quantize`.
        baseline: The `.tflite` file that the loss is measured against.
        split: Share of the samples that is drawn for testing, where the data has no test split.
        table: How the rows of a `.csv` become samples: windows, columns that are left out.
        column: The column to predict, for a `.csv`.
        classes: Names of the classes in the model's order; None where the data's order is it.
        task: What the targets mean, default inferred from the targets.
        preprocessing: How raw images become inputs.
        head: How the outputs of a detector tell boxes: a table, as in a `.head.toml`.
        metric: The metric to judge by, default the task's own; see `quantize`.
        score_output: Name of the output that is scored.
        device: Where to score and time it: user@host or a name of `devices.toml`; default this
            machine.
        devices: The `devices.toml` to take; see `deploy`, as for all that follow of the device.
        setup: Whether to install a runtime on the device, in a virtual environment.
        wheels: A folder of wheels for `setup`; None downloads them.
        keep: Whether files and environment stay in the device's cache.
        threads: Interpreter threads; None takes the device's own number, here 1.
        runs: Invocations to time; None stops when the measurement has settled.
        runtime: litert, tflite or tensorflow; None takes the first found.
        listener: Progress callback.

    Returns:
        What was wanted and found, condition by condition; `met` says whether all are met.

    Raises:
        UsageError: There is no condition, a limit cannot be read or met, or something is missing.
        EdgekitError: See `edgekit.errors`.
    """
    from edgekit.checks import CheckRequest
    from edgekit.checks import check as judge
    from edgekit.conditions import read_conditions

    wanted = read_conditions(
        {
            "target": target,
            "max_size": max_size,
            "max_flash": max_flash,
            "max_arena": max_arena,
            "max_memory": max_memory,
            "max_latency": max_latency,
            "min_score": min_score,
            "max_drop": max_drop,
            "no_float": no_float,
        }
    )
    request = CheckRequest(
        path=Path(path),
        wanted=wanted,
        data=request_of(
            data,
            split=split,
            table=table,
            column=column,
            classes=classes,
            task=task,
            preprocessing=preprocessing,
            head=head,
        ),
        baseline=None if baseline is None else Path(baseline),
        metric=metrics(metric),
        score_output=score_output,
        device=None if device is None else one_device(device, devices),
        setup=device_setup(install=setup, wheels=wheels, keep=keep) if device else None,
        threads=threads,
        runs=runs,
        runtime=runtime,
    )
    return judge(request, listener=listener)


def diff(
    old: str | Path,
    new: str | Path,
    *,
    data: Data = None,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    task: TaskChoice = None,
    preprocessing: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    metric: Asked | Sequence[Asked] | None = None,
    max_drop: float = 0.5,
    score_output: str | None = None,
    latency: bool = True,
    threads: int = 1,
    runs: int | None = None,
    runtime: str | None = None,
    listener: Listener = silent,
) -> Comparison:
    """Measure an old `.tflite` file and the one that takes its place, alike.

    Args:
        old: The old file.
        new: The new one.
        data: What they are scored on; None leaves scores out. See `quantize`.
        split: Share of the samples that is drawn for testing, where the data has no test split.
        table: How the rows of a `.csv` become samples: windows, columns that are left out.
        column: The column to predict, for a `.csv`.
        classes: Names of the classes in the model's order; None where the data's order is it.
        task: What the targets mean, default inferred from the targets.
        preprocessing: How raw images become inputs.
        head: How the outputs of a detector tell boxes: a table, as in a `.head.toml`.
        metric: The metric to judge by, default the task's own; see `quantize`.
        max_drop: Accepted loss: points of accuracy or AUC, percent of RMSE.
        score_output: Name of the output that is scored.
        latency: Whether they are timed.
        threads: Interpreter threads.
        runs: Invocations to time; None stops when the measurement has settled.
        runtime: litert, tflite or tensorflow; None takes the first found.
        listener: Progress callback.

    Raises:
        EdgekitError: See `edgekit.errors`.
    """
    from edgekit.devices import RunSettings
    from edgekit.pipeline import MeasureSettings, compare_files

    request = request_of(
        data,
        split=split,
        table=table,
        column=column,
        classes=classes,
        task=task,
        preprocessing=preprocessing,
        head=head,
    )
    settings = MeasureSettings(
        score_output=score_output,
        metric=metrics(metric),
        max_drop=max_drop,
        latency=latency,
        run=RunSettings(threads=threads, runs=runs, runtime=runtime),
    )
    return compare_files(Path(old), Path(new), request, settings, listener=listener)


def verify(path: str | Path, *, data: Data = None, listener: Listener = silent) -> Proof:
    """Derive every figure of a bundle again that needs no device; see `quantize(bundle=...)`.

    Args:
        path: The bundle.
        data: The data; None takes what the bundle's manifests name, unless that is a function.
        listener: Progress callback.

    Returns:
        All figures: the same, another one, or not checked and why.

    Raises:
        UsageError: It is no bundle, or is damaged.
        EdgekitError: Data that were given cannot be read, or do not fit the files.
    """
    from edgekit import pipeline

    return pipeline.replay(Path(path), data=taken(data), listener=listener)
