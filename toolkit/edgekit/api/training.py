"""Verbs that make Keras models, and the recipe that ends in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.records import Listener, Recipe, Report, Task, silent

if TYPE_CHECKING:
    from edgekit.pipeline.passes import PassComparison, PassName
    from edgekit.tflite.pruning_estimate import PruningEstimate
    from edgekit.training import TrainingResult


def train(
    architecture: str | Path,
    *,
    output: str | Path,
    data: str | None = None,
    column: str | None = None,
    task: Task | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    log_dir: str | Path | None = None,
    initial: str | Path | None = None,
    trust_code: bool = False,
    force: bool = False,
    listener: Listener = silent,
    **training: Any,
) -> TrainingResult:
    """Train an architecture of the zoo, or a whole configuration, in a process of its own.

    Args:
        architecture: A name of the zoo (`training.NAMES`), or a `model.toml`.
        output: The `.keras` file to write.
        data: As `--data` of the command line; a `model.toml` names its own.
        column: The column to predict, for a `.csv`.
        task: What the targets mean, default what they look like.
        preprocessing: How raw images become inputs.
        log_dir: Folder for a TensorBoard log.
        initial: A checkpoint to go on from.
        trust_code: Whether to run code that the checkpoint brings along; see SECURITY.md.
        force: Replace an existing file.
        listener: Progress callback.
        **training: Fields of `training.TrainingConfig`: epochs, batch_size, learning_rate, ...

    Raises:
        EdgekitError: See `edgekit.errors`. Where training was interrupted, the best weights so
            far lie beside `output` (`<stem>.checkpoint.keras`).
    """
    from dataclasses import replace

    from edgekit.errors import UsageError
    from edgekit.files import cleared, refuse_existing
    from edgekit.sources import check_source
    from edgekit.training import TrainingConfig, load_config
    from edgekit.training.saving import checkpoint_path, refuse_other_formats
    from edgekit.worker import Worker

    place = Path(output)
    asked = {"data": data, "column": column, "task": task, "preprocessing": preprocessing}
    changes = {key: value for key, value in {**asked, **training}.items() if value is not None}
    if str(architecture).endswith(".toml"):
        config = replace(load_config(Path(architecture)), **changes)
    elif data is None:
        raise UsageError(f"Training {architecture} needs data.", hint="Give --data.")
    else:
        config = TrainingConfig(name=place.stem, architecture=str(architecture), **changes)
    refuse_other_formats(place)
    refuse_existing(place, force=force)
    refuse_existing(checkpoint_path(place), force=True)
    if initial is not None and not trust_code:
        check_source(Path(initial))
    with cleared(place.parent), Worker(listener=listener, trust_code=trust_code) as worker:
        result: TrainingResult = worker.call(
            "edgekit.training.fit:train",
            config=config,
            destination=place,
            log_dir=Path(log_dir) if log_dir else None,
            initial=Path(initial) if initial else None,
        )
    return result


def prune(source: str | Path, *, output: str | Path, data: str, **options: Any) -> PassComparison:
    """Drop the smallest weights of a Keras model, and fine-tune it; see `transform`."""
    return transform("prune", source, output=output, data=data, **options)


def shrink(source: str | Path, *, output: str | Path, data: str, **options: Any) -> PassComparison:
    """Remove whole channels of a Keras model, and fine-tune it; see `transform`."""
    return transform("shrink", source, output=output, data=data, **options)


def cluster(source: str | Path, *, output: str | Path, data: str, **options: Any) -> PassComparison:
    """Give each kernel of a Keras model few distinct weights; see `transform`."""
    return transform("cluster", source, output=output, data=data, **options)


def qat(source: str | Path, *, output: str | Path, data: str, **options: Any) -> PassComparison:
    """Train a Keras model as its int8 file will compute; see `transform`."""
    return transform("qat", source, output=output, data=data, **options)


def transform(
    name: PassName,
    source: str | Path,
    *,
    output: str | Path,
    data: str,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    distill: bool = False,
    resume: bool = False,
    force: bool = False,
    listener: Listener = silent,
    on_estimate: Callable[[PruningEstimate], None] | None = None,
    **options: Any,
) -> PassComparison:
    """Take a Keras model through one compression pass, with its fine-tuning.

    Args:
        name: The pass: a function of `edgekit.training.passes`.
        source: A `.keras` or `.h5` file.
        output: The `.keras` file to write.
        data: As `--data` of the command line.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that a model file brings along; see SECURITY.md.
        distill: Learn from the source's own predictions too, not from the targets alone.
        resume: Go on from what an interrupted run left beside `output`.
        force: Replace an existing file.
        listener: Progress callback.
        on_estimate: Told before any training what `prune` is predicted to be worth.
        **options: The pass's own (`sparsity`, `share`, `clusters`, `bits`, ...), and those of
            `training.finetuning.Tuning` (`epochs`, `batch_size`, ...).

    Raises:
        EdgekitError: See `edgekit.errors`. Where training was interrupted, the best weights so
            far lie beside `output` (`<stem>.checkpoint.keras`).
    """
    from edgekit import pipeline
    from edgekit.errors import ModelError
    from edgekit.files import check_input, refuse_existing
    from edgekit.training.saving import checkpoint_path, refuse_other_formats

    check_input(Path(source), ModelError, folder=True, hint="Give a .keras or .h5 file.")
    refuse_other_formats(Path(output))
    refuse_existing(Path(output), force=force)
    refuse_existing(checkpoint_path(Path(output)), force=True)
    return pipeline.transform(
        name,
        Path(source),
        Path(output),
        data=data,
        options=options,
        custom=tuple(custom),
        trust_code=trust_code,
        distill=distill,
        resume=resume,
        listener=listener,
        on_estimate=on_estimate,
    )


def compress(
    source: str | Path,
    recipe: str | Path | Recipe,
    *,
    data: str,
    output: str | Path | None = None,
    name: str | None = None,
    column: str | None = None,
    task: Task | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    calibration_samples: int = 200,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    max_drop: float = 0.5,
    threads: int = 1,
    latency: bool = True,
    force: bool = False,
    command: str = "",
    listener: Listener = silent,
) -> Report:
    """Take a Keras model through all steps of a recipe; each stage is a row of the report.

    Args:
        source: A `.keras` or `.h5` file.
        recipe: A TOML file, or what `recipe.load_recipe` read.
        data: As `--data` of the command line.
        output: Folder of the files, default `quantized/<name>-<recipe>`.
        name: Name of the model in tables, default the source's stem.
        column: See `quantize`, as all that follow.
        task: What the targets mean.
        preprocessing: How raw images become inputs.
        calibration_samples: How many training samples set the activation ranges.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that a model file brings along; see SECURITY.md.
        max_drop: Accepted loss.
        threads: Interpreter threads for latency.
        latency: Whether to measure latencies.
        force: Replace files that exist.
        command: How the report says this can be done again.
        listener: Progress callback.

    Raises:
        EdgekitError: See `edgekit.errors`; nothing is left behind then.
    """
    from edgekit import pipeline, reports
    from edgekit.recipe import load_recipe

    steps = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
    called = name or Path(source).stem
    request = pipeline.Request(
        source=Path(source),
        plans=(steps.plan,),
        folder=Path(output) if output else Path("quantized") / f"{called}-{steps.name}",
        name=called,
        data=data,
        column=column,
        task=task,
        preprocessing=preprocessing,
        calibration_samples=calibration_samples,
        custom=tuple(custom),
        trust_code=trust_code,
        max_drop=max_drop,
        threads=threads,
        latency=latency,
        force=force,
        command=command,
    )
    return pipeline.compress(request, steps, finish=reports.write_pages, listener=listener)
