"""Records from JSON: what another version or program wrote is checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from edgekit.errors import UsageError
from edgekit.evaluation.metrics import METRICS, Unit, add_described_metric, added_metric
from edgekit.fields import FieldError, Fields, MissingFieldError, refuse_deep
from edgekit.modes import MODES
from edgekit.printable import one_line, printable
from edgekit.records import (
    Artifact,
    ClassScore,
    Collapse,
    CollapseKind,
    ColumnDrop,
    ColumnScore,
    Drop,
    EdgeTpuCompilation,
    EdgeTpuProgram,
    Fidelity,
    Inspection,
    MemoryFit,
    NpuEstimate,
    Operator,
    OutputDrop,
    OutputScore,
    Report,
    Row,
    Score,
    TargetFit,
    TensorSpec,
    Timing,
    Verdict,
    Views,
)
from edgekit.schema.layers_json import differences_from_json
from edgekit.schema.to_json import SCHEMA
from edgekit.schema.views_json import views_from_json


def report_from_json(document: Mapping[str, Any]) -> Report:
    """Return the report that `report_to_json` wrote.

    Raises:
        UsageError: Another schema, no rows, a row without what every row has, or a value of
            another type or out of range.
    """
    try:
        refuse_deep(document)
        schema = document.get("schema")
        if schema != SCHEMA:
            raise UsageError(
                "This report has an unsupported schema.",
                found=f"Its schema is {schema!r}; this edgekit reads schema {SCHEMA}.",
                hint="Give the JSON of quantize, eval, bench, deploy or report, of this version.",
            )
        if not isinstance(document.get("rows"), list):
            raise UsageError(
                "This JSON has no rows.",
                found=f"Its keys are {', '.join(map(str, document)) or 'none'}.",
                hint="Give the JSON of quantize, eval, bench, deploy or report.",
            )
        return _report(Fields(document, ""))
    except MissingFieldError as error:
        raise UsageError(
            "A row of this JSON is incomplete.",
            found=str(error),
            hint="Create it again with this version of edgekit.",
        ) from error
    except FieldError as error:
        raise UsageError(
            "This JSON does not match the schema of edgekit's reports.",
            found=str(error),
            hint="Create it again with this version of edgekit.",
        ) from error


def _report(document: Fields) -> Report:
    return Report(
        title=document.text("title", ""),
        asked=document.table("asked", Fields.fact),
        rows=tuple(_row(row) for row in document.objects("rows")),
        reason=document.text("reason", ""),
        data=document.table("data", Fields.fact),
        versions=document.table("versions", Fields.fact),
        device=document.table("device", Fields.fact),
        devices=document.table("devices", lambda of, name: of.table(name, Fields.fact)),
        alerts=document.texts("alerts"),
        warnings=document.texts("warnings"),
        created=document.text("created", ""),
    )


def _row(row: Fields) -> Row:
    drop = None
    if row.has("verdict"):
        verdict = cast("Verdict", row.choice("verdict", get_args(Verdict)))
        drop = Drop(
            value=row.number("drop"),
            ci95=row.pair("drop_ci95"),
            verdict=verdict,
            allowed=row.maybe("drop_allowed", row.number),
            per_column=tuple(map(_column_drop, row.maybe_objects("drop_per_column"))),
            per_output=tuple(map(_output_drop, row.maybe_objects("drop_per_output"))),
        )
    timing = None
    if row.has("latency"):
        timing = replace(
            _timing(row.object("latency"), row.integer("peak_rss_bytes", 0)),
            memory_bytes=row.maybe("memory_bytes", row.integer),
        )
    return Row(
        model=row.text("model"),
        artifact=_artifact(row),
        inspection=_inspection(row.object("inspection")) if row.has("inspection") else None,
        score=_score(row.object("score")) if row.has("score") else None,
        drop=drop,
        agreement=row.maybe("agreement", row.number),
        fidelity=tuple(map(_fidelity, row.maybe_objects("fidelity"))),
        collapses=tuple(map(_collapse, row.maybe_objects("collapses"))),
        timing=timing,
        recommended=row.flag("recommended", default=False),
        worst_samples=row.integers("worst_samples"),
        device=None if timing else row.maybe("device", row.text),
        tensors=differences_from_json(row.object("tensors")) if row.has("tensors") else None,
        failure=row.maybe("failure", row.text),
    )


def _artifact(row: Fields) -> Artifact:
    path, size_bytes = Path(row.text("path")), row.integer("size_bytes")
    # Rows of edgekit 0.1 have no size on flash: their files were plain.
    flash_bytes = row.integer("flash_bytes", size_bytes)
    return Artifact(
        path=path,
        variant=row.text("variant"),
        mode=row.choice("mode", tuple(MODES)) if row.has("mode") else None,
        size_bytes=size_bytes,
        size_deflated_bytes=row.integer("size_deflated_bytes", 0),
        sha256=row.text("sha256"),
        gzip_bytes=flash_bytes if flash_bytes != size_bytes else None,
        manifest=row.free("manifest"),
    )


def _metric(score: Fields) -> str:
    """The metric's name; one of the user's own is made known by what the score says of it."""
    if not score.has("metric_facts"):
        return score.choice("metric", tuple(METRICS))
    name = score.text("metric")
    _make_known(name, score.object("metric_facts"))
    return name


def _shown(score: Fields) -> tuple[str, ...]:
    """The further metrics asked for that are known, or made known, by their names."""
    for name, facts in score.table("shown_facts", Fields.object).items():
        _make_known(name, facts)
    names = score.texts("shown") if score.has("shown") else ()
    return tuple(name for name in names if name in METRICS or added_metric(name) is not None)


def _make_known(name: str, facts: Fields) -> None:
    add_described_metric(
        name,
        title=printable(facts.text("title")),
        unit=cast("Unit", facts.choice("unit", get_args(Unit))),
        higher_is_better=facts.flag("higher_is_better"),
        meaning=one_line(facts.text("meaning", "")),
    )


def _score(score: Fields) -> Score:
    return Score(
        metric=_metric(score),
        value=score.number("value"),
        n=score.integer("n"),
        ci95=score.pair("ci95"),
        extras=score.table("extras", Fields.number),
        per_class=tuple(
            ClassScore(
                label=one.text("label"),
                n=one.integer("n"),
                recall=one.number("recall"),
                precision=one.number("precision"),
                iou=one.maybe("iou", one.number),
                area=one.maybe("area", one.number),
            )
            for one in score.maybe_objects("per_class")
        ),
        guess=score.maybe("guess", score.number),
        per_column=tuple(
            ColumnScore(label=one.text("label"), value=one.number("value"), ci95=one.pair("ci95"))
            for one in score.maybe_objects("per_column")
        ),
        confusion=score.integer_rows("confusion"),
        shown=_shown(score),
        per_output=tuple(
            OutputScore(
                output=one.text("output"), task=one.text("task"), score=_score(one.object("score"))
            )
            for one in score.maybe_objects("per_output")
        ),
        views=views_from_json(score.object("views")) if score.has("views") else Views(),
    )


def _column_drop(drop: Fields) -> ColumnDrop:
    return ColumnDrop(
        label=drop.text("label"),
        value=drop.number("value"),
        ci95=drop.pair("ci95"),
        verdict=cast("Verdict", drop.choice("verdict", get_args(Verdict))),
        allowed=drop.number("allowed"),
    )


def _output_drop(drop: Fields) -> OutputDrop:
    return OutputDrop(
        output=drop.text("output"),
        drop=Drop(
            value=drop.number("value"),
            ci95=drop.pair("ci95"),
            verdict=cast("Verdict", drop.choice("verdict", get_args(Verdict))),
            allowed=drop.maybe("allowed", drop.number),
            per_column=tuple(map(_column_drop, drop.maybe_objects("per_column"))),
        ),
    )


def _fidelity(fidelity: Fields) -> Fidelity:
    return Fidelity(
        output=fidelity.text("output"),
        n=fidelity.integer("n"),
        sqnr_db=fidelity.maybe("sqnr_db", fidelity.number),
        agreement=fidelity.maybe("agreement", fidelity.number),
        correlation=fidelity.maybe("correlation", fidelity.number),
        levels=fidelity.maybe("levels", fidelity.integer),
        cut_off=fidelity.maybe("cut_off", fidelity.integer),
    )


def _collapse(collapse: Fields) -> Collapse:
    return Collapse(
        kind=cast("CollapseKind", collapse.choice("kind", get_args(CollapseKind))),
        where=collapse.text("where"),
        detail=collapse.text("detail"),
    )


def _timing(latency: Fields, peak_rss_bytes: int) -> Timing:
    values_ns = latency.integers("values_ns")
    if not values_ns:
        raise MissingFieldError(f"{latency.place('values_ns')} has no latency.")
    return Timing(
        values_ns=values_ns,
        warmup_ns=latency.integers("warmup_ns"),
        threads=latency.integer("threads"),
        device=latency.text("device"),
        runtime=latency.text("runtime"),
        delegate=latency.maybe("delegate", latency.text),
        peak_rss_bytes=peak_rss_bytes,
        cold_start_ns=latency.table("cold_start_ns", Fields.integer),
        conditions=latency.free("conditions"),
        stable=latency.flag("stable", default=True),
        warning=latency.maybe("warning", latency.text),
        details=latency.free("details"),
        rounds=latency.integer("rounds", 1),
    )


def _tensor(tensor: Fields) -> TensorSpec:
    return TensorSpec(
        name=tensor.text("name"),
        shape=tensor.integers("shape", least=-1),
        dtype=tensor.text("dtype"),
        scale=tensor.maybe("scale", tensor.number),
        zero_point=tensor.maybe("zero_point", partial(tensor.integer, least=-(2**31))),
    )


def _operator(op: Fields) -> Operator:
    def fit(of: Fields, target: str) -> TargetFit:
        value = of.object(target)
        return TargetFit(
            mapped=value.flag("mapped"),
            reason=value.maybe("reason", value.text),
            follows=value.flag("follows", default=False),
            own_kernel=value.flag("own_kernel", default=False),
        )

    return Operator(
        index=op.integer("index"),
        name=op.text("name"),
        layer=op.text("layer"),
        outputs=op.texts("outputs"),
        dtype=op.text("dtype"),
        bytes=op.integer("bytes"),
        macs=op.maybe("macs", op.integer),
        targets=op.table("targets", fit),
        version=op.integer("version", 1),
        shape=op.integers("shape", least=-1),
        inputs=op.texts("inputs"),
        weights=op.maybe("weights", op.text),
        scale=op.maybe("scale", op.number),
        zero_point=op.maybe("zero_point", partial(op.integer, least=-(2**63))),
        in_float=op.flag("in_float", default=False),
        alive_bytes=op.integer("alive_bytes", 0),
    )


def _inspection(inspection: Fields) -> Inspection:
    return Inspection(
        path=Path(inspection.text("path")),
        size_bytes=inspection.integer("size_bytes"),
        inputs=tuple(map(_tensor, inspection.objects("inputs"))),
        outputs=tuple(map(_tensor, inspection.objects("outputs"))),
        ops=tuple(map(_operator, inspection.objects("ops"))),
        bytes=inspection.table("bytes", Fields.integer),
        weight_dtypes=inspection.table("weight_dtypes", Fields.integer),
        macs=inspection.integer("macs"),
        parameters=inspection.integer("parameters"),
        signatures=inspection.texts("signatures"),
        metadata=inspection.table("metadata", Fields.integer),
        runtimes=inspection.table("runtimes", lambda of, name: of.maybe(name, of.text)),
        lacking=inspection.table("lacking", Fields.texts),
        memory=inspection.table("memory", _memory),
        estimates=inspection.table("estimates", _estimate),
        edge_tpu=_edge_tpu(inspection, "edge_tpu"),
        compiled=inspection.table("compiled", _compilation),
    )


def _compilation(of: Fields, target: str) -> EdgeTpuCompilation:
    run = of.object(target)
    return EdgeTpuCompilation(
        compiler=run.text("compiler"),
        program=_edge_tpu(run, "program"),
        message=run.maybe("message", run.text),
    )


def _edge_tpu(of: Fields, key: str) -> EdgeTpuProgram | None:
    if not of.has(key):
        return None
    program = of.object(key)
    return EdgeTpuProgram(
        min_runtime=program.integer("min_runtime"),
        cached_bytes=program.integer("cached_bytes"),
        streamed_bytes=program.integer("streamed_bytes"),
        cycles=program.maybe("cycles", program.integer),
    )


def _estimate(of: Fields, target: str) -> NpuEstimate:
    estimate = of.object(target)
    return NpuEstimate(
        compiler=estimate.text("compiler"),
        configuration=estimate.text("configuration", ""),
        cycles=estimate.maybe("cycles", estimate.integer),
        clock_hz=estimate.maybe("clock_hz", estimate.number),
        time_ms=estimate.maybe("time_ms", estimate.number),
        sram_bytes=estimate.maybe("sram_bytes", estimate.integer),
        dram_bytes=estimate.maybe("dram_bytes", estimate.integer),
        flash_bytes=estimate.maybe("flash_bytes", estimate.integer),
        message=estimate.maybe("message", estimate.text),
    )


def _memory(of: Fields, target: str) -> MemoryFit:
    memory = of.object(target)
    return MemoryFit(
        arena_bytes=memory.maybe("arena_bytes", memory.integer),
        head_bytes=memory.maybe("head_bytes", memory.integer),
        arena_bytes_32=memory.maybe("arena_bytes_32", memory.integer),
        measured=memory.flag("measured"),
        loads=memory.maybe("loads", memory.flag),
        message=memory.maybe("message", memory.text),
        model_bytes=memory.integer("model_bytes"),
        code_bytes=memory.integer("code_bytes"),
        ram_bytes=memory.maybe("ram_bytes", memory.integer),
        flash_bytes=memory.maybe("flash_bytes", memory.integer),
    )
