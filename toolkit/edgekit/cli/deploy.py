"""The command that goes to devices: deploy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import options

DEVICE_HELP = (
    "user@host, a name of devices.toml or of the ssh configuration, or all of devices.toml; "
    "repeatable."
)


def deploy(
    files: options.Files,
    device: Annotated[
        list[str], typer.Option("--device", "-D", metavar="DEVICE", help=DEVICE_HELP)
    ],
    data: options.MaybeData = None,
    column: options.Column = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    score_output: options.Output = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Interpreter threads; default: the device's, or 1.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Counted invocations; default: until settled.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="litert, tflite or tensorflow; default: the first found.")
    ] = None,
    delegate: Annotated[
        str | None, typer.Option(help="edgetpu, usb, pci:0, or a delegate library there.")
    ] = None,
    setup: Annotated[
        bool, typer.Option("--setup", help="Bring a runtime along, in a virtual environment.")
    ] = False,
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Wheels for --setup; default: downloaded.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave files and environment in the device's cache.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score and time .tflite files on devices, over SSH.

    Nothing is left there without --keep. A device that fails does not stop the others.

    \b
    edgekit deploy int8.tflite --device pi@raspberrypi.local --data data.npz
    edgekit deploy quantized/model/*.tflite --device all --setup --keep
    """
    to_devices(
        files,
        device,
        json=json,
        quiet=quiet,
        data=data,
        column=column,
        task=options.task_of(task),
        preprocessing=options.preprocessing_of(preprocess),
        output=score_output,
        threads=threads,
        runs=runs,
        runtime=runtime,
        delegate=delegate,
        setup=setup,
        wheels=wheels,
        keep=keep,
    )


def to_devices(
    files: Sequence[Path], device: Sequence[str], *, json: bool, quiet: bool, **asked: Any
) -> None:
    """Deploy, print the rows of the devices that answered, and raise for those that did not."""
    from edgekit import api
    from edgekit.cli.progress import listening
    from edgekit.cli.wording import emit
    from edgekit.pipeline import first_error

    with listening(quiet=quiet) as listener:
        result, outcomes = api.deploy(files, device, listener=listener, **asked)
    error = first_error(outcomes)
    if result.rows or error is None:
        emit(result, json=json)
    if error is not None:
        raise error
