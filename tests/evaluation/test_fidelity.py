"""How near outputs are to the float graph's, and what of them was lost."""

from __future__ import annotations

import importlib.util
import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from strategies import outputs

from edgekit.evaluation import (
    aggregate,
    compare,
    evaluate,
    fidelity_ok,
    predict,
    worst,
)
from edgekit.evaluation.fidelity import (
    COMPARED_SAMPLES,
    COMPARED_VALUES,
    compared_rows,
    sqnr_db,
)
from edgekit.evaluation.tasks import CLASSIFICATION, REGRESSION
from edgekit.records import Array, Batch, Collapse, Dataset, Fidelity, Samples

RNG = np.random.default_rng(0)
SPREAD = RNG.uniform(-1, 1, (400, 1)).astype(np.float32)


def compared(reference: Array, variant: Array, **settings) -> tuple[Fidelity, list[Collapse]]:
    (fidelity,), collapses = compare({"y": reference}, {"y": variant}, **settings)
    return fidelity, list(collapses)


def kinds(reference: Array, variant: Array, **settings) -> list[tuple[str, str]]:
    return [(one.kind, one.where) for one in compared(reference, variant, **settings)[1]]


def quantized(values: Array, scale: float, low: int = -128, high: int = 127) -> Array:
    return np.clip(np.rint(values / scale), low, high) * np.float32(scale)


# --- which samples ---


@given(n=st.integers(1, 10**6), values=st.integers(0, 10**8))
def test_compared_samples_are_few_distinct_and_ascend(n: int, values: int) -> None:
    rows = compared_rows(n, values)

    assert 1 <= len(rows) <= min(n, COMPARED_SAMPLES)
    assert len(rows) == 1 or len(rows) * values <= COMPARED_VALUES
    assert (np.diff(rows) > 0).all()
    assert rows[0] == 0
    assert rows[-1] < n


def test_compared_samples_are_of_all_classes_of_sorted_data() -> None:
    classes = np.repeat(np.arange(10), 700)

    assert set(classes[compared_rows(len(classes), 10)]) == set(range(10))


@pytest.mark.parametrize("processes", [1, 3])
def test_outputs_of_those_samples_come_with_the_score(models: Path, fashion, processes) -> None:
    path, some = models / "fashion_int8.tflite", replace(fashion.test, n=1500)

    found = evaluate(path, replace(fashion, test=some), processes=processes)

    rows = compared_rows(1500, 10)
    everything = predict(path, some)["output_0"]
    np.testing.assert_array_equal(found.outputs["output_0"], everything[rows])


def test_all_outputs_are_kept_whichever_is_scored(models: Path) -> None:
    a, b = RNG.normal(size=(2, 600, 3)).astype(np.float32)
    test = Samples(
        split="test",
        n=600,
        sha256="",
        read=lambda rows: Batch(inputs={"a": a[rows], "b": b[rows]}, targets=(a * b)[rows]),
    )
    data = Dataset(name="given", task="regression", train=None, calibrate=None, test=test)

    found = evaluate(models / "two_in_two_out.tflite", data, output="product").outputs

    rows = compared_rows(600, 6)
    np.testing.assert_allclose(found["product"], (a * b)[rows])
    assert set(found) == {"product", "total"}


# --- fidelity ---


@given(pair=outputs(count=2))
def test_figures_are_finite_and_in_their_ranges(pair: list[Array]) -> None:
    fidelity, collapses = compared(*pair)

    assert fidelity.n == len(pair[0])
    assert fidelity.sqnr_db is None or math.isfinite(fidelity.sqnr_db)
    assert fidelity.agreement is None or 0 <= fidelity.agreement <= 1
    assert fidelity.correlation is None or -1.000001 <= fidelity.correlation <= 1.000001
    assert fidelity.levels >= 1
    places = [one.where for one in collapses]
    assert len(places) == len(set(places))


@given(pair=outputs(count=1))
def test_an_output_is_wholly_faithful_to_itself(pair: list[Array]) -> None:
    fidelity, collapses = compared(pair[0], pair[0].copy())

    assert fidelity.sqnr_db is None
    assert fidelity.agreement in {None, 1.0}
    assert fidelity.correlation is None or fidelity.correlation == pytest.approx(1)
    assert collapses == []
    assert fidelity_ok(fidelity)


@given(
    values=npst.arrays(np.float32, (50, 3), elements=st.floats(-100, 100, width=32)),
    bits=st.integers(4, 12),
)
def test_sqnr_is_that_of_the_step(values: Array, bits: int) -> None:
    scale = 256 / 2**bits
    noise = (np.rint(values / scale) * scale - values).astype(np.float64)

    found, _ = compared(values, np.rint(values / scale) * scale)

    if (noise == 0).all():
        assert found.sqnr_db is None
    else:
        expected = 10 * np.log10(np.sum(values.astype(np.float64) ** 2) / np.sum(noise**2))
        assert found.sqnr_db == pytest.approx(expected, abs=1e-3)


def test_sqnr_without_signal_or_noise() -> None:
    assert sqnr_db(0.0, 0.0) is None
    assert sqnr_db(5.0, 0.0) is None
    assert sqnr_db(0.0, 5.0) == -100
    assert sqnr_db(1e-300, 1e300) == -100


def test_class_scores_agree_and_quantities_correlate() -> None:
    logits = RNG.normal(size=(300, 5))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    flipped = logits.copy()
    flipped[:30] = -flipped[:30]

    # Rows that are probabilities, or what the task says, are scores of classes.
    assert compared(chances, chances + 0.001)[0].agreement == 1
    assert compared(logits, flipped, class_scores="y")[0].agreement == pytest.approx(0.9)
    assert compared(logits, flipped, class_scores="y")[0].correlation is None
    # Other numbers are quantities, and so is a single score.
    assert compared(logits, flipped)[0].agreement is None
    assert compared(logits, flipped)[0].correlation < 0.9
    assert compared(chances[:, :1], chances[:, :1])[0].agreement is None


def test_the_correlation_is_that_of_the_worst_column() -> None:
    # Given one of two columns of another unit, which says nothing any more
    values = np.concatenate([1000 + 300 * SPREAD, SPREAD], axis=1)
    broken = values.copy()
    broken[:, 1] = RNG.permutation(broken[:, 1])

    found, _ = compared(values, broken)

    assert found.sqnr_db > 60
    assert found.correlation < 0.2
    assert not fidelity_ok(found)


def test_outputs_belong_together_by_name_or_position_and_shape() -> None:
    a, b = SPREAD, SPREAD * 2
    by_name, _ = compare({"a": a, "b": b}, {"b": b, "a": a})
    assert [(one.output, one.sqnr_db) for one in by_name] == [("b", None), ("a", None)]
    by_position, _ = compare({"a": a, "b": b}, {"x:0": a, "x:1": b})
    assert [(one.output, one.sqnr_db) for one in by_position] == [("x:0", None), ("x:1", None)]
    others, _ = compare({"a": a, "b": b}, {"a": a[:9], "b": b})
    assert [one.output for one in others] == ["b"]
    assert compare({"a": a}, {"c": a, "d": a}) == ((), ())
    assert compare({}, {"c": a}) == ((), ())


@pytest.mark.parametrize("stored", [np.nan, np.inf, -np.inf])
def test_what_only_the_variant_does_not_compute_is_far_off(stored: float) -> None:
    broken = SPREAD.copy()
    broken[3] = stored

    assert compared(SPREAD, broken)[0].sqnr_db < -50
    # What the float graph does not compute either is left out.
    assert compared(broken, SPREAD)[0].sqnr_db is None


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8, np.complex64, np.float16])
@pytest.mark.parametrize("shape", [(40,), (40, 3), (10, 2, 3, 4)])
def test_all_kinds_of_outputs_are_compared(dtype: type, shape: tuple[int, ...]) -> None:
    values = RNG.integers(0, 2, shape).astype(dtype)
    found, collapses = compared(values, values)
    assert (found.sqnr_db, collapses) == (None, [])
    lost, collapses = compared(values, np.zeros_like(values))
    assert lost.sqnr_db == 0
    assert {one.kind for one in collapses} == {"constant"}


def test_the_worst_output_and_what_is_near_enough() -> None:
    def one(output: str, sqnr: float | None, agreement=None, correlation=None) -> Fidelity:
        return Fidelity(
            output=output, n=9, sqnr_db=sqnr, agreement=agreement, correlation=correlation
        )

    outputs = [one("a", None), one("b", 31.0), one("c", -2.0), one("d", 40.0)]
    assert worst(outputs).output == "c"
    assert worst(outputs[:1]).output == "a"
    assert fidelity_ok(one("a", 20.0, agreement=0.98))
    assert fidelity_ok(one("a", 20.0, correlation=0.99))
    assert fidelity_ok(one("a", None))
    assert not fidelity_ok(one("a", 19.9, agreement=1.0))
    assert not fidelity_ok(one("a", 50.0, agreement=0.979))
    assert not fidelity_ok(one("a", 50.0, correlation=0.989))


# --- collapses of outputs ---


def test_a_column_that_no_longer_moves_is_constant() -> None:
    values = np.concatenate([SPREAD, 1000 + 300 * SPREAD, 0.01 * SPREAD], axis=1)

    found = compared(values, quantized(values, 8, 0, 255), baseline="first")[1]

    assert [(one.kind, one.where) for one in found] == [
        ("constant", "output 'y', column 0"),
        ("constant", "output 'y', column 2"),
    ]
    assert found[0].detail.startswith("always 0, first has 400 values from -0.99")
    # What is left of float32 arithmetic behind dead layers is no movement.
    dead = 3 + 1e-6 * SPREAD
    assert kinds(SPREAD, dead) == [("constant", "output 'y'")]


def test_a_column_that_was_constant_in_float_has_lost_nothing() -> None:
    values = np.concatenate([SPREAD, np.full_like(SPREAD, 7), 5 + 1e-6 * SPREAD], axis=1)
    lost = values.copy()
    lost[:, 1:] = 0

    assert kinds(values, lost) == []


def test_channels_of_images_are_columns() -> None:
    values = np.tanh(RNG.normal(size=(6, 8, 8, 3))) * (1, 1, 0.002)

    assert kinds(values, quantized(values, 1 / 127)) == [("constant", "output 'y', column 2")]


def test_boxes_that_are_listed_in_rows_are_judged_by_row() -> None:
    values = RNG.uniform(0, 640, (4, 6, 200))
    values[:, 5] /= 640

    assert kinds(values, quantized(values, 2.5, 0, 255)) == [("constant", "output 'y', row 5")]


@pytest.mark.parametrize("shape", [(300, 40), (3, 10, 10, 40)])
def test_a_weak_feature_of_many_may_become_constant(shape) -> None:
    features = np.maximum(RNG.normal(size=shape), 0)
    features[..., 7] *= 0.003

    assert kinds(features, quantized(features, 1 / 32)) == []
    # One that is strong may not, nor a column of a list of boxes.
    dead = features.copy()
    dead[..., 3] = 0
    assert kinds(features, dead) == [("constant", "output 'y', column 3")]
    boxes = features.reshape(3, -1, 40)
    assert kinds(boxes, quantized(boxes, 1 / 32)) == [("constant", "output 'y', column 7")]


def test_many_columns_are_counted() -> None:
    values = RNG.normal(size=(50, 20))

    (found,) = compared(values, np.zeros_like(values))[1]

    assert found.where == "output 'y', columns 0, 1, 2, 3 and 16 more"


@given(steps=st.integers(2, 7), n=st.sampled_from([64, 400]))
def test_scores_of_a_few_levels_are_told(steps: int, n: int) -> None:
    # Given scores beside pixels whose step is coarser than half of the scores' range
    score = np.linspace(0, 1, n)[:, None]
    values = np.concatenate([640 * score, score], axis=1)

    found = compared(values, quantized(values, 1 / steps * 1.01, 0, 10**6))[1]

    # Then too few levels are a collapse unless they follow the scores well enough.
    if steps <= 2:
        assert [(one.kind, one.where) for one in found] == [("few levels", "output 'y', column 1")]
        assert "distinct values" in found[0].detail
    if steps >= 4:
        assert found == []


def test_a_score_of_two_levels_is_told_though_it_follows() -> None:
    # Given scores near 0 and 1 that were rounded to just these
    score = np.where(SPREAD > 0, 0.85, 0.15) + 0.1 * SPREAD

    (found,) = compared(score, np.rint(score))[1]

    assert (found.kind, found.detail[:19]) == ("few levels", "2 distinct values, ")


def test_decisions_and_certain_scores_may_have_two_levels() -> None:
    decided = (SPREAD > 0).astype(np.int64)
    assert kinds(decided, decided) == []
    assert kinds(decided, np.where(SPREAD > 0.05, 1, 0)) == []
    certain = 0.5 + 0.5 * np.tanh(1000 * SPREAD)
    assert kinds(certain, quantized(certain, 1 / 256, 0, 255)) == []


def test_classes_that_few_samples_are_near_to_are_no_collapse() -> None:
    # Given a thousand classes and fewer samples, scored by a softmax
    logits = RNG.normal(size=(500, 1000))
    logits[np.arange(500), RNG.integers(0, 1000, 500)] += 11
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    fidelity, collapses = compared(chances, quantized(chances, 1 / 256, 0, 255))

    assert collapses == []
    assert fidelity.agreement == 1


def test_dark_pixels_of_a_rebuilt_image_are_no_collapse(golden: Path) -> None:
    from sklearn.datasets import load_digits

    pixels = (load_digits(return_X_y=True)[0][1200:] / 16).astype(np.float32)
    samples = Samples(
        split="test", n=len(pixels), sha256="", read=lambda rows: Batch(inputs={"x": pixels[rows]})
    )
    before, after = (
        predict(golden / "evaluate" / f"autoencoder_{name}.tflite", samples)
        for name in ("float32", "int8")
    )

    (fidelity,), collapses = compare(before, after)

    assert collapses == ()
    assert fidelity_ok(fidelity)


def test_values_cut_off_at_one_end_are_told() -> None:
    values = 10 + 10 * SPREAD

    found = compared(values, np.minimum(quantized(values, 0.05, 0, 1000), 7))[1]

    assert [one.kind for one in found] == ["saturated"]
    assert found[0].detail.endswith(" % of the values are cut off at 7, float32 goes on to 19.94")
    low = compared(-values, np.maximum(-quantized(values, 0.05, 0, 1000), -7))[1]
    assert low[0].detail.endswith("cut off at -7, float32 goes on to -19.94")


def test_sure_scores_of_many_steps_behind_logits_of_few_are_not_cut_off() -> None:
    """A softmax in int16 on int8 logits: the largest score is 0.9990 where float has 0.9995."""
    sure = RNG.uniform(0.9992, 0.9999, 300)
    doubtful = RNG.uniform(0.1, 0.9, 100)
    first = np.concatenate([sure, doubtful]).astype(np.float32)
    reference = np.stack([first, 1 - first], axis=1)
    found = np.minimum(reference, np.float32(0.999))
    found = np.rint(found * 32768) / np.float32(32768)

    _, collapses = compared(reference, found)

    assert collapses == []
    # But what ends a tenth below is.
    _, collapses = compared(reference, np.minimum(reference, np.float32(0.9)))
    assert {one.kind for one in collapses} == {"saturated"}


def test_values_that_end_in_float_too_are_not_cut_off() -> None:
    for ends in (np.maximum(SPREAD, 0.3), np.clip(4 * SPREAD, -1, 1), np.minimum(SPREAD, 0) * 9):
        assert kinds(ends, quantized(ends, 0.02)) == []
    relu6 = np.clip(20 * np.abs(SPREAD), 0, 6)
    assert kinds(relu6, np.minimum(quantized(relu6, 0.1), 5)) == []


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_of_too_few_values_nothing_is_said(n: int) -> None:
    assert kinds(SPREAD[:n], np.zeros((n, 1))) == []


@given(
    seed=st.integers(0, 999),
    scale=st.floats(1e-6, 1e6),
    bits=st.sampled_from([6, 8]),
    shape=st.sampled_from(["normal", "uniform", "exponential", "logistic"]),
)
def test_six_bits_of_its_own_are_no_collapse_of_a_column(seed, scale, bits, shape) -> None:
    values = getattr(np.random.default_rng(seed), shape)(size=(200, 1)) * scale

    assert kinds(values, quantized(values, np.abs(values).max() / 2 ** (bits - 1))) == []


# --- collapses of classes ---


def classified(target: Array, predicted: Array, classes: int = 2):
    scores = np.eye(classes)[predicted]
    return aggregate(
        CLASSIFICATION.per_sample(scores, Batch(inputs={}, targets=target)), CLASSIFICATION
    ).columns


def lost_classes(n: int, before: int, after: int) -> list[Collapse]:
    """Collapses where `before` of the `n` samples of class 1 are found, then only `after`."""
    target = np.concatenate([np.zeros(1000, int), np.ones(n, int)])
    first, second = (
        np.concatenate([np.zeros(1000, int), np.arange(n) < right]).astype(int)
        for right in (before, after)
    )
    return list(
        CLASSIFICATION.collapses(classified(target, first), classified(target, second), None)
    )


@pytest.mark.parametrize(
    ("n", "before", "after"),
    [(4, 4, 0), (5, 5, 1), (80, 80, 0), (80, 60, 29), (1000, 300, 29), (40, 8, 0)],
)
def test_a_class_that_is_no_longer_found_collapsed(n: int, before: int, after: int) -> None:
    (found,) = lost_classes(n, before, after)

    assert (found.kind, found.where) == ("class", "class '1'")
    assert found.detail == (
        f"recall {100 * before / n:.0f} % became {100 * after / n:.0f} % on {n:,} samples"
    )


@pytest.mark.parametrize(
    ("n", "before", "after"),
    [
        (3, 3, 0),  # may be chance
        (4, 4, 1),
        (80, 80, 41),  # half is left
        (1000, 300, 31),  # a tenth of what float32 hardly finds
        (100, 3, 0),
        (80, 0, 0),
        (80, 0, 60),
    ],
)
def test_less_is_no_collapse_of_a_class(n: int, before: int, after: int) -> None:
    assert lost_classes(n, before, after) == []


@given(
    n=st.integers(1, 60), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)), more=st.integers(1, 9)
)
def test_losing_more_of_a_class_never_undoes_its_collapse(n, shares, more) -> None:
    before, after = round(n * shares[0]), round(n * shares[1])
    if lost_classes(n, before, after):
        assert lost_classes(n, before, max(0, after - more))


def test_classes_go_by_their_names() -> None:
    target = np.repeat(np.arange(3), 50)
    after = np.where(target == 2, 0, target)

    (found,) = CLASSIFICATION.collapses(
        classified(target, target, 3), classified(target, after, 3), ("a", "b", "fault")
    )

    assert found.where == "class 'fault'"


def test_a_regression_has_no_classes() -> None:
    columns = {"squared": np.zeros(3)}
    assert REGRESSION.collapses(columns, columns, None) == ()


# --- models that lose a part of what they tell ---


def golden_inputs(golden: Path, name: str, n: int) -> Array:
    spec = importlib.util.spec_from_file_location("made", golden / "make_fidelity_models.py")
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.inputs(name, n, seed=2)


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("rare", ["output 'output_0'"]),
        ("uneven", ["output 'output_0', column 0", "output 'output_0', column 2"]),
        ("head", ["output 'output_0', column 4"]),
    ],
)
def test_what_an_int8_file_lost_is_found_without_targets(golden: Path, name: str, lost) -> None:
    values = golden_inputs(golden, name, 500)
    samples = Samples(
        split="test", n=500, sha256="", read=lambda rows: Batch(inputs={"x": values[rows]})
    )

    before, after = (
        predict(golden / "fidelity" / f"{name}_{kind}.tflite", samples)
        for kind in ("float32", "int8")
    )
    (fidelity,), collapses = compare(before, after)

    assert [(one.kind, one.where) for one in collapses] == [("constant", place) for place in lost]
    assert not fidelity_ok(fidelity)
    # However good its figures are as a whole.
    assert name == "rare" or fidelity.sqnr_db > 40
    assert compare(before, before)[1] == ()


def test_worst_is_the_first_of_equals() -> None:
    same = [Fidelity(output=name, n=1, sqnr_db=3.0) for name in "ab"]
    for pair in itertools.permutations(same):
        assert worst(pair) is pair[0]


# --- values beyond the ends of an output's range ---


def test_values_beyond_an_end_are_counted() -> None:
    # Given a file whose output ends at 0.5, where 20 of 400 values go on
    reference = np.concatenate([SPREAD[:380] / 2, np.linspace(0.6, 1, 20)[:, None]])
    variant = quantized(reference, 0.5 / 127)
    # Then these are counted, and nothing of what lies within.
    assert compared(reference, variant)[0].cut_off == 20
    assert compared(reference[:380], variant[:380])[0].cut_off == 0
    # Of scores of classes nothing is counted.
    rows = np.concatenate([reference, -reference], axis=1)
    scores = np.concatenate([variant, -variant], axis=1)
    (fidelity,), _ = compare({"y": rows}, {"y": scores}, class_scores="y")
    assert fidelity.cut_off is None
