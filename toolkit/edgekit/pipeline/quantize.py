"""One float graph becomes every variant asked for, each scored, timed, and one recommended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError
from edgekit.files import staging
from edgekit.isolate import Background
from edgekit.pipeline import manifest
from edgekit.pipeline.bundle import write_bundle
from edgekit.pipeline.calibration_remarks import dropped_samples, unsettled_ranges
from edgekit.pipeline.float_graphs import FloatGraphs, Form
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.measure import MeasureSettings
from edgekit.pipeline.narrow_search import narrowed
from edgekit.pipeline.precision_search import resolved
from edgekit.pipeline.recommendation import measure_made, probe_device, with_source_score
from edgekit.pipeline.recovery import recovered
from edgekit.pipeline.report import accepted_loss
from edgekit.pipeline.request import (
    FLOAT,
    Request,
    build_of,
    check,
    open_data,
    possible_plans,
)
from edgekit.pipeline.sources import is_graph, lower, tensorflow_for
from edgekit.pipeline.tensor_figures import with_tensors
from edgekit.pipeline.written import Written, start_record
from edgekit.printable import capitalized
from edgekit.quantization import QuantizedModel, Recorded
from edgekit.quantization import make as make_variant
from edgekit.records import (
    Artifact,
    Listener,
    MixedPlan,
    Plan,
    Progress,
    Report,
    Row,
    Sensitivity,
    silent,
)
from edgekit.schema import row_to_json
from edgekit.tflite import signature
from edgekit.tflite.stored import packed_path
from edgekit.worker import TensorFlowProcess

Finish = Callable[[Report, Path], Report]


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
    probe_device(request, listener)
    with (
        staging(request.folder, replace=request.force) as stage,
        tensorflow_for(
            request.source,
            request.custom,
            listener,
            needed=not is_graph(request.source),
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
            unroll=request.unroll,
            head=request.head,
            plans=plans,
            listener=listener,
        )
        # Refuses a metric that the task does not have before anything is made.
        accepted_loss(request.max_drop, imported.dataset, request.metric)
        imported = with_source_score(imported, request, tensorflow, listener)
        artifacts, remarks = make(
            imported,
            plans,
            stage,
            tensorflow,
            settings=request.settings,
            build=build_of(request),
            skip_unsupported=request.skip_unsupported,
            recover=request.recover,
            narrow=request.narrows,
            gzip=request.gzip,
            listener=listener,
        )
        report = measure_made(request, imported, artifacts, listener=listener)
        rows = with_tensors(report.rows, imported.dataset, imported.graph, listener=listener)
        warnings = (*refused, *remarks, *report.warnings)
        report = replace(report, rows=tuple(rows), warnings=warnings)
        final = write_outputs(report, request, stage, finish)
        if request.bundle is not None:
            write_bundle(
                request.bundle,
                stage,
                final,
                artifacts,
                imported.dataset,
                replace_existing=request.force,
            )
        return final


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
    settings: MeasureSettings | None = None,
    build: Mapping[str, Any] | None = None,
    skip_unsupported: bool | None = False,
    recover: bool = False,
    narrow: bool = False,
    gzip: bool = False,
    recorded: Recorded | None = None,
    listener: Listener = silent,
) -> tuple[list[Artifact], list[str]]:
    """Write every variant of one float graph into `folder`; the float32 file comes first.

    The graph is parsed and observed once, not once for every variant.

    Args:
        imported: The float graph, and the data that calibrates it.
        plans: The variants.
        folder: Where the files are written.
        tensorflow: Lowers the model again where a mode needs another form of its graph; None where
            the source is a graph already.
        settings: How files are judged and for which target, for variants whose precisions are
            searched for.
        build: What their manifests say of the request (`request.build_of`).
        skip_unsupported: Leave out what is refused, with a sentence in what is returned; None does
            so unless nothing else of `plans` can be made.
        recover: Whether remedies are tried for a variant that is lost (`recovery`).
        narrow: Whether a variant whose precisions are searched for gets weights of four bits where
            these keep the accepted loss.
        gzip: Whether each is also written packed.
        recorded: The choice of ranges to repeat (`rebuild`); None searches for one.
        listener: Progress callback.

    Returns:
        The files; and sentences: calibration samples that were dropped, what inputs and outputs
        lose in integers, ranges that more samples would move, what a mode left in float, and
        every variant that was refused.

    Raises:
        ConversionError: A variant was refused, and not left out.
    """
    with Background() as background:
        return _make(
            imported,
            plans,
            folder,
            tensorflow,
            background=background,
            settings=settings or MeasureSettings(),
            build=build,
            skip_unsupported=skip_unsupported,
            recover=recover,
            narrow=narrow,
            gzip=gzip,
            recorded=recorded,
            listener=listener,
        )


def _make(
    imported: ImportedModel,
    plans: Sequence[Plan],
    folder: Path,
    tensorflow: TensorFlowProcess | None,
    *,
    background: Background,
    settings: MeasureSettings,
    build: Mapping[str, Any] | None,
    skip_unsupported: bool | None,
    recover: bool,
    narrow: bool,
    gzip: bool,
    recorded: Recorded | None,
    listener: Listener,
) -> tuple[list[Artifact], list[str]]:
    wanted = [imported.as_trained(p) for p in plans if p != FLOAT]
    graphs = FloatGraphs(imported, wanted, folder, tensorflow, listener, recorded=recorded)
    seen = graphs.calibration
    described = manifest.describe(imported, FLOAT, build=build)
    told = seen.start(graphs.inputs, background)
    first = start_record(background, imported.graph, FLOAT, described, told, gzip=gzip)
    written: list[Written] = []
    remarks = dropped_samples(seen.dropped)
    refused: list[ConversionError] = []

    def leave_out(asked: Plan, error: ConversionError) -> None:
        extra = asked.sparse and len(wanted) > 1  # beside the same file stored dense
        if skip_unsupported is False and not extra:
            raise error
        refused.append(error)
        remarks.append(f"{asked.variant} was left out. {_why(error, asked.variant)}")

    for position, asked in enumerate(wanted):
        listener(
            Progress(stage="quantizing", done=position, total=len(wanted), detail=asked.variant)
        )
        try:
            plan, why, costs = _settled(asked, graphs, imported, settings, listener, narrow=narrow)
            made, form = _variant(plan, graphs)
            done = None
            if recover and not isinstance(asked, MixedPlan):
                made, done = recovered(plan, made, form, imported, settings, listener=listener)
        except ConversionError as error:
            leave_out(asked, error)
            continue
        path = folder / f"{plan.variant}.tflite"
        path.write_bytes(made.data)
        said = (*why, *made.notes)
        noted = replace(imported, notes=(*imported.notes, *form.notes, *said))
        described = manifest.describe(
            noted,
            made.plan,
            left_in_float=made.left_in_float,
            choice=made.choice,
            recovery=done.described() if done else None,
            build=build,
            costs=costs,
            precisions=" ".join(why) or None,
        )
        told = seen.start(signature(made.model)[0], background)
        record = start_record(background, path, made.plan, described, told, gzip=gzip, ran=made.ran)
        own = (*made.notes, *unsettled_ranges(plan, made, imported))
        written.append(Written(asked, path, record, own))
    artifacts = [first()]
    for each in written:
        try:
            artifacts.append(each.record())
        except ConversionError as error:
            leave_out(each.asked, error)
            each.path.unlink()
            packed_path(each.path).unlink(missing_ok=True)
        else:
            remarks += each.remarks
    if refused and skip_unsupported is None and len(artifacts) == 1 and FLOAT not in plans:
        raise refused[0]
    listener(Progress(stage="quantizing", done=len(wanted), total=len(wanted)))
    return artifacts, remarks


def _why(error: ConversionError, variant: str) -> str:
    """Return in a sentence why a variant was refused."""
    what = error.what.removeprefix(f"Variant {variant}: ")
    what = what.replace(f"Variant {variant} ", "It ", 1)
    told = f"{what.rstrip('.')}: {error.found}" if error.found else what
    return f"{capitalized(told).rstrip('.')}."


def _settled(
    asked: Plan,
    graphs: FloatGraphs,
    imported: ImportedModel,
    settings: MeasureSettings,
    listener: Listener,
    *,
    narrow: bool,
) -> tuple[Plan, tuple[str, ...], Sensitivity | None]:
    """Return the plan with the rules that had to be searched for, why, and what operators cost."""
    if not isinstance(asked, MixedPlan):
        return asked, (), None
    plan, sentence, costs = resolved(asked, graphs, imported, settings, listener=listener)
    if narrow:
        plan, more = narrowed(plan, graphs, imported, settings, listener=listener)
        sentence = f"{sentence} {more}".strip()
    return plan, (f"{plan.variant}: {sentence}",), costs


def _variant(plan: Plan, graphs: FloatGraphs) -> tuple[QuantizedModel, Form]:
    """Make a variant of the first form of the float graph that it is possible in."""
    refused: ConversionError | None = None
    for form in graphs.forms(plan):
        try:
            made = make_variant(
                plan,
                form.graph,
                observe=form.observe,
                calibration=form.calibration,
                # Where there is another form, a file that does not run is not the last word.
                run=not graphs.has_one_form(plan),
            )
        except ConversionError as error:
            refused = error
        else:
            return made, form
    assert refused is not None
    raise refused


def _write_manifests(report: Report, stage: Path) -> None:
    for row in report.files:
        # The manifest travels to the device: raw timings and operators stay in report.json.
        brief = row_to_json(
            replace(row, inspection=None, tensors=None, artifact=replace(row.artifact, manifest={}))
        )
        if brief.get("latency"):
            brief["latency"] = {k: v for k, v in brief["latency"].items() if not k.endswith("_ns")}
        described = {**row.artifact.manifest, "rows": [brief]}
        path = stage / f"{row.artifact.variant}.json"
        path.write_text(manifest.to_text(described), encoding="utf-8")


def _at(row: Row, folder: Path) -> Row:
    if row.is_source:
        return row  # it stays where it is
    path = folder / row.artifact.path.name
    inspection = row.inspection and replace(row.inspection, path=path)
    return replace(row, artifact=replace(row.artifact, path=path), inspection=inspection)
