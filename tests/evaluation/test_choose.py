from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.evaluation import recommend, samples_to_settle
from edgekit.evaluation.intervals import tango
from edgekit.records import Artifact, Drop, Row, Score, Timing, Verdict

ALLOWED = 0.005


def row(
    mode: str,
    size_bytes: int,
    drop: tuple[float, float, float] | None = None,
    *,
    p50_ms: float | None = None,
    n: int = 10_000,
    metric: str = "accuracy",
    value: float = 0.9,
    allowed: float = ALLOWED,
) -> Row:
    """Make a row whose drop is `(value, low, high)`, judged as `drops` does."""
    judged = None
    if drop is not None:
        verdict: Verdict = (
            "kept" if drop[2] <= allowed else "lost" if drop[1] > allowed else "unproven"
        )
        judged = Drop(value=drop[0], ci95=drop[1:], verdict=verdict)
    timing = None
    if p50_ms is not None:
        timing = Timing(
            values_ns=(int(p50_ms * 1e6),) * 3,
            warmup_ns=(),
            threads=1,
            device="here",
            runtime="r",
            delegate=None,
            peak_rss_bytes=1,
        )
    return Row(
        model="m",
        artifact=Artifact(
            path=Path(f"{mode}.tflite"),
            variant=mode,
            mode=mode,
            size_bytes=size_bytes,
            size_deflated_bytes=size_bytes,
            sha256="",
        ),
        score=Score(metric=metric, value=value, n=n, ci95=(value, value)),
        drop=judged,
        timing=timing,
    )


FLOAT = row("float32", 147_480, p50_ms=0.111)


def chosen(rows: tuple[Row, ...]) -> list[str]:
    return [row.artifact.variant for row in rows if row.recommended]


def test_the_smallest_that_keeps_the_score_is_shipped_and_the_next_is_explained() -> None:
    rows = [
        FLOAT,
        row("float16", 78_808, (0.0, -0.0004, 0.0004), p50_ms=0.125),
        row("int8", 46_184, (0.0002, -0.0012, 0.0016), p50_ms=0.041),
        row("int4", 30_000, (0.031, 0.027, 0.035), p50_ms=0.05),
    ]

    marked, reason = recommend(rows, max_drop=0.5)

    assert chosen(marked) == ["int8"]
    assert [r.artifact for r in marked] == [r.artifact for r in rows]
    assert reason == (
        "Ship int8: 46.2 kB, 3.2x smaller than float32, 0.041 ms a run, 2.7x faster. "
        "No measurable loss: accuracy falls by 0.02 points (95 % interval of the loss -0.12 to "
        "0.16) on 10,000 samples, within the 0.50 points allowed. "
        "int4 (30.0 kB) was rejected: accuracy falls by 3.10 points (95 % interval of the loss "
        "2.70 to 3.50), 0.50 points are allowed."
    )


def test_of_equal_sizes_the_faster_is_shipped() -> None:
    rows = [
        FLOAT,
        row("dynamic", 45_900, (0.0001, -0.001, 0.001), p50_ms=0.060),
        row("int8", 46_184, (0.0002, -0.001, 0.001), p50_ms=0.041),
    ]

    marked, reason = recommend(rows, max_drop=0.5)

    assert chosen(marked) == ["int8"]
    assert "fastest of its size (with dynamic)" in reason
    assert chosen(recommend(rows[:2], max_drop=0.5)[0]) == ["dynamic"]


def test_beyond_one_percent_size_decides() -> None:
    rows = [
        FLOAT,
        row("dynamic", 45_000, (0.0, -0.001, 0.001), p50_ms=0.060),
        row("int8", 46_184, (0.0, -0.001, 0.001), p50_ms=0.041),
    ]

    assert chosen(recommend(rows, max_drop=0.5)[0]) == ["dynamic"]


def test_when_all_lose_float32_stays() -> None:
    rows = [
        FLOAT,
        row("dynamic", 45_000, (0.02, 0.015, 0.025)),
        row("int4", 30_000, (0.2, 0.18, 0.22)),
    ]

    marked, reason = recommend(rows, max_drop=0.5)

    assert chosen(marked) == ["float32"]
    assert "Nothing smaller is known to keep the score." in reason
    assert "dynamic (45.0 kB) was rejected" in reason


def test_without_test_samples_float32_stays() -> None:
    marked, reason = recommend([FLOAT, row("int8", 45_000)], max_drop=0.5)

    assert chosen(marked) == ["float32"]
    assert "without test samples its loss is unknown" in reason


def test_few_samples_are_said_to_prove_nothing() -> None:
    low, high = tango(0, 0, 300)
    rows = [FLOAT, row("int8", 46_184, (0.0, low, high), n=300)]

    marked, reason = recommend(rows, max_drop=0.5)

    assert chosen(marked) == ["int8"]
    assert "measurable" not in reason
    assert "accuracy is the same" in reason
    assert "on 300 samples, but the 95 % interval" in reason
    assert "reaches beyond the 0.50 points allowed" in reason
    assert "about 770 samples would settle it" in reason


def test_a_drop_measured_beyond_the_budget_is_stated_plainly() -> None:
    low, high = tango(5, 3, 300)
    rows = [FLOAT, row("int8", 46_184, (2 / 300, low, high), n=300)]

    marked, reason = recommend(rows, max_drop=0.5)

    assert chosen(marked) == ["int8"]
    assert "Measured beyond the 0.50 points allowed, but not proven" in reason
    assert "falls by 0.67 points" in reason


def test_a_small_loss_is_not_called_none_and_a_gain_is_called_one() -> None:
    loss = row("int8", 46_184, (0.002, 0.0008, 0.0032))
    gain = row("int8", 46_184, (-0.002, -0.0032, -0.0008))

    assert "A small, measurable loss" in recommend([FLOAT, loss], max_drop=0.5)[1]
    said = recommend([FLOAT, gain], max_drop=0.5)[1]
    assert "A measurable gain: accuracy rises by 0.20 points" in said


def test_errors_are_told_in_their_own_unit() -> None:
    rows = [
        row("float32", 95_648, metric="rmse", value=16.12),
        row("int8", 34_896, (0.02, -0.03, 0.07), metric="rmse", value=16.14, allowed=0.0806),
        row("int4", 20_000, (1.5, 1.2, 1.9), metric="rmse", value=17.62, allowed=0.0806),
    ]

    marked, reason = recommend(rows, max_drop=0.5)

    assert chosen(marked) == ["int8"]
    assert "RMSE rises by 0.02 (95 % interval of the loss -0.03 to 0.07)" in reason
    assert "within the 0.0806 allowed" in reason
    assert "int4 (20.0 kB) was rejected: RMSE rises by 1.5" in reason


def test_without_float32_and_with_every_variant_lost_nothing_is_recommended() -> None:
    rows = [row("int8", 40_000, (0.02, 0.015, 0.025)), row("int4", 30_000, (0.2, 0.18, 0.22))]

    marked, reason = recommend(rows, max_drop=0.5)

    assert chosen(marked) == []
    assert "No file is recommended" in reason
    assert "int8 (40.0 kB) was rejected" in reason


def test_latencies_of_different_devices_are_not_compared() -> None:
    elsewhere = row("int8", 46_184, (0.0, -0.001, 0.001), p50_ms=0.041)
    object.__setattr__(elsewhere.timing, "device", "there")

    assert "faster" not in recommend([FLOAT, elsewhere], max_drop=0.5)[1]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(100, 2000), st.floats(0.001, 0.05))
def test_as_many_samples_as_said_do_settle_it(lost, won, rest, allowed) -> None:
    n = lost + won + rest
    value, (low, high) = (lost - won) / n, tango(lost, won, n)
    drop = Drop(value=value, ci95=(low, high), verdict="unproven")

    settled = samples_to_settle(drop, n, allowed, metric="accuracy")

    if low <= allowed < high and settled is not None:
        for share, proven in ((1.02, True), (0.98, False)):
            many = settled * share
            ends = tango(lost * many / n, won * many / n, many)
            assert (not ends[0] <= allowed < ends[1]) == proven


@pytest.mark.parametrize("metric", ["accuracy", "rmse"])
def test_a_drop_on_the_budget_is_never_settled(metric: str) -> None:
    drop = Drop(value=ALLOWED, ci95=(0.0, 0.01), verdict="unproven")

    assert samples_to_settle(drop, 1000, ALLOWED, metric=metric) is None
