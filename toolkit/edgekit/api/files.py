"""Verbs that make, measure and read `.tflite` files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.choices import Prefer
from edgekit.modes import MODES
from edgekit.records import (
    Artifact,
    Dataset,
    Inspection,
    Listener,
    Plan,
    Report,
    silent,
)

if TYPE_CHECKING:
    from edgekit.pipeline.deploy import Outcome
    from edgekit.pipeline.imported_model import ImportedModel
    from edgekit.reports import Format


def quantize(
    source: str | Path | Any,
    *,
    data: str | Dataset | None = None,
    modes: Sequence[str] = (),
    plans: Sequence[Plan] = (),
    output: str | Path | None = None,
    name: str | None = None,
    column: str | None = None,
    task: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    calibration_samples: int = 200,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    max_drop: float = 0.5,
    prefer: Prefer = "balanced",
    runtime: str | None = None,
    score_output: str | None = None,
    target: str | None = None,
    threads: int = 1,
    latency: bool = True,
    skip_unsupported: bool | None = None,
    force: bool = False,
    seed: int = 0,
    command: str = "",
    listener: Listener = silent,
) -> Report:
    """Make every variant asked for, measure each, and recommend one that keeps accuracy.

    Args:
        source: A `.keras`, `.h5`, SavedModel folder or float `.tflite`, or a live Keras model.
        data: As `--data` of the command line, or a `records.Dataset`.
        modes: Names out of `modes.MODES`; where neither modes nor plans are given, all that the
            model allows.
        plans: Plans, from `recipe.load_recipe(path).plan` or made by hand.
        output: Folder of the files, default `quantized/<name>`.
        name: Name of the model in tables, default the source's stem.
        column: The column to predict, for a `.csv`.
        task: What the targets mean, default what they look like.
        preprocessing: How raw images become inputs.
        calibration_samples: How many training samples set the activation ranges.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that a model file brings along; see SECURITY.md.
        max_drop: Accepted loss: points of accuracy or AUC, percent of RMSE.
        prefer: What the recommended file is to have least of: size, latency, or balanced, their
            product.
        runtime: The runtime that must load the recommended file: litert, tflite or tensorflow.
        score_output: Name of the output that is scored.
        target: An accelerator the recommended file must be able to use: coral.
        threads: Interpreter threads for latency.
        latency: Whether to measure latencies.
        skip_unsupported: Whether a variant that cannot be made is a warning instead of an
            error; default: where none was asked for by name.
        force: Replace files that exist.
        seed: Seed of every random choice.
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
        chosen = [default_plan(mode) for mode in MODES]
    request = pipeline.Request(
        source=place,
        plans=tuple(chosen),
        folder=Path(output) if output else Path("quantized") / called,
        name=called,
        data=data,
        column=column,
        target=target,
        task=task,
        preprocessing=preprocessing,
        calibration_samples=calibration_samples,
        custom=tuple(custom),
        trust_code=trust_code,
        max_drop=max_drop,
        prefer=prefer,
        runtime=runtime,
        output=score_output,
        threads=threads,
        latency=latency,
        skip_unsupported=not (modes or plans) if skip_unsupported is None else skip_unsupported,
        force=force,
        seed=seed,
        command=command,
    )
    return pipeline.quantize(request, finish=reports.write_pages, listener=listener)


def import_model(
    source: str | Path | Any,
    output: str | Path,
    *,
    data: str | Dataset | None = None,
    column: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    force: bool = False,
    listener: Listener = silent,
) -> tuple[Artifact, ImportedModel]:
    """Turn any source into a float32 `.tflite` that was verified against it.

    See `quantize` for the arguments.
    """
    from edgekit import pipeline
    from edgekit.data import open_data

    dataset = (
        open_data(data, target=column, preprocessing=preprocessing)
        if isinstance(data, str)
        else data
    )
    place = Path(source) if isinstance(source, (str, Path)) else source
    return pipeline.import_source(
        place,
        Path(output),
        dataset=dataset,
        custom=tuple(custom),
        trust_code=trust_code,
        force=force,
        listener=listener,
    )


def evaluate(
    paths: Sequence[str | Path],
    data: str | Dataset,
    *,
    column: str | None = None,
    task: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    score_output: str | None = None,
    listener: Listener = silent,
) -> Report:
    """Score `.tflite` files on the test split, the first being the measure of the others."""
    from edgekit import pipeline

    return pipeline.evaluate(
        [Path(path) for path in paths],
        data,
        task=task,
        column=column,
        preprocessing=preprocessing,
        output=score_output,
        listener=listener,
    )


def bench(
    paths: Sequence[str | Path],
    *,
    threads: int = 1,
    runs: int | None = None,
    runtime: str | None = None,
    kernels: str | None = None,
    duration: float | None = None,
    sweep: bool = False,
    listener: Listener = silent,
) -> Report:
    """Measure latencies on this machine, with the runner, in a process of its own."""
    from edgekit import pipeline

    return pipeline.bench(
        [Path(path) for path in paths],
        threads=threads,
        runs=runs,
        runtime=runtime,
        kernels=kernels,
        duration=duration,
        sweep=sweep,
        listener=listener,
    )


def deploy(
    paths: Sequence[str | Path],
    device: str | Sequence[str],
    *,
    devices: str | Path | None = None,
    data: str | Dataset | None = None,
    inputs: Sequence[str | Path] = (),
    wheels: str | Path | None = None,
    listener: Listener = silent,
    **options: Any,
) -> tuple[Report, list[Outcome]]:
    """Score and time `.tflite` files on devices behind SSH, several at once.

    Args:
        paths: The files; the first, as computed here, is what the others are held against.
        device: user@host, a name of `devices.toml`, "all", or several of these.
        devices: The `devices.toml` to take; None takes the one in the current folder, which may
            not name files of this machine, or else the user's own.
        data: What they are scored on; None leaves scores out.
        inputs: Pictures, recordings or samples to run the files on instead of measuring them.
        wheels: A folder of wheels for `setup`; None downloads them.
        listener: Progress callback.
        **options: Fields of `pipeline.Deployment`: threads, setup, keep, latency, ...

    Returns:
        The report, and what came of each device: an error there stops no other device and is not
        raised; what the files answered to `inputs` is there, too.
    """
    from edgekit import pipeline
    from edgekit.devices import find_devices

    request = pipeline.Deployment(
        paths=[Path(path) for path in paths],
        data=data,
        inputs=[Path(path) for path in inputs],
        wheels=Path(wheels) if wheels else None,
        **options,
    )
    asked = [device] if isinstance(device, str) else device
    fleet = find_devices(asked, Path(devices) if devices else None)
    return pipeline.deploy(request, fleet, listener=listener)


def inspect(path: str | Path, *, targets: Sequence[str] = ()) -> Inspection:
    """Look into a `.tflite` file: operators, bytes, multiply-accumulates, fit on targets."""
    from edgekit.tflite.inspect import inspect as look

    return look(Path(path), targets=targets)


def report(paths: Sequence[str | Path], format: Format = "terminal") -> str | bytes:  # noqa: A002  the field's word
    """Render files of rows as terminal, json, md, html, csv, png or svg."""
    from edgekit.reports import read_reports, render

    return render(read_reports([Path(path) for path in paths]), format)


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


def doctor() -> list[dict[str, Any]]:
    """What runtimes, engines, tools and data are here, and the hint for what is missing."""
    from edgekit.doctor import examine

    return [finding._asdict() for finding in examine()]
