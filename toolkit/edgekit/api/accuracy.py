"""Verbs that say where accuracy is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.api.data import Data, metrics, taken
from edgekit.api.measuring_device import device_setup, one_device
from edgekit.choices import RangesMethod
from edgekit.modes import FLOAT32, INT8, MIXED
from edgekit.records import (
    EACH_ROW,
    LayerDifferences,
    Listener,
    Sensitivity,
    TableOptions,
    TaskChoice,
    silent,
)

if TYPE_CHECKING:
    from edgekit.data.own_metric import Asked


def sensitivity(
    source: str | Path | Any,
    *,
    data: Data,
    mode: str = INT8.name,
    ranges: RangesMethod = "minmax",
    search: bool = False,
    target: str | None = None,
    max_drop: float = 0.5,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    task: TaskChoice = None,
    preprocessing: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    calibration_samples: int = 200,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    unroll: bool = False,
    metric: Asked | Sequence[Asked] | None = None,
    score_output: str | None = None,
    seed: int = 0,
    listener: Listener = silent,
) -> Sensitivity:
    """Measure what each operator costs in a precision, alone and among the others.

    Each file is run on the calibration samples: in one only this operator has the precision, in the
    other all have it but this one. No test sample is read.

    Args:
        source: A `.keras`, `.h5`, SavedModel folder or float `.tflite`, or a live Keras model.
        data: As for `quantize`, with training samples.
        mode: The precision: int8, int16x8, int4, dynamic or float16.
        ranges: How activation ranges are chosen: auto, minmax, percentile, mse or entropy.
        search: Whether the least set of operators is searched for that must have a higher precision
            for the loss to be accepted; it is `plan` of what is returned.
        target: The target that the file is for: on microcontrollers and Ethos-U the higher
            precision is int16.
        max_drop: Accepted loss, for the search.
        split: As for `quantize`, like those that follow.
        table: Likewise.
        column: Likewise.
        classes: Likewise.
        task: Likewise.
        preprocessing: Likewise.
        head: Likewise.
        calibration_samples: Training samples that set the ranges, and that files are run on.
        custom: Likewise.
        trust_code: Likewise.
        unroll: Likewise.
        metric: Likewise.
        score_output: Likewise.
        seed: Likewise.
        listener: Progress callback.

    Raises:
        EdgekitError: See `edgekit.errors`.
    """
    from edgekit import pipeline
    from edgekit.recipe import default_plan

    place = Path(source) if isinstance(source, (str, Path)) else source
    plan = default_plan(mode, io=FLOAT32.activations, ranges=ranges)
    request = pipeline.Request(
        source=place,
        plans=(replace(plan, variant=MIXED),),
        folder=Path(),
        data=taken(data),
        split=split,
        table=table,
        column=column,
        classes=classes,
        task=task,
        preprocessing=preprocessing,
        head=head,
        calibration_samples=calibration_samples,
        custom=tuple(custom),
        trust_code=trust_code,
        unroll=unroll,
        max_drop=max_drop,
        metric=metrics(metric),
        output=score_output,
        target=target,
        seed=seed,
    )
    return pipeline.sensitivity(request, search=search, listener=listener)


def compare(
    first: str | Path | Any,
    second: str | Path | Any,
    *,
    data: Data = None,
    threshold_db: float = 20.0,
    samples: int = 100,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    task: TaskChoice = None,
    preprocessing: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    unroll: bool = False,
    score_output: str | None = None,
    device: str | None = None,
    devices: str | Path | None = None,
    setup: bool = False,
    wheels: str | Path | None = None,
    keep: bool = False,
    threads: int | None = None,
    runtime: str | None = None,
    delegate: str | None = None,
    kernels: str | None = None,
    listener: Listener = silent,
) -> LayerDifferences:
    """Compare two models operator by operator, on the same samples.

    Operators belong together by their layers and kinds. The default threshold of 20 dB is a
    difference of a tenth of the signal, root mean square. With a device, which gives no inner
    values, outputs are compared.

    Args:
        first: A Keras model, a float or quantized `.tflite` file, or an `.npz` of outputs, as the
            runner's `eval --outputs` writes them on a device. It is the signal.
        second: What is compared with it, likewise.
        data: As for `quantize`; its test samples are run, else those of training. None where both
            are `.npz`.
        threshold_db: SQNR below which two operators are said to differ.
        samples: Most samples that are run.
        split: As for `quantize`, like those that follow.
        table: Likewise.
        column: Likewise.
        classes: Likewise.
        task: Likewise.
        preprocessing: Likewise.
        head: Likewise.
        custom: Likewise.
        trust_code: Likewise.
        unroll: Likewise.
        score_output: Likewise.
        device: user@host, or a name of `devices.toml`: where `second`, a `.tflite` file, is run;
            None is this machine.
        devices: As for `deploy`, like those that follow.
        setup: Likewise.
        wheels: Likewise.
        keep: Likewise.
        threads: Likewise.
        runtime: Likewise.
        delegate: Likewise.
        kernels: Likewise.
        listener: Progress callback.

    Raises:
        EdgekitError: See `edgekit.errors`.
    """
    from edgekit import pipeline
    from edgekit.devices import RunSettings

    one, other = (Path(each) if isinstance(each, (str, Path)) else each for each in (first, second))
    request = pipeline.Request(
        source=one,
        plans=(),
        folder=Path(),
        data=taken(data),
        split=split,
        table=table,
        column=column,
        classes=classes,
        task=task,
        preprocessing=preprocessing,
        head=head,
        custom=tuple(custom),
        trust_code=trust_code,
        unroll=unroll,
        output=score_output,
        device=one_device(device, devices),
        setup=device_setup(install=setup, wheels=wheels, keep=keep),
    )
    return pipeline.compare_operators(
        one,
        other,
        request,
        threshold_db=threshold_db,
        samples=samples,
        there=RunSettings(threads=threads, runtime=runtime, delegate=delegate, kernels=kernels),
        listener=listener,
    )
