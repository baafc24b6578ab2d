"""Verbs that measure files: evaluate, bench, deploy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.api.data import Data, files_of, metrics, request_of, required
from edgekit.api.measuring_device import device_setup
from edgekit.records import (
    EACH_ROW,
    DataRequest,
    Listener,
    Report,
    TableOptions,
    TaskChoice,
    silent,
)

if TYPE_CHECKING:
    from edgekit.data.own_metric import Asked
    from edgekit.pipeline.deploy import Deployed


def evaluate(
    paths: str | Path | Sequence[str | Path],
    data: Data,
    *,
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
    listener: Listener = silent,
) -> Report:
    """Score one `.tflite` file or several on the test split, and compare the others with the first.

    See `quantize` for the arguments.
    """
    from edgekit import pipeline

    return pipeline.evaluate(
        files_of(paths),
        DataRequest(
            data=required(data),
            split=split,
            table=table,
            column=column,
            classes=classes,
            task=task,
            preprocessing=preprocessing,
            head=head,
        ),
        pipeline.MeasureSettings(
            score_output=score_output, metric=metrics(metric), max_drop=max_drop
        ),
        listener=listener,
    )


def bench(
    paths: str | Path | Sequence[str | Path],
    *,
    threads: int = 1,
    runs: int | None = None,
    runtime: str | None = None,
    kernels: str | None = None,
    duration: float | None = None,
    sweep: bool = False,
    listener: Listener = silent,
) -> Report:
    """Measure latencies on this machine, with the runner, in a process of its own.

    See `deploy` for the arguments.
    """
    from edgekit import pipeline
    from edgekit.devices import RunSettings

    run = RunSettings(
        threads=threads,
        runs=runs,
        runtime=runtime,
        kernels=kernels,
        duration=duration,
        sweep=sweep,
    )
    return pipeline.bench(files_of(paths), pipeline.MeasureSettings(run=run), listener=listener)


def deploy(
    paths: str | Path | Sequence[str | Path],
    device: str | Sequence[str],
    *,
    devices: str | Path | None = None,
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
    inputs: str | Path | Sequence[str | Path] = (),
    labels: str | Path | None = None,
    top: int | None = None,
    threshold: float | None = None,
    latency: bool = True,
    threads: int | None = None,
    runs: int | None = None,
    runtime: str | None = None,
    delegate: str | None = None,
    kernels: str | None = None,
    duration: float | None = None,
    sweep: bool = False,
    setup: bool = False,
    wheels: str | Path | None = None,
    keep: bool = False,
    listener: Listener = silent,
) -> Deployed:
    """Score and time `.tflite` files on devices behind SSH, several at once.

    Args:
        paths: A file or several; the others are compared with the first, as computed here.
        device: user@host, a name of `devices.toml`, "all", or several of these.
        devices: The `devices.toml` to take; None takes the one in the current folder, which may
            not name files of this machine, or else the user's own.
        data: What they are scored on; None leaves scores out.
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
        inputs: Pictures, recordings or samples to run the files on instead of measuring them.
        labels: File of class names for `inputs`; None takes the model's own.
        top: Classes named for each of `inputs`; None leaves it to the runner.
        threshold: The least score, 0 to 1, of a box found in `inputs`; None likewise.
        latency: Whether to measure latencies.
        threads: Interpreter threads; None takes each device's own number, else 1.
        runs: Invocations to time; None stops when the measurement has settled.
        runtime: litert, tflite or tensorflow; None takes the first found there.
        delegate: What runs the model there: edgetpu, usb, pci:0, or a delegate library.
        kernels: default, builtin or reference.
        duration: Seconds of sustained load after the measurement; None leaves it out.
        sweep: Whether to time other kernels and numbers of threads as well.
        setup: Whether to install a runtime there, in a virtual environment.
        wheels: A folder of wheels for `setup`; None downloads them.
        keep: Whether files and environment stay in the devices' caches.
        listener: Progress callback.

    Returns:
        The report, and the outcome of each device: an error there stops no other device and is not
        raised; what the files answered to `inputs` is there, too.
    """
    from edgekit import pipeline
    from edgekit.devices import RunSettings, find_devices

    run = RunSettings(
        threads=threads,
        runs=runs,
        runtime=runtime,
        delegate=delegate,
        kernels=kernels,
        duration=duration,
        sweep=sweep,
    )
    request = pipeline.Deployment(
        paths=files_of(paths),
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
        settings=pipeline.MeasureSettings(
            score_output=score_output,
            metric=metrics(metric),
            max_drop=max_drop,
            latency=latency,
            run=run,
        ),
        setup=device_setup(install=setup, wheels=wheels, keep=keep),
        inputs=files_of(inputs),
        labels=Path(labels) if labels else None,
        top=top,
        threshold=threshold,
    )
    asked = [device] if isinstance(device, str) else device
    fleet = find_devices(asked, Path(devices) if devices else None)
    return pipeline.deploy(request, fleet, listener=listener)
