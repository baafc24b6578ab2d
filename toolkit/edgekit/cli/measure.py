"""Commands that measure files: eval, bench."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from edgekit.cli import device_options, options
from edgekit.cli.deploy import show_deployed


def eval_(
    files: options.Files,
    data: options.Data,
    column: options.Column = None,
    classes: options.Classes = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    metric: options.MetricName = None,
    max_drop: options.MaxDrop = 0.5,
    score_output: options.Output = None,
    device: device_options.MaybeDevices = None,
    devices: device_options.DevicesFile = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score .tflite files on the test split.

    The others are compared with the first file.

    \b
    edgekit eval quantized/model/int8.tflite --data data.npz
    edgekit eval float32.tflite int8.tflite --data data.npz --json
    edgekit eval int8.tflite --data data.npz --device pi@raspberrypi.local
    """
    device_options.check_device_options(device, devices=devices)
    from edgekit import api
    from edgekit.cli.output import emit
    from edgekit.cli.progress import listening

    task, metric = options.task_of(task), options.metric_of(metric)
    preprocessing = options.preprocessing_of(preprocess)
    if device:
        show_deployed(
            partial(
                api.deploy,
                files,
                device,
                devices=devices,
                data=data,
                column=column,
                classes=options.classes_of(classes),
                task=task,
                preprocessing=preprocessing,
                metric=metric,
                max_drop=max_drop,
                score_output=score_output,
                latency=False,
            ),
            json=json,
            quiet=quiet,
        )
        return
    with listening(quiet=quiet) as listener:
        result = api.evaluate(
            files,
            data,
            column=column,
            classes=options.classes_of(classes),
            task=task,
            preprocessing=preprocessing,
            metric=metric,
            max_drop=max_drop,
            score_output=score_output,
            listener=listener,
        )
    emit(result, json=json)
    if not json and len(result.files) == 1 and result.files[0].score:
        from rich.console import Console

        from edgekit.reports import print_per_class

        print_per_class(result.files[0].score, Console())


def bench(
    files: options.Files,
    threads: device_options.Threads = None,
    runs: device_options.Runs = None,
    runtime: device_options.Runtime = None,
    kernels: Annotated[
        str | None, typer.Option(help="default, builtin (no XNNPACK) or reference (slow, exact).")
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            parser=options.number(1, 1e6),
            metavar="SECONDS",
            help="Then load it so long: does it throttle?",
        ),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Also without XNNPACK, and on 1 thread to one a core.")
    ] = False,
    device: device_options.MaybeDevices = None,
    devices: device_options.DevicesFile = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the latency of .tflite files, here or on a device.

    \b
    edgekit bench quantized/model/*.tflite
    edgekit bench int8.tflite --threads 2 --json
    edgekit bench int8.tflite --device pi@raspberrypi.local --duration 60
    """
    device_options.check_device_options(device, devices=devices)
    from edgekit import api
    from edgekit.cli.output import emit
    from edgekit.cli.progress import listening

    if device:
        show_deployed(
            partial(
                api.deploy,
                files,
                device,
                devices=devices,
                threads=threads,
                runs=runs,
                runtime=runtime,
                kernels=kernels,
                duration=duration,
                sweep=sweep,
            ),
            json=json,
            quiet=quiet,
        )
        return
    with listening(quiet=quiet) as listener:
        result = api.bench(
            files,
            threads=threads or 1,
            runs=runs,
            runtime=runtime,
            kernels=kernels,
            duration=duration,
            sweep=sweep,
            listener=listener,
        )
    emit(result, json=json)
