"""Commands that say where accuracy is lost: sensitivity, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgekit.choices import MAX_SEED, TARGET_TITLES
from edgekit.cli import device_options, options

if TYPE_CHECKING:
    from edgekit.choices import RangesMethod
    from edgekit.records import Sensitivity

PAGES = (".html", ".htm")
RECIPE = ".toml"


def sensitivity(
    *,
    context: typer.Context,
    source: options.Source,
    data: options.MaybeData = None,
    mode: Annotated[
        str, typer.Option(help="The precision: int8, int16x8, int4, dynamic or float16.")
    ] = "int8",
    ranges: Annotated[
        str, typer.Option(help="Activation ranges: auto, minmax, percentile, mse or entropy.")
    ] = "minmax",
    score_options: options.ScoreOptions,
    custom: options.Custom = None,
    trust_code: options.TrustCode = False,
    unroll: options.Unroll = False,
    calibration_samples: Annotated[
        int,
        typer.Option(
            parser=options.whole(1),
            metavar="N",
            help="Training samples that set the ranges, and that files are run on.",
        ),
    ] = 200,
    seed: Annotated[
        int,
        typer.Option(parser=options.whole(0, MAX_SEED), metavar="N", help="Seed of their draw."),
    ] = 0,
    target: Annotated[
        str | None,
        typer.Option(help=f"The target of the recipe: {', '.join(TARGET_TITLES)}."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .html page; or a .toml recipe that keeps the fewest operators in a higher "
            "precision, so that --max-drop holds. Repeatable.",
        ),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure what each operator costs, and write a recipe for it.

    Each operator is tried both ways, on training samples: alone in the precision, which ranks it,
    and alone in float. Figures are the SQNR of the outputs, and the metric.

    \b
    edgekit sensitivity model.keras --data data.npz
    edgekit sensitivity model.tflite --data data.npz -o page.html -o mixed.toml
    edgekit quantize model.tflite --data data.npz --recipe mixed.toml
    """
    from edgekit import api
    from edgekit.cli.output import json_line, put, say, show, wrote_file
    from edgekit.cli.progress import listening

    outputs = list(output or ())
    _check_outputs(outputs, force=force)
    with listening(quiet=quiet) as listener:
        found = api.sensitivity(
            Path(source),
            data=data,
            mode=mode,
            ranges=cast("RangesMethod", ranges),
            search=any(path.suffix == RECIPE for path in outputs),
            target=target,
            **score_options.arguments(),
            calibration_samples=calibration_samples,
            custom=tuple(custom or ()),
            trust_code=trust_code,
            unroll=unroll,
            seed=seed,
            listener=listener,
        )
    for path in outputs:
        _write(found, path, command=_next(source, path, context.obj), force=force)
    if json:
        from edgekit.schema import sensitivity_to_json

        put(json_line(sensitivity_to_json(found)))
        return
    from edgekit.reports.sensitivity_text import sensitivity_lines

    show(sensitivity_lines, found)
    for path in outputs:
        say(wrote_file(path))


def compare(
    *,
    first: Annotated[
        str, typer.Argument(metavar="A", help="A Keras model, a .tflite, or an .npz of outputs.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="What is compared with it.")],
    data: options.MaybeData = None,
    data_options: options.DataOptions,
    threshold: Annotated[
        float,
        typer.Option(
            parser=options.number(-100, 200),
            metavar="DB",
            help="SQNR below which operators are said to differ: 20 is a tenth of the signal.",
        ),
    ] = 20.0,
    samples: Annotated[
        int, typer.Option(parser=options.whole(1), metavar="N", help="Samples that are run.")
    ] = 100,
    custom: options.Custom = None,
    trust_code: options.TrustCode = False,
    unroll: options.Unroll = False,
    other_side: device_options.OtherSideOptions,
    graph: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Write the figures for Model Explorer's graph of B."
        ),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two models operator by operator: where do they part?

    With --device the outputs of B are those that the device computes; or an .npz holds them:
    edgekit_runner.py eval MODEL DATA.npz --outputs F.npz

    \b
    edgekit compare model.keras quantized/model/int8.tflite --data data.npz
    edgekit compare float32.tflite int8.tflite --data data.npz --graph int8.json
    edgekit compare int8.tflite int8.tflite --data data.npz --device pi@raspberrypi.local
    """
    from edgekit import api
    from edgekit.cli.output import json_line, put, say, show, wrote_file
    from edgekit.cli.progress import listening
    from edgekit.files import refuse_existing, writing

    where = other_side.arguments()
    if graph is not None:
        refuse_existing(graph, force=force, option="--graph")
    with listening(quiet=quiet) as listener:
        found = api.compare(
            Path(first),
            Path(second),
            data=data,
            threshold_db=threshold,
            samples=samples,
            **data_options.arguments(),
            custom=tuple(custom or ()),
            trust_code=trust_code,
            unroll=unroll,
            **where,
            listener=listener,
        )
    if graph is not None:
        from edgekit.reports.differences_text import model_explorer_data

        with writing(graph, replace=force) as temporary:
            temporary.write_text(json_line(model_explorer_data(found)) + "\n", encoding="utf-8")
    if json:
        from edgekit.schema import differences_to_json

        put(json_line(differences_to_json(found)))
        return
    from edgekit.reports.differences_text import difference_lines

    show(difference_lines, found)
    if graph is not None:
        say(wrote_file(graph))


def _check_outputs(outputs: list[Path], *, force: bool) -> None:
    """Refuse files that cannot be written, before any work.

    Raises:
        UsageError: One is neither a page nor a recipe.
        OutputError: One exists.
    """
    from edgekit.errors import UsageError
    from edgekit.files import refuse_existing
    from edgekit.printable import MOST_PATH, printable

    for path in outputs:
        if path.suffix not in (*PAGES, RECIPE):
            raise UsageError(
                f"{printable(path, MOST_PATH)} is neither a page nor a recipe.",
                hint="Give -o FILE.html, or -o FILE.toml.",
            )
        refuse_existing(path, force=force)


def _next(source: str, recipe: Path, words: list[str]) -> str:
    """Return the command that takes the recipe, with what was said of data and model."""
    import shlex

    from edgekit.printable import MOST_PATH, printable
    from edgekit.reports.next_command import options_of, shared_options

    given = options_of(shlex.join(words))
    named = shared_options(given, "--custom", "--calibration-samples", "--seed", "--target")
    flags = [word for word in ("--unroll", "--trust-code") if word in words]
    command = ["edgekit", "quantize", source, *named, *flags, "--recipe", str(recipe)]
    return printable(shlex.join(command), 2 * MOST_PATH)


def _write(found: Sensitivity, path: Path, *, command: str, force: bool) -> None:
    from edgekit.files import writing

    with writing(path, replace=force) as temporary:
        if path.suffix == RECIPE:
            text = _recipe(found, path, command)
        else:
            from edgekit.reports.sensitivity_text import sensitivity_html

            text = sensitivity_html(found)
        temporary.write_text(text, encoding="utf-8")


def _recipe(found: Sensitivity, path: Path, command: str) -> str:
    """Return the recipe of the plan that was found, with what each operator in it costs."""
    from dataclasses import replace

    from edgekit.recipe import recipe_text

    assert found.plan is not None
    heading = (
        f"{found.mode} of {found.model}, by edgekit sensitivity on {found.n} training samples.",
        *found.notes[-1:],
        f"Run: {command}",
    )
    return recipe_text(replace(found.plan, variant=path.stem), heading=heading)
