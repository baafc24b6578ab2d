"""The command that goes to devices: deploy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.choices import MAX_THREADS
from edgekit.cli import device_options, options

if TYPE_CHECKING:
    from edgekit.pipeline import Deployed
    from edgekit.records import Report


def deploy(
    *,
    files: options.Files,
    device: device_options.DevicesWanted,
    devices: device_options.DevicesFile = None,
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
            parser=options.whole(1, MAX_THREADS),
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
    score_options: options.ScoreOptions,
    run_options: device_options.RunOptions,
    delegate: device_options.Delegate = None,
    setup: device_options.Setup = False,
    wheels: device_options.Wheels = None,
    keep: device_options.Keep = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score and time .tflite files on devices, over SSH; or run them there.

    Nothing is left there without --keep. A device or a file that fails does not
    stop the others.

    \b
    edgekit deploy int8.tflite --device pi@raspberrypi.local --data data.npz
    edgekit deploy int8.tflite --device pi@raspberrypi.local --run photo.jpg
    edgekit deploy quantized/model/*.tflite --device all --setup -o fleet
    """
    from edgekit.errors import UsageError

    if run and (data or output):
        raise UsageError(
            f"--run cannot be combined with {'--data' if data else '--output'}.",
            found="With --run the files answer to inputs, and are not measured.",
            hint="Leave one of them out.",
        )
    from edgekit import api

    show_deployed(
        partial(
            api.deploy,
            files,
            device,
            devices=devices,
            data=data,
            **score_options.arguments(),
            inputs=run or (),
            labels=labels,
            top=top,
            threshold=threshold,
            **asdict(run_options),
            delegate=delegate,
            setup=setup,
            wheels=wheels,
            keep=keep,
        ),
        output=output,
        force=force,
        json=json,
        quiet=quiet,
    )


def show_deployed(
    deploy: Callable[..., Deployed],
    *,
    json: bool,
    quiet: bool,
    output: Path | None = None,
    force: bool = False,
) -> None:
    """Deploy, print the results of the devices that answered, and raise for those that failed.

    Args:
        deploy: Called with a `listener`.
        json: Whether JSON is printed.
        quiet: Whether progress is left out.
        output: Folder or file of the report; None writes none.
        force: Replace files that exist.
    """
    from edgekit.cli.output import emit, json_line, put, say, wrote_file
    from edgekit.cli.progress import listening
    from edgekit.pipeline import first_error
    from edgekit.printable import one_line

    written: Sequence[Path] = ()
    with _placing(output, force=force) as write:
        with listening(quiet=quiet) as listener:
            deployed = deploy(listener=listener)
        result, error = deployed.report, first_error(deployed.outcomes)
        if result.rows:
            written = write(result)
        elif error is not None and output is not None:
            raise error  # there is nothing to place
    for outcome in deployed.outcomes:
        for answer in outcome.answers:
            put(json_line(answer))
        for text in outcome.unanswered:
            say(f"Warning: {one_line(text)}", error=True)
    if result.rows:
        emit(result, json=json)
    for path in () if json else written:
        say(wrote_file(path))
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
                rendered, contents = render_all(report, (ending,))
                warn_missing_charts(rendered)
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
