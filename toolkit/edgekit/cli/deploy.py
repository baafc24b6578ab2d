"""The command that goes to devices: deploy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli import options

if TYPE_CHECKING:
    from edgekit.records import Report

DEVICE_HELP = (
    "user@host, a name of devices.toml or of the ssh configuration, or all of devices.toml; "
    "repeatable."
)
Devices = Annotated[
    Path | None,
    typer.Option(
        "--devices",
        metavar="FILE",
        help="The devices.toml to take; one that is only found here may not name local files.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        parser=options.whole(1, options.MOST_THREADS),
        metavar="N",
        help="Interpreter threads; default: the device's, or 1.",
    ),
]


def deploy(
    files: options.Files,
    device: Annotated[
        list[str], typer.Option("--device", "-D", metavar="DEVICE", help=DEVICE_HELP)
    ],
    devices: Devices = None,
    data: options.MaybeData = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="INPUT",
            help="Answer to this picture, WAV, .npz, .npy or folder in JSON lines, instead of "
            "measuring; repeatable.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names for --run; default: the model's own."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1, options.MOST_THREADS),
            metavar="N",
            help="Classes that --run names; default 5.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            parser=options.number(0, 1),
            metavar="SHARE",
            help="Least score of a box that --run finds; default 0.5.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A folder for report.html and report.json, or a file (.html, .json, .md, ...).",
        ),
    ] = None,
    column: options.Column = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    score_output: options.Output = None,
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
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score and time .tflite files on devices, over SSH; or run them there.

    Nothing is left there without --keep. A device that fails does not stop the others.

    \b
    edgekit deploy int8.tflite --device pi@raspberrypi.local --data data.npz
    edgekit deploy int8.tflite --device pi@raspberrypi.local --run photo.jpg
    edgekit deploy quantized/model/*.tflite --device all --setup -o fleet
    """
    from edgekit.errors import UsageError

    if run and (data or output):
        raise UsageError(
            "--run answers to inputs and measures nothing.",
            found=f"With it stands {'--data' if data else '--output'}.",
            hint="Leave one of them out.",
        )
    to_devices(
        files,
        device,
        json=json,
        quiet=quiet,
        output_path=output,
        force=force,
        devices=devices,
        data=data,
        inputs=run or (),
        labels=labels,
        top=top,
        threshold=threshold,
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
    files: Sequence[Path],
    device: Sequence[str],
    *,
    json: bool,
    quiet: bool,
    output_path: Path | None = None,
    force: bool = False,
    **asked: Any,
) -> None:
    """Deploy, print what came of the devices that answered, and raise for those that did not."""
    from edgekit import api
    from edgekit.cli.output import emit, json_line, wrote_file
    from edgekit.cli.progress import listening
    from edgekit.pipeline import first_error

    written: Sequence[Path] = ()
    with _placing(output_path, force=force) as write:
        with listening(quiet=quiet) as listener:
            result, outcomes = api.deploy(files, device, listener=listener, **asked)
        error = first_error(outcomes)
        if result.rows:
            written = write(result)
        elif error is not None and output_path is not None:
            raise error  # there is nothing to place
    for outcome in outcomes:
        for answer in outcome.answers:
            print(json_line(answer))
    if result.rows:
        emit(result, json=json)
    for path in () if json else written:
        print(wrote_file(path))
    if error is not None:
        raise error


@contextmanager
def _placing(output: Path | None, *, force: bool) -> Iterator[Callable[[Report], Sequence[Path]]]:
    """Yield what writes a report to where `--output` says; it appears at the end, all or nothing.

    A place that cannot be written is refused before anything is measured.
    """
    from edgekit.cli.output import warn_missing_charts
    from edgekit.errors import UsageError
    from edgekit.files import refuse_existing, staging, writing
    from edgekit.reports import FORMATS, encoded, render_all, write_pages

    if output is None:
        yield lambda _: ()
        return
    ending = output.suffix.lstrip(".")
    if ending and ending not in FORMATS:
        raise UsageError(
            f"There is no report format {ending!r}.", hint=f"Known: {', '.join(FORMATS)}."
        )
    if ending:
        refuse_existing(output, force=force)
        with writing(output, replace=force) as temporary:

            def write_file(report: Report) -> Sequence[Path]:
                told, contents = render_all(report, (ending,))
                warn_missing_charts(told)
                temporary.write_bytes(encoded(contents[ending]))
                return [output]

            yield write_file
        return
    places = [output / "report.json", output / "report.html"]
    for place in places:
        refuse_existing(place, force=force)
    with staging(output, replace=force) as stage:

        def write_both(report: Report) -> Sequence[Path]:
            warn_missing_charts(write_pages(report, stage))
            return places

        yield write_both
