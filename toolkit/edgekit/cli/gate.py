"""Commands for a build: check a file against conditions, compare an old one with a new one."""

from __future__ import annotations

from dataclasses import asdict, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli import device_options, option_values, options
from edgekit.conditions import CONDITIONS, Condition, option_of

if TYPE_CHECKING:

    class ConditionOptions:
        """One option a condition, by its name."""

else:

    def _option(name: str, condition: Condition) -> tuple[str, Any, Any]:
        if condition.metavar is None:
            return (
                name,
                Annotated[bool, typer.Option(option_of(name), help=condition.meaning)],
                False,
            )
        option = typer.Option(option_of(name), metavar=condition.metavar, help=condition.meaning)
        return name, Annotated[str | None, option], None

    ConditionOptions = make_dataclass(
        "ConditionOptions",
        [_option(name, condition) for name, condition in CONDITIONS.items()],
        frozen=True,
        kw_only=True,
    )

File = Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite or .tflite.gz file.")]


def check(
    *,
    file: File,
    conditions: ConditionOptions,
    data: options.MaybeData = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The .tflite file that --max-drop is measured against."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the results as JUnit's XML.")
    ] = None,
    data_options: options.DataOptions,
    metric: options.MetricNames = None,
    score_output: options.Output = None,
    measured_on: device_options.DeviceOptions,
    runs: device_options.Runs = None,
    runtime: device_options.Runtime = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a .tflite file against limits: exit code 6 where one is unmet.

    Only what the conditions ask for is measured, here or on a device.

    \b
    edgekit check int8.tflite --max-size 500k --no-float --target coral
    edgekit check int8.tflite --max-latency 10ms@p90 --junit check.xml
    edgekit check int8.tflite --max-latency 20ms --device pi@raspberrypi.local
    edgekit check int8.tflite --data data.npz --max-drop 0.5 --baseline float32.tflite
    """
    from edgekit import api
    from edgekit.cli.output import json_line, put, say, show, wrote_file
    from edgekit.cli.progress import listening
    from edgekit.errors import BudgetError
    from edgekit.files import refuse_existing, writing
    from edgekit.printable import MOST_PATH, one_line, printable

    if junit is not None:
        refuse_existing(junit, force=force, option="--junit")
    with listening(quiet=quiet) as listener:
        found = api.check(
            file,
            **asdict(conditions),  # type: ignore[call-overload]  # a dataclass of options
            data=data,
            baseline=baseline,
            **data_options.arguments(),
            metric=option_values.metrics_of(metric),
            score_output=score_output,
            **measured_on.arguments(),
            runs=runs,
            runtime=runtime,
            listener=listener,
        )
    if junit is not None:
        from edgekit.reports.check_results import junit as as_junit

        with writing(junit, replace=force) as temporary:
            temporary.write_text(as_junit(found), encoding="utf-8")
    if json:
        from edgekit.schema import check_to_json

        put(json_line(check_to_json(found)))
    else:
        from edgekit.reports.check_results import check_lines

        show(check_lines, found)
        if junit is not None:
            say(wrote_file(junit))
    for warning in found.warnings:
        say(f"Warning: {one_line(warning)}", error=True)
    if not found.met:
        unmet = ", ".join(option_of(name) for name in found.unmet)
        raise BudgetError(
            f"{printable(file, MOST_PATH)}: {len(found.unmet)} of {len(found.results)} conditions "
            f"unmet: {unmet}."
        )


def diff(
    *,
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A .tflite or .tflite.gz file.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The one that takes its place.")],
    data: options.MaybeData = None,
    data_options: options.ScoreOptions,
    bench: Annotated[bool, typer.Option(help="Measure latencies.")] = True,
    run_options: device_options.RunOptions,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare an old .tflite file with a new one, as Markdown for a pull request.

    \b
    edgekit diff main/int8.tflite int8.tflite --data data.npz
    edgekit diff old.tflite new.tflite --no-bench >> "$GITHUB_STEP_SUMMARY"
    """
    from edgekit import api
    from edgekit.cli.output import json_line, put
    from edgekit.cli.progress import listening

    with listening(quiet=quiet) as listener:
        found = api.diff(
            old,
            new,
            data=data,
            **data_options.arguments(),
            latency=bench,
            **{**asdict(run_options), "threads": run_options.threads or 1},
            listener=listener,
        )
    if json:
        from edgekit.schema import comparison_to_json

        put(json_line(comparison_to_json(found)))
        return
    from edgekit.reports.comparison import comparison_markdown

    put(comparison_markdown(found))
