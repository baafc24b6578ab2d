"""Commands that take a Keras model and give a smaller Keras model: prune, shrink, cluster, qat."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgekit.cli import device_options, option_values, options
from edgekit.cli.output import figures, say
from edgekit.cli.training_options import Resume, pass_arguments, pass_command, tell_checkpoint
from edgekit.printable import one_line, printable
from edgekit.recipe.steps import Cluster, PassStep, Prune, Qat, Shrink

if TYPE_CHECKING:
    from edgekit.choices import Prefer
    from edgekit.pipeline.passes import PassComparison
    from edgekit.tflite.pruning_estimate import PruningEstimate


def compress(
    *,
    context: typer.Context,
    source: options.KerasSource,
    data: options.Data,
    recipe: Annotated[Path, typer.Option("--recipe", "-r", metavar="R.toml", help="The recipe.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Default: quantized/<name>-<recipe>."),
    ] = None,
    data_options: options.DataOptions,
    custom: options.Custom = None,
    trust_code: options.TrustCode = False,
    calibration_samples: Annotated[
        int,
        typer.Option(
            parser=options.whole(1),
            metavar="N",
            help="Training samples that set the activation ranges.",
        ),
    ] = 200,
    max_drop: options.MaxDrop = 0.5,
    metric: options.MetricNames = None,
    measured_on: device_options.DeviceOptions,
    recover: options.Recover = True,
    prefer: options.Prefer = "balanced",
    runtime: options.TargetRuntime = None,
    bench: Annotated[bool, typer.Option(help="Measure latencies.")] = True,
    gzip: options.Gzip = False,
    fail_if_lost: options.FailIfLost = False,
    resume: Resume = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Take a model through a recipe: adapt, shrink, prune, cluster, qat, quantize.

    Each stage keeps what those before it did, and is a row of the report.

    \b
    edgekit compress model.keras --recipe recipe.toml --data data.npz
    """
    from edgekit import api
    from edgekit.cli.new_files import refuse_lost, show
    from edgekit.cli.progress import listening
    from edgekit.pipeline import read_recipe, stages_left

    place = measured_on.arguments()
    command = shlex.join(["edgekit", *context.obj])
    steps = read_recipe(recipe)
    if not resume:
        left = stages_left(Path(source), steps, output)
        for line, goes_on in [left] if left else []:
            say(f"Warning: {line}", error=True)
            if goes_on:
                say(f"To go on with them: {command} --resume", error=True)
    with _told_what_is_kept(), listening(quiet=quiet) as listener:
        report = api.compress(
            source,
            steps,
            data=data,
            output=output,
            **data_options.arguments(),
            calibration_samples=calibration_samples,
            custom=tuple(custom or ()),
            trust_code=trust_code,
            max_drop=max_drop,
            metric=option_values.metrics_of(metric),
            **place,
            prefer=cast("Prefer", prefer),
            runtime=runtime,
            latency=bench,
            recover=recover,
            gzip=gzip,
            resume=resume,
            force=force,
            command=command,
            listener=listener,
        )
    show(report, json=json)
    if fail_if_lost:
        refuse_lost(report, [report.files[-1].artifact.variant])


@contextmanager
def _told_what_is_kept() -> Iterator[None]:
    """Say after an interruption that the stages so far are kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        say(*getattr(stop, "__notes__", ()), error=True)
        raise


def _run(step: PassStep, given: dict[str, Any]) -> None:
    """Run one pass, and print what it did."""
    from edgekit import api
    from edgekit.cli.progress import listening

    output: Path = given["output"]
    started = time.time()
    try:
        with listening(quiet=given["quiet"]) as listener:
            done = api.transform(
                given["source"],
                step,
                output=output,
                **pass_arguments(given),
                listener=listener,
                on_estimate=_print_estimate,
            )
    except KeyboardInterrupt:
        tell_checkpoint(output, resumed=given["resume"], started=started)
        raise
    _show(done)


def _print_estimate(payoff: PruningEstimate) -> None:
    """Say before the training what the zeros are predicted to be worth."""
    before, after = (
        size / 1000 for size in (payoff.size_deflated_bytes, payoff.pruned_deflated_bytes)
    )
    say(f"Predicted for float32 at {payoff.sparsity:.0%} zeros:")
    lines = [f"download, deflated: {before:.1f} kB -> {after:.1f} kB"]
    if payoff.sparse_bytes is None:
        lines.append("on the device: no smaller")
    else:
        sizes = f"{payoff.size_bytes / 1000:.1f} kB -> {payoff.sparse_bytes / 1000:.1f} kB"
        lines.append(f"on the device: {sizes}, if kernels are stored sparse; else no smaller")
    lines.append(
        f"faster (XNNPACK): {'yes' if payoff.faster.mapped else f'no: {payoff.faster.reason}'}"
    )
    say(*(f"  {line}" for line in lines))


def _show(done: PassComparison) -> None:
    passed = done.passed
    for label, words in passed.facts.items():
        say(f"{label}: {words}")
    if passed.validation:
        say(f"validation: {passed.validation}")
    for layer, reason in passed.left.items():
        say(f"left alone: {printable(layer)}: {one_line(reason)}")
    for key, value in passed.after.items():
        say(f"validation {key}: {passed.before[key]:.4g} before, {value:.4g} after")
    say("float32 .tflite            before       after")
    for label, before, after in figures(done.before, done.after):
        say(f"  {label:<20} {before:>10}  {after:>10}")
    say(f"Wrote {passed.path} ({passed.path.stat().st_size / 1000:.1f} kB)")


prune = pass_command(
    Prune,
    """Set the smallest weights to zero: a smaller download.

    \b
    edgekit prune model.keras --data data.npz --sparsity 0.8 -o pruned.keras
    """,
    _run,
)

shrink = pass_command(
    Shrink,
    """Remove whole channels: smaller and faster everywhere.

    \b
    edgekit shrink model.keras --data data.npz --share 0.5 -o small.keras
    """,
    _run,
)

cluster = pass_command(
    Cluster,
    """Give each kernel few distinct weights: a smaller download.

    \b
    edgekit cluster model.keras --data data.npz --clusters 16 -o clustered.keras
    """,
    _run,
)

qat = pass_command(
    Qat,
    """Train the model as its int8 file will compute: int8 that keeps the accuracy.

    `edgekit quantize` then takes the trained ranges, which travel in the file, and leaves in float
    what was excluded.

    \b
    edgekit qat model.keras --data data.npz -o aware.keras
    edgekit quantize aware.keras --data data.npz --mode int8
    """,
    _run,
)
