"""Records to JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, get_args

from edgekit.evaluation.metrics import added_metric
from edgekit.records import (
    Check,
    ColumnDrop,
    Comparison,
    Fidelity,
    Inspection,
    LayerDifferences,
    MemoryFit,
    OutputDrop,
    Proof,
    Report,
    Row,
    Score,
    Sensitivity,
    Status,
    TensorSpec,
    Timing,
)
from edgekit.schema.views_json import views_to_json

SCHEMA: Final = 1


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
        "alerts": list(report.alerts),
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
        "size_deflated_bytes": artifact.size_deflated_bytes or None,
        "flash_bytes": artifact.flash_bytes,
        "macs": row.inspection and row.inspection.macs,
        "parameters": row.inspection and row.inspection.parameters,
        "sha256": artifact.sha256,
        "score": None if row.score is None else _score_to_json(row.score),
        "drop": None if drop is None else _finite(drop.value),
        "drop_ci95": None if drop is None else [_finite(end) for end in drop.ci95],
        "drop_allowed": None if drop is None else _finite(drop.allowed),
        "verdict": None if drop is None else drop.verdict,
        "drop_per_column": [_column_drop_to_json(one) for one in drop.per_column] if drop else [],
        "drop_per_output": [_output_drop_to_json(one) for one in drop.per_output] if drop else [],
        "agreement": _finite(row.agreement),
        "fidelity": [_fidelity_to_json(one) for one in row.fidelity],
        "collapses": [
            {"kind": one.kind, "where": one.where, "detail": one.detail} for one in row.collapses
        ],
        "failure": row.failure,
        "latency": None if row.timing is None else _timing_to_json(row.timing),
        "peak_rss_bytes": None if row.timing is None else row.timing.peak_rss_bytes,
        "memory_bytes": None if row.timing is None else row.timing.memory_bytes,
        "recommended": row.recommended,
        "worst_samples": list(row.worst_samples),
        "device": row.place,
        "inspection": None if row.inspection is None else inspection_to_json(row.inspection),
        "tensors": None if row.tensors is None else differences_to_json(row.tensors),
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
                    | ({"follows": True} if fit.follows else {})
                    | ({"own_kernel": True} if fit.own_kernel else {})
                    for target, fit in op.targets.items()
                },
                "version": op.version,
                "shape": list(op.shape),
                "inputs": list(op.inputs),
                "weights": op.weights,
                "scale": _finite(op.scale),
                "zero_point": op.zero_point,
                "in_float": op.in_float,
                "alive_bytes": op.alive_bytes,
            }
            for op in inspection.ops
        ],
        "bytes": dict(inspection.bytes),
        "weight_dtypes": dict(inspection.weight_dtypes),
        "macs": inspection.macs,
        "parameters": inspection.parameters,
        "signatures": list(inspection.signatures),
        "metadata": dict(inspection.metadata),
        "runtimes": dict(inspection.runtimes),
        "lacking": {name: list(lacks) for name, lacks in inspection.lacking.items()},
        "peak": None
        if (peak := inspection.peak) is None
        else {"bytes": peak.alive_bytes, "index": peak.index, "layer": peak.layer},
        "memory": {name: _memory_to_json(one) for name, one in inspection.memory.items()},
        "edge_tpu": None if inspection.edge_tpu is None else asdict(inspection.edge_tpu),
        "estimates": {name: asdict(one) for name, one in inspection.estimates.items()},
        "compiled": {name: asdict(one) for name, one in inspection.compiled.items()},
    }


def _memory_to_json(memory: MemoryFit) -> dict[str, Any]:
    return {
        "arena_bytes": memory.arena_bytes,
        "head_bytes": memory.head_bytes,
        "arena_bytes_32": memory.arena_bytes_32,
        "measured": memory.measured,
        "loads": memory.loads,
        "message": memory.message,
        "model_bytes": memory.model_bytes,
        "code_bytes": memory.code_bytes,
        "ram_bytes": memory.ram_bytes,
        "flash_bytes": memory.flash_bytes,
        "fits": memory.fits,
    }


def check_to_json(check: Check) -> dict[str, Any]:
    """Return a file held against conditions as one JSON object."""
    return {
        "schema": SCHEMA,
        "path": str(check.path),
        "met": check.met,
        "conditions": [
            {
                "name": one.name,
                "met": one.met,
                "unit": one.unit,
                "wanted": _finite(one.wanted),
                "found": _finite(one.found),
                "basis": one.basis,
                "at_least": one.at_least,
                "metric": one.metric,
                "ci95": None if one.ci95 is None else [_finite(end) for end in one.ci95],
                "detail": one.detail,
            }
            for one in check.results
        ],
        "row": row_to_json(check.row),
        "warnings": list(check.warnings),
    }


def proof_to_json(proof: Proof) -> dict[str, Any]:
    """Return a verified bundle as one JSON object."""
    return {
        "schema": SCHEMA,
        "path": str(proof.path),
        "counts": {status: proof.count(status) for status in get_args(Status)},
        "figures": [asdict(one) for one in proof.figures],
        "versions": {name: list(both) for name, both in proof.versions.items()},
    }


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """Return two compared files as one JSON object."""
    return {
        "schema": SCHEMA,
        "old": row_to_json(comparison.old),
        "new": row_to_json(comparison.new),
        "operators": {
            name: {"old": old, "new": new} for name, (old, new) in comparison.operators.items()
        },
        "warnings": list(comparison.warnings),
    }


def sensitivity_to_json(found: Sensitivity) -> dict[str, Any]:
    """Return what each operator costs as one JSON object; an SQNR without noise is null."""
    return {"schema": SCHEMA, **finite(asdict(found))}


def differences_to_json(found: LayerDifferences) -> dict[str, Any]:
    """Return two models compared operator by operator as one JSON object."""
    return {"schema": SCHEMA, **finite(asdict(found))}


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
                **({} if one.iou is None else {"iou": _finite(one.iou)}),
                **({} if one.area is None else {"area": _finite(one.area)}),
            }
            for one in score.per_class
        ],
        "guess": _finite(score.guess),
        "per_column": [
            {
                "label": one.label,
                "value": _finite(one.value),
                "ci95": [_finite(end) for end in one.ci95],
            }
            for one in score.per_column
        ],
        "confusion": [list(counts) for counts in score.confusion],
        "shown": list(score.shown),
        "per_output": [
            {"output": one.output, "task": one.task, "score": _score_to_json(one.score)}
            for one in score.per_output
        ],
        "views": views_to_json(score.views),
        "metric_facts": metric_to_json(score.metric),
        "shown_facts": {
            name: facts for name in score.shown if (facts := metric_to_json(name)) is not None
        },
    }


def metric_to_json(name: str) -> dict[str, Any] | None:
    """What a reader needs to write scores of a user's own metric; None for one of edgekit's."""
    metric = added_metric(name)
    if metric is None:
        return None
    return {
        "title": metric.title,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "meaning": metric.meaning,
    }


def _column_drop_to_json(drop: ColumnDrop) -> dict[str, Any]:
    return {
        "label": drop.label,
        "value": _finite(drop.value),
        "ci95": [_finite(end) for end in drop.ci95],
        "verdict": drop.verdict,
        "allowed": _finite(drop.allowed),
    }


def _output_drop_to_json(one: OutputDrop) -> dict[str, Any]:
    drop = one.drop
    return {
        "output": one.output,
        "value": _finite(drop.value),
        "ci95": [_finite(end) for end in drop.ci95],
        "verdict": drop.verdict,
        "allowed": _finite(drop.allowed),
        "per_column": [_column_drop_to_json(column) for column in drop.per_column],
    }


def _fidelity_to_json(fidelity: Fidelity) -> dict[str, Any]:
    return {
        "output": fidelity.output,
        "n": fidelity.n,
        "sqnr_db": _finite(fidelity.sqnr_db),
        "agreement": _finite(fidelity.agreement),
        "correlation": _finite(fidelity.correlation),
        "levels": fidelity.levels,
        "cut_off": fidelity.cut_off,
    }


def _timing_to_json(timing: Timing) -> dict[str, Any]:
    return {
        "p50_ms": timing.p50_ms,
        "p90_ms": timing.percentile_ms(90),
        "p99_ms": timing.percentile_ms(99),
        "mean_ms": timing.mean_ms,
        "n": len(timing.values_ns),
        "rounds": timing.rounds,
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
