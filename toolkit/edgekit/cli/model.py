"""Commands that make files: train, import, quantize."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgekit.choices import MAX_SEED, TARGET_TITLES
from edgekit.cli import device_options, option_values, options
from edgekit.cli.output import say

if TYPE_CHECKING:
    from edgekit.choices import Prefer, RangesMethod, SplitBy
    from edgekit.records import Plan


def train(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A zoo architecture, or a model.toml.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="F.keras", help="The file to write.")
    ] = None,
    data: options.MaybeData = None,
    split: options.Split = None,
    rows: options.RowOptions,
    column: options.Column = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    epochs: Annotated[
        int | None, typer.Option(parser=options.whole(1), metavar="N", help="Epochs at most.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(parser=options.whole(1), metavar="N", help="Batch size.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            parser=options.number(0, above=True),
            metavar="NUMBER",
            help="Peak learning rate (cosine decay).",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(1), metavar="N", help="Epochs without improvement before stopping."
        ),
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            metavar="WAY",
            help="Which tenth of the training samples decides when training stops: group (whole "
            "groups), time (the end), or auto, as the data suggests.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            parser=options.whole(0, MAX_SEED),
            metavar="N",
            help="Random seed.",
        ),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option("--from", metavar="F.keras", help="A checkpoint to go on from.")
    ] = None,
    trust_code: options.TrustCode = False,
    log: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a TensorBoard log here.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the zoo's architectures.")] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an architecture of the zoo, or a model.toml.

    \b
    edgekit train ds_cnn --data spoken-digits -o digits.keras
    edgekit train mobilenet_v2:0.35 --data photos/ --epochs 20 -o photos.keras
    edgekit train models/turbofan/model.toml -o turbofan.keras
    """
    if list_:
        _list_zoo()
        return
    from edgekit import api
    from edgekit.cli.progress import listening
    from edgekit.errors import UsageError

    if name is None or output is None:
        missing = "NAME" if name is None else "--output F.keras"
        raise UsageError(
            f"Missing {missing}.", hint="edgekit train --list shows the architectures."
        )
    try:
        with listening(quiet=quiet) as listener:
            result = api.train(
                name,
                output=output,
                data=data,
                split=split,
                table=rows.table(),
                column=column,
                task=option_values.task_of(task),
                preprocessing=option_values.preprocessing_of(preprocess),
                log_dir=log,
                initial=initial,
                trust_code=trust_code,
                force=force,
                listener=listener,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                patience=patience,
                split_by=cast("SplitBy | None", split_by),
                seed=seed,
            )
    except KeyboardInterrupt:
        from edgekit.training.saving import checkpoint_path

        best = checkpoint_path(output)
        if best.exists():
            say(f"The best so far is {best}; go on with --from {best}", error=True)
        raise
    by = f" ({result.validation_by})" if result.validation_by else ""
    say(
        f"Validation {result.metric} {result.value:.4g} on {result.validation_n} samples{by}, "
        f"epoch {result.best_epoch} of {result.epochs}, {result.seconds:.0f} s."
    )
    say(
        f"Wrote {result.path} ({result.path.stat().st_size / 1000:.1f} kB, "
        f"{result.parameters:,} parameters)"
    )
    if result.head is not None:
        say(f"Wrote {result.head}, which says how its outputs tell boxes")


def _list_zoo() -> None:
    from edgekit.training.zoo import describe

    for entry in describe():
        say(f"{entry.name:<14} {entry.summary}")
    say("Also every name of keras.applications, by its function's name: MobileNetV3Small, ...")


def import_(
    *,
    source: options.Source,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="F.tflite")],
    data: options.MaybeData = None,
    split: options.Split = None,
    rows: options.RowOptions,
    column: options.Column = None,
    preprocess: options.Preprocess = None,
    custom: options.Custom = None,
    trust_code: options.TrustCode = False,
    unroll: options.Unroll = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn any source into a verified float32 .tflite.

    \b
    edgekit import model.keras -o model.tflite --data data.npz
    """
    from edgekit import api
    from edgekit.cli.output import wrote
    from edgekit.cli.progress import listening

    with listening(quiet=quiet) as listener:
        imported = api.import_model(
            Path(source),
            output,
            data=data,
            split=split,
            table=rows.table(),
            column=column,
            preprocessing=option_values.preprocessing_of(preprocess),
            custom=tuple(custom or ()),
            trust_code=trust_code,
            unroll=unroll,
            force=force,
            listener=listener,
        )
    if imported.verification is not None:
        say(
            f"Differs from {imported.source.path.name} by at most "
            f"{imported.verification.max_abs_difference:.2g} on {imported.verification.samples} "
            f"samples of {imported.verification.inputs}."
        )
    say(wrote(imported.artifact))


def quantize(
    *,
    context: typer.Context,
    source: options.Source,
    data: options.MaybeData = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="float32, float16, dynamic, int8, int16x8, int4, or mixed: int8 with the fewest "
            "operators in a higher precision that keep --max-drop; repeatable."
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every mode the model allows; by default all but int16x8.")
    ] = False,
    recipe: Annotated[
        list[Path] | None, typer.Option(metavar="R.toml", help="A recipe; repeatable.")
    ] = None,
    io: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="Inputs and outputs of int8: int8, uint8 or float32; of int16x8: int16 or "
            "float32.",
        ),
    ] = None,
    ranges: Annotated[
        str, typer.Option(help="Activation ranges: auto, minmax, percentile, mse or entropy.")
    ] = "auto",
    sparse: Annotated[
        bool,
        typer.Option("--sparse", help="Each mode also with kernels stored sparse, once pruned."),
    ] = False,
    keep_names: Annotated[
        bool,
        typer.Option("--keep-names", help="Do not shorten the names of int8's inner tensors."),
    ] = False,
    max_drop: options.MaxDrop = 0.5,
    metric: options.MetricNames = None,
    recover: options.Recover = True,
    prefer: options.Prefer = "balanced",
    runtime: options.TargetRuntime = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Default: quantized/<name>."),
    ] = None,
    data_options: options.DataOptions,
    custom: options.Custom = None,
    trust_code: options.TrustCode = False,
    unroll: options.Unroll = False,
    calibration_samples: Annotated[
        int,
        typer.Option(
            parser=options.whole(1),
            metavar="N",
            help="Training samples that set the activation ranges.",
        ),
    ] = 200,
    seed: Annotated[
        int,
        typer.Option(
            parser=options.whole(0, MAX_SEED),
            metavar="N",
            help="Random seed of their draw.",
        ),
    ] = 0,
    score_output: options.Output = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A target the file must be able to use, repeatable: {', '.join(TARGET_TITLES)}."
        ),
    ] = None,
    measured_on: device_options.DeviceOptions,
    bench: Annotated[bool, typer.Option(help="Measure latencies.")] = True,
    gzip: options.Gzip = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="F.zip", help="Also write what the figures follow from, for edgekit verify."
        ),
    ] = None,
    fail_if_lost: options.FailIfLost = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make every variant, and say which one to ship.

    Each is scored on the test split and timed, here or on a device; of those that keep the
    accuracy, the one with the least product of size and latency is recommended.

    \b
    edgekit quantize model.keras --data data.npz
    edgekit quantize model.keras --data photos/ --mode int8 --io uint8 -o out
    edgekit quantize model.keras --data data.npz --mode int8 --mode mixed
    edgekit quantize model.tflite --data data.npz --recipe recipe.toml
    edgekit quantize model.keras --data data.npz --device pi@raspberrypi.local
    """
    from edgekit import api
    from edgekit.cli.new_files import refuse_lost, show
    from edgekit.cli.progress import listening

    place = measured_on.arguments()
    with listening(quiet=quiet) as listener:
        result = api.quantize(
            Path(source),
            data=data,
            plans=_plans(
                mode,
                recipe,
                all_=all_,
                io=io,
                ranges=ranges,
                sparse=sparse,
                keep_names=keep_names,
            ),
            output=output,
            **data_options.arguments(),
            calibration_samples=calibration_samples,
            custom=tuple(custom or ()),
            trust_code=trust_code,
            unroll=unroll,
            max_drop=max_drop,
            metric=option_values.metrics_of(metric),
            prefer=cast("Prefer", prefer),
            runtime=runtime,
            score_output=score_output,
            target=target,
            **place,
            latency=bench,
            skip_unsupported=all_ or not (mode or recipe) or None,
            recover=recover,
            gzip=gzip,
            bundle=bundle,
            force=force,
            seed=seed,
            command=shlex.join(["edgekit", *context.obj]),
            listener=listener,
        )
    show(result, json=json, bundle=bundle)
    if fail_if_lost:
        refuse_lost(result, [row.artifact.variant for row in result.files])


def _plans(
    modes: list[str] | None,
    recipes: list[Path] | None,
    *,
    all_: bool,
    io: str | None,
    ranges: str,
    sparse: bool,
    keep_names: bool,
) -> list[Plan]:
    from edgekit.errors import UsageError
    from edgekit.modes import DEFAULT_MODES, MODES
    from edgekit.recipe import default_plan

    wanted = tuple(MODES) if all_ else modes or (() if recipes else DEFAULT_MODES)
    method = cast("RangesMethod", ranges)
    plans = [
        default_plan(mode, io=io, ranges=method, sparse=stored, keep_names=keep_names)
        for mode in wanted
        for stored in ((False, True) if sparse else (False,))
    ]
    if io is not None and not any(plan.input_type == io for plan in plans):
        able = " or ".join(f"--mode {mode.name}" for mode in MODES.values() if io in mode.io_types)
        raise UsageError(
            f"--io {io} has no effect: no mode that was asked for has such inputs and outputs.",
            hint=f"Leave it out, or add {able or 'a mode'}; in a recipe they are input and output.",
        )
    plans.extend(_only_plan(path) for path in recipes or ())
    return plans


def _only_plan(path: Path) -> Plan:
    """The plan of a recipe that does nothing but quantize."""
    from edgekit.errors import UsageError
    from edgekit.pipeline import read_recipe

    recipe = read_recipe(path)
    if recipe.passes:
        raise UsageError(
            f"{path} does more than quantize: {', '.join(recipe.kinds)}.",
            hint=f"edgekit compress SOURCE --recipe {path} --data DATA",
        )
    return recipe.plan
