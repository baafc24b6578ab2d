"""Records to JSON and back: the versioned contract of `--json` and of the files on disk.

A number that is not finite becomes null, because JSON cannot express it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from edgekit.errors import UsageError
from edgekit.evaluation.metrics import METRICS
from edgekit.fields import FieldError, Fields, MissingFieldError, refuse_deep
from edgekit.modes import MODES
from edgekit.records import (
    Artifact,
    ClassScore,
    Drop,
    Inspection,
    Operator,
    Report,
    Row,
    Score,
    TargetFit,
    TensorSpec,
    Timing,
    Verdict,
)

SCHEMA = 1


def report_to_json(report: Report) -> dict[str, Any]:
    """Return the report as one JSON object, rows first."""
    return {
        "schema": SCHEMA,
        "rows": [row_to_json(row) for row in report.rows],
        "title": report.title,
        "asked": dict(report.asked),
        "reason": report.reason,
        "data": dict(report.data),
        "versions": dict(report.versions),
        "device": dict(report.device),
        "devices": {name: dict(facts) for name, facts in report.devices.items()},
        "warnings": list(report.warnings),
        "created": report.created,
    }


def row_to_json(row: Row) -> dict[str, Any]:
    """Return one row as a JSON object; what was not measured is null."""
    artifact, drop = row.artifact, row.drop
    return {
        "model": row.model,
        "variant": artifact.variant,
        "mode": artifact.mode,
        "path": str(artifact.path),
        "size_bytes": artifact.size_bytes,
        "size_deflated_bytes": artifact.size_deflated_bytes,
        "macs": row.inspection and row.inspection.macs,
        "parameters": row.inspection and row.inspection.parameters,
        "sha256": artifact.sha256,
        "score": None if row.score is None else _score_to_json(row.score),
        "drop": None if drop is None else _finite(drop.value),
        "drop_ci95": None if drop is None else [_finite(end) for end in drop.ci95],
        "drop_allowed": None if drop is None else _finite(drop.allowed),
        "verdict": None if drop is None else drop.verdict,
        "agreement": _finite(row.agreement),
        "latency": None if row.timing is None else _timing_to_json(row.timing),
        "peak_rss_bytes": None if row.timing is None else row.timing.peak_rss_bytes,
        "recommended": row.recommended,
        "device": row.place,
        "inspection": None if row.inspection is None else inspection_to_json(row.inspection),
        # A manifest holds rows of its own: kept, they would nest without end.
        "manifest": finite({k: v for k, v in artifact.manifest.items() if k != "rows"}),
    }


def inspection_to_json(inspection: Inspection) -> dict[str, Any]:
    """Return the contents of a file as one JSON object."""
    return {
        "schema": SCHEMA,
        "path": str(inspection.path),
        "size_bytes": inspection.size_bytes,
        "inputs": [_tensor_to_json(tensor) for tensor in inspection.inputs],
        "outputs": [_tensor_to_json(tensor) for tensor in inspection.outputs],
        "ops": [
            {
                "index": op.index,
                "name": op.name,
                "layer": op.layer,
                "outputs": list(op.outputs),
                "dtype": op.dtype,
                "bytes": op.bytes,
                "macs": op.macs,
                "targets": {
                    target: {"mapped": fit.mapped, "reason": fit.reason}
                    for target, fit in op.targets.items()
                },
            }
            for op in inspection.ops
        ],
        "bytes": dict(inspection.bytes),
        "weight_dtypes": dict(inspection.weight_dtypes),
        "macs": inspection.macs,
        "parameters": inspection.parameters,
    }


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


def finite(value: Any) -> Any:
    """Return the value with None for every number that is not finite, ready for JSON."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _score_to_json(score: Score) -> dict[str, Any]:
    return {
        "metric": score.metric,
        "value": _finite(score.value),
        "n": score.n,
        "ci95": [_finite(end) for end in score.ci95],
        "extras": {key: _finite(value) for key, value in score.extras.items()},
        "per_class": [
            {
                "label": one.label,
                "n": one.n,
                "recall": _finite(one.recall),
                "precision": _finite(one.precision),
            }
            for one in score.per_class
        ],
    }


def _timing_to_json(timing: Timing) -> dict[str, Any]:
    return {
        "p50_ms": timing.p50_ms,
        "p90_ms": timing.percentile_ms(90),
        "p99_ms": timing.percentile_ms(99),
        "mean_ms": timing.mean_ms,
        "n": len(timing.values_ns),
        "threads": timing.threads,
        "device": timing.device,
        "runtime": timing.runtime,
        "delegate": timing.delegate,
        "stable": timing.stable,
        "warning": timing.warning,
        "values_ns": [int(value) for value in timing.values_ns],
        "warmup_ns": [int(value) for value in timing.warmup_ns],
        "cold_start_ns": {key: int(value) for key, value in timing.cold_start_ns.items()},
        "conditions": finite(timing.conditions),
        "details": finite(timing.details),
    }


def _tensor_to_json(tensor: TensorSpec) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": _finite(tensor.scale),
        "zero_point": tensor.zero_point,
    }


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
        )
    timing = None
    if row.has("latency"):
        timing = _timing(row.object("latency"), row.integer("peak_rss_bytes", 0))
    return Row(
        model=row.text("model"),
        artifact=Artifact(
            path=Path(row.text("path")),
            variant=row.text("variant"),
            mode=row.choice("mode", tuple(MODES)) if row.has("mode") else None,
            size_bytes=row.integer("size_bytes"),
            size_deflated_bytes=row.integer("size_deflated_bytes", 0),
            sha256=row.text("sha256"),
            manifest=row.free("manifest"),
        ),
        inspection=_inspection(row.object("inspection")) if row.has("inspection") else None,
        score=_score(row.object("score")) if row.has("score") else None,
        drop=drop,
        agreement=row.maybe("agreement", row.number),
        timing=timing,
        recommended=row.flag("recommended", default=False),
        device=None if timing else row.maybe("device", row.text),
    )


def _score(score: Fields) -> Score:
    return Score(
        metric=score.choice("metric", tuple(METRICS)),
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
            )
            for one in (score.objects("per_class") if score.has("per_class") else ())
        ),
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
        return TargetFit(mapped=value.flag("mapped"), reason=value.maybe("reason", value.text))

    return Operator(
        index=op.integer("index"),
        name=op.text("name"),
        layer=op.text("layer"),
        outputs=op.texts("outputs"),
        dtype=op.text("dtype"),
        bytes=op.integer("bytes"),
        macs=op.maybe("macs", op.integer),
        targets=op.table("targets", fit),
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
    )
