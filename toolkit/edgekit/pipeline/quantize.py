"""One float graph becomes every variant asked for, each scored, timed, and one recommended."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgekit import devices, evaluation
from edgekit.errors import ConversionError
from edgekit.files import staging
from edgekit.isolate import Background
from edgekit.pipeline import manifest
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.request import (
    FLOAT,
    Request,
    asked_for,
    calibrates,
    check,
    open_data,
    possible_plans,
)
from edgekit.pipeline.sources import is_graph, lower, tensorflow_for
from edgekit.quantization import make as make_variant
from edgekit.quantization import profile
from edgekit.records import (
    Artifact,
    Dataset,
    Listener,
    Plan,
    Progress,
    Ranges,
    Report,
    Row,
    silent,
)
from edgekit.schema import row_to_json
from edgekit.tflite import carry_metadata
from edgekit.tflite.inspect import inspect
from edgekit.worker import TensorFlowProcess

Finish = Callable[[Report, Path], Report]

# Smaller files are compressed in less time than it takes to fork.
_LARGE_BYTES = 1 << 20


def quantize(request: Request, *, finish: Finish, listener: Listener = silent) -> Report:
    """Make the files of `request`, and measure them.

    Args:
        request: What to make.
        finish: Called with the report and the folder in which the files stand, just before they
            are moved into place together with what it wrote there; returns the report as it
            wrote it.
        listener: Progress callback.

    Returns:
        The report, with the paths at which the files now are.

    Raises:
        EdgekitError: As the rooms below raise it; nothing is left behind then.
    """
    check(request)
    needed = not is_graph(request.source) or any(map(calibrates, request.plans))
    with (
        staging(request.folder, replace=request.force) as stage,
        tensorflow_for(
            request.source,
            request.custom,
            listener,
            needed=needed,
            trust_code=request.trust_code,
        ) as tensorflow,
    ):
        dataset = open_data(request, listener)
        plans, refused = possible_plans(request, dataset)
        imported = lower(
            request.source,
            dataset,
            stage / "float32.tflite",
            tensorflow,
            output=request.output,
            listener=listener,
        )
        artifacts, failed = make(
            imported,
            plans,
            stage,
            tensorflow,
            skip_unsupported=request.skip_unsupported,
            listener=listener,
        )
        report = measure(request, imported, artifacts, listener=listener)
        report = replace(report, warnings=(*refused, *failed, *report.warnings))
        return write_outputs(report, request, stage, finish)


def write_outputs(report: Report, request: Request, stage: Path, finish: Finish) -> Report:
    """Write manifests and whatever `finish` writes; returns the report of where files will be.

    The files move there when the stage closes.
    """
    _write_manifests(report, stage)
    final = replace(report, rows=tuple(_at(row, request.folder) for row in report.rows))
    return finish(final, stage)


def make(
    imported: ImportedModel,
    plans: Sequence[Plan],
    folder: Path,
    tensorflow: TensorFlowProcess | None,
    *,
    skip_unsupported: bool = False,
    listener: Listener = silent,
) -> tuple[list[Artifact], list[str]]:
    """Write every variant of one float graph into `folder`; the float32 file comes first.

    The graph is calibrated once for every way of choosing ranges, not once for every variant.

    Args:
        imported: The float graph, and the data that calibrates it.
        plans: The variants.
        folder: Where the files are written.
        tensorflow: Quantizes to integers; None where no plan is of a calibrated mode.
        skip_unsupported: Leave out what is refused, with a sentence in what is returned.
        listener: Progress callback.

    Returns:
        The files; and, where `skip_unsupported`, a sentence for every variant that was refused.

    Raises:
        ConversionError: A variant was refused, and not `skip_unsupported`.
    """
    with Background() as background:
        return _make(
            imported,
            plans,
            folder,
            tensorflow,
            background=background,
            skip_unsupported=skip_unsupported,
            listener=listener,
        )


def _make(
    imported: ImportedModel,
    plans: Sequence[Plan],
    folder: Path,
    tensorflow: TensorFlowProcess | None,
    *,
    background: Background,
    skip_unsupported: bool,
    listener: Listener,
) -> tuple[list[Artifact], list[str]]:
    graph = imported.graph.read_bytes()
    known: dict[tuple[str, float], Ranges] = {}

    def ranges(method: str, percentile: float) -> Ranges:
        key = (method, percentile if method == "percentile" else 0.0)
        if key not in known:
            assert imported.dataset is not None
            assert imported.dataset.calibrate is not None
            known[key] = profile(
                imported.graph,
                imported.dataset.calibrate,
                method=method,
                percentile=percentile,
                listener=listener,
            )
        return known[key]

    records = [
        _record(background, imported.graph, FLOAT, manifest.describe(imported, FLOAT, graph))
    ]
    refused: list[str] = []
    wanted = [_as_trained(p, imported) for p in plans if p != FLOAT]
    for position, plan in enumerate(wanted):
        listener(
            Progress(stage="quantizing", done=position, total=len(wanted), detail=plan.variant)
        )
        try:
            made = make_variant(
                plan, graph, ranges=_trained(imported, plan) or ranges, tensorflow=tensorflow
            )
        except ConversionError as error:
            extra = plan.sparse and len(wanted) > 1  # beside the same file stored dense
            if not (skip_unsupported or extra):
                raise
            refused.append(f"{plan.variant} was left out. {error.found or error.what}")
            continue
        path = folder / f"{plan.variant}.tflite"
        content = carry_metadata(graph, made.data)
        path.write_bytes(content)
        described = manifest.describe(imported, plan, content, left_in_float=made.left_in_float)
        records.append(_record(background, path, plan, described))
    artifacts = [record() for record in records]
    listener(Progress(stage="quantizing", done=len(wanted), total=len(wanted)))
    return artifacts, refused


def _record(
    background: Background, path: Path, plan: Plan, described: Mapping[str, Any]
) -> Callable[[], Artifact]:
    """The record of a finished file; a large one is compressed while the next file is made."""
    record = partial(manifest.artifact, path, plan, described)
    return background.start(record) if path.stat().st_size >= _LARGE_BYTES else record


def _as_trained(plan: Plan, imported: ImportedModel) -> Plan:
    """The plan, with what quantization-aware training left in float left so."""
    # Of rules that match one layer the last counts: the plan's own.
    rules = (*imported.rules, *plan.rules) if plan.mode == "int8" else plan.rules
    return replace(plan, rules=rules)


def _trained(imported: ImportedModel, plan: Plan) -> Callable[[str, float], Ranges] | None:
    """The ranges that quantization-aware training found, where they are meant for the plan."""
    trained = imported.trained
    if trained is None or plan.mode != "int8":
        return None
    return lambda _method, _percentile: trained


def measure(
    request: Request,
    imported: ImportedModel,
    artifacts: Sequence[Artifact],
    *,
    listener: Listener = silent,
) -> Report:
    """Score, time and inspect every file, and recommend one."""
    dataset = imported.dataset
    warnings = list(imported.notes)
    name = request.name or imported.source.name
    rows: list[Row] = []
    scored = _score(request, dataset, artifacts, listener)
    for position, (artifact, found) in enumerate(zip(artifacts, scored, strict=True)):
        timing = None
        if request.latency:
            listener(
                Progress(
                    stage="timing", done=position, total=len(artifacts), detail=artifact.variant
                )
            )
            timing = devices.bench(artifact.path, threads=request.threads)
            if timing.warning:
                warnings.append(f"{artifact.variant}: {timing.warning}")
        row = Row(
            model=name,
            artifact=artifact,
            inspection=inspect(artifact.path, targets=(request.target or "coral",)),
            timing=timing,
        )
        if found is not None:
            row = replace(row, score=found.score)
        if position and found is not None and scored[0] is not None:
            row = replace(
                row,
                drop=evaluation.paired_drop(scored[0], found, max_drop=request.max_drop),
                agreement=evaluation.agreement(scored[0], found),
            )
        rows.append(row)
    chosen, reason = recommend(rows, request)
    return Report(
        title=name,
        asked=asked_for(request, imported),
        rows=chosen,
        reason=reason,
        data=_data_facts(dataset),
        versions=manifest.versions(),
        device=devices.describe(),
        warnings=tuple(dict.fromkeys(warnings)),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def recommend(rows: Sequence[Row], request: Request) -> tuple[tuple[Row, ...], str]:
    """Mark the row to ship; where a target was named, only files that can use it are eligible."""
    excluded = evaluation.unloadable(rows, request.runtime)
    if request.target is None:
        return evaluation.recommend(rows, prefer=request.prefer, excluded=excluded)
    fits = {id(row): fit_of(row, request.target) for row in rows}
    eligible = [row for row in rows if row.artifact.mode == "float32" or fits[id(row)][0]]
    chosen, reason = evaluation.recommend(eligible, prefer=request.prefer, excluded=excluded)
    marked = dict(zip(map(id, eligible), chosen, strict=True))
    result = tuple(marked.get(id(row), row) for row in rows)
    for row, before in zip(result, rows, strict=True):
        if row.recommended:
            mapped, total = fits[id(before)]
            reason += f" Predicted for {request.target}: {mapped} of {total} operators map."
    return result, reason


def fit_of(row: Row, target: str) -> tuple[int, int]:
    """How many operators of a file a target takes, and how many there are; a prediction."""
    operators = row.inspection.ops if row.inspection else ()
    fits = [op.targets[target].mapped for op in operators if target in op.targets]
    return sum(fits), len(fits)


def _score(
    request: Request,
    dataset: Dataset | None,
    artifacts: Sequence[Artifact],
    listener: Listener,
) -> list[evaluation.Evaluation | None]:
    if dataset is None or dataset.test is None:
        return [None for _ in artifacts]
    return [
        evaluation.evaluate(artifact.path, dataset, output=request.output, listener=listener)
        for artifact in artifacts
    ]


def _data_facts(dataset: Dataset | None) -> dict[str, str]:
    if dataset is None:
        return {}
    facts = {"name": dataset.name, "task": str(dataset.task)}
    for samples in (dataset.train, dataset.calibrate, dataset.test):
        if samples is not None:
            facts[samples.split] = f"{samples.n} samples, sha256 {samples.sha256[:16]}"
    return facts


def _write_manifests(report: Report, stage: Path) -> None:
    for row in report.rows:
        # The manifest travels to the device: raw timings and operators stay in report.json.
        brief = row_to_json(
            replace(row, inspection=None, artifact=replace(row.artifact, manifest={}))
        )
        if brief.get("latency"):
            brief["latency"] = {k: v for k, v in brief["latency"].items() if not k.endswith("_ns")}
        described = {**row.artifact.manifest, "rows": [brief]}
        path = stage / f"{row.artifact.variant}.json"
        path.write_text(manifest.to_text(described), encoding="utf-8")


def _at(row: Row, folder: Path) -> Row:
    path = folder / row.artifact.path.name
    inspection = row.inspection and replace(row.inspection, path=path)
    return replace(row, artifact=replace(row.artifact, path=path), inspection=inspection)
