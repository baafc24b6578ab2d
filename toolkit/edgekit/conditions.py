"""The conditions that `edgekit check` holds a file against. To add one, add an entry here.

A condition reads its limit and compares it with what is known of the file. Command line, Python,
JSON and JUnit iterate over `CONDITIONS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from edgekit.archives import parse_size
from edgekit.errors import UsageError
from edgekit.records import Basis, ConditionResult, Inspection, Operator, Row, Score, Timing

Need = Literal["score", "drop", "latency"]
"""What must be measured of a file before a condition can be judged."""


class LatencyLimit(NamedTuple):
    """A latency, in milliseconds, and the percentile of the invocations that keeps it."""

    most_ms: float
    percentile: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition.

    Attributes:
        meaning: What it demands, for `--help`.
        metavar: What the limit is called in `--help`; None for a condition without one.
        example: A limit as it is written.
        read: The limit as given -> the limit; raises `ValueError` with the reason.
        judge: Name, limit, what was measured of the file -> what is said of it.
        needs: What must be measured; None where what is inside the file tells.
    """

    meaning: str
    metavar: str | None
    example: str
    read: Callable[[Any], Any]
    judge: Callable[[str, Any, Row], ConditionResult]
    needs: Need | None = None


def read_conditions(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of the conditions that are given.

    Args:
        given: Name of a condition -> its limit, as text or as a number; None and False are left
            out.

    Raises:
        UsageError: A limit cannot be read, or there is no condition.
    """
    found: dict[str, Any] = {}
    for name, condition in CONDITIONS.items():
        value = given.get(name)
        if value is None or value is False:
            continue
        try:
            found[name] = condition.read(value)
        except ValueError as error:
            raise UsageError(
                f"Invalid value for {option_of(name)}: {str(value)[:60]}.",
                found=f"{error}",
                hint=f"Write it as {option_of(name)} {condition.example}",
            ) from error
    if not found:
        options = [option_of(name) for name in CONDITIONS]
        raise UsageError(
            "No condition was given.",
            hint=f"Add one of {', '.join(options)}; see: edgekit check --help",
        )
    return found


def option_of(name: str) -> str:
    """Return how the command line spells a condition."""
    return f"--{name.replace('_', '-')}"


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    try:
        return parse_size(str(value))
    except ValueError as error:
        raise ValueError("It is no number of bytes above 0, such as 500k or 2M.") from error


def _latency(value: Any) -> LatencyLimit:
    found = re.fullmatch(
        r"(\d{1,9}(?:\.\d{1,9})?) ?(us|ms|s)?(?:@p?(\d{1,2}(?:\.\d{1,3})?|100))?",
        str(value).strip(),
        re.ASCII | re.IGNORECASE,
    )
    factor = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    most = float(found[1]) * factor[(found[2] or "ms").lower()] if found else 0.0
    if found is None or most <= 0:
        raise ValueError(
            "It is no latency above 0 in us, ms or s, with a percentile from 0 to 100."
        )
    return LatencyLimit(most_ms=most, percentile=float(found[3]) if found[3] else 50.0)


def _number(least: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number >= least):
            raise ValueError(
                "It is no number." if least == -math.inf else f"It is no number from {least:g}."
            )
        return number

    return read


def _target(value: Any) -> str:
    from edgekit.targets import target

    target(str(value))  # refuses what is none
    return str(value)


def _contents(row: Row) -> Inspection:
    assert row.inspection is not None, "measured before it is judged"
    return row.inspection


def _fits_target(name: str, wanted: str, row: Row) -> ConditionResult:
    """Every operator runs on the target, a runtime there loads the file, its memory suffices."""
    ops = _contents(row).ops
    unmapped = _contents(row).unmapped(wanted)
    slower = [op for op in unmapped if op.targets[wanted].own_kernel]
    missed = [op for op in unmapped if not op.targets[wanted].own_kernel]
    memory = _contents(row).memory.get(wanted)
    suffices = memory is None or False not in {memory.fits, memory.loads}
    lacks = _lacking(_contents(row), wanted)
    detail = [f"of {len(ops)} operators not mapped to {wanted}"]
    if missed:
        detail.append(f"the first, {_why_not(missed[0], wanted)}")
    if slower:
        detail.append(f"{len(slower)} run by the runtime's own kernels, not XNNPACK's")
        detail.append(f"the first, {_why_not(slower[0], wanted)}")
    if memory is not None and memory.shortage:
        detail.append(memory.shortage)
    return ConditionResult(
        name=name,
        met=not missed and not lacks and suffices,
        unit="operators",
        wanted=0,
        found=len(missed),
        basis=_contents(row).how_fits(wanted),
        detail="; ".join([*detail, *lacks]),
    )


def _why_not(op: Operator, wanted: str) -> str:
    """Name an operator, and say why the target's accelerator does not take it."""
    reason = op.targets[wanted].reason or "not supported"
    return f"{op.index} {op.name} {op.layer}: {reason.rstrip('.')}"


def _lacking(contents: Inspection, wanted: str) -> list[str]:
    """Say what the target's runtimes lack of a file, where none of them loads it."""
    from edgekit.targets import target

    lacking = [contents.lacking.get(name, ()) for name in target(wanted).target.runtimes]
    if not lacking or not all(lacking):
        return []
    return [f"no runtime there loads it, for want of {', '.join(lacking[-1])}"]


def _no_float(name: str, wanted: bool, row: Row) -> ConditionResult:
    """No operator reads or writes an activation in floating point."""
    _ = wanted
    contents = _contents(row)
    floats = contents.in_float
    detail = f"of {len(contents.ops)} operators in float"
    if floats:
        named = ", ".join(f"{op.index} {op.name}" for op in floats[:3])
        detail += f": {named}{', ...' if len(floats) > 3 else ''}"
        if {op.name for op in floats} <= {"QUANTIZE", "DEQUANTIZE"}:
            detail += "; quantize --io int8 writes a file without them"
    return ConditionResult(
        name=name,
        met=not floats,
        unit="operators",
        wanted=0,
        found=len(floats),
        basis="read",
        detail=detail,
    )


def _at_most_bytes(name: str, wanted: int, found: int | None, basis: Basis) -> ConditionResult:
    return ConditionResult(
        name=name,
        met=found is not None and found <= wanted,
        unit="bytes",
        wanted=wanted,
        found=found,
        basis=basis,
    )


def _max_arena(name: str, wanted: int, row: Row) -> ConditionResult:
    """The arena of a microcontroller fits, where one is named; else what is alive at once does.

    What kernels need besides is known for microcontrollers only.
    """
    planned = next(iter(_contents(row).memory.values()), None)
    if planned is not None and planned.arena_bytes is not None:
        basis: Basis = "measured" if planned.measured else "predicted"
        result = _at_most_bytes(name, wanted, planned.arena_bytes, basis)
        return replace(result, detail="of arena in TFLite Micro, on a 64-bit machine")
    peak = _contents(row).peak
    result = _at_most_bytes(name, wanted, peak.alive_bytes if peak else 0, "predicted")
    where = f", at operator {peak.index} {peak.name} {peak.layer}".rstrip() if peak else ""
    return replace(
        result,
        detail=f"of activations at once{where}; scratch memory of kernels comes on top",
    )


def _max_memory(name: str, wanted: int, row: Row) -> ConditionResult:
    """Weights, as loaded, and arena fit."""
    timing = _timing(row)
    result = _at_most_bytes(name, wanted, timing.memory_bytes, "measured")
    return replace(
        result,
        detail=f"of weights and arena in {timing.runtime}"
        if timing.memory_bytes is not None
        else "the system does not tell what a process takes",
    )


def _timing(row: Row) -> Timing:
    assert row.timing is not None, "measured before it is judged"
    return row.timing


def _max_latency(name: str, wanted: LatencyLimit, row: Row) -> ConditionResult:
    """So many of the invocations are as fast as that."""
    timing = _timing(row)
    found = timing.percentile_ms(wanted.percentile)
    threads = f"{timing.threads} thread{'s' if timing.threads != 1 else ''}"
    return ConditionResult(
        name=name,
        met=found <= wanted.most_ms,
        unit="ms",
        wanted=wanted.most_ms,
        found=found,
        basis="measured",
        detail=f"p{wanted.percentile:g} of {len(timing.values_ns)} invocations, {threads}, "
        f"{timing.device}" + ("" if timing.stable else "; the timing may be unstable"),
    )


def _scored(row: Row) -> Score:
    assert row.score is not None, "measured before it is judged"
    return row.score


def _min_score(name: str, wanted: float, row: Row) -> ConditionResult:
    """The score is as good as that: at least, or at most for a metric that is to be low."""
    from edgekit.evaluation.metrics import metric_named

    score = _scored(row)
    metric = metric_named(score.metric)
    if wanted > metric.ceiling:
        raise UsageError(
            f"{option_of(name)} {wanted:g} can never be met: {metric.title} is at most "
            f"{metric.ceiling:g}.",
            hint=f"A share is written as a fraction: {option_of(name)} {wanted / 100:g}",
        )
    met = score.value >= wanted if metric.higher_is_better else score.value <= wanted
    return ConditionResult(
        name=name,
        met=met,
        unit="score",
        wanted=wanted,
        found=score.value,
        basis="measured",
        at_least=metric.higher_is_better,
        metric=score.metric,
        ci95=score.ci95,
        detail=f"{metric.title} on {score.n} samples",
    )


def _max_drop(name: str, wanted: float, row: Row) -> ConditionResult:
    """The measured loss is accepted, it is not proven to be larger, and nothing collapsed."""
    _ = wanted  # the budget was given to the evaluation, which made a loss in the metric's unit
    deciding = row.deciding()
    assert deciding is not None, "measured before it is judged"
    where, score, drop = deciding
    allowed = drop.allowed or 0.0
    whole = row.drop or drop
    accepted = whole.within_budget and whole.verdict != "lost"
    said = f"on {score.n} samples, {row.drop.verdict if row.drop else drop.verdict}"
    if row.drop and row.drop.verdict == "unproven":
        said += ": the interval holds the limit, more samples would tell"
    collapsed = "; ".join(f"{one.where}: {one.detail}" for one in row.collapses)
    return ConditionResult(
        name=name,
        met=accepted and not row.collapses,
        unit="drop",
        wanted=allowed,
        found=drop.value,
        basis="measured",
        metric=score.metric,
        ci95=drop.ci95,
        detail=f"{where}{said}" + (f"; lost: {collapsed}" if collapsed else ""),
    )


CONDITIONS: Final[Mapping[str, Condition]] = {
    "target": Condition(
        meaning="Every operator runs on this target, and its memory suffices.",
        metavar="TARGET",
        example="coral",
        read=_target,
        judge=_fits_target,
    ),
    "max_size": Condition(
        meaning="The plain file is no larger, such as 500k or 2M (1k is 1024 bytes).",
        metavar="SIZE",
        example="500k",
        read=_size,
        judge=lambda name, wanted, row: _at_most_bytes(
            name, wanted, row.artifact.size_bytes, "read"
        ),
    ),
    "max_flash": Condition(
        meaning="The file as it is stored, packed if it is a .gz, is no larger.",
        metavar="SIZE",
        example="500k",
        read=_size,
        judge=lambda name, wanted, row: _at_most_bytes(
            name, wanted, row.artifact.flash_bytes, "read"
        ),
    ),
    "max_arena": Condition(
        meaning="The activations that are alive at once take no more; the arena, of micro.",
        metavar="SIZE",
        example="64k",
        read=_size,
        judge=_max_arena,
    ),
    "max_memory": Condition(
        meaning="Weights and arena take no more memory when it runs (measured).",
        metavar="SIZE",
        example="2M",
        read=_size,
        judge=_max_memory,
        needs="latency",
    ),
    "max_latency": Condition(
        meaning="An inference takes no longer, at a percentile, such as 10ms@p90; default: p50.",
        metavar="TIME[@pNN]",
        example="10ms@p90",
        read=_latency,
        judge=_max_latency,
        needs="latency",
    ),
    "min_score": Condition(
        meaning="The score on the test split is as good, such as 0.9 (at most, for an error).",
        metavar="SCORE",
        example="0.9",
        read=_number(-math.inf),
        judge=_min_score,
        needs="score",
    ),
    "max_drop": Condition(
        meaning="The loss against --baseline is no larger: points, or percent of an error.",
        metavar="NUMBER",
        example="0.5",
        read=_number(0),
        judge=_max_drop,
        needs="drop",
    ),
    "no_float": Condition(
        meaning="No operator reads or writes activations in floating point.",
        metavar=None,
        example="",
        read=bool,
        judge=_no_float,
    ),
}
"""Name -> condition, in the order in which they are reported."""
