"""Commands that take a Keras model and give a smaller Keras model: prune, shrink, cluster, qat."""

from __future__ import annotations

import shlex
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli import options
from edgekit.cli.training_options import Exclude, Output, tuned
from edgekit.printable import one_line, printable

if TYPE_CHECKING:
    from edgekit.pipeline.passes import PassComparison, PassName
    from edgekit.tflite.pruning_estimate import PruningEstimate


@tuned
def prune(
    source: options.Source,
    data: options.Data,
    output: Output,
    sparsity: Annotated[
        float | None,
        typer.Option(
            parser=options.number(0, 1, below=True),
            metavar="SHARE",
            help="Share of weights to drop; default 0.5.",
        ),
    ] = None,
    pattern: Annotated[
        str, typer.Option(help='unstructured, N:M such as 2:4, or "block 1x4".')
    ] = "unstructured",
    scope: Annotated[
        str, typer.Option(help="Compare weights over the whole model (global) or by layer.")
    ] = "global",
    exclude: Exclude = None,
    *,
    tuning: dict[str, Any],
) -> None:
    """Drop the smallest weights: a smaller download.

    \b
    edgekit prune model.keras --data data.npz --sparsity 0.8 -o pruned.keras
    """
    what = {
        "sparsity": sparsity,
        "pattern": pattern,
        "scope": _one_of("scope", scope, ("global", "layer")),
        "exclude": tuple(exclude or ()),
    }
    _run("prune", source, data, output, what, tuning)


@tuned
def shrink(
    source: options.Source,
    data: options.Data,
    output: Output,
    share: Annotated[
        float,
        typer.Option(
            parser=options.number(0, 1, above=True, below=True),
            metavar="SHARE",
            help="Share to remove.",
        ),
    ] = 0.5,
    goal: Annotated[
        str, typer.Option(help="Of what: macs, parameters, or latency, measured.")
    ] = "macs",
    importance: Annotated[
        str, typer.Option(help="How channels are ranked: l2, bn_scale or taylor.")
    ] = "l2",
    rounds: Annotated[
        int,
        typer.Option(
            parser=options.whole(1), metavar="N", help="Cuts, each followed by all the epochs."
        ),
    ] = 1,
    exclude: Exclude = None,
    *,
    tuning: dict[str, Any],
) -> None:
    """Remove whole channels: smaller and faster everywhere.

    \b
    edgekit shrink model.keras --data data.npz --share 0.5 -o small.keras
    """
    what = {
        "share": share,
        "goal": _one_of("goal", goal, ("macs", "parameters", "latency")),
        "importance": _one_of("importance", importance, ("l2", "bn_scale", "taylor")),
        "rounds": rounds,
        "exclude": tuple(exclude or ()),
    }
    _run("shrink", source, data, output, what, tuning)


@tuned
def cluster(
    source: options.Source,
    data: options.Data,
    output: Output,
    clusters: Annotated[
        int, typer.Option(parser=options.whole(2), metavar="N", help="Distinct weights a kernel.")
    ] = 16,
    initial: Annotated[
        str, typer.Option(help="Where the palette starts: linear or density.")
    ] = "linear",
    exclude: Exclude = None,
    *,
    tuning: dict[str, Any],
) -> None:
    """Give each kernel few distinct weights: a smaller download.

    \b
    edgekit cluster model.keras --data data.npz --clusters 16 -o clustered.keras
    """
    what = {
        "clusters": clusters,
        "initial": _one_of("initial", initial, ("linear", "density")),
        "exclude": tuple(exclude or ()),
    }
    _run("cluster", source, data, output, what, tuning)


@tuned
def qat(
    source: options.Source,
    data: options.Data,
    output: Output,
    bits: Annotated[
        int,
        typer.Option(parser=options.whole(4, 8), metavar="N", help="Width of the weights: 8 or 4."),
    ] = 8,
    exclude: Exclude = None,
    *,
    tuning: dict[str, Any],
) -> None:
    """Train the model as its int8 file will compute: int8 that keeps the accuracy.

    `edgekit quantize` then takes the trained ranges, which travel in the file, and leaves in float
    what was excluded.

    \b
    edgekit qat model.keras --data data.npz -o aware.keras
    edgekit quantize aware.keras --data data.npz --mode int8
    """
    _run("qat", source, data, output, {"bits": bits, "exclude": tuple(exclude or ())}, tuning)


def compress(
    context: typer.Context,
    source: options.Source,
    data: options.Data,
    recipe: Annotated[Path, typer.Option("--recipe", "-r", metavar="R.toml", help="The recipe.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Default: quantized/<name>-<recipe>."),
    ] = None,
    column: options.Column = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
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
    max_drop: Annotated[
        float,
        typer.Option(
            parser=options.number(0),
            metavar="NUMBER",
            help="Accepted loss: points of accuracy or AUC, percent of RMSE.",
        ),
    ] = 0.5,
    threads: options.Threads = 1,
    bench: Annotated[bool, typer.Option(help="Measure latencies.")] = True,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Take a model through a recipe: shrink, prune, cluster, qat, quantize.

    Each stage keeps what those before it did, and is a row of the report.

    \b
    edgekit compress model.keras --recipe recipe.toml --data data.npz
    """
    from edgekit import api
    from edgekit.cli.model import show
    from edgekit.cli.progress import listening

    with listening(quiet=quiet) as listener:
        report = api.compress(
            source,
            recipe,
            data=data,
            output=output,
            column=column,
            task=options.task_of(task),
            preprocessing=options.preprocessing_of(preprocess),
            calibration_samples=calibration_samples,
            custom=tuple(custom or ()),
            trust_code=trust_code,
            max_drop=max_drop,
            threads=threads,
            latency=bench,
            force=force,
            command=shlex.join(["edgekit", *context.obj]),
            listener=listener,
        )
    show(report, json=json)


def _one_of(option: str, word: str, known: tuple[str, ...]) -> str:
    from edgekit.errors import UsageError

    if word not in known:
        raise UsageError(f"There is no {option} {word!r}.", hint=f"Known: {', '.join(known)}.")
    return word


def _run(
    name: PassName,
    source: str,
    data: str,
    output: Path,
    what: dict[str, Any],
    tuning: dict[str, Any],
) -> None:
    from edgekit import api
    from edgekit.cli.progress import listening

    quiet = tuning.pop("quiet")
    started = time.time()
    try:
        with listening(quiet=quiet) as listener:
            done = api.transform(
                name,
                source,
                output=output,
                data=data,
                listener=listener,
                on_estimate=_print_estimate if name == "prune" else None,
                **what,
                **tuning,
            )
    except KeyboardInterrupt:
        from edgekit.training.saving import checkpoint_path

        best = checkpoint_path(output)
        # One that stood there before is of another run, unless this one went on with it.
        if best.exists() and (tuning["resume"] or best.stat().st_mtime >= started):
            print(f"The best so far is {best}; go on with --resume", file=sys.stderr)
        raise
    _show(done)


def _print_estimate(payoff: PruningEstimate) -> None:
    """Say before the training what the zeros are predicted to be worth."""
    before, after = (
        size / 1000 for size in (payoff.size_deflated_bytes, payoff.pruned_deflated_bytes)
    )
    print(f"Predicted for float32 at {payoff.sparsity:.0%} zeros:")
    lines = [f"download, deflated: {before:.1f} kB -> {after:.1f} kB"]
    if payoff.sparse_bytes is None:
        lines.append("on the device: no smaller")
    else:
        sizes = f"{payoff.size_bytes / 1000:.1f} kB -> {payoff.sparse_bytes / 1000:.1f} kB"
        lines.append(f"on the device: {sizes}, if kernels are stored sparse; else no smaller")
    lines.append(
        f"faster (XNNPACK): {'yes' if payoff.faster.mapped else f'no: {payoff.faster.reason}'}"
    )
    for line in lines:
        print(textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="    "))


def _show(done: PassComparison) -> None:
    from edgekit.cli.output import figures

    passed = done.passed
    for label, words in passed.facts.items():
        print(f"{label}: {words}")
    for layer, reason in passed.left.items():
        print(f"left alone: {printable(layer)}: {one_line(reason)}")
    for key, value in passed.after.items():
        print(f"validation {key}: {passed.before[key]:.4g} before, {value:.4g} after")
    print("float32 .tflite            before       after")
    for label, before, after in figures(done.before, done.after):
        print(f"  {label:<20} {before:>10}  {after:>10}")
    print(f"Wrote {passed.path} ({passed.path.stat().st_size / 1000:.1f} kB)")
