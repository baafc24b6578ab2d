"""Files that exist already are scored and timed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import data, devices, tflite
from edgekit import evaluation as scoring
from edgekit.errors import DataError
from edgekit.pipeline import manifest
from edgekit.pipeline.sources import scored_first
from edgekit.records import Dataset, Listener, Report, Row, silent


def bind_to_file(
    spec: str | Dataset,
    path: Path,
    *,
    task: str | None = None,
    column: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    output: str | None = None,
) -> Dataset:
    """Open data as the file's manifest says, and check that it fits the file."""
    described = manifest.open_artifact(path).manifest
    inputs, outputs = tflite.signature(tflite.read(path))
    tflite.check_interface(str(path), inputs, outputs)
    dataset = (
        spec
        if isinstance(spec, Dataset)
        else data.open_data(
            spec,
            task=task or (described.get("data") or {}).get("task"),
            target=column,
            preprocessing=preprocessing,
            needed="test",
        )
    )
    # A quantized file takes the float samples that its float source took.
    floats = [
        replace(i, dtype="float32", scale=None, zero_point=None) if i.scale else i for i in inputs
    ]
    return data.bind(dataset, floats, scored_first(outputs, output))


def evaluate(
    paths: Sequence[Path],
    spec: str | Dataset,
    *,
    task: str | None = None,
    column: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    output: str | None = None,
    listener: Listener = silent,
) -> Report:
    """Score `.tflite` files on the test split; the first is what the others are compared with.

    Raises:
        ModelError: A file cannot be read or run.
        DataError: The data does not fit, or has no test split.
    """
    rows: list[Row] = []
    warnings: list[str] = []
    baseline = None
    dataset = None
    for path in paths:
        artifact = manifest.open_artifact(path)
        dataset = bind_to_file(
            spec, path, task=task, column=column, preprocessing=preprocessing, output=output
        )
        if dataset.test is None:
            raise DataError(
                f"{dataset.name} has no test split to score on.", hint="Add x_test and y_test."
            )
        warnings.extend(dataset.notes)
        evaluation = scoring.evaluate(path, dataset, output=output, listener=listener)
        row = Row(model=artifact.manifest.get("model", path.stem), artifact=artifact)
        row = replace(row, score=evaluation.score)
        if baseline is None:
            baseline = evaluation
        else:
            drop = scoring.paired_drop(baseline, evaluation, max_drop=0.5)
            row = replace(row, drop=drop, agreement=scoring.agreement(baseline, evaluation))
        rows.append(row)
    return _report(rows, warnings, dataset)


def bench(
    paths: Sequence[Path],
    *,
    threads: int = 1,
    listener: Listener = silent,
    **options: object,
) -> Report:
    """Time `.tflite` files with the runner, on this machine; see `devices.bench`.

    Raises:
        ModelError: A file cannot be read or run.
        DeviceError: No runtime is here.
    """
    rows = []
    warnings = []
    for path in paths:
        artifact = manifest.open_artifact(path)
        timing = devices.bench(path, threads=threads, listener=listener, **options)
        if timing.warning:
            warnings.append(f"{artifact.variant}: {timing.warning}")
        model = artifact.manifest.get("model", path.stem)
        rows.append(Row(model=model, artifact=artifact, timing=timing))
    return _report(rows, warnings, None)


def _report(rows: Sequence[Row], warnings: Sequence[str], dataset: Dataset | None) -> Report:
    names = list(dict.fromkeys(row.model for row in rows))
    facts = manifest.describe_data(dataset)
    return Report(
        title=", ".join(names),
        asked={"files": ", ".join(str(row.artifact.path) for row in rows)},
        rows=tuple(rows),
        reason="",
        data={"name": facts["name"], "task": str(facts["task"])} if facts else {},
        versions=manifest.versions(),
        device=devices.describe(),
        warnings=tuple(dict.fromkeys(warnings)),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
