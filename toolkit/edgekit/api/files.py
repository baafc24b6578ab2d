"""Verbs that make, measure and read `.tflite` files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.api.data import Data, files_of, metrics, request_of, taken
from edgekit.api.measuring_device import device_setup, one_device
from edgekit.choices import Prefer
from edgekit.errors import UsageError
from edgekit.modes import DEFAULT_MODES
from edgekit.records import (
    EACH_ROW,
    Artifact,
    Dataset,
    Inspection,
    Listener,
    Plan,
    Report,
    TableOptions,
    TaskChoice,
    silent,
)

if TYPE_CHECKING:
    from edgekit.data.own_metric import Asked
    from edgekit.doctor import Finding
    from edgekit.pipeline import Exported
    from edgekit.pipeline.rebuild import Rebuilt
    from edgekit.pipeline.sources import ImportResult
    from edgekit.reports import Format


def quantize(
    source: str | Path | Any,
    *,
    data: Data = None,
    modes: Sequence[str] = (),
    plans: Sequence[Plan] = (),
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
    unroll: bool = False,
    max_drop: float = 0.5,
    metric: Asked | Sequence[Asked] | None = None,
    prefer: Prefer = "balanced",
    runtime: str | None = None,
    score_output: str | None = None,
    target: str | Sequence[str] | None = None,
    device: str | None = None,
    devices: str | Path | None = None,
    setup: bool = False,
    wheels: str | Path | None = None,
    keep: bool = False,
    threads: int | None = None,
    latency: bool = True,
    skip_unsupported: bool | None = None,
    recover: bool = True,
    gzip: bool = False,
    bundle: str | Path | None = None,
    force: bool = False,
    seed: int = 0,
    command: str = "",
    listener: Listener = silent,
) -> Report:
    """Make every variant asked for, measure each, and recommend one that keeps accuracy.

    Args:
        source: A `.keras`, `.h5`, SavedModel folder or float `.tflite`, or a live Keras model.
        data: As `--data` of the command line; or a dict of arrays (`x_train`, `y_train`, `x_test`,
            `y_test`), tuples (`((x_train, y_train), (x_test, y_test))`, or `(x, y)`, of which a
            part is drawn for testing), a `tf.data.Dataset`, `keras.utils.PyDataset` or generator
            in the place of such a tuple, or a `records.Dataset`.
        split: Share of the samples that is drawn for testing, where the data has no test split.
        table: How the rows of a `.csv` become samples: windows, columns that are left out.
        modes: Names out of `modes.MODES`, or `modes.MIXED`: int8 with the fewest operators in a
            higher precision that keep `max_drop`; where neither modes nor plans are given, those of
            `modes.DEFAULT_MODES` that the model allows.
        plans: Plans, from `recipe.load_recipe(path).plan` or made by hand.
        output: Folder of the files, default `quantized/<name>`.
        name: Name of the model in tables, default the source's stem.
        column: The column to predict, for a `.csv`.
        classes: Names of the classes in the model's order; None where the data's order is it.
        task: What the targets mean, default what they look like; by output name for targets of
            several outputs.
        preprocessing: How raw images become inputs.
        head: How the outputs of a detector tell boxes: a table, as in a `.head.toml`.
        calibration_samples: How many training samples set the activation ranges.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that a model file brings along; see SECURITY.md.
        unroll: Whether recurrent layers are written out step by step, in every file.
        max_drop: Accepted loss: points of accuracy or AUC, percent of RMSE.
        metric: The metric to judge by, default the task's own: a name of
            `evaluation.metrics.METRICS`, a function `(outputs, targets) -> number`, whose attribute
            `higher_is_better` says which way is better, or `file.py:function`. Of several the
            first is judged, the others are shown.
        prefer: What the recommended file is to have least of: size, latency, or balanced, their
            product.
        runtime: The runtime that must load the recommended file: litert, tflite or tensorflow.
        score_output: Name of the output that is scored.
        target: A target that the recommended file must be able to use, such as coral, or several.
        device: Where to score and time the files: user@host or a name of `devices.toml`; default
            this machine.
        devices: The `devices.toml` to take; see `deploy`, as for all that follow of the device.
        setup: Whether to install a runtime on the device, in a virtual environment.
        wheels: A folder of wheels for `setup`; None downloads them.
        keep: Whether files and environment stay in the device's cache.
        threads: Interpreter threads for latency; None takes the device's own number, else 1.
        latency: Whether to measure latencies.
        skip_unsupported: Whether a variant that cannot be made is a warning instead of an
            error; default: unless it was asked for by name and no other variant can be made.
        recover: Whether remedies are tried, on training samples, for a variant that loses more than
            `max_drop`: corrected biases, rounding by outputs, few operators in a higher precision.
        gzip: Whether each file is also written packed with gzip, as `<variant>.tflite.gz`.
        bundle: A zip to write too: files, manifests, report, and outputs on some test samples, from
            which `verify` derives the figures again.
        force: Replace files that exist.
        seed: Random seed.
        command: How the report says this can be done again.
        listener: Progress callback.

    Returns:
        The report; its rows hold the files, scores and timings.

    Raises:
        EdgekitError: See `edgekit.errors`; nothing is left behind then.
    """
    from edgekit import pipeline, reports
    from edgekit.recipe import default_plan

    place = Path(source) if isinstance(source, (str, Path)) else source
    called = name or (place.stem if isinstance(place, Path) else str(place.name))
    chosen = [*(default_plan(mode) for mode in modes), *plans]
    if not chosen:
        chosen = [default_plan(mode) for mode in DEFAULT_MODES]
        skip_unsupported = skip_unsupported is not False
    request = pipeline.Request(
        source=place,
        plans=tuple(chosen),
        folder=Path(output) if output else Path("quantized") / called,
        name=called,
        data=taken(data),
        split=split,
        table=table,
        column=column,
        classes=classes,
        target=target,
        task=task,
        preprocessing=preprocessing,
        head=head,
        calibration_samples=calibration_samples,
        custom=tuple(custom),
        trust_code=trust_code,
        unroll=unroll,
        max_drop=max_drop,
        metric=metrics(metric),
        prefer=prefer,
        runtime=runtime,
        output=score_output,
        device=one_device(device, devices),
        setup=device_setup(install=setup, wheels=wheels, keep=keep),
        threads=threads,
        latency=latency,
        skip_unsupported=skip_unsupported,
        recover=recover,
        gzip=gzip,
        bundle=Path(bundle) if bundle else None,
        force=force,
        seed=seed,
        command=command,
    )
    return pipeline.quantize(request, finish=reports.write_pages, listener=listener)


def import_model(
    source: str | Path | Any,
    output: str | Path,
    *,
    data: Data = None,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    column: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    unroll: bool = False,
    force: bool = False,
    listener: Listener = silent,
) -> ImportResult:
    """Turn any source into a float32 `.tflite` that was verified against it.

    See `quantize` for the arguments.
    """
    from edgekit import pipeline
    from edgekit.data import open_data

    given = taken(data)
    dataset = (
        given
        if given is None or isinstance(given, Dataset)
        else open_data(given, split=split, table=table, target=column, preprocessing=preprocessing)
    )
    place = Path(source) if isinstance(source, (str, Path)) else source
    request = pipeline.Request(
        source=place,
        plans=(),
        folder=Path(output).parent,
        data=given,
        split=split,
        table=table,
        column=column,
        preprocessing=preprocessing,
        custom=tuple(custom),
        unroll=unroll,
    )
    return pipeline.import_source(
        place,
        Path(output),
        dataset=dataset,
        custom=request.custom,
        trust_code=trust_code,
        unroll=unroll,
        force=force,
        build=pipeline.build_of(request),
        listener=listener,
    )


def rebuild(
    manifest: str | Path,
    *,
    source: str | Path | None = None,
    data: Data = None,
    output: str | Path | None = None,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    force: bool = False,
    listener: Listener = silent,
) -> Rebuilt:
    """Make a file again from its manifest, and compare the bytes.

    Args:
        manifest: The `.json` file beside a `.tflite` file.
        source: The model it was made of; None takes the one that the manifest names.
        data: The data; None takes what the manifest names, unless that is a function.
        output: Where to write the new file; None compares only.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that a model file brings along; see SECURITY.md.
        force: Replace `output`.
        listener: Progress callback.

    Raises:
        ConversionError: The new file has other bytes; it is written to `output` all the same.
        EdgekitError: See `edgekit.errors`.
    """
    from edgekit import pipeline

    given = taken(data)
    if isinstance(given, Dataset):
        raise UsageError(
            "A file is not made again from a Dataset.", hint="Give its samples as a dict of arrays."
        )
    return pipeline.rebuild(
        Path(manifest),
        source=Path(source) if source is not None else None,
        data=given,
        output=Path(output) if output is not None else None,
        custom=custom,
        trust_code=trust_code,
        force=force,
        listener=listener,
    )


def expand(
    source: str | Path, output: str | Path, *, target: str | None = None, force: bool = False
) -> Artifact:
    """Write a `.tflite` or `.tflite.gz` file unpacked, for runtimes without the runner.

    Args:
        source: The file.
        output: The `.tflite` file to write; a manifest goes along.
        target: A microcontroller (`micro`): the file is written as TFLite Micro loads it.
        force: Replace files that exist.

    Raises:
        EdgekitError: See `edgekit.errors`.
    """
    from edgekit import pipeline

    return pipeline.expand(Path(source), Path(output), target=target, force=force)


def export(
    source: str | Path,
    output: str | Path,
    *,
    target: str = "micro",
    name: str = "model",
    data: Data = None,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    task: TaskChoice = None,
    preprocessing: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Exported:
    """Write a `.tflite` file as C sources for firmware with TFLite Micro.

    Args:
        source: The file.
        output: The folder to write.
        target: A microcontroller, with its memory where that is known: `micro:ram=256k,flash=1M`.
        name: Prefix of all names in the sources.
        data: Data whose first test sample is the stored example; None takes seeded random values.
        split: As for `quantize`, like those that follow.
        table: Likewise.
        column: Likewise.
        classes: Likewise.
        task: Likewise.
        preprocessing: Likewise.
        head: Likewise.
        force: Replace files that exist.

    Raises:
        EdgekitError: See `edgekit.errors`.
    """
    from edgekit import pipeline

    request = request_of(
        data,
        split=split,
        table=table,
        column=column,
        classes=classes,
        task=task,
        preprocessing=preprocessing,
        head=head,
    )
    return pipeline.export(
        Path(source), Path(output), target=target, name=name, data=request, force=force
    )


def inspect(path: str | Path, *, targets: Sequence[str] = (), compiled: bool = True) -> Inspection:
    """Look into a `.tflite` file: operators, bytes, multiply-accumulates, fit on targets.

    Args:
        path: The file.
        targets: Targets, such as coral.
        compiled: Whether Google's compiler for the Edge TPU, if it is on PATH, decides what runs on
            coral; else that is predicted.
    """
    from edgekit.tflite.inspect import inspect as look

    return look(Path(path), targets=targets, compiled=compiled)


def report(paths: str | Path | Sequence[str | Path], format: Format = "terminal") -> str | bytes:  # noqa: A002  the field's word
    """Render files of rows as terminal, json, md, html, csv, png or svg."""
    from edgekit.reports import read_reports, render

    return render(read_reports(files_of(paths)), format)


def demo(output: str | Path, *, force: bool = False, listener: Listener = silent) -> Report:
    """The main job on handwritten digits and a small trained CNN that come along."""
    return quantize(
        Path(__file__).parents[1] / "demo" / "digits_cnn.keras",
        data="digits",
        output=output,
        force=force,
        command=f"edgekit demo -o {output}",
        listener=listener,
    )


def doctor() -> tuple[Finding, ...]:
    """What runtimes, engines, tools and data are here, and the hint for what is missing."""
    from edgekit.doctor import examine

    return tuple(examine())
