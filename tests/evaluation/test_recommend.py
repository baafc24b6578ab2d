from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import BuiltinOperator
from hypothesis import given
from hypothesis import strategies as st

from edgekit.evaluation import budget, recommend, samples_to_settle, unloadable
from edgekit.evaluation.intervals import tango
from edgekit.evaluation.scores import aggregate
from edgekit.evaluation.tasks import REGRESSION
from edgekit.records import (
    Artifact,
    Batch,
    Collapse,
    ColumnDrop,
    Drop,
    Fidelity,
    Row,
    Score,
    Timing,
    Verdict,
)
from edgekit.tflite import read, write
from edgekit.tflite.graph import clone, code_name
from edgekit.tflite.runtime_limits import newer_operators

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
        judged = Drop(value=drop[0], ci95=drop[1:], verdict=verdict, allowed=allowed)
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

    marked, reason = recommend(rows)

    assert chosen(marked) == ["int8"]
    assert [r.artifact for r in marked] == [r.artifact for r in rows]
    assert reason == (
        "Ship int8: 46.2 kB, 3.2x smaller than float32, 0.041 ms a run, 2.7x faster. "
        "No measurable loss: accuracy falls by 0.02 points (95 % interval of the loss -0.12 to "
        "0.16) on 10,000 samples, within the 0.50 points allowed. "
        "int4 (30.0 kB) was rejected: accuracy falls by 3.10 points (95 % interval of the loss "
        "2.70 to 3.50), 0.50 points are allowed."
    )


def test_the_runner_up_is_named_with_what_it_would_cost() -> None:
    rows = [
        FLOAT,
        row("dynamic", 45_900, (0.0001, -0.001, 0.001), p50_ms=0.060),
        row("int8", 46_184, (0.0002, -0.001, 0.001), p50_ms=0.041),
    ]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["int8"]
    assert reason.endswith(
        "Runner-up: dynamic, against int8 0.6 % smaller and 1.5x slower; accuracy falls by 0.01 "
        "points."
    )
    assert "Runner-up" not in recommend(rows[:2])[1]


def test_a_preference_chooses_another_file() -> None:
    rows = [
        FLOAT,
        row("int8", 46_184, (0.0, -0.001, 0.001), p50_ms=0.041),
        row("int4", 30_000, (0.0, -0.001, 0.001), p50_ms=0.120),
    ]

    balanced, reason = recommend(rows)
    smallest, other_reason = recommend(rows, prefer="size")

    assert (chosen(balanced), chosen(smallest)) == (["int8"], ["int4"])
    assert (
        "int4 (30.0 kB) is 8.1 % slower than float32, which only --prefer size accepts." in reason
    )
    assert "Runner-up: int8, against int4 1.5x larger and 2.9x faster" in other_reason


def test_when_all_lose_float32_stays_and_the_least_loss_is_explained() -> None:
    rows = [
        FLOAT,
        row("dynamic", 45_000, (0.02, 0.015, 0.025)),
        row("int4", 30_000, (0.2, 0.18, 0.22)),
    ]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["float32"]
    assert "No other file is known to keep the score. dynamic (45.0 kB) was rejected" in reason


def test_a_loss_of_just_what_is_allowed_is_accepted() -> None:
    # Given 826 and 821 right answers of 1,000: the difference of the shares is 0.005 and a rounding
    loss = 0.826 - 0.821
    assert loss > ALLOWED
    rows = [FLOAT, row("int8", 46_184, (loss, -0.0003, 0.0121), p50_ms=0.041, n=1_000)]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["int8"]
    assert "rejected" not in reason
    assert "Not proven: accuracy falls by 0.50 points on 1,000 samples" in reason


def test_when_all_that_keeps_the_score_is_slower_or_larger_float32_stays() -> None:
    slower = row("int8", 46_184, (0.0, -0.001, 0.001), p50_ms=0.2)
    larger = row("dynamic", 200_000, (0.0, -0.001, 0.001), p50_ms=0.11)

    said = recommend([FLOAT, slower])[1]
    assert "No file that may keep the score is known to be as fast. int8 (46.2 kB) is 1.8x" in said
    said = recommend([FLOAT, larger])[1]
    assert said.endswith(
        "No file that may keep the score has a lesser product of size and latency."
    )
    said = recommend([replace(FLOAT, timing=None), replace(larger, timing=None)])[1]
    assert said == ("Ship float32: 147.5 kB. No file that may keep the score has a lesser size.")


def test_a_stage_of_a_recipe_in_float32_may_be_lost() -> None:
    """It is a float32 file, but not what the others are compared with."""
    stage = row("float32", 60_000, (0.02, 0.015, 0.025), p50_ms=0.05)
    stage = replace(stage, artifact=replace(stage.artifact, variant="1-shrink"))

    assert chosen(recommend([FLOAT, stage])[0]) == ["float32"]


def test_what_cannot_be_loaded_is_not_recommended_and_the_reader_hears_why() -> None:
    rows = [
        FLOAT,
        row("dynamic", 45_000, (0.0, -0.001, 0.001), p50_ms=0.060),
        row("int4", 30_000, (0.0, -0.001, 0.001), p50_ms=0.050),
    ]

    assert chosen(recommend(rows)[0]) == ["int4"]
    newer = "tflite-runtime does not load STABLEHLO_ADD, ai-edge-litert does"
    marked, reason = recommend(rows, excluded={"int4": newer})

    assert chosen(marked) == ["dynamic"]
    assert f"int4 (30.0 kB) cannot be loaded: {newer}." in reason


def test_where_none_can_be_loaded_the_score_is_not_blamed() -> None:
    rows = [FLOAT, row("int8", 45_000, (0.0, -0.001, 0.001)), row("int4", 30_000, (0.1, 0.0, 0.2))]

    _, reason = recommend(rows, excluded=dict.fromkeys(("float32", "int8", "int4"), "too large"))
    assert reason.startswith("No file is recommended: none can be loaded. ")

    _, reason = recommend(rows[::2], excluded={"float32": "too large"})
    assert reason.startswith(
        "No file is recommended: none that can be loaded is known to keep the score. "
    )


def fidelity(output: str, sqnr_db: float | None, agreement: float | None = None) -> Fidelity:
    return Fidelity(output=output, n=500, sqnr_db=sqnr_db, agreement=agreement, correlation=0.999)


def test_without_labels_outputs_are_judged_and_the_reader_is_told() -> None:
    rows = [
        replace(FLOAT, score=None),
        replace(row("int8", 45_000, p50_ms=0.060), score=None, fidelity=(fidelity("y", 32.0),)),
        replace(row("int4", 30_000, p50_ms=0.050), score=None, fidelity=(fidelity("y", 9.0),)),
    ]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["int8"]
    assert (
        "without labels: output 'y' has a correlation of 0.9990 on 500 samples, SQNR 32.0 dB"
        in (reason)
    )
    assert "int4 (30.0 kB) was rejected, judged by its outputs without labels" in reason
    assert chosen(recommend([rows[0], rows[2]])[0]) == ["float32"]


def test_of_several_outputs_the_farthest_is_named() -> None:
    outputs = (fidelity("class", 30.0, 0.995), fidelity("box", 12.0))
    kept = row("int8", 45_000, (0.0, -0.001, 0.001), p50_ms=0.060)

    _, reason = recommend([FLOAT, replace(kept, fidelity=outputs)])

    assert "Of its 2 outputs the farthest from float32's: output 'box'" in reason
    assert "look at it before shipping" in reason


def test_a_column_that_decides_the_verdict_is_named() -> None:
    column = ColumnDrop(label="2", value=0.02, ci95=(0.01, 0.03), verdict="lost", allowed=ALLOWED)
    lost = row("int8", 45_000, (-0.001, -0.002, 0.0), p50_ms=0.060, metric="rmse")
    assert lost.drop is not None
    lost = replace(lost, drop=replace(lost.drop, verdict="lost", per_column=(column,)))

    marked, reason = recommend([FLOAT, lost])

    assert chosen(marked) == ["float32"]
    assert "int8 (45.0 kB) was rejected: column 2: RMSE rises by 0.02" in reason


def test_a_file_that_lost_a_class_is_named_with_what_it_lost() -> None:
    lost = Collapse(kind="class", where="class 'fault'", detail="recall 100 % became 0 %")
    rows = [
        FLOAT,
        row("dynamic", 45_000, (0.0, -0.001, 0.001), p50_ms=0.060),
        replace(row("int4", 30_000, (0.0, -0.001, 0.001), p50_ms=0.050), collapses=(lost,)),
    ]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["dynamic"]
    assert "int4 (30.0 kB) is never recommended: class 'fault': recall 100 % became 0 %." in reason


def test_tflite_runtime_loads_int4_files_because_the_runner_unpacks_them(repository: Path) -> None:
    # Given files with operators that are newer than tflite-runtime 2.14
    paths = [
        repository / "quantized" / name
        for name in ("turbofan/int4.tflite", "turbofan-small/small.tflite")
    ]
    assert all(newer_operators(read(path)) for path in paths)

    # When it is asked which of them it does not load
    made = row("int4", 18_000, (0.0, -0.001, 0.001))
    rows = [replace(made, artifact=replace(made.artifact, path=path)) for path in paths]

    # Then it is none: nothing of them is newer once they are unpacked.
    assert unloadable(rows, "tflite") == {}


def test_operators_newer_than_the_runtime_are_named(repository: Path, tmp_path: Path) -> None:
    # Given a file with a newer version of an operator, and one with an operator that came later
    model = read(repository / "quantized" / "turbofan" / "float16.tflite")
    changed = {}
    for name, version, operator in (("newer", 12, None), ("later", 1, "STABLEHLO_ADD")):
        copy = clone(model)
        (code,) = [c for c in copy.operatorCodes if code_name(c) == "FULLY_CONNECTED"]
        code.version = version
        if operator:
            code.builtinCode = getattr(BuiltinOperator, operator)
            code.deprecatedBuiltinCode = 127
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(write(copy))
        made = row("float16", 50_000, (0.0, -0.001, 0.001))
        changed[name] = replace(made, artifact=replace(made.artifact, path=path, variant=name))

    rows = [FLOAT, *changed.values()]

    assert unloadable(rows, "tflite") == {
        "newer": "tflite-runtime does not load FULLY_CONNECTED of version 12, ai-edge-litert does",
        "later": "tflite-runtime does not load STABLEHLO_ADD, ai-edge-litert does",
    }
    assert unloadable(rows, "litert") == {}


def test_without_test_samples_float32_stays() -> None:
    marked, reason = recommend([FLOAT, row("int8", 45_000)])

    assert chosen(marked) == ["float32"]
    assert "without test samples its loss is unknown" in reason


def test_few_samples_are_said_to_prove_nothing() -> None:
    low, high = tango(0, 0, 300)
    rows = [FLOAT, row("int8", 46_184, (0.0, low, high), n=300, p50_ms=0.041)]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["int8"]
    assert "measurable" not in reason
    assert "accuracy is the same" in reason
    assert "on 300 samples, but the 95 % interval" in reason
    assert "reaches beyond the 0.50 points allowed" in reason
    assert "about 770 samples would settle it" in reason


def test_a_drop_measured_beyond_the_budget_is_rejected_though_it_is_not_proven() -> None:
    low, high = tango(5, 3, 300)
    rows = [FLOAT, row("int8", 46_184, (2 / 300, low, high), n=300, p50_ms=0.041)]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["float32"]
    assert "int8 (46.2 kB) was rejected: accuracy falls by 0.67 points" in reason
    assert reason.endswith("0.50 points are allowed; about 37,000 samples would settle it.")


def test_an_unproven_file_beside_a_kept_one_is_told_what_would_prove_it() -> None:
    rows = [
        FLOAT,
        row("float16", 78_808, (0.0, -0.0004, 0.0004), p50_ms=0.1),
        row("int8", 46_184, (0.001, -0.004, 0.006), p50_ms=0.041),
    ]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["float16"]
    assert "int8 (46.2 kB) is not proven to keep the score: accuracy falls by 0.10" in reason
    assert "samples would settle it" in reason


def test_a_small_loss_is_not_called_none_and_a_gain_is_called_one() -> None:
    loss = row("int8", 46_184, (0.002, 0.0008, 0.0032), p50_ms=0.041)
    gain = row("int8", 46_184, (-0.002, -0.0032, -0.0008), p50_ms=0.041)

    assert "A small, measurable loss" in recommend([FLOAT, loss])[1]
    said = recommend([FLOAT, gain])[1]
    assert "A measurable gain: accuracy rises by 0.20 points" in said


def test_errors_are_told_in_their_own_unit() -> None:
    rows = [
        row("float32", 95_648, metric="rmse", value=16.12),
        row("int8", 34_896, (0.02, -0.03, 0.07), metric="rmse", value=16.14, allowed=0.0806),
        row("int4", 20_000, (1.5, 1.2, 1.9), metric="rmse", value=17.62, allowed=0.0806),
    ]

    marked, reason = recommend(rows)

    assert chosen(marked) == ["int8"]
    assert "RMSE rises by 0.02 (95 % interval of the loss -0.03 to 0.07)" in reason
    assert "within the 0.0806 allowed" in reason
    assert "int4 (20.0 kB) was rejected: RMSE rises by 1.5" in reason


def test_without_float32_and_with_every_variant_lost_nothing_is_recommended() -> None:
    rows = [row("int8", 40_000, (0.02, 0.015, 0.025)), row("int4", 30_000, (0.2, 0.18, 0.22))]

    marked, reason = recommend(rows)

    assert chosen(marked) == []
    assert "No file is recommended" in reason
    assert "int8 (40.0 kB) was rejected" in reason


def test_latencies_of_different_devices_are_not_compared() -> None:
    elsewhere = row("int8", 46_184, (0.0, -0.001, 0.001), p50_ms=0.041)
    object.__setattr__(elsewhere.timing, "device", "there")

    marked, reason = recommend([FLOAT, elsewhere])

    assert chosen(marked) == ["float32"]
    assert "faster" not in reason
    assert "int8 (46.2 kB) has no latency beside float32's, and may be slower." in reason


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


PAGE = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"
PAIR = re.compile(r"(-?[\d.]+) \((-?[\d.]+) to (-?[\d.]+)\)")


def table(text: str) -> list[list[str]]:
    """Cells of the first table of a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def worked_examples() -> list[tuple[str, str, str, str]]:
    """Title, text, options, and what follows from them, of each example on the page."""
    section = PAGE.read_text(encoding="utf-8").split("\n## Worked examples")[1]
    section = section.split("\n## ")[0]
    return [
        (title, text, options, answer)
        for title, _, text in (part.partition("\n") for part in section.split("\n### ")[1:])
        for options, answer in re.findall(
            r"^`(--.*?)` recommends (.*(?:\n>.*)+)", text, re.MULTILINE
        )
    ]


def rows_of(text: str) -> list[Row]:
    """The rows of an example, their losses and budget in points."""
    n = int(re.search(r"([\d,]+) test samples", text)[1].replace(",", ""))  # type: ignore[index]
    rows = []
    for variant, size, latency, loss, verdict in table(text):
        found = PAIR.match(loss)
        made = row(
            variant,
            round(float(size.split()[0]) * 1000),
            tuple(float(part) / 100 for part in found.groups()) if found else None,  # type: ignore[arg-type]
            p50_ms=float(latency.split()[0]) if latency else None,
            n=n,
        )
        assert (made.drop.verdict if made.drop else "") == verdict
        rows.append(made)
    return rows


def test_there_are_examples() -> None:
    options = {option for _, _, option, _ in worked_examples()}
    assert {"--prefer balanced", "--prefer size", "--prefer latency"} <= options
    assert any("--runtime tflite" in option for option in options)


@pytest.mark.parametrize(
    ("text", "options", "answer"),
    [pytest.param(*example[1:], id=f"{example[0]}, {example[2]}") for example in worked_examples()],
)
def test_the_worked_examples_of_the_page_come_out(text: str, options: str, answer: str) -> None:
    # Given the files of a table on the page
    rows = rows_of(text)
    words = options.split()
    given = dict(zip(words[::2], words[1::2], strict=True))

    # When they are chosen from with the options of the example
    marked, reason = recommend(
        rows,
        prefer=given.get("--prefer", "balanced"),  # type: ignore[arg-type]
        excluded=unloadable(rows, given.get("--runtime")),
    )

    # Then it is the file that the page says, for the reason that it says
    name, *quoted = answer.splitlines()
    assert name == f"**{', '.join(chosen(marked))}**:"
    assert " ".join(line.removeprefix("> ") for line in quoted) == reason


def test_the_budgets_of_the_page_come_out() -> None:
    text = (
        PAGE.read_text(encoding="utf-8").split("\n## How much may be lost\n")[1].split("\n## ")[0]
    )
    budgets = table(text)
    assert len(budgets) > 2
    for rmse, spread, max_drop, allowed in budgets:
        # Given a model with this error on targets with this standard deviation
        targets = float(spread) * np.array([-1.0, 1.0, -1.0, 1.0])
        columns = REGRESSION.per_sample(targets + float(rmse), Batch(inputs={}, targets=targets))
        # When and then
        found = budget(aggregate(columns, REGRESSION), float(max_drop))
        assert found == pytest.approx(float(allowed))
