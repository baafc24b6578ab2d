"""Verbs that make Keras models, and the recipe that ends in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from edgekit.api.data import Data, metrics, picklable
from edgekit.api.measuring_device import device_setup, one_device
from edgekit.api.passes import TransformOptions, pass_request
from edgekit.choices import Prefer, SplitBy
from edgekit.errors import UsageError
from edgekit.recipe import Cluster, PassStep, Prune, Qat, Recipe, Shrink
from edgekit.records import (
    EACH_ROW,
    Listener,
    Report,
    TableOptions,
    TaskChoice,
    silent,
)

if TYPE_CHECKING:
    from edgekit.data.own_metric import Asked
    from edgekit.pipeline.passes import PassComparison
    from edgekit.training import TrainingResult


def train(
    architecture: str | Path,
    *,
    output: str | Path,
    data: Data = None,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    column: str | None = None,
    task: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    log_dir: str | Path | None = None,
    initial: str | Path | None = None,
    trust_code: bool = False,
    force: bool = False,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    patience: int | None = None,
    split_by: SplitBy | None = None,
    seed: int | None = None,
    listener: Listener = silent,
) -> TrainingResult:
    """Train an architecture of the zoo, or a whole configuration, in a process of its own.

    Args:
        architecture: A name of the zoo (`training.NAMES`), or a `model.toml`.
        output: The `.keras` file to write.
        data: As `--data` of the command line; a `model.toml` names its own.
        split: Share of the samples that is drawn for testing, where the data has no test split.
        table: How the rows of a `.csv` become samples: windows, columns that are left out.
        column: The column to predict, for a `.csv`.
        task: What the targets mean, default inferred from the targets.
        preprocessing: How raw images become inputs.
        log_dir: Folder for a TensorBoard log.
        initial: A checkpoint to go on from.
        trust_code: Whether to run code that the checkpoint brings along; see SECURITY.md.
        force: Replace an existing file.
        epochs: Training epochs, at most; None leaves it to the configuration, as all that follow.
        batch_size: Batch size.
        learning_rate: Peak learning rate (cosine decay).
        patience: Epochs without improvement before stopping.
        split_by: How the validation samples are chosen: `group`, `time` or `auto`.
        seed: Random seed.
        listener: Progress callback.

    Raises:
        EdgekitError: See `edgekit.errors`. Where training was interrupted, the best weights so
            far lie beside `output` (`<stem>.checkpoint.keras`).
    """
    from dataclasses import replace

    from edgekit.files import cleared, refuse_existing
    from edgekit.sources import check_source
    from edgekit.training import TrainingConfig, load_config
    from edgekit.training.saving import checkpoint_path, refuse_other_formats
    from edgekit.worker import Worker

    place = Path(output)
    samples = picklable(data)
    asked = {
        "data": samples,
        "split": split,
        "table": table,
        "column": column,
        "task": task,
        "preprocessing": preprocessing,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "patience": patience,
        "split_by": split_by,
        "seed": seed,
    }
    changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    if str(architecture).endswith(".toml"):
        config = replace(load_config(Path(architecture)), **changes)
    elif samples is None:
        raise UsageError(f"Training {architecture} needs data.", hint="Give --data.")
    else:
        config = TrainingConfig(name=place.stem, architecture=str(architecture), **changes)
    refuse_other_formats(place)
    refuse_existing(place, force=force)
    refuse_existing(checkpoint_path(place), force=True)
    if initial is not None and not trust_code:
        check_source(Path(initial))
    with cleared(place.parent), Worker(listener=listener, trust_code=trust_code) as tensorflow:
        return tensorflow.train(
            config,
            place,
            log_dir=Path(log_dir) if log_dir else None,
            initial=Path(initial) if initial else None,
            force=force,
        )


def prune(
    source: str | Path,
    step: Prune | None = None,
    *,
    output: str | Path,
    data: Data,
    **options: Unpack[TransformOptions],
) -> PassComparison:
    """Set the smallest weights of a Keras model to zero, and fine-tune it; see `transform`."""
    return transform(source, step or Prune(), output=output, data=data, **options)


def shrink(
    source: str | Path,
    step: Shrink | None = None,
    *,
    output: str | Path,
    data: Data,
    **options: Unpack[TransformOptions],
) -> PassComparison:
    """Remove whole channels of a Keras model, and fine-tune it; see `transform`."""
    return transform(source, step or Shrink(), output=output, data=data, **options)


def cluster(
    source: str | Path,
    step: Cluster | None = None,
    *,
    output: str | Path,
    data: Data,
    **options: Unpack[TransformOptions],
) -> PassComparison:
    """Give each kernel of a Keras model few distinct weights; see `transform`."""
    return transform(source, step or Cluster(), output=output, data=data, **options)


def qat(
    source: str | Path,
    step: Qat | None = None,
    *,
    output: str | Path,
    data: Data,
    **options: Unpack[TransformOptions],
) -> PassComparison:
    """Train a Keras model as its int8 file will compute; see `transform`."""
    return transform(source, step or Qat(), output=output, data=data, **options)


def transform(
    source: str | Path,
    step: PassStep,
    *,
    output: str | Path,
    data: Data,
    **options: Unpack[TransformOptions],
) -> PassComparison:
    """Take a Keras model through one compression pass, with its fine-tuning.

    Args:
        source: A `.keras` or `.h5` file.
        step: Which pass, and its settings: `Prune(sparsity=0.8, training=Training(epochs=5))`.
        output: The `.keras` file to write.
        data: As `--data` of the command line.
        **options: See `TransformOptions`.

    Raises:
        EdgekitError: See `edgekit.errors`. Where training was interrupted, the best weights so
            far lie beside `output` (`<stem>.checkpoint.keras`).
    """
    from edgekit import pipeline

    return pipeline.transform(
        pass_request(source, step, output, data, options), options.get("on_estimate")
    )


def compress(
    source: str | Path,
    recipe: str | Path | Recipe,
    *,
    data: Data,
    output: str | Path | None = None,
    name: str | None = None,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    task: TaskChoice = None,
    preprocessing: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    calibration_samples: int = 200,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    max_drop: float = 0.5,
    metric: Asked | Sequence[Asked] | None = None,
    device: str | None = None,
    devices: str | Path | None = None,
    setup: bool = False,
    wheels: str | Path | None = None,
    keep: bool = False,
    threads: int | None = None,
    prefer: Prefer = "balanced",
    runtime: str | None = None,
    latency: bool = True,
    recover: bool = True,
    gzip: bool = False,
    resume: bool = False,
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
        split: See `quantize`, as all that follow.
        table: Likewise.
        column: Likewise.
        classes: Likewise.
        task: What the targets mean.
        preprocessing: How raw images become inputs.
        head: How the outputs of a detector tell boxes.
        calibration_samples: How many training samples set the activation ranges.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that a model file brings along; see SECURITY.md.
        max_drop: Accepted loss.
        metric: The metric to judge by; see `quantize`.
        device: Where to score and time the files, also while a step seeks a latency.
        devices: The `devices.toml` to take.
        setup: Whether to install a runtime on the device.
        wheels: A folder of wheels for `setup`.
        keep: Whether files and environment stay in the device's cache.
        prefer: What the recommended file is to have least of: size, latency, or balanced, their
            product.
        runtime: The runtime that must load the recommended file: litert, tflite or tensorflow.
        threads: Interpreter threads for latency.
        latency: Whether to measure latencies.
        recover: Whether remedies are tried for a variant that is lost; see `quantize`.
        gzip: Whether each file is also written packed with gzip.
        resume: Whether it goes on with the stages that an interrupted run left in
            `<output>.checkpoint`.
        force: Replace files that exist.
        command: How the report says this can be done again.
        listener: Progress callback.

    Raises:
        EdgekitError: See `edgekit.errors`; nothing is left behind then.
    """
    from edgekit import pipeline, reports

    steps = recipe if isinstance(recipe, Recipe) else pipeline.read_recipe(Path(recipe))
    called = name or Path(source).stem
    request = pipeline.Request(
        source=Path(source),
        plans=(steps.plan,),
        folder=Path(output) if output else pipeline.folder_of(called, steps),
        name=called,
        data=picklable(data),
        split=split,
        table=table,
        column=column,
        classes=classes,
        task=task,
        preprocessing=preprocessing,
        head=head,
        calibration_samples=calibration_samples,
        custom=tuple(custom),
        trust_code=trust_code,
        max_drop=max_drop,
        metric=metrics(metric),
        device=one_device(device, devices),
        setup=device_setup(install=setup, wheels=wheels, keep=keep),
        prefer=prefer,
        runtime=runtime,
        threads=threads,
        latency=latency,
        recover=recover,
        gzip=gzip,
        resume=resume,
        force=force,
        command=command,
    )
    return pipeline.compress(request, steps, finish=reports.write_pages, listener=listener)
