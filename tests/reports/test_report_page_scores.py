"""The page's tables of outputs, columns and classes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgekit.records import ClassScore, ColumnDrop, ColumnScore, Fidelity
from edgekit.reports import render
from edgekit.reports.confusion import MOST_DRAWN, matrices
from edgekit.reports.drawing import PageCharts
from edgekit.reports.groups import groups_by_model
from edgekit.reports.page import html


def body(report):
    return html(report, PageCharts()).partition("<body>")[2]


def with_confusion(report, classes, *, rows=(0, 1, 2, 3)):
    """Every class is found in 90 of 100 samples, and else taken for the next."""
    counts = tuple(
        tuple(90 if c == r else 10 if c == (r + 1) % classes else 0 for c in range(classes))
        for r in range(classes)
    )
    per_class = tuple(
        ClassScore(label=f"the class of number {i}", n=100, recall=0.9, precision=0.9)
        for i in range(classes)
    )
    changed = list(report.rows)
    for i in rows:
        score = replace(changed[i].score, confusion=counts, per_class=per_class)
        changed[i] = replace(changed[i], score=score)
    return replace(report, rows=tuple(changed))


def test_the_recommended_file_is_shown_beside_float32(fashion):
    page = body(with_confusion(fashion, 10))
    assert "<summary>Confusion matrix: float32 and dynamic</summary>" in page
    assert page.count('<table class="matrix">') == 2
    assert page.count('<td class="right"') == 2 * 10
    assert 'title="the class of number 3: the class of number 4, 10 of 100">10</td>' in page
    assert '<details class="card" open><summary>Confusion' in page


def test_without_a_recommendation_float32_is_shown(fashion, with_source):
    rows = tuple(replace(row, recommended=False) for row in fashion.rows)
    report = with_confusion(replace(fashion, rows=(rows[1], rows[0], *rows[2:])), 3)
    assert "<summary>Confusion matrix: float32</summary>" in body(with_source(report))
    only = with_confusion(replace(fashion, rows=rows), 3, rows=(2,))
    assert "<summary>Confusion matrix: dynamic</summary>" in body(only)


def test_names_beside_a_matrix_lose_their_middle(fashion):
    assert "<span>the cl...ber 7</span>" in body(with_confusion(fashion, 10))  # fmt: skip


def test_a_large_matrix_is_folded_and_a_huge_one_is_a_list(fashion):
    page = body(with_confusion(fashion, 30))
    assert '<details class="card"><summary>Confusion' in page
    assert page.count('<table class="matrix dense">') == 2
    (group,) = groups_by_model(with_confusion(fashion, MOST_DRAWN + 40))
    listed = matrices(group, several=False)
    assert "commonest errors of 100 classes" in listed
    assert listed.count("10 of 100") == 2 * 30
    assert len(listed) < 20_000


def test_a_class_without_samples_and_a_rare_error_are_drawn(fashion):
    report = with_confusion(fashion, 2, rows=(2,))
    score = replace(report.rows[2].score, confusion=((0, 0), (1, 999)))
    rows = (*report.rows[:2], replace(report.rows[2], score=score), *report.rows[3:])
    page = body(replace(report, rows=rows))
    assert "<td></td><td></td>" in page
    assert ">\u00b7</td>" in page
    assert ">100</td>" in page


@pytest.fixture
def turbofan(ladder):
    """Three columns; the third loses next to nothing, which is too much."""
    report = ladder("cmapss_cnn1d", n=100)
    labels = ("cycles", "temperature", "speed")
    columns = tuple(
        ColumnScore(label=label, value=value, ci95=(0.9 * value, 1.1 * value))
        for label, value in zip(labels, (16.1, 0.0123, 0.00031), strict=True)
    )
    drops = tuple(
        ColumnDrop(label=label, value=value, ci95=(0.0, value), verdict=verdict, allowed=1e-5)
        for label, value, verdict in zip(
            labels, (0.02, 0.0004, 0.00002), ("kept", "unproven", "lost"), strict=True
        )
    )
    return replace(
        report,
        rows=tuple(
            replace(
                row,
                score=replace(row.score, per_column=columns),
                drop=row.drop and replace(row.drop, per_column=drops),
            )
            for row in report.rows
        ),
    )


def test_every_column_has_its_score_its_drop_and_its_verdict(turbofan):
    page = body(turbofan)
    assert "<summary>RMSE by column</summary>" in page
    assert page.count('<td data-label="speed">0.000310') == 4
    assert page.count('<small class="verdict-lost">lost +0.000020</small>') == 3
    assert "the drop against float32" in page


def test_many_columns_go_down_the_page(turbofan):
    rows = tuple(
        replace(
            row,
            score=replace(
                row.score,
                per_column=tuple(
                    replace(row.score.per_column[0], label=f"joint {i}") for i in range(20)
                ),
            ),
        )
        for row in turbofan.rows
    )
    page = body(replace(turbofan, rows=rows))
    assert '<details class="card"><summary>RMSE by column' in page  # folded
    assert page.count('<th scope="row">joint') == 20
    assert "by column" not in body(replace(turbofan, rows=()))


@pytest.fixture
def compared(fashion):
    """The int8 file's two outputs, compared with the float graph; float16 is exact."""
    scores = Fidelity(output="scores", n=512, sqnr_db=31.26, agreement=0.9876, levels=200)
    boxes = Fidelity(output="boxes", n=512, sqnr_db=8.04, correlation=0.99512, levels=2)
    exact = Fidelity(output="scores", n=512, sqnr_db=None, agreement=1.0)
    rows = list(fashion.rows)
    rows[3] = replace(rows[3], fidelity=(scores, boxes))
    rows[1] = replace(rows[1], fidelity=(exact,))
    return replace(fashion, rows=tuple(rows))


def test_each_file_has_its_outputs_folded(compared):
    page = body(compared)
    (table,) = re.findall(r"<summary>Fidelity: int8</summary>.*?</details>", page, re.DOTALL)
    assert "on 512 real inputs" in table
    cells = re.findall(r"<td>(.*?)</td>", table)
    assert cells == ["31.3 dB", "98.76 %", "200", "8.0 dB", "0.9951", "2"]
    assert '<details class="card"><summary>Fidelity: float16' in page
    assert "Fidelity: dynamic" not in page
    assert "<dt>Fidelity</dt>" in page


def test_the_worst_output_has_a_column_in_all_tables_but_the_terminal_s(compared, fashion):
    (line,) = [t for t in render(compared, "md").splitlines() if t.startswith("| int8")]
    assert "| 8.0 dB |" in line
    assert "| exact |" in render(compared, "md")
    assert 'data-label="Fidelity">8.0 dB</td>' in body(compared)
    assert ",8.04," in render(compared, "csv")
    assert "dB" not in render(compared, "terminal")
    assert "fidelity" not in render(fashion, "md")
    assert "<dt>Fidelity</dt>" not in body(fashion)
