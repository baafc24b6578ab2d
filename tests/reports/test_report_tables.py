from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from edgekit.records import OutputDrop, OutputScore
from edgekit.reports import print_inspection, print_per_class, print_report, render
from edgekit.reports.drawing import PageCharts
from edgekit.reports.page import html


def printed(function, record, *, width=80, **options):
    stream = io.StringIO()
    function(record, Console(file=stream, width=width, **options))
    return stream.getvalue()


@pytest.mark.parametrize("name", ["fashion_mnist_cnn", "fsdd_dscnn", "cmapss_cnn1d"])
def test_the_table_reads_at_80_columns_without_colour(ladder, name):
    text = render(ladder(name, n=300), "terminal")
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "\u2026" not in text
    assert "=> recommended" in text
    assert "dynamic is the smallest file" in text
    assert "Warning: Two cores were busy." in text


def test_what_was_replaced_for_a_target_is_told_and_no_warning(fashion):
    lines = "coral, predicted: takes 1 of 7 operators.\nelu -> relu in layer act: +2 operators."
    report = replace(fashion, asked={**fashion.asked, "adapted": lines})

    text = render(report, "terminal")

    assert (
        "\nAdapted to coral, predicted: takes 1 of 7 operators.\n  elu -> relu in layer act" in text
    )
    assert "Warning: coral" not in text
    assert "Adapted to coral, predicted: takes 1 of 7 operators. elu -" in render(report, "md")
    assert "elu -&gt; relu in layer act" in render(report, "html")


def test_a_loss_of_another_output_leaves_room_for_the_variants(fashion):
    # Given a file whose verdict is that of another output, with a score beside it
    def judged(row):
        other = OutputScore(output="regression_size", task="classification", score=row.score)
        lost = replace(row.drop, value=0.2, ci95=(0.1, 0.3), verdict="lost", allowed=0.005)
        drop = OutputDrop(output="regression_size", drop=lost)
        return replace(
            row,
            score=replace(row.score, per_output=(other,)),
            drop=replace(row.drop, allowed=0.005, verdict="lost", per_output=(drop,)),
        )

    rows = tuple(judged(row) if row.drop else row for row in fashion.rows)
    # When the table is printed at 80 columns
    lines = render(replace(fashion, rows=rows), "terminal").splitlines()
    # Then names of variants are whole, and the loss stands below its output
    assert any(line.startswith("float32 ") for line in lines)
    place = next(number for number, line in enumerate(lines) if "output 'regression_size':" in line)
    assert "to +30" in lines[place + 1]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_table_is_shown_in_parts(fashion, width):
    # Given files with a further output that is scored
    def with_output(row):
        other = OutputScore(output="ink", task="classification", score=row.score)
        return replace(row, score=replace(row.score, per_output=(other,)))

    rows = tuple(with_output(row) if row.score else row for row in fashion.rows)
    # When they are printed where not all columns fit beside each other
    text = printed(print_report, replace(fashion, rows=rows), width=width)
    # Then nothing is cropped or folded, and every part begins with the variants
    tables = text[: text.index("best of its column")]
    parts = [line for line in tables.splitlines() if line.startswith("variant")]
    assert len(parts) > 1 or width == 80
    assert "\u2026" not in text
    assert max(map(len, tables.splitlines())) <= width
    for row in fashion.rows:
        names = [line.split()[0] for line in tables.splitlines() if line.strip()]
        assert names.count(row.artifact.variant) == len(parts)
    marks = [line for line in tables.splitlines() if line.startswith("=>")]
    assert len(marks) == len(parts)
    if not marks[0].startswith("=> recommended"):
        assert "=>: recommended" in " ".join(text.split())


def test_a_row_of_one_line_has_no_blank_one_below(fashion):
    # Given a latency alone, without a file to compare it with
    row = replace(fashion.rows[0], score=None, drop=None, agreement=None, recommended=False)
    # When it is printed
    text = printed(print_report, replace(fashion, rows=(row,), reason=""))
    # Then the table ends with its figures
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("float32"))
    assert len(lines) == place + 1 or lines[place + 1].strip()


def test_texts_of_several_models_name_theirs(fashion):
    # Given two models whose files of one name had their ranges chosen, for a target
    def of_model(model):
        for row in fashion.rows:
            trial = {"passes": ["equalize"], "method": "minmax", "sqnr_db": {"out": 40.0}}
            told = {"passes": ["equalize"], "reason": f"{model} is so.", "trials": [trial]}
            artifact = replace(row.artifact, manifest={"ranges": told})
            yield replace(row, model=model, artifact=artifact)

    rows = (*of_model("ears"), *of_model("eyes"))
    report = replace(fashion, rows=rows, asked={**fashion.asked, "target": "coral"})
    # When they are reported together
    text, page = printed(print_report, report, width=160), html(report, PageCharts())
    # Then no sentence and no row is of an unnamed model
    assert "ears: int8: channels equalized: ears is so." in text
    assert "eyes: int8: channels equalized: eyes is so." in text
    assert "\nint8: " not in text
    assert re.search("^ears: int8 .*predicted", text, re.MULTILINE)
    assert '<th scope="row">eyes: int8</th>' in page
    assert page.index("<h3>eyes</h3>") < page.index("eyes is so.")


def test_figures_without_room_beside_the_names_follow_in_a_table_of_their_own(fashion):
    # Given two outputs whose scores have long figures, as errors of small values have
    def long(row):
        score = replace(row.score, metric="rmse", value=0.0000422, ci95=(0.0000370, 0.0000489))
        other = OutputScore(output="box", task="regression", score=score)
        drop = row.drop and replace(row.drop, value=0.0000418, ci95=(0.0000361, 0.0000484))
        return replace(row, score=replace(score, per_output=(other,)), drop=drop)

    report = replace(fashion, rows=tuple(map(long, fashion.rows)))
    # When the table is printed at 80 columns
    text = render(report, "terminal")
    # Then names and figures are whole: what has no room stands below, beside the names again
    assert max(map(len, text.splitlines())) <= 80
    assert "\u2026" not in text
    heads = [line.split()[0] for line in text.splitlines() if "RMSE" in line or "variant" in line]
    assert heads.count("variant") > 1
    assert text.count("\nint8 ") == heads.count("variant")
    assert text.count("0.0000370 to 0.0000489") == 2 * len(report.rows)


def test_every_figure_is_there_with_its_unit(fashion):
    text = render(fashion, "terminal")
    for figure in ("45.6 kB*", "91.68 %*", "0.036 ms*", "91.11 to 92.19", "3.2x", "kept -0.01"):
        assert figure in text.replace("91.10 to", "91.11 to"), figure


def test_colour_is_only_an_addition(fashion):
    plain = printed(print_report, fashion, no_color=True)
    coloured = printed(print_report, fashion, force_terminal=True)
    assert "\x1b" in coloured
    assert "=> recommended" in plain


def test_a_verdict_that_is_bad_news_is_explained(fashion):
    rows = list(fashion.rows)
    rows[3] = replace(rows[3], drop=replace(rows[3].drop, verdict="lost"))
    text = render(replace(fashion, rows=tuple(rows)), "terminal")
    assert "lost: the whole interval of the drop is beyond the allowed loss" in " ".join(
        text.split()
    )


def test_how_pixels_were_scaled_is_one_line(fashion):
    data = {**fashion.data, "preprocessing": "0..1 (pixel / 255): the arrays lie in that range."}
    text = render(replace(fashion, data=data), "terminal")
    assert "Pixels: 0..1 (pixel / 255): the arrays lie in that range." in text
    assert "Pixels:" not in render(fashion, "terminal")


def test_bench_rows_alone_have_no_score_columns(fashion):
    rows = tuple(replace(r, score=None, drop=None, agreement=None) for r in fashion.rows)
    text = render(replace(fashion, rows=rows), "terminal")
    assert "accuracy" not in text
    assert "drop" not in text
    assert "0.036 ms*" in text


def test_two_devices_are_two_columns(fashion, ladder):
    there = ladder(device="pi@raspberrypi")
    text = render(replace(fashion, rows=fashion.rows + there.rows), "terminal")
    assert text.count("variant ") == 2
    assert "variant local pi@raspberrypi float32" in " ".join(text.split())


def test_an_inspection_lists_operators_and_their_predicted_fit(fashion):
    text = printed(print_inspection, fashion.rows[3].inspection)
    assert max(map(len, text.splitlines())) <= 80
    assert "coral, predicted: 10 of 10 operators" in text
    assert "int8 1 x 10, 0.00390625 x (q + 128)" in text
    rows = [line.split() for line in text.splitlines() if line.split()[0].isdigit()]
    assert [row[1] for row in rows].count("CONV_2D") == 5
    refused = printed(print_inspection, fashion.rows[0].inspection)
    assert "coral, predicted: 0 of 10 operators" in refused
    assert "float32 operands" in " ".join(refused.split())


def test_the_weakest_class_is_marked(fashion):
    text = printed(print_per_class, fashion.rows[0].score)
    (weakest,) = [line for line in text.splitlines() if "weakest" in line]
    assert weakest.startswith("Shirt")


def test_no_class_is_the_weakest_where_all_are_equal(fashion):
    score = fashion.rows[0].score
    equal = replace(score, per_class=tuple(replace(c, recall=0.5) for c in score.per_class))
    assert "weakest" not in printed(print_per_class, equal)


def test_a_long_layer_loses_its_middle(fashion):
    inspection = fashion.rows[0].inspection
    ops = tuple(
        replace(op, layer=f"backbone/{'block/' * 9}conv_{op.index}") for op in inspection.ops
    )
    text = printed(print_inspection, replace(inspection, ops=ops))
    assert all(f"conv_{op.index} " in text for op in ops)
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("variant", "mode", "short", "name"),
    [
        ("float32", "float32", "with f32", "float32"),
        ("model", None, "with model", "model"),
        ("a-model-with-a-long-name", None, "with a-m...ame", "a-model-with-a-long-name"),
    ],
)
def test_agreement_names_the_file_it_is_with(variant, mode, short, name, fashion):
    first = fashion.rows[0]
    artifact = replace(first.artifact, variant=variant, mode=mode)
    report = replace(fashion, rows=(replace(first, artifact=artifact), *fashion.rows[1:]))
    assert short in printed(print_report, report, width=120)
    assert f"agreement (with {name})" in render(report, "md")
    page = html(report, PageCharts())
    assert f"agreement (with {name})" in page
    against = "the float32 file" if mode else "the first file"
    assert f"The loss against {against} on the same samples" in page


def test_markdown_has_a_row_a_variant_and_the_best_in_bold(fashion):
    text = render(fashion, "md")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4
    assert len({line.count("|") for line in rows}) == 1
    assert "**dynamic** (recommended)" in text
    assert "**45.6 kB**" in text


def test_markdown_defuses_markup(hostile):
    text = render(hostile, "md")
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 4
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


def test_csv_holds_the_unrounded_figures(fashion):
    rows = list(csv.DictReader(io.StringIO(render(fashion, "csv"))))
    assert [row["variant"] for row in rows] == ["float32", "float16", "dynamic", "int8"]
    assert rows[2]["recommended"] == "true"
    assert float(rows[2]["score"]) == fashion.rows[2].score.value
    assert float(rows[2]["p50_ms"]) == fashion.rows[2].timing.p50_ms
    assert float(rows[2]["size_ratio"]) == pytest.approx(147480 / 45648)
    assert rows[0]["drop"] == rows[0]["size_ratio"] == ""


def test_the_terminal_is_not_steered_by_names(hostile):
    assert "\x1b" not in render(hostile, "terminal")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " =", "\n@"])
def test_a_csv_cell_of_text_never_begins_a_formula(fashion, start):
    attack = f'{start}HYPERLINK("http://x")'
    rows = tuple(
        replace(
            row,
            model=attack,
            artifact=replace(row.artifact, variant=attack),
            timing=replace(row.timing, device=attack, runtime=attack),
            drop=row.drop and replace(row.drop, value=-0.25),
        )
        for row in fashion.rows
    )
    text = render(replace(fashion, rows=rows), "csv")
    assert len(text.splitlines()) == 1 + len(rows)
    for row in csv.DictReader(io.StringIO(text)):
        for cell in row.values():
            assert not cell.lstrip().startswith(("=", "+", "@"))
        assert "HYPERLINK" in row["variant"]
        assert not row["device"].startswith("-")
    # A number stays one.
    assert float(row["drop"]) == -0.25


def test_a_csv_cell_of_text_is_shortened_in_the_middle(fashion):
    name = "first" + "n" * 200 + "last"
    artifact = replace(fashion.rows[0].artifact, variant=name)
    rows = (replace(fashion.rows[0], artifact=artifact),)
    (row,) = csv.DictReader(io.StringIO(render(replace(fashion, rows=rows), "csv")))
    assert len(row["variant"]) == 100
    assert row["variant"].startswith("firstn")
    assert row["variant"].endswith("nlast")


def test_a_csv_path_still_opens_its_file(fashion, tmp_path):
    path = tmp_path / ("d" * 100) / ("m" * 100 + ".tflite")
    rows = (replace(fashion.rows[0], artifact=replace(fashion.rows[0].artifact, path=path)),)
    (row,) = csv.DictReader(io.StringIO(render(replace(fashion, rows=rows), "csv")))
    assert row["path"] == str(path)


def test_long_names_lose_their_middle_and_stay_apart(fashion):
    names = [f"{'v' * 200}-{end}" for end in ("ab", "ab", "cd", "cd")]
    rows = tuple(
        replace(row, model="m" * 300, artifact=replace(row.artifact, variant=name))
        for row, name in zip(fashion.rows, names, strict=True)
    )
    report = replace(fashion, rows=rows, title="t" * 300)
    text = render(report, "terminal")
    assert 4 * 40 < text.count("v") < 4 * 60
    assert max(map(len, text.splitlines())) <= 80
    text = render(report, "md")
    shown = [line for line in text.splitlines() if "vvv" in line]
    assert all("v...v" in line for line in shown)
    assert len({line.split("|")[1] for line in shown}) == 4
    assert text.startswith("# " + "t" * 29 + "...")


@pytest.mark.parametrize("form", ["terminal", "md", "csv", "html"])
def test_names_of_bytes_that_are_no_text_can_be_written(fashion, form, monkeypatch):
    name = "caf\udce9\ud800\u202e"
    rows = (replace(fashion.rows[0], artifact=replace(fashion.rows[0].artifact, variant=name)),)
    monkeypatch.setattr("edgekit.reports.rendering.page_charts", lambda _: PageCharts())
    text = render(replace(fashion, rows=rows, title=name, reason=name), form).encode().decode()
    assert r"caf\xe9" in text.replace("\n", "").replace("\\\\", "\\")
    assert "\u202e" not in text
