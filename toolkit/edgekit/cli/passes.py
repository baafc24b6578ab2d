"""Commands that take a Keras model and give a smaller Keras model: prune, shrink, cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgekit.cli import options

if TYPE_CHECKING:
    from edgekit.tflite.payoff import Payoff
    from edgekit.training.passes import Passed

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="F.keras", help="The file to write.")
]
Epochs = Annotated[int, typer.Option(min=0, help="Epochs of fine-tuning; 0 trains nothing.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples a step.")]
LearningRate = Annotated[float, typer.Option(min=0, help="Where a cosine begins.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.")]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="LAYER", help="A layer to leave alone; repeatable.")
]


def prune(
    source: options.Source,
    data: options.Data,
    output: Output,
    sparsity: Annotated[float, typer.Option(min=0, max=1, help="Share of weights to drop.")] = 0.5,
    pattern: Annotated[
        str, typer.Option(help='unstructured, N:M such as 2:4, or "block 1x4".')
    ] = "unstructured",
    scope: Annotated[
        str, typer.Option(help="Compare weights over the whole model (global) or by layer.")
    ] = "global",
    exclude: Exclude = None,
    epochs: Epochs = 3,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = 1e-3,
    seed: Seed = 0,
    column: options.Column = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    custom: options.Custom = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Drop the smallest weights: a smaller download.

    \b
    edgekit prune model.keras --data data.npz --sparsity 0.8 -o pruned.keras
    """
    _run(
        "prune",
        source,
        output,
        {
            "sparsity": sparsity,
            "pattern": pattern,
            "scope": _one_of("scope", scope, ("global", "layer")),
            "exclude": tuple(exclude or ()),
        },
        _tuning(data, column, task, preprocess, epochs, batch_size, learning_rate, seed),
        custom=custom,
        force=force,
        quiet=quiet,
    )


def shrink(
    source: options.Source,
    data: options.Data,
    output: Output,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share to remove.")] = 0.5,
    goal: Annotated[str, typer.Option(help="Of what: macs or parameters.")] = "macs",
    importance: Annotated[
        str, typer.Option(help="How channels are ranked: l2, bn_scale or taylor.")
    ] = "l2",
    exclude: Exclude = None,
    epochs: Epochs = 5,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = 1e-3,
    seed: Seed = 0,
    column: options.Column = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    custom: options.Custom = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove whole channels: smaller and faster everywhere.

    \b
    edgekit shrink model.keras --data data.npz --share 0.5 -o small.keras
    """
    _run(
        "shrink",
        source,
        output,
        {
            "share": share,
            "goal": _one_of("goal", goal, ("macs", "parameters")),
            "importance": _one_of("importance", importance, ("l2", "bn_scale", "taylor")),
            "exclude": tuple(exclude or ()),
        },
        _tuning(data, column, task, preprocess, epochs, batch_size, learning_rate, seed),
        custom=custom,
        force=force,
        quiet=quiet,
    )


def cluster(
    source: options.Source,
    data: options.Data,
    output: Output,
    clusters: Annotated[int, typer.Option(min=2, help="Distinct weights a kernel.")] = 16,
    initial: Annotated[
        str, typer.Option(help="Where the palette starts: linear or density.")
    ] = "linear",
    exclude: Exclude = None,
    epochs: Epochs = 3,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = 1e-3,
    seed: Seed = 0,
    column: options.Column = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    custom: options.Custom = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Give each kernel few distinct weights: a smaller download.

    \b
    edgekit cluster model.keras --data data.npz --clusters 16 -o clustered.keras
    """
    _run(
        "cluster",
        source,
        output,
        {
            "clusters": clusters,
            "initial": _one_of("initial", initial, ("linear", "density")),
            "exclude": tuple(exclude or ()),
        },
        _tuning(data, column, task, preprocess, epochs, batch_size, learning_rate, seed),
        custom=custom,
        force=force,
        quiet=quiet,
    )


def _tuning(
    data: str,
    column: str | None,
    task: str | None,
    preprocess: Path | None,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    return {
        "data": data,
        "column": column,
        "task": options.task_of(task),
        "preprocessing": options.preprocessing_of(preprocess),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }


def _one_of(option: str, word: str, known: tuple[str, ...]) -> str:
    from edgekit.errors import UsageError

    if word not in known:
        raise UsageError(f"There is no {option} {word!r}.", cure=f"Known: {', '.join(known)}.")
    return word


def _run(
    name: Literal["prune", "shrink", "cluster"],
    source: str,
    output: Path,
    what: dict[str, Any],
    tuning: dict[str, Any],
    *,
    custom: list[str] | None,
    force: bool,
    quiet: bool,
) -> None:
    from edgekit import api
    from edgekit.cli.progress import listening

    with listening(quiet=quiet) as listener:
        done = api.compress(
            name,
            source,
            output=output,
            custom=tuple(custom or ()),
            force=force,
            listener=listener,
            foretell=_foretell if name == "prune" else None,
            **what,
            **tuning,
        )
    _show(done)


def _foretell(payoff: Payoff) -> None:
    """Say before the training what the zeros are predicted to be worth."""
    before, after = (
        size / 1000 for size in (payoff.size_deflated_bytes, payoff.pruned_deflated_bytes)
    )
    print(f"Predicted for float32 at {payoff.sparsity:.0%} zeros:")
    print(f"  download, deflated: {before:.1f} kB -> {after:.1f} kB")
    if payoff.sparse_bytes is None:
        print("  on the device: no smaller")
    else:
        sizes = f"{payoff.size_bytes / 1000:.1f} kB -> {payoff.sparse_bytes / 1000:.1f} kB"
        print(f"  on the device: {sizes}, if kernels are stored sparse; no smaller otherwise")
    print(f"  faster (XNNPACK): {'yes' if payoff.faster.mapped else f'no: {payoff.faster.reason}'}")


def _show(done: Passed) -> None:
    for label, words in done.facts.items():
        print(f"{label}: {words}")
    for layer, reason in done.left.items():
        print(f"left alone: {layer}: {reason}")
    for key, value in done.after.items():
        print(f"validation {key}: {done.before[key]:.4g} before, {value:.4g} after")
    print(f"Wrote {done.path} ({done.path.stat().st_size / 1000:.1f} kB)")
