"""The runner's eval scores each output that has targets, as the host does."""

from __future__ import annotations

import json

import numpy as np
import pytest

import edgekit


@pytest.fixture
def model(golden):
    """Adds and multiplies: outputs `total` and `product`, [1, 3] each."""
    return golden / "evaluate" / "two_in_two_out.tflite"


def arrays(n: int = 80) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=(2, n, 3)).astype(np.float32)
    return {
        "x_test_a": a,
        "x_test_b": b,
        "y_test_total": (a + b + 0.1 * generator.normal(size=(n, 3))).astype(np.float32),
        "y_test_product": (a * b + 0.3 * generator.normal(size=(n, 3))).argmax(axis=1),
    }


def scores(runner, model, data):
    code, out, err = runner("eval", model, data, "--json")
    assert (code, err) == (0, "")
    (row,) = edgekit.evaluate([model], str(data)).rows
    return json.loads(out)["score"], row.score


def assert_same(here, there) -> None:
    assert here["metric"] == there.metric
    assert here["value"] == pytest.approx(there.value, rel=1e-12)
    assert here["ci95"] == pytest.approx(list(there.ci95), rel=1e-12)
    assert here["extras"] == pytest.approx(dict(there.extras), rel=1e-12)


@pytest.mark.parametrize("texts", [False, True])
def test_each_output_with_targets_is_scored(runner, model, tmp_path, texts) -> None:
    given = arrays()
    if texts:
        given["y_test_product"] = np.array(["x", "y", "z"])[given["y_test_product"]]
    np.savez(tmp_path / "both.npz", **given)

    here, there = scores(runner, model, tmp_path / "both.npz")

    assert_same(here, there)
    (mine,), (theirs,) = here["per_output"], there.per_output
    assert (mine["output"], mine["task"]) == (theirs.output, theirs.task)
    assert_same(mine["score"], theirs.score)
    _, out, _ = runner("eval", model, tmp_path / "both.npz")
    assert f"  output product: accuracy {theirs.score.value:.4f}" in out


def test_targets_of_the_second_output_alone_are_its_own(runner, model, tmp_path) -> None:
    given = arrays()
    del given["y_test_total"]
    np.savez(tmp_path / "one.npz", **given)

    here, there = scores(runner, model, tmp_path / "one.npz")

    assert here["metric"] == "accuracy"
    assert here["per_output"] == []
    assert_same(here, there)


def test_another_number_of_targets_is_refused(runner, model, tmp_path) -> None:
    given = arrays()
    given["y_test_product"] = given["y_test_product"][:-1]
    np.savez(tmp_path / "both.npz", **given)

    code, _, err = runner("eval", model, tmp_path / "both.npz")

    assert code == 4
    assert err.splitlines()[1] == "y_test_product [79]."


def test_targets_of_no_output_are_named(runner, model, tmp_path) -> None:
    """Given targets under a mistyped name, then eval names them and the outputs there are."""
    given = arrays()
    given["y_test_prodct"] = given.pop("y_test_product")
    np.savez(tmp_path / "typo.npz", **given)

    code, out, err = runner("eval", model, tmp_path / "typo.npz", "--json")

    assert code == 0
    assert err == "Not used: y_test_prodct. The model's outputs: total, product.\n"
    assert json.loads(out)["score"]["metric"] == "rmse"


def test_a_single_mistyped_name_is_told_with_the_right_ones(runner, model, tmp_path) -> None:
    given = arrays()
    del given["y_test_total"]
    given["y_test_prodct"] = given.pop("y_test_product")
    np.savez(tmp_path / "typo.npz", **given)

    code, _, err = runner("eval", model, tmp_path / "typo.npz")

    assert code == 4
    assert "It holds x_test_a, x_test_b, y_test_prodct." in err
    assert "Store them as y_test, y_test_total or y_test_product" in err
