from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.records import Artifact, Row, Score, TensorSpec
from edgekit.reports import formatting
from edgekit.reports.formatted_rows import formatted_rows, pareto_front
from edgekit.reports.groups import groups_by_device
from edgekit.reports.page_text import capitalized
from edgekit.reports.terminal_inspection import tensor_text

PI = "pi@raspberrypi: Cortex-A72, 4 cores"


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(formatting)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("text", "begun"), [("mean IoU", "Mean IoU"), ("ROC AUC", "ROC AUC"), ("mAP", "mAP"), ("", "")]
)
def test_names_of_metrics_keep_their_spelling(text, begun):
    assert capitalized(text) == begun


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(512, "512 B"), (45648, "45.6 kB"), (147480, "147 kB"), (999_900, "1.00 MB"), (999, "999 B")],
)
def test_sizes_are_decimal(size_bytes, text):
    assert formatting.size_text(size_bytes) == text


@given(st.integers(1, 10**10))
def test_a_size_in_words_is_within_half_a_percent(size_bytes):
    figure, unit = formatting.size_text(size_bytes).split()
    value = float(figure) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert value == pytest.approx(size_bytes, rel=0.0051)


def test_scores_and_drops_speak_their_metrics_unit():
    assert formatting.score_text("accuracy", 0.9167) == "91.67 %"
    assert formatting.score_text("rmse", 16.116844) == "16.12"
    assert formatting.score_text("roc_auc", 0.8761) == "0.8761"
    assert formatting.score_text("accuracy", float("nan")) == "not finite"
    assert formatting.drop_text("accuracy", 0.0001) == "+0.01"
    assert formatting.drop_text("accuracy", -0.0001) == "-0.01"
    assert formatting.drop_text("accuracy", -0.00000000001) == "0.00"
    assert formatting.drop_text("accuracy", 0.00002) == "+0.0020"
    assert formatting.drop_text("rmse", 0.02519) == "+0.025"
    assert formatting.latency_text(0.0413065) == "0.041 ms"
    assert formatting.latency_text(3.314) == "3.31 ms"


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("rmse", 0.00031, "+0.00031"),
        ("rmse", -0.00000042, "-4.2e-07"),
        ("rmse", 1e-13, "0.000"),
        ("rmse", 0.0, "0.000"),
        ("roc_auc", 0.00002, "+0.000020"),
        ("accuracy", 0.00001, "+0.0010"),
    ],
)
def test_a_small_drop_does_not_read_as_none(metric, value, text):
    assert formatting.drop_text(metric, value) == text


def test_a_small_score_keeps_its_digits():
    assert formatting.score_text("rmse", 0.012345) == "0.0123"
    assert formatting.interval_text("rmse", (0.00030123, 0.5)) == "0.000301 to 0.500"


def test_the_best_of_each_column_is_marked(fashion):
    (group,) = groups_by_device(fashion)
    best = {line.label: line.best for line in formatted_rows(group)}
    assert best == {
        "float32": frozenset(),
        "float16": {"score"},
        "dynamic": {"size", "latency"},
        "int8": frozenset(),
    }


def test_for_rmse_the_lowest_is_best(ladder):
    (group,) = groups_by_device(ladder("cmapss_cnn1d", n=100))
    (best,) = [line.label for line in formatted_rows(group) if "score" in line.best]
    assert best == "float16"


def test_ratios_stay_within_one_device(fashion, ladder):
    there = ladder(device=PI)
    # Of the rows timed on the Pi, none is float32: nothing to be in ratio with.
    both = replace(fashion, rows=fashion.rows + there.rows[2:])
    here, pi = groups_by_device(both)
    assert (here.device, pi.device) == (fashion.rows[0].timing.device, PI)
    assert formatted_rows(here)[2].latency_ratio == pytest.approx(3.1, rel=0.02)
    assert [line.latency_ratio for line in formatted_rows(pi)] == [None, None]


def test_ratios_need_the_same_threads(fashion):
    rows = list(fashion.rows)
    rows[3] = replace(rows[3], timing=replace(rows[3].timing, threads=2))
    (group,) = groups_by_device(replace(fashion, rows=tuple(rows)))
    assert formatted_rows(group)[3].latency_ratio is None


def test_models_never_share_a_group(fashion, ladder):
    both = replace(fashion, rows=fashion.rows + ladder("fsdd_dscnn", n=300).rows)
    assert [group.model for group in groups_by_device(both)] == [
        "fashion_mnist_cnn",
        "fsdd_dscnn",
    ]


def test_files_measured_twice_are_told_apart(fashion):
    twice = (fashion.rows[3],) * 3
    faster = replace(twice[0], timing=replace(twice[0].timing, threads=2))
    (group,) = groups_by_device(replace(fashion, rows=(*twice, faster)))
    labels = [line.label for line in formatted_rows(group)]
    assert len(set(labels)) == 4
    assert any("2t" in label for label in labels)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=20),
    st.sampled_from(["accuracy", "rmse"]),
)
def test_the_front_is_what_nothing_dominates(points, metric):
    rows = [_row(size, score, metric) for size, score in points]
    sign = -1 if metric == "rmse" else 1
    front = {(row.artifact.size_bytes, row.score.value) for row in pareto_front(rows)}
    expected = {
        (size, score)
        for size, score in points
        if not any(
            s <= size and sign * v >= sign * score and (s, v) != (size, score) for s, v in points
        )
    }
    assert front == expected


def test_text_cannot_steer_a_terminal():
    assert formatting.plain("a\x1b[31m\r\nb\u202e") == r"a\x1b[31m b\u202e"


def _row(size: int, score: float, metric: str) -> Row:
    return Row(
        model="m",
        artifact=Artifact(
            path=Path("m"),
            variant="v",
            mode=None,
            size_bytes=size,
            size_deflated_bytes=size,
            sha256="0",
        ),
        score=Score(metric=metric, value=score, n=1, ci95=(score, score)),
    )


def test_decibels_have_no_negative_zero():
    assert [formatting.decibels(value) for value in (-0.04, -0.06, None)] == [
        "0.0",
        "-0.1",
        "exact",
    ]


@pytest.mark.parametrize(
    ("zero_point", "code"), [(-128, "(q + 128)"), (7, "(q - 7)"), (0, "q"), (None, "q")]
)
def test_what_a_code_stands_for_has_one_sign(zero_point, code):
    tensor = TensorSpec(name="x", shape=(1, 2), dtype="int8", scale=0.5, zero_point=zero_point)
    assert tensor_text(tensor) == f"x: int8 1 x 2, 0.5 x {code}"
