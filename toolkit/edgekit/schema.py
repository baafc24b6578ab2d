"""Records to JSON and back: the versioned contract of `--json` and of the files on disk.

A number that is not finite becomes null, because JSON has no word for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError
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
    """Return what is inside a file as one JSON object."""
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
        UsageError: Another schema, no rows, or a row without what every row has.
    """
    schema = document.get("schema")
    if schema != SCHEMA:
        raise UsageError(
            "This is not a report that can be read here.",
            found=f"Its schema is {schema!r}; this edgekit reads schema {SCHEMA}.",
            hint="Give the JSON of quantize, eval, bench, deploy or report, of this version.",
        )
    rows = document.get("rows")
    if not isinstance(rows, list):
        raise UsageError(
            "This JSON holds no rows.",
            found=f"Its keys are {', '.join(map(str, document)) or 'none'}.",
            hint="Give the JSON of quantize, eval, bench, deploy or report.",
        )
    try:
        return Report(
            title=str(document.get("title", "")),
            asked=dict(document.get("asked") or {}),
            rows=tuple(_row_from_json(row) for row in rows),
            reason=str(document.get("reason", "")),
            data=dict(document.get("data") or {}),
            versions=dict(document.get("versions") or {}),
            device=dict(document.get("device") or {}),
            devices={k: dict(v) for k, v in (document.get("devices") or {}).items()},
            warnings=tuple(document.get("warnings") or ()),
            created=str(document.get("created", "")),
        )
    except KeyError as error:
        raise UsageError(
            "A row of this JSON is incomplete.",
            found=f"It has no {error.args[0]!r}.",
            hint="Write it again with this version of edgekit.",
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            "A row of this JSON is not as edgekit writes it.",
            found=str(error).splitlines()[0],
            hint="Write it again with this version of edgekit.",
        ) from error


def finite(value: Any) -> Any:
    """Return what is to become JSON with null for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _pair(values: Sequence[float | None]) -> tuple[float, float]:
    low, high = values
    return _number(low), _number(high)


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


def _row_from_json(row: Mapping[str, Any]) -> Row:
    score, latency, inspection = row.get("score"), row.get("latency"), row.get("inspection")
    drop = None
    if row.get("verdict") is not None:
        drop = Drop(
            value=_number(row["drop"]), ci95=_pair(row["drop_ci95"]), verdict=row["verdict"]
        )
    return Row(
        model=row["model"],
        artifact=Artifact(
            path=Path(row["path"]),
            variant=row["variant"],
            mode=row.get("mode"),
            size_bytes=int(row["size_bytes"]),
            size_deflated_bytes=int(row.get("size_deflated_bytes") or 0),
            sha256=row["sha256"],
            manifest=row.get("manifest") or {},
        ),
        inspection=None if inspection is None else _inspection_from_json(inspection),
        score=None if score is None else _score_from_json(score),
        drop=drop,
        agreement=row.get("agreement"),
        timing=None if latency is None else _timing_from_json(latency, row.get("peak_rss_bytes")),
        recommended=bool(row.get("recommended", False)),
        device=None if latency else row.get("device"),
    )


def _score_from_json(score: Mapping[str, Any]) -> Score:
    return Score(
        metric=score["metric"],
        value=_number(score["value"]),
        n=int(score["n"]),
        ci95=_pair(score["ci95"]),
        extras={key: _number(value) for key, value in (score.get("extras") or {}).items()},
        per_class=tuple(
            ClassScore(
                label=one["label"],
                n=int(one["n"]),
                recall=_number(one["recall"]),
                precision=_number(one["precision"]),
            )
            for one in score.get("per_class") or ()
        ),
    )


def _timing_from_json(latency: Mapping[str, Any], peak_rss_bytes: int | None) -> Timing:
    return Timing(
        values_ns=tuple(int(value) for value in latency["values_ns"]),
        warmup_ns=tuple(int(value) for value in latency.get("warmup_ns") or ()),
        threads=int(latency["threads"]),
        device=latency["device"],
        runtime=latency["runtime"],
        delegate=latency.get("delegate"),
        peak_rss_bytes=int(peak_rss_bytes or 0),
        cold_start_ns=latency.get("cold_start_ns") or {},
        conditions=latency.get("conditions") or {},
        stable=bool(latency.get("stable", True)),
        warning=latency.get("warning"),
        details=latency.get("details") or {},
    )


def _tensors_from_json(tensors: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=tensor["name"],
            shape=tuple(tensor["shape"]),
            dtype=tensor["dtype"],
            scale=tensor.get("scale"),
            zero_point=tensor.get("zero_point"),
        )
        for tensor in tensors
    )


def _inspection_from_json(inspection: Mapping[str, Any]) -> Inspection:
    return Inspection(
        path=Path(inspection["path"]),
        size_bytes=int(inspection["size_bytes"]),
        inputs=_tensors_from_json(inspection["inputs"]),
        outputs=_tensors_from_json(inspection["outputs"]),
        ops=tuple(
            Operator(
                index=int(op["index"]),
                name=op["name"],
                layer=op["layer"],
                outputs=tuple(op["outputs"]),
                dtype=op["dtype"],
                bytes=int(op["bytes"]),
                macs=op.get("macs"),
                targets={
                    target: TargetFit(mapped=bool(fit["mapped"]), reason=fit.get("reason"))
                    for target, fit in (op.get("targets") or {}).items()
                },
            )
            for op in inspection["ops"]
        ),
        bytes=inspection["bytes"],
        weight_dtypes=inspection["weight_dtypes"],
        macs=int(inspection["macs"]),
        parameters=int(inspection["parameters"]),
    )
