"""A detector is quantized, scored and recommended by its boxes, and scored alike by the runner."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warm_tensorflow import WarmTensorFlow

import edgekit
import edgekit_runner
from edgekit.cli import run
from edgekit.data import bind, open_data
from edgekit.errors import DataError, UsageError
from edgekit.records import Dataset, TensorSpec

RUNNER = [sys.executable, edgekit_runner.__file__]
CELL, GRID, SIDE = 8, 4, 5
HEAD = {
    "kind": "ssd",
    "levels": [{"grid": [GRID, GRID], "sizes": [[SIDE / 32, SIDE / 32]]}],
}


def scenes(n: int, seed: int) -> tuple[Any, Any]:
    """Return pictures `[n, 32, 32, 2]` with bright squares, a channel a class, and their boxes."""
    generator = np.random.default_rng(seed)
    pictures = generator.normal(0, 0.02, (n, 32, 32, 2)).astype(np.float32)
    boxes = np.zeros((n, 6, 5), np.float32)
    boxes[..., 4] = -1
    for row in range(n):
        cells = generator.permutation(GRID * GRID)[: generator.integers(0, 6)]
        for place, cell in enumerate(cells):
            down, across = divmod(int(cell), GRID)
            top, left = (
                CELL * k + int(generator.integers(0, CELL - SIDE + 1)) for k in (down, across)
            )
            kind = int(generator.random() < 0.4)
            light = generator.uniform(0.55, 1.15)
            pictures[row, top : top + SIDE, left : left + SIDE, kind] += light
            edges = np.array([left, top, left + SIDE, top + SIDE]) / 32
            boxes[row, place] = *edges, kind
    return pictures, boxes


# An SSD whose one convolution finds the middle of what is bright in each cell.
MODEL = """
import numpy as np, keras
from keras import layers
place = np.arange(8) - 3.5
kernel = np.zeros((8, 8, 2, 6), np.float32)
# A square of light 1 has 25 pixels; an offset is in tenths of the anchor (the variances).
kernel[..., 0] = (place / (0.1 * 5) / 25)[None, :, None]
kernel[..., 1] = (place / (0.1 * 5) / 25)[:, None, None]
kernel[..., 0, 4] = kernel[..., 1, 5] = 12 / 25
given = layers.Input((32, 32, 2), name="picture")
find = layers.Conv2D(6, 8, strides=8, name="find")
found = find(given)
boxes = layers.Reshape((16, 4), name="boxes")(found[..., :4])
scores = layers.Reshape((16, 2), name="scores")(found[..., 4:])
model = keras.Model(given, [boxes, scores])
find.set_weights([kernel, np.array([0, 0, 0, 0, -6, -6], np.float32)])
model.save("squares.keras")
"""


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, warm_tensorflow: WarmTensorFlow
) -> tuple[Path, Any]:
    """Quantize the detector once, with its head in a file beside it."""
    folder = tmp_path_factory.mktemp("detection")
    warm_tensorflow.script(MODEL, cwd=folder)
    (x_train, y_train), (x_test, y_test) = scenes(80, 0), scenes(150, 1)
    np.savez(
        folder / "data.npz",
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        labels=np.array(["square", "other"]),
    )
    (folder / "squares.head.toml").write_text(
        '[head]\nkind = "ssd"\n'
        f"levels = [{{ grid = [{GRID}, {GRID}], sizes = [[{SIDE / 32}, {SIDE / 32}]] }}]\n"
    )
    report = edgekit.quantize(
        folder / "squares.keras",
        data=str(folder / "data.npz"),
        output=folder / "out",
        modes=["float16", "int8"],
        latency=False,
    )
    return folder, report


@pytest.mark.tensorflow
def test_every_row_has_a_mean_average_precision(made: tuple[Path, Any]) -> None:
    _, report = made
    rows = {row.artifact.variant: row for row in report.rows}
    assert list(rows) == ["source", "float32", "float16", "int8"]
    assert {row.score.metric for row in report.rows} == {"map"}
    source, whole, small = (rows[name] for name in ("source", "float32", "int8"))
    assert 0.5 < source.score.value < 1
    assert whole.score.value == pytest.approx(source.score.value, abs=1e-3)
    low, high = source.score.ci95
    assert low < source.score.value < high
    assert source.score.guess < low
    assert source.score.extras["map50"] > source.score.value
    assert [one.label for one in source.score.per_class] == ["square", "other"]
    assert all(one.recall > 0.8 and one.area > 0.4 for one in source.score.per_class)
    assert small.drop.ci95[0] <= small.drop.value <= small.drop.ci95[1]
    assert 0 < small.agreement <= 1
    assert [one.output for one in small.fidelity] == ["boxes", "scores"]
    assert small.collapses == ()
    assert sum(row.recommended for row in report.rows) == 1
    assert "read from squares.head.toml" in report.data["read from"]


@pytest.mark.tensorflow
def test_the_manifest_carries_the_head_and_the_runner_scores_alike(
    made: tuple[Path, Any],
) -> None:
    folder, report = made
    rows = {row.artifact.variant: row for row in report.rows}
    for variant in ("float32", "int8"):
        manifest = json.loads((folder / "out" / f"{variant}.json").read_text())
        assert manifest["head"]["kind"] == "ssd"
        assert manifest["head"]["scores"] == "scores"
        answer = subprocess.run(
            [*RUNNER, "eval", folder / "out" / f"{variant}.tflite", folder / "data.npz", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        score = json.loads(answer.stdout)["score"]
        expected = rows[variant].score
        assert score["metric"] == expected.metric
        assert score["value"] == pytest.approx(expected.value, abs=1e-12)
        assert score["ci95"] == pytest.approx(expected.ci95, abs=1e-12)
        assert score["extras"]["map50"] == pytest.approx(expected.extras["map50"], abs=1e-12)


@pytest.mark.tensorflow
def test_files_are_scored_by_the_head_of_their_manifest(made: tuple[Path, Any]) -> None:
    folder, report = made
    files = [folder / "out" / f"{name}.tflite" for name in ("float32", "int8")]
    again = edgekit.evaluate(files, str(folder / "data.npz"))
    expected = [row.score.value for row in report.rows if row.artifact.variant != "source"]
    assert [row.score.value for row in again.files] == [expected[0], expected[2]]


@pytest.mark.tensorflow
def test_a_rebuilt_file_is_the_same(made: tuple[Path, Any]) -> None:
    folder, _ = made
    rebuilt = edgekit.rebuild(folder / "out" / "int8.json")
    assert rebuilt.variant == "int8"


@pytest.mark.tensorflow
def test_run_answers_with_boxes_in_pixels(made: tuple[Path, Any]) -> None:
    folder, _ = made
    answer = subprocess.run(
        [*RUNNER, "run", folder / "out" / "float32.tflite", folder / "data.npz", "--limit", "3"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    found = [thing for line in lines for thing in line["objects"]]
    assert found
    for thing in found:
        top, left, bottom, right = thing["box"]
        assert right - left == pytest.approx(SIDE / 32, abs=1e-5)
        assert bottom - top == pytest.approx(SIDE / 32, abs=1e-5)
        assert thing["label"] in ("square", "other")
        assert thing["score"] >= 0.5


SSD_OUTPUTS = (
    TensorSpec(name="boxes", shape=(1, 16, 4), dtype="float32"),
    TensorSpec(name="scores", shape=(1, 16, 2), dtype="float32"),
)
INPUTS = (TensorSpec(name="picture", shape=(1, 32, 32, 2), dtype="float32"),)


def opened(change: Callable[[Any], Any] = lambda boxes: boxes, **more: Any) -> Dataset:
    pictures, boxes = scenes(12, 3)
    boxes[0, 0] = 0.25, 0.25, 0.5, 0.5, 1
    given = {"x_test": pictures, "y_test": change(boxes), **more}
    from edgekit.data import take

    return open_data(take(given))


def with_head(dataset: Dataset, **table: Any) -> Dataset:
    from dataclasses import replace

    return replace(dataset, head=edgekit_runner.check_head({**HEAD, **table}))


def test_bound_boxes_have_six_columns() -> None:
    dataset = bind(with_head(opened()), INPUTS, SSD_OUTPUTS)
    assert dataset.task == "detection"
    assert dataset.test is not None
    batch = dataset.test.read(np.arange(2))
    assert batch.targets is not None
    assert batch.targets.shape == (2, 6, 6)
    assert batch.targets.dtype == np.float32
    np.testing.assert_array_equal(batch.targets[0, 0], [0.25, 0.25, 0.5, 0.5, 1, 0])
    # And binding again changes nothing.
    again = bind(dataset, INPUTS, SSD_OUTPUTS)
    assert again.test is not None
    np.testing.assert_array_equal(again.test.read(np.arange(2)).targets, batch.targets)


def test_without_a_head_the_message_shows_how_to_declare_one() -> None:
    with pytest.raises(DataError) as caught:
        bind(opened(), INPUTS, SSD_OUTPUTS)
    lines = str(caught.value), caught.value.found, caught.value.hint
    assert "how the outputs tell boxes is not declared" in str(caught.value.what)
    assert "boxes [1, 16, 4], scores [1, 16, 2]" in str(lines)
    # Then what the hint says can be pasted.
    from edgekit.data.heads import parse_head

    pasted = str(caught.value.hint).partition("--head '")[2].rpartition("'")[0]
    from dataclasses import replace

    dataset = bind(replace(opened(), head=parse_head(pasted)), INPUTS, SSD_OUTPUTS)
    assert dataset.task == "detection"


def set_box(**places: Any) -> Callable[[Any], Any]:
    def change(boxes: Any) -> Any:
        boxes = boxes.copy()
        for column, value in places.items():
            boxes[0, 0, int(column[1:])] = value
        return boxes

    return change


@pytest.mark.parametrize(
    ("change", "what", "hint"),
    [
        (set_box(c2=1.2), "sample 0 has a box outside the picture", "Correct the box"),
        (lambda boxes: boxes * [32, 32, 32, 32, 1], "outside the picture", "Divide x by the width"),
        (set_box(c2=0.1), "sample 0 has a box whose corners are swapped", "Correct the box"),
        (set_box(c1=np.nan), "sample 0 has a box with NaN or infinity", "Correct the box"),
        (set_box(c4=2), "a class that the model of 2 classes does not have", "Number the classes"),
    ],
)
def test_boxes_that_cannot_be_are_named(change: Callable[[Any], Any], what: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        bind(with_head(opened(change)), INPUTS, SSD_OUTPUTS)
    assert what in str(caught.value.what)
    assert hint in str(caught.value.hint)


def test_labels_of_another_number_are_named() -> None:
    dataset = opened(labels=np.array(["a", "b", "c"]))
    with pytest.raises(DataError, match="has 3 classes, the model's outputs have 2"):
        bind(with_head(dataset), INPUTS, SSD_OUTPUTS)


def test_classes_without_boxes_are_said() -> None:
    def only_first(boxes: Any) -> Any:
        return np.where(boxes[..., 4:] == 1, [0, 0, 0, 0, -1], boxes).astype(np.float32)

    dataset = bind(with_head(opened(only_first)), INPUTS, SSD_OUTPUTS)
    assert any("No test picture has a box of 1" in note for note in dataset.notes)


def test_a_head_of_other_outputs_is_named() -> None:
    with pytest.raises(DataError) as caught:
        bind(with_head(opened(), boxes="corners"), INPUTS, SSD_OUTPUTS)
    assert "There is no output 'corners'" in str(caught.value.found)


def test_yolo_is_recognized_by_shape_only_where_targets_are_boxes() -> None:
    outputs = (TensorSpec(name="y", shape=(1, 6, 300), dtype="float32"),)
    dataset = bind(opened(), INPUTS, outputs)
    assert dataset.task == "detection"
    assert dataset.head is not None
    assert dataset.head["kind"] == "yolo"
    assert any("by their shapes" in note for note in dataset.notes)


def test_a_metric_of_another_task_is_refused() -> None:
    from edgekit.evaluation.scores import metric_of
    from edgekit.evaluation.tasks import DETECTION

    with pytest.raises(UsageError, match="no metric 'accuracy' of a detection"):
        metric_of(DETECTION, "accuracy")


@pytest.mark.tensorflow
def test_the_runner_names_a_head_that_does_not_fit(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    for name in ("float32.tflite", "float32.json"):
        (tmp_path / name).write_bytes((folder / "out" / name).read_bytes())
    manifest = json.loads((tmp_path / "float32.json").read_text())
    for change, words in (
        ({"scores": "points"}, "there is no output 'points'"),
        ({"kind": "rcnn"}, "kind is 'rcnn'; known: ssd, yolo, center, postprocess"),
    ):
        changed = {**manifest, "head": {**manifest["head"], **change}}
        (tmp_path / "float32.json").write_text(json.dumps(changed))
        answer = subprocess.run(
            [*RUNNER, "eval", tmp_path / "float32.tflite", folder / "data.npz"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == edgekit_runner.MODEL
        assert words in answer.stderr
        assert len(answer.stderr.splitlines()) == 3


@pytest.mark.tensorflow
def test_the_command_takes_a_head_in_a_line(
    made: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given: a file whose manifest and head are elsewhere
    folder, report = made
    file = tmp_path / "squares.tflite"
    file.write_bytes((folder / "out" / "float32.tflite").read_bytes())
    words = ["eval", str(file), "--data", str(folder / "data.npz"), "--json", "-q"]
    # When: no head is declared
    assert run(words) == DataError.exit_code
    said = capsys.readouterr().err
    assert "how the outputs tell boxes is not declared" in said
    # Then: one in a line does
    level = f"{{grid = [{GRID}, {GRID}], sizes = [[{SIDE / 32}, {SIDE / 32}]]}}"
    head = f'{{kind = "ssd", levels = [{level}]}}'
    assert run([*words, "--head", head]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    expected = {row.artifact.variant: row.score.value for row in report.rows}
    assert row["score"]["value"] == expected["float32"]
    assert row["score"]["per_class"][0]["area"] > 0.4
    # And one that cannot be is refused.
    assert run([*words, "--head", '{kind = "ssd"}']) == DataError.exit_code
    assert "an ssd needs either anchors or levels" in capsys.readouterr().err.lower()
