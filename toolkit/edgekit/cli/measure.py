"""Commands that measure files: eval, bench."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer

from edgekit.cli import device_options, options
from edgekit.cli.deploy import show_deployed


def eval_(
    *,
    files: options.Files,
    data: options.Data,
    score_options: options.ScoreOptions,
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
    from edgekit.cli.output import console, emit
    from edgekit.cli.progress import listening

    scoring = score_options.arguments()
    if device:
        show_deployed(
            partial(
                api.deploy,
                files,
                device,
                devices=devices,
                data=data,
                **scoring,
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
            **scoring,
            listener=listener,
        )
    emit(result, json=json)
    score = result.files[0].score if len(result.files) == 1 else None
    if not json and score and score.per_class:
        from edgekit.reports import print_per_class

        print_per_class(score, console())


def bench(
    *,
    files: options.Files,
    run_options: device_options.RunOptions,
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

    running: dict[str, Any] = {
        **asdict(run_options),
        "kernels": kernels,
        "duration": duration,
        "sweep": sweep,
    }
    if device:
        show_deployed(
            partial(api.deploy, files, device, devices=devices, **running),
            json=json,
            quiet=quiet,
        )
        return
    with listening(quiet=quiet) as listener:
        result = api.bench(
            files,
            **{**running, "threads": run_options.threads or 1},
            listener=listener,
        )
    emit(result, json=json)
