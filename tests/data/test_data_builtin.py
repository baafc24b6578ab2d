"""The built-in sets: their splits, and the trained baselines' published scores on them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from edgekit.data import bind, open_data, training_split
from edgekit.data.formats.builtin import DIGITS
from edgekit.records import TensorSpec

SHAPES = {
    "digits": ((8, 8, 1), 10),
    "fashion-mnist": ((28, 28, 1), 10),
    "spoken-digits": ((61, 40, 1), 10),
    "turbofan": ((30, 14), 1),
}


def bound(name):
    shape, units = SHAPES[name]
    inputs = [TensorSpec(name="input", shape=(1, *shape), dtype="float32")]
    return bind(open_data(name), inputs, [TensorSpec(name="y", shape=(1, units), dtype="float32")])


def everything(samples):
    return samples.read(np.arange(samples.n))


def test_digits_need_neither_a_folder_nor_scikit_learn_in_memory():
    code = (
        "import sys\n"
        "from edgekit.data import open_data\n"
        "d = open_data('digits')\n"
        "print(d.train.n, d.test.n, d.calibrate.n)\n"
        "print([m for m in ('sklearn', 'scipy', 'tensorflow', 'PIL') if m in sys.modules])"
    )

    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PATH": ""}
    )

    assert run.stdout.splitlines() == ["1297 500 200", "[]"]


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    dataset = bound("digits")

    ours = [everything(samples) for samples in (dataset.train, dataset.test)]
    x = np.concatenate([batch.inputs["input"] for batch in ours])
    y = np.concatenate([batch.targets for batch in ours])
    expected = sorted(
        (int(label), *(row / 16).astype(np.float32).tolist())
        for row, label in zip(theirs.data, theirs.target, strict=True)
    )
    found = sorted((int(label), *row.ravel().tolist()) for row, label in zip(x, y, strict=True))
    assert found == expected
    assert np.bincount(ours[1].targets).min() >= 48


def test_the_shipped_digits_are_scikit_learn_s_in_their_order():
    from sklearn.datasets import load_digits

    theirs = load_digits()

    with np.load(DIGITS) as ours:
        np.testing.assert_array_equal(ours["images"], theirs.images)
        np.testing.assert_array_equal(ours["labels"], theirs.target)
    assert DIGITS.stat().st_size < 100_000


def test_the_digests_of_the_digits_are_those_of_published_reports():
    dataset = open_data("digits")

    assert dataset.train.sha256.startswith("d9b144a2692a3cb352edf3816369e81e")
    assert dataset.calibrate.sha256.startswith("25b3e8c84d193463fa8f212822724a7e")
    assert dataset.test.sha256.startswith("e9c356ddebdbc08cd5d4a4e3c1ba18dc")


def test_the_digits_are_read_where_scikit_learn_cannot_be_imported():
    code = (
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "from edgekit.data import open_data\n"
        "print(open_data('digits').train.n)"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["1297"]


@pytest.mark.data
def test_pictures_with_boxes_and_masks_have_their_split(shared_data):
    cells, nuclei = open_data("bccd"), open_data("nuclei")

    assert (cells.train.n, cells.test.n, cells.task) == (205, 72, "detection")
    assert (nuclei.train.n, nuclei.test.n, nuclei.task) == (267, 67, "segmentation")
    assert nuclei.test.read.store.files[0].endswith("268.png")


@pytest.mark.data
def test_turbofan_windows_are_those_of_the_tables(shared_data):
    dataset = bound("turbofan")

    train = everything(dataset.train)
    test = everything(dataset.test)
    assert (dataset.train.n, dataset.test.n) == (17731, 100)
    assert dataset.task == "regression"
    assert (train.inputs["input"].min(), train.inputs["input"].max()) == pytest.approx(
        (-1, 1), abs=5e-4
    )
    # Engine 1 lives 192 cycles: 163 windows, the last of which ends at its last cycle.
    np.testing.assert_array_equal(train.targets[:163, 0], np.minimum(125, np.arange(162, -1, -1)))
    published = np.loadtxt(shared_data / "cmapss_fd001" / "RUL_FD001.txt")
    np.testing.assert_array_equal(test.targets[:, 0], np.minimum(125, published))
    raw = np.loadtxt(shared_data / "cmapss_fd001" / "train_FD001.txt.gz")
    sensor_2 = raw[:, 6]
    scaled = 2 * (sensor_2 - sensor_2.min()) / (sensor_2.max() - sensor_2.min()) - 1
    np.testing.assert_allclose(train.inputs["input"][0, :, 0], scaled[:30], atol=5e-4)
    np.testing.assert_allclose(train.inputs["input"][162, :, 0], scaled[162:192], atol=5e-4)


@pytest.mark.data
def test_turbofan_holds_back_whole_engines(shared_data):
    dataset = bound("turbofan")

    fit, validation = training_split(dataset)

    # A window that is held back has no neighbour, one cycle on, among those that are fitted to.
    starts = {row[1:].tobytes() for row in everything(validation).inputs["input"]}
    ends = {row[:-1].tobytes() for row in everything(fit).inputs["input"]}
    assert not starts & ends
    assert 0.05 < validation.n / dataset.train.n < 0.15


@pytest.mark.data
def test_spoken_digits_follow_the_official_split(shared_data):
    dataset = bound("spoken-digits")

    assert (dataset.train.n, dataset.test.n) == (2700, 300)
    assert dataset.labels[3] == "three"
    np.testing.assert_array_equal(np.bincount(everything(dataset.test).targets), [30] * 10)
    clips = np.load(shared_data / "fsdd" / "fsdd.npz")
    assert np.sum(clips["index"] < 5) == dataset.test.n


@pytest.mark.data
@pytest.mark.tensorflow
def test_trained_baselines_score_here_what_they_scored_where_they_were_trained(shared_data):
    baselines = shared_data / "baselines"
    script = f"""
import json, keras, numpy as np
from pathlib import Path
from edgekit.data import bind, open_data
from edgekit.records import TensorSpec

def spec(tensor):
    return TensorSpec(name=tensor.name, shape=(1, *tensor.shape[1:]), dtype=tensor.dtype)

scores = {{}}
for name, file in (("fashion-mnist", "fashion_mnist_cnn"), ("spoken-digits", "fsdd_dscnn"),
                   ("turbofan", "cmapss_cnn1d")):
    model = keras.saving.load_model(Path({str(baselines)!r}) / f"{{file}}.keras")
    data = bind(open_data(name), [spec(t) for t in model.inputs], [spec(t) for t in model.outputs])
    batch = data.test.read(np.arange(data.test.n))
    predicted = model.predict(batch.inputs[model.inputs[0].name], batch_size=500, verbose=0)
    if data.task == "classification":
        scores[file] = float(np.mean(predicted.argmax(axis=1) == batch.targets))
    else:  # this baseline predicts remaining life over 125
        scores[file] = float(np.sqrt(np.mean((predicted * 125 - batch.targets) ** 2)))
print(json.dumps(scores))
"""
    published = json.loads((baselines / "baselines.json").read_text())

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    scores = json.loads(run.stdout.splitlines()[-1])
    assert scores["fashion_mnist_cnn"] == published["fashion_mnist_cnn"]["acc"]
    assert scores["fsdd_dscnn"] == published["fsdd_dscnn"]["official"]["acc"]
    assert scores["cmapss_cnn1d"] == pytest.approx(
        published["cmapss_cnn1d"]["rmse_capped"], abs=0.01
    )
