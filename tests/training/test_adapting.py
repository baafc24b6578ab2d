"""Layers that a target does not take are replaced, and the model is trained again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli import run
from edgekit.errors import UsageError
from edgekit.recipe import Adapt, parse_recipe
from edgekit.tflite.inspect import inspect

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="session")
def found(run_session) -> dict[str, Any]:
    return run_session("adapting")


@pytest.fixture(scope="session")
def folder(found) -> Path:
    return Path(found["folder"])


@pytest.mark.parametrize("name", ["leaky", "large"])
def test_some_replacements_compute_the_same(found, name):
    assert found[name]["moved"] == pytest.approx(0, abs=1e-6)
    assert found[name]["restored"]


def test_slopes_of_all_places_become_their_mean(found):
    # given slopes from 0 to 1 in the order of 8 x 8 places and 4 channels
    slopes = np.linspace(0, 1, 8 * 8 * 4).reshape(8, 8, 4)
    assert found["slopes"]["weights"][0] == pytest.approx(slopes.mean(axis=(0, 1)), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("nested", "backbone/act"), ("operation", "hard_silu"), ("twice", "shared")],
)
def test_layers_are_found_wherever_they_stand_and_all_weights_stay(found, name, layer):
    (site,) = found[name]["sites"]
    assert site[0].rstrip("_0123456789").endswith(layer.rstrip("_0123456789"))
    assert site[1] is not None
    assert found[name]["kept"]
    assert found[name]["moved"] > 0
    assert found[name]["restored"]


def test_the_operator_tells_which_of_two_cures_a_layer_needs(found):
    assert found["uneven"]["sites"][0][1] == "dilation that differs in x and y"
    assert found["activation"]["sites"][1][1] == "gelu"


def test_a_layer_with_two_things_in_the_way_gets_both_replacements(found):
    # Given a convolution of uneven dilation with GELU, and one without dilation
    both = found["both"]
    weights, function = found["activation"]["sites"]

    # Then each has its swap, what has none says so, and the layer is built with both
    assert [site[1] for site in both["sites"]] == ["dilation that differs in x and y", "gelu"]
    assert both["configs"]["both"] == {"dilation_rate": [1, 1], "activation": "silu"}
    assert (weights[1], weights[3]) == (None, "no replacement is known for Conv2D")
    assert function[1] == "gelu"


@pytest.fixture(scope="session")
def priced(folder) -> str:
    """What `adapt --dry-run` says of a model with several things in the way."""
    words = ["adapt", "several.keras", "--target", "coral", "--data", "digits", "--dry-run", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    return done.stdout


def test_each_kind_of_replacement_has_its_price(priced):
    plain = " ".join(priced.split())
    prices = re.findall(r"(\S+) -> \S+ in layer (\w+): ([+-]\d+) operators? on coral", plain)
    assert [(swap, layer) for swap, layer, _ in prices if layer == "second"]
    assert {layer for _, layer, _ in prices} == {"first", "second"}
    assert "dilation that differs in x and y -> the smaller one in both in layer first" in plain
    totals = re.search(r"takes (\d+) of .*? with the replacements (\d+)", plain)
    assert totals is not None
    before, after = map(int, totals.groups())
    assert sum(int(more) for *_, more in prices) == after - before
    assert max(map(len, priced.splitlines())) <= 80


def test_what_has_no_cure_is_named(found):
    ((layer, swap, replacements, why),) = found["recurrent"]["sites"]
    assert (layer, swap, replacements) == ("memory", None, [])
    assert "recurrent" in why


def test_a_model_of_code_is_refused(found):
    what, _, hint = found["code"]
    assert "neither" in what or "no functional or sequential model" in what
    assert hint


def test_a_model_is_adapted_and_the_prediction_holds(folder, capsys, monkeypatch):
    # Given
    monkeypatch.chdir(folder)
    words = ["hard.keras", "--target", "coral", "--data", "digits"]

    # When
    assert run(["adapt", *words, "--epochs", "4", "-o", "adapted.keras", "-q"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    made = ["quantize", "adapted.keras", *words[1:], "--mode", "int8", "--io", "int8"]
    assert run([*made, "--no-bench", "-o", "made", "-q"]) == 0

    # Then
    assert "hard_silu -> silu in 2 layers (stem_act, body)" in said
    taken = inspect(folder / "made" / "int8.tflite", targets=["coral"])
    there = len(taken.ops)
    assert taken.unmapped("coral") == ()
    assert f"with the replacements {there} of {there}" in said
    assert "after the change" in said
    assert "95 % interval" in said
    rows = json.loads((folder / "made" / "report.json").read_text())["rows"]
    assert rows[0]["score"]["value"] > 0.9


def test_a_replacement_that_changes_sizes_is_left_out_and_the_others_are_made(priced):
    plain = " ".join(priced.split())

    assert "no replacement for layer third (CONV_2D)" in plain
    assert "cannot be built with it" in plain
    assert "-> the smaller one in both in layer first" in plain


def test_where_there_is_nothing_to_replace_nothing_is_written(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)

    words = ["adapt", "plain.keras", "--target", "coral", "--data", "digits", "-o", "same.keras"]
    assert run([*words, "-q"]) == 0

    assert "Nothing to replace: nothing was written." in capsys.readouterr().out
    assert not (folder / "same.keras").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "corral", "-o", "a.keras"], "Did you mean 'coral'?"),
        (["--target", "coral"], "--dry-run"),
        (["--target", "coral", "-o", "a.h5"], "a.keras"),
        (["--target", "coral", "--dry-run", "--resume"], "no effect"),
        (["-o", "a.keras"], "--target"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(folder, words, said, capsys, monkeypatch):
    monkeypatch.chdir(folder)

    assert run(["adapt", "hard.keras", "--data", "digits", *words]) == 2

    assert said in capsys.readouterr().err


def test_a_recipe_may_begin_with_it():
    text = '[[step]]\nkind = "adapt"\ntarget = "micro"\nepochs = 2\n'
    end = '[[step]]\nkind = "quantize"\nmode = "int8"\n'
    recipe = parse_recipe(f"schema = 1\n{text}{end}", "r.toml")

    (step,) = recipe.passes
    assert isinstance(step, Adapt)
    assert (step.target, step.training.epochs, step.distills) == ("micro", 2, True)
    with pytest.raises(UsageError, match="corral"):
        parse_recipe(f"schema = 1\n{text.replace('micro', 'corral')}{end}", "r.toml")
