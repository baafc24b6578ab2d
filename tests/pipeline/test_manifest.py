"""Manifests beside a file, as somebody may have edited them."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from edgekit.artifacts import open_artifact
from edgekit.errors import ModelError
from edgekit.pipeline.subjects import Opener, bind_to_file
from edgekit.records import DataRequest


@pytest.fixture
def model(golden, tmp_path):
    return shutil.copy(golden / "runner" / "fsdd_int8.tflite", tmp_path / "model.tflite")


def describe(path, /, **changes):
    """Write the manifest of the model, with some entries changed."""
    described = {
        "schema": 1,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "model": "digits",
        "variant": "int8",
        "mode": "int8",
        "labels": ["a", "b"],
        "data": {"name": "digits", "task": "classification"},
        "preprocessing": {"kind": "none"},
        "lowering": {"max_abs_difference": 1e-7, "samples": 16, "inputs": "data"},
        "left_in_float": [{"operator": "SOFTMAX", "layer": "out", "reason": "rule"}],
    }
    path.with_suffix(".json").write_text(json.dumps({**described, **changes}))


def test_what_edgekit_writes_is_taken(model):
    describe(model, of_a_later_version={"any": [1]})

    artifact = open_artifact(model)

    assert (artifact.variant, artifact.mode) == ("int8", "int8")
    assert artifact.manifest["model"] == "digits"
    assert artifact.manifest["of_a_later_version"] == {"any": [1]}


@pytest.mark.parametrize(
    ("entry", "value", "place"),
    [
        ("model", {"a": 1}, "model"),
        ("variant", 3, "variant"),
        ("mode", "int5", "mode"),
        ("labels", ["a", 1], "labels[1]"),
        ("data", [], "data"),
        ("data", {"task": "(?P<"}, "data.task"),
        ("data", {"task": ["classification"]}, "data.task"),
        ("preprocessing", "image", "preprocessing"),
        ("lowering", {"max_abs_difference": "small"}, "lowering.max_abs_difference"),
        ("left_in_float", [{"operator": []}], "left_in_float[0].operator"),
    ],
)
def test_an_entry_of_another_type_is_named(entry, value, place, model):
    describe(model, **{entry: value})

    with pytest.raises(ModelError) as raised:
        open_artifact(model)

    assert raised.value.what == f"{model.with_suffix('.json')} is not as edgekit writes it."
    assert raised.value.found.startswith(f"{place} is ")


def test_its_hint_works(model):
    describe(model, labels=3)
    with pytest.raises(ModelError, match=r"remove model\.json"):
        open_artifact(model)

    model.with_suffix(".json").unlink()

    assert open_artifact(model).variant == "model"


def test_a_manifest_of_another_file_is_never_looked_into(model):
    describe(model, labels=3, sha256="0" * 64)

    assert open_artifact(model).manifest == {}


@pytest.mark.parametrize("entry", ["model", "variant", "mode", "labels", "data", "lowering"])
def test_null_says_nothing(entry, model, tmp_path):
    describe(model, **{entry: None})
    stored = tmp_path / "data.npz"
    np.savez(stored, x_test=np.zeros((4, 61, 40), np.float32), y_test=np.arange(4))

    assert entry not in open_artifact(model).manifest
    opener = Opener(DataRequest(data=str(stored)))
    assert bind_to_file(opener, open_artifact(model)).task == "classification"
