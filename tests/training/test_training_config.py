"""Training configurations are checked before TensorFlow is loaded."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.data import open_data
from edgekit.errors import DataError, UsageError
from edgekit.training import NAMES, Augmentation, TrainingConfig, describe, find, load_config
from edgekit.training.anchors import ssd_head
from edgekit.training.finetuning import Tuning
from edgekit.training.saving import write_head
from edgekit_runner import check_head

GOOD = """
schema = 1
name = "digits"
[architecture]
name = "cnn"
options = { widths = [[12], [24, 24]] }
[data]
source = "digits"
licence = "CC BY 4.0"
[preprocessing]
kind = "affine"
scale = 0.0625
[training]
epochs = 3
learning_rate = 0.005
augment = { shift = [1, 1] }
[published]
value = 0.97
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "model.toml"
    path.write_text(text)
    return path


def test_a_model_toml_is_read_and_survives_the_way_to_another_process(tmp_path):
    config = load_config(written(tmp_path, GOOD))
    assert config == TrainingConfig(
        name="digits",
        architecture="cnn",
        options={"widths": [[12], [24, 24]]},
        data="digits",
        preprocessing={"kind": "affine", "scale": 0.0625},
        epochs=3,
        learning_rate=0.005,
        augment=Augmentation(shift=(1, 1)),
    )
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs = 3", "epoch = 3", "Did you mean 'epochs'?"),
        ("epochs = 3", "epochs = 0", "epochs must be a whole number from 1"),
        ("epochs = 3", "epochs = 2.5", "epochs must be a whole number from 1"),
        ("epochs = 3", "patience = true", "patience must be a whole number from 1"),
        ("learning_rate = 0.005", "learning_rate = -1", "learning_rate must be a number above 0"),
        ("learning_rate = 0.005", 'learning_rate = "fast"', "wrong type"),
        ("learning_rate = 0.005", 'loss = "huber"', "loss must be mse or mae"),
        ("learning_rate = 0.005", "label_smoothing = 1.0", "label_smoothing must be"),
        ("shift = [1, 1]", "shifts = [1, 1]", "Did you mean 'shift'?"),
        ("shift = [1, 1]", "shift = [-1]", "augment.shift must be whole numbers"),
        ("shift = [1, 1]", "shift = 1", "wrong type"),
        ("shift = [1, 1]", "noise = nan", "augment.noise must be"),
        ("shift = [1, 1]", "noise = inf", "augment.noise must be"),
        ("shift = [1, 1]", "shift = [1000000000]", "augment.shift must be"),
        ("learning_rate = 0.005", "learning_rate = nan", "learning_rate must be"),
        ("learning_rate = 0.005", "learning_rate = inf", "learning_rate must be"),
        ("epochs = 3", "epochs = 99999999999999999999", "epochs must be"),
        ("epochs = 3", "seed = 4294967296", "seed must be"),
        ("[12], [24, 24]", "[12], [24, 1000000000]", "options must be"),
        ("[12], [24, 24]", "[12], [nan]", "options must be"),
        ('name = "cnn"', 'name = "resnet9"', "Did you mean 'resnet8'?"),
        ('name = "cnn"', "", "architecture.name is missing"),
        ('source = "digits"', "", "data.source is missing"),
        ('licence = "CC BY 4.0"', 'task = "clustering"', "task must be classification"),
        ('licence = "CC BY 4.0"', 'license = "MIT"', "Did you mean 'licence'?"),
        ("schema = 1", "schema = 2", "schema must be 1"),
        ("[published]", "[publised]", "Did you mean 'published'?"),
        ("options = { widths = [[12], [24, 24]] }", "options = 3", "options must be a table"),
        ("schema = 1", "schema =", "is not TOML"),
    ],
)
def test_what_means_nothing_is_refused_in_three_lines(tmp_path, old, new, says):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UsageError) as refused:
        load_config(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_config(tmp_path / "model.toml")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mobilnet_v2", "Did you mean 'mobilenet_v2'?"),
        ("EficientNetB0", "Did you mean 'EfficientNetB0'?"),
        ("cnn:0.5", "has no width"),
        ("mobilenet_v2:wide", "must be a number"),
        ("mobilenet_v2:nan", "must be a number"),
        ("mobilenet_v1:0", "must be a number"),
        ("", "No architecture"),
    ],
)
def test_unknown_architectures_are_refused(name, says):
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        find(name)


def test_every_name_is_found_and_described():
    for name in NAMES:
        assert find(name).summary
    assert {entry.name for entry in describe()} <= set(NAMES)
    assert find("mobilenet_v1_025").options["alpha"] == 0.25
    assert find("efficientnet_b0").name == "EfficientNetB0"


def test_names_and_configurations_do_without_tensorflow():
    code = (
        "import sys; from edgekit.training import describe, find; describe(); find('VGG16');"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(
    step=st.integers(0, 5),
    size=st.integers(1, 12),
    seed=st.integers(0, 2**16),
)
def test_a_shift_moves_by_at_most_its_step_and_repeats_the_edge(step, size, seed):
    ramp = np.broadcast_to(np.arange(size, dtype=np.float32)[None, :, None], (6, size, 2)).copy()
    moved = Augmentation(shift=(step,)).apply(ramp, np.random.default_rng(seed))
    assert moved.shape == ramp.shape
    assert moved.dtype == ramp.dtype
    assert np.abs(moved - ramp).max() <= step
    # a ramp stays one, but for its repeated ends
    assert set(np.unique(np.diff(moved, axis=1))) <= {0.0, 1.0}


@given(seed=st.integers(0, 2**16))
def test_a_flip_mirrors_some_images_and_leaves_the_others(seed):
    images = np.random.default_rng(1).random((64, 4, 5, 3)).astype(np.float32)
    given_images = images.copy()
    turned = Augmentation(flip=True).apply(images, np.random.default_rng(seed))
    kept = (turned == images).all(axis=(1, 2, 3))
    mirrored = (turned == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 0 < kept.sum() < 64
    assert (images == given_images).all()


@given(seed=st.integers(0, 2**16), flip=st.booleans(), shift=st.integers(0, 3))
def test_masks_move_with_their_pictures(seed, flip, shift):
    masks = np.random.default_rng(2).integers(0, 9, (16, 6, 5), dtype=np.uint8)
    images = masks[..., None].astype(np.float32)
    change = Augmentation(flip=flip, shift=(shift, shift))
    moved, targets = change.apply_to_both(
        images, masks, "segmentation", np.random.default_rng(seed)
    )
    assert targets.dtype == masks.dtype
    assert (moved[..., 0] == targets).all()
    assert (targets != masks).any() == bool(flip or shift)


@given(seed=st.integers(0, 2**16), flip=st.booleans(), shift=st.integers(0, 3))
def test_boxes_move_with_their_pictures(seed, flip, shift):
    corners = np.random.default_rng(3).integers(0, 12, (16, 2, 2))
    images = np.zeros((16, 20, 24, 1), np.float32)
    boxes = np.full((16, 2, 6), -1, np.float32)
    for image, box, ((y, x), _) in zip(images, boxes, corners, strict=True):
        image[4 + y : 7 + y, 4 + x : 9 + x] = 1
        box[0] = (4 + x) / 24, (4 + y) / 20, (9 + x) / 24, (7 + y) / 20, 1, 0
    change = Augmentation(flip=flip, shift=(shift, shift))
    moved, targets = change.apply_to_both(images, boxes, "detection", np.random.default_rng(seed))
    for image, box in zip(moved[..., 0], targets[:, 0], strict=True):
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        drawn = columns[0] / 24, rows[0] / 20, (columns[-1] + 1) / 24, (rows[-1] + 1) / 20
        assert box[:4] == pytest.approx(drawn, abs=1e-5)
    assert (targets[:, 1, 4] == -1).all()


def test_a_box_that_is_moved_out_of_its_picture_is_none():
    boxes = np.array([[[0.0, 0.2, 0.1, 0.4, 1, 0]]] * 32, np.float32)
    images = np.zeros((32, 10, 10, 1), np.float32)
    _, targets = Augmentation(shift=(0, 3)).apply_to_both(
        images, boxes, "detection", np.random.default_rng(0)
    )
    gone = targets[:, 0, 2] <= targets[:, 0, 0]
    assert 0 < gone.sum() < 32
    assert (targets[gone, 0, 4] == -1).all()
    assert (targets[~gone, 0, 4] == 1).all()


def test_anchors_are_typical_sizes_in_which_rare_classes_count_too():
    rng = np.random.default_rng(0)
    sides = np.concatenate([rng.normal(0.2, 0.01, (200, 1)), rng.normal(0.5, 0.01, (4, 1))])
    boxes = np.zeros((204, 2, 6))
    boxes[:, 0, 2:4], boxes[:, 0, 4] = sides, np.arange(204) >= 200
    boxes[:, 1, 4] = -1
    head = ssd_head(boxes, (96, 128, 3), stride=8, levels=2, sizes=[1, 1])
    assert [level["grid"] for level in head["levels"]] == [[12, 16], [6, 8]]
    (small,), (large,) = (level["sizes"] for level in head["levels"])
    assert small == pytest.approx([0.2, 0.2], abs=0.01)
    assert large == pytest.approx([0.5, 0.5], abs=0.02)


def test_declared_anchors_are_kept_and_no_boxes_are_a_data_error():
    none = np.full((3, 1, 5), -1.0)
    sizes = [[[0.1, 0.2]], [[0.3, 0.3], [0.5, 0.4]]]
    head = ssd_head(none, (64, 64, 3), stride=16, levels=2, sizes=sizes)
    assert [level["sizes"] for level in head["levels"]] == sizes
    with pytest.raises(DataError, match="no boxes"):
        ssd_head(none, (64, 64, 3), stride=8, levels=2, sizes=1)


def test_a_head_is_written_as_it_is_read(tmp_path):
    boxes = np.array([[[0.1, 0.1, 0.3, 0.4, 0.0]]])
    head = ssd_head(boxes, (64, 64, 3), stride=8, levels=2, sizes=2)
    path = write_head(head, tmp_path / "cells.keras")
    assert path.name == "cells.head.toml"
    assert check_head(tomllib.loads(path.read_text())["head"]) == head


def test_targets_that_name_no_place_stay_as_they_are():
    images, flags = np.ones((4, 6, 5, 1), np.float32), np.eye(4)
    change = Augmentation(flip=True, shift=(1, 1))
    _, targets = change.apply_to_both(images, flags, "multi-label", np.random.default_rng(0))
    assert (targets == flags).all()


def test_the_same_seed_varies_alike():
    images = np.random.default_rng(1).random((8, 6, 6, 1)).astype(np.float32)
    augment = Augmentation(shift=(2, 1), flip=True, noise=0.1)
    first, again, other = (augment.apply(images, np.random.default_rng(s)) for s in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("augment", "shape"),
    [
        (Augmentation(shift=(1, 1, 1)), (8, 8, 1)),
        (Augmentation(flip=True), (30, 14)),
        (Augmentation(shift=(1,)), (640,)),
    ],
)
def test_samples_that_cannot_be_varied_so_are_refused(augment, shape):
    with pytest.raises(UsageError, match="cannot be augmented"):
        augment.check(shape)


def test_the_published_models_say_all_that_is_needed(repository):
    paths = sorted((repository / "models").glob("*/model.toml"))
    assert [path.parent.name for path in paths] == [
        "bccd",
        "fashion-mnist",
        "nuclei",
        "spoken-digits",
        "turbofan",
    ]
    for path in (*paths, repository / "toolkit" / "edgekit" / "demo" / "model.toml"):
        load_config(path)
        card = tomllib.loads(path.read_text())
        assert {"licence", "citation"} <= set(card["data"])
        # Nobody has published a score of this split of the nuclei.
        published = card.get("published", {})
        assert {"metric", "value", "source"} <= set(published) or path.parent.name == "nuclei"
        assert {"metric", "value", "n", "parameters", "seconds"} <= set(card["measured"])


def test_the_published_models_state_the_preprocessing_and_labels_of_their_data(
    repository, shared_data
):
    for name in ("bccd", "fashion-mnist", "nuclei", "spoken-digits", "turbofan"):
        folder = repository / "models" / name
        config = load_config(folder / "model.toml")
        dataset = open_data(config.data)
        stated = open_data(config.data, preprocessing=config.preprocessing)
        # Photographs have no size of their own: only the model states one.
        sized = name in ("bccd", "nuclei")
        own = dict(stated.preprocessing)
        kept = {key: own[key] for key in dataset.preprocessing} if sized else own
        assert kept == dict(dataset.preprocessing)
        if dataset.labels:
            assert tuple((folder / "labels.txt").read_text().splitlines()) == dataset.labels


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": 0.0},
        {"epochs": -1},
        {"epochs": 1.5},
        {"batch_size": 0},
        {"batch_size": 10**20},
        {"patience": 0},
        {"seed": 2**32},
    ],
)
def test_no_number_of_a_fine_tuning_is_anything_else(changes):
    with pytest.raises(UsageError, match=next(iter(changes))):
        Tuning(data="digits", **changes)


def test_a_model_toml_nested_beyond_reason(tmp_path):
    with pytest.raises(UsageError, match="nested"):
        load_config(written(tmp_path, "a = " + "[" * 50_000))
