"""Commands that measure files: eval, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import options
from edgekit.cli.deploy import DEVICE_HELP, Devices, Threads, to_devices

Device = Annotated[
    list[str] | None, typer.Option("--device", "-D", metavar="DEVICE", help=DEVICE_HELP)
]


def eval_(
    files: options.Files,
    data: options.Data,
    column: options.Column = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    score_output: options.Output = None,
    device: Device = None,
    devices: Devices = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score .tflite files on the test split.

    The first file is the one the others are held against.

    \b
    edgekit eval quantized/model/int8.tflite --data data.npz
    edgekit eval float32.tflite int8.tflite --data data.npz --json
    edgekit eval int8.tflite --data data.npz --device pi@raspberrypi.local
    """
    _check_devices(device, devices)
    if device:
        to_devices(
            files,
            device,
            json=json,
            quiet=quiet,
            devices=devices,
            data=data,
            column=column,
            task=options.task_of(task),
            preprocessing=options.preprocessing_of(preprocess),
            output=score_output,
            latency=False,
        )
        return
    from edgekit import api
    from edgekit.cli.output import emit
    from edgekit.cli.progress import listening

    with listening(quiet=quiet) as listener:
        result = api.evaluate(
            files,
            data,
            column=column,
            task=options.task_of(task),
            preprocessing=options.preprocessing_of(preprocess),
            score_output=score_output,
            listener=listener,
        )
    emit(result, json=json)
    if not json and len(result.rows) == 1 and result.rows[0].score:
        from rich.console import Console

        from edgekit.reports import print_per_class

        print_per_class(result.rows[0].score, Console())


def bench(
    files: options.Files,
    threads: Threads = None,
    runs: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1),
            metavar="N",
            help="Counted invocations; default: until settled.",
        ),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="litert, tflite or tensorflow; default: the first found.")
    ] = None,
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
    device: Device = None,
    devices: Devices = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the latency of .tflite files, here or on a device.

    \b
    edgekit bench quantized/model/*.tflite
    edgekit bench int8.tflite --threads 2 --json
    edgekit bench int8.tflite --device pi@raspberrypi.local --duration 60
    """
    asked: dict[str, Any] = {
        "runs": runs,
        "runtime": runtime,
        "kernels": kernels,
        "duration": duration,
        "sweep": sweep,
    }
    _check_devices(device, devices)
    if device:
        asked |= {"devices": devices, "threads": threads}
        to_devices(files, device, json=json, quiet=quiet, **asked)
        return
    from edgekit import api
    from edgekit.cli.output import emit
    from edgekit.cli.progress import listening

    with listening(quiet=quiet) as listener:
        result = api.bench(files, threads=threads or 1, listener=listener, **asked)
    emit(result, json=json)


def _check_devices(device: list[str] | None, devices: Path | None) -> None:
    from edgekit.errors import UsageError

    if devices is not None and not device:
        raise UsageError(
            "--devices has no effect without --device.",
            hint="Add --device NAME, or --device all.",
        )
