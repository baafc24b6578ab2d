"""Inputs of `run`, its JSON lines, and its drawings."""

from __future__ import annotations

import ast
import io
import json
import shutil
import signal
import subprocess
import sys
import time
import types
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import edgekit_runner
from edgekit.evaluation import predict
from edgekit.records import Batch, Samples
from edgekit.tflite import with_metadata

SIZED = {"kind": "image", "height": 32, "width": 48, "channels": 3}
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def cells(*painted: tuple[int, int, tuple[int, int, int]]) -> np.ndarray:
    """A black picture of 4 x 6 cells of 8 x 8 pixels, some of them painted."""
    picture = np.zeros((32, 48, 3), np.uint8)
    for row, column, colour in painted:
        picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = colour
    return picture


def lines_of(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def detector(models) -> Path:
    return models / "detector.tflite"


@pytest.fixture
def stdin(monkeypatch):
    """Put bytes on standard input."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))

    return give


# --- Straight integers ---

NUMBERS = st.floats(-300, 300, width=32)
DIVISORS = st.floats(1 / 64, 300, width=32)


@st.composite
def scalings(draw):
    channels = draw(st.sampled_from([1, 3]))
    many = st.booleans() if channels > 1 else st.just(value=False)

    def each(numbers):
        return draw(st.lists(numbers, min_size=3, max_size=3) if draw(many) else numbers)

    spec = {"kind": "image", "height": 4, "width": 5, "channels": channels}
    spec["order"] = draw(st.sampled_from(["rgb", "bgr"]))
    spec["fit"] = draw(st.sampled_from(["stretch", "crop"]))
    return {**spec, "scale": each(DIVISORS), "mean": each(NUMBERS), "std": each(DIVISORS)}


@settings(max_examples=300)
@given(
    scalings(),
    st.sampled_from(["uint8", "int8", "int16"]),
    st.floats(2**-10, 4, width=32),
    st.integers(-128, 127),
    st.integers(0, 2**32 - 1),
)
def test_a_table_gives_the_codes_of_the_float_path_bit_for_bit(spec, dtype, scale, shift, seed):
    zero_point = {"uint8": shift + 128, "int8": shift, "int16": 0}[dtype]
    shape = [1, spec["height"], spec["width"], spec["channels"]]
    details = {"index": 0, "shape": shape, "dtype": dtype, "quantization": (scale, zero_point)}
    tensor = edgekit_runner.Tensor("picture", details)
    picture = np.random.default_rng(seed).integers(0, 256, (7, 6, 3), np.uint8)
    prepare = edgekit_runner.Preprocessor(spec, tensor)
    expected = tensor.encode(edgekit_runner.preprocess(picture, spec))
    found = prepare(picture)
    assert prepare.table(picture.dtype) is not None
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_float_inputs_and_values_without_a_code_have_no_table():
    spec = {"kind": "affine", "mean": 0.5}
    for dtype, scale in (("float32", 0.0), ("uint8", 0.0)):
        details = {"index": 0, "shape": [2], "dtype": dtype, "quantization": (scale, 0)}
        prepare = edgekit_runner.Preprocessor(spec, edgekit_runner.Tensor("x", details))
        assert prepare.table(np.dtype("uint8")) is None


@settings(max_examples=200)
@given(
    st.sampled_from(["none", "affine"]),
    st.tuples(
        st.sampled_from(["uint8", "int8", "int16", ">i2"]),
        st.sampled_from(["uint8", "int8", "int16", "float32"]),
    ),
    st.one_of(NUMBERS, st.lists(NUMBERS, min_size=3, max_size=3)),
    DIVISORS,
    st.integers(0, 2**32 - 1),
)
def test_samples_of_every_integer_type_become_what_floats_become(kind, types, mean, std, seed):
    raw, codes = types
    scale, zero_point = (0.0, 0) if codes == "float32" else (0.5, 3)
    details = {"index": 0, "shape": [1, 4, 5, 3], "dtype": codes}
    tensor = edgekit_runner.Tensor("x", {**details, "quantization": (scale, zero_point)})
    spec = {"kind": kind, "scale": 1.5, "mean": mean, "std": std}
    limits = np.iinfo(raw)
    values = np.random.default_rng(seed).integers(limits.min, limits.max + 1, (4, 5, 3))
    sample = values.astype(raw)[:, ::-1]  # its bytes are not in a row
    expected = tensor.encode(edgekit_runner.preprocess(sample, spec))
    found = edgekit_runner.Preprocessor(spec, tensor)(sample)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_eval_and_run_take_the_same_integers(runner, models, tmp_path):
    # Given a model with uint8 input, and a scaling of its own for each of 14 channels
    model = Path(shutil.copy(models / "cmapss_uint8.tflite", tmp_path))
    random = np.random.default_rng(0)
    spec = {"kind": "affine", "scale": 1 / 64, "mean": list(random.uniform(0, 4, 14)), "std": 2.0}
    model.with_suffix(".json").write_text(json.dumps({"preprocessing": spec}))
    raw = random.integers(0, 256, (5, 30, 14), np.uint8)
    # When raw samples are evaluated, and the same ones prepared in floats on the host
    np.savez(tmp_path / "raw.npz", x_test=raw)
    np.savez(tmp_path / "floats.npz", inputs=edgekit_runner.affine(raw, spec))
    kept = {}
    for name in ("raw", "floats"):
        out = tmp_path / f"{name}-out.npz"
        assert runner("eval", model, tmp_path / f"{name}.npz", "--outputs", out)[0] == 0
        ((_, kept[name]),) = np.load(out).items()
    # Then the outputs are equal to the bit, those of `run` as well.
    assert np.array_equal(kept["raw"], kept["floats"])
    for line, values in zip(
        lines_of(runner("run", model, tmp_path / "raw.npz")[1]), kept["raw"], strict=True
    ):
        (found,) = line["outputs"].values()
        assert np.array_equal(np.float32(found).ravel(), values.ravel())


# --- What a model says of itself ---


def test_metadata_of_a_published_model_name_its_classes(runner, shared_data, tmp_path):
    # Given a model with TFLite metadata and no manifest beside it
    folder = shared_data / "coral_pairs"
    model = Path(shutil.copy(folder / "mobilenet_v1_0.25_128_quant.tflite", tmp_path))
    facts = json.loads(runner("info", model, "--json")[1])
    # Then scaling and labels are read from the file, and info says so,
    assert facts["preprocessing"] == {"kind": "affine", "mean": 127.5, "std": 127.5}
    assert len(facts["labels"]) == 1001
    assert facts["origin"] == {"preprocessing": "metadata", "labels": "metadata"}
    top = lines_of(runner("run", model, folder / "cat.bmp")[1])[0]["top"]
    names = (folder / "imagenet_labels.txt").read_text().splitlines()
    assert [line["label"] for line in top] == [names[line["class"]] for line in top]
    # until a manifest beside it says otherwise.
    manifest = {"preprocessing": {"kind": "none"}, "labels": None}
    model.with_suffix(".json").write_text(json.dumps(manifest))
    facts = json.loads(runner("info", model, "--json")[1])
    assert facts["preprocessing"] == {"kind": "none"}
    assert facts["origin"] == {"preprocessing": "manifest", "labels": "metadata"}


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "affine", "scale": 1 / 255, "mean": 0.5, "std": 0.25},
        {"kind": "affine", "scale": 1.0, "mean": [103.5, 116.3, 123.7], "std": [57.4, 57.1, 58.4]},
        {
            "kind": "image", "height": 128, "width": 128, "channels": 3, "order": "rgb",
            "resize": "bilinear", "fit": "stretch", "scale": 1 / 127.5, "mean": 1.0, "std": 1.0,
        },
    ],
)  # fmt: skip
def test_metadata_written_by_the_host_are_read_here(runner, shared_data, tmp_path, spec):
    # Given a model with metadata of the host, and the same one with a manifest
    folder = shared_data / "coral_pairs"
    data = (folder / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    names = [f"näh {k}" for k in range(1001)]
    manifest, described = tmp_path / "manifest.tflite", tmp_path / "described.tflite"
    manifest.write_bytes(data)
    manifest.with_suffix(".json").write_text(json.dumps({"preprocessing": spec, "labels": names}))
    described.write_bytes(with_metadata(data, name="m", preprocessing=spec, labels=names))
    # When both are read
    known = edgekit_runner.read_manifest(str(described))
    # Then they name the same labels,
    assert known["origin"] == {"preprocessing": "metadata", "labels": "metadata"}
    assert known["labels"] == names
    # prepare every pixel alike, up to the rounding of float32,
    pixels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    assert known["preprocessing"]["kind"] == "affine"
    there = edgekit_runner.affine(pixels, known["preprocessing"])
    np.testing.assert_allclose(there, edgekit_runner.affine(pixels, spec), rtol=1e-5, atol=1e-5)
    # and answer alike.
    answers = [
        [item["label"] for item in lines_of(runner("run", model, folder / "cat.bmp")[1])[0]["top"]]
        for model in (manifest, described)
    ]
    assert len(answers[0]) == 5
    assert answers[0] == answers[1]


def test_metadata_with_every_byte_damaged_are_an_error_or_other_metadata(shared_data, tmp_path):
    content = (shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    start = content.index(b"M001") - 4
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(content)
    outcomes = set()
    with damaged.open("r+b", buffering=0) as stream:
        for position in range(start, start + 600):
            for value in (0, 255):
                stream.seek(position)
                stream.write(bytes([value]))
                try:
                    outcomes.add(type(edgekit_runner.read_metadata(str(damaged))))
                except edgekit_runner.RunnerError as error:
                    outcomes.add(error.code)
            stream.seek(position)
            stream.write(content[position : position + 1])
    assert outcomes == {dict, 3}


def test_labels_may_bear_their_numbers():
    assert edgekit_runner.parse_labels("0  person\n2:  car\n") == ["person", "", "car"]
    assert edgekit_runner.parse_labels("7 up\ncola\n") == ["7 up", "cola"]
    assert edgekit_runner.parse_labels("") == []
    # Numbers that do not count from 0, or leave most out, are part of the names.
    for text in ("20 km/h\n50 km/h", "0 km/h\n50 km/h", "1 cat\n2 dog", "0 a\n0 b", "7up\n8 up"):
        assert edgekit_runner.parse_labels(text) == text.split("\n")
    # A blank line inside is a class without a name; at the end it is nothing.
    assert edgekit_runner.parse_labels("a\n\nb \n\n \n") == ["a", "", "b"]


# --- Detection, segmentation, regression ---


def test_boxes_are_told_and_drawn(runner, detector, tmp_path):
    # Given a picture with a red cell, a blue one, and a pale one
    picture = cells((0, 1, RED), (2, 5, BLUE), (3, 0, (0, 90, 0)))
    Image.fromarray(picture).resize((480, 320), Image.Resampling.NEAREST).save(tmp_path / "p.png")
    (tmp_path / "labels.txt").write_text("0 red\n1 green\n2 blue\n")
    words = ["--labels", tmp_path / "labels.txt", "--draw", tmp_path / "seen"]
    code, out, _ = runner("run", detector, tmp_path / "p.png", *words)
    # Then both have their place, and the pale one is below the threshold.
    (line,) = lines_of(out)
    assert code == 0
    found = {thing["label"]: thing for thing in line["objects"]}
    assert set(found) == {"red", "blue"}
    assert found["red"]["box"] == pytest.approx([0, 1 / 6, 1 / 4, 2 / 6], abs=1e-5)
    assert found["blue"]["box"] == pytest.approx([2 / 4, 5 / 6, 3 / 4, 1], abs=1e-5)
    assert found["blue"]["class"] == 2
    assert found["red"]["score"] == 1.0
    drawn = np.asarray(Image.open(line["drawn"]))
    assert line["drawn"] == str(tmp_path / "seen" / "p.png")
    assert drawn.shape == (320, 480, 3)
    edge = drawn[235:240, 402:478]  # the lower edge of the blue cell
    assert (edge == edgekit_runner.class_colours()[9:12]).all(-1).any(0).all()
    # Nothing is replaced unless it is asked for,
    code, _, err = runner("run", detector, tmp_path / "p.png", *words)
    assert (code, "--force" in err) == (2, True)
    assert runner("run", detector, tmp_path / "p.png", *words, "--force")[0] == 0
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["p.png"]
    # and a lower threshold lets the pale one in.
    _, out, _ = runner("run", detector, tmp_path / "p.png", "--threshold", 0.2)
    assert [thing["class"] for thing in lines_of(out)[0]["objects"]] == [0, 2, 1]


def test_boxes_of_a_cropped_picture_are_those_of_the_whole(runner, detector, tmp_path):
    # Given a picture twice as wide as what the model is shown of it
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 24:72] = cells((1, 0, GREEN))
    Image.fromarray(wide).save(tmp_path / "wide.png")
    model = Path(shutil.copy(detector, tmp_path))
    spec = {"kind": "image", "height": 32, "width": 48, "channels": 3, "fit": "crop"}
    model.with_suffix(".json").write_text(json.dumps({"preprocessing": spec}))
    _, out, _ = runner("run", model, tmp_path / "wide.png")
    (thing,) = lines_of(out)[0]["objects"]
    assert thing["box"] == pytest.approx([1 / 4, 24 / 96, 2 / 4, 32 / 96], abs=1e-5)


def test_a_map_is_summed_up_and_written_with_its_classes_as_pixels(runner, models, tmp_path):
    picture = cells((0, 0, RED), (0, 1, RED), (3, 5, BLUE))
    Image.fromarray(picture).save(tmp_path / "p.png")
    model = models / "segmenter.tflite"
    _, out, _ = runner("run", model, tmp_path / "p.png", "--draw", tmp_path)
    assert out == ""  # the input itself is in the way
    _, out, _ = runner("run", model, tmp_path / "p.png", "--draw", tmp_path / "maps")
    (line,) = lines_of(out)
    assert line["size"] == [32, 48]
    shares = {row["class"]: row["share"] for row in line["classes"]}
    assert shares == {
        0: 0.875,
        1: pytest.approx(2 / 24, abs=1e-6),
        3: pytest.approx(1 / 24, abs=1e-6),
    }
    drawn = Image.open(line["drawn"])
    expected = (picture @ [1, 0, 3] / 255).astype(int)
    assert drawn.mode == "P"
    assert np.array_equal(np.asarray(drawn), expected)


def test_a_published_segmenter_finds_the_cat(runner, shared_data, tmp_path):
    # PASCAL VOC: class 8 is the cat.
    folder = shared_data / "coral_pairs"
    model = folder / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    _, out, _ = runner("run", model, folder / "cat.bmp", "--draw", tmp_path)
    (line,) = lines_of(out)
    shares = {row["class"]: row["share"] for row in line["classes"]}
    assert line["size"] == [513, 513]
    assert shares[8] > 0.2
    assert shares[0] + shares[8] > 0.95
    assert Image.open(line["drawn"]).convert("RGB").getpixel((256, 256)) == (64, 0, 0)


def test_the_colours_are_those_of_pascal_voc():
    # The first, the cat's, and the white border's.
    colours = edgekit_runner.class_colours()
    assert colours[:3] == [0, 0, 0]
    assert colours[24:27] == [64, 0, 0]
    assert colours[765:] == [224, 224, 192]


def test_a_regression_has_its_value_and_unit(runner, models, tmp_path):
    model = Path(shutil.copy(models / "cmapss_uint8.tflite", tmp_path))
    manifest = {"data": {"task": "regression", "unit": "cycles / 125"}}
    model.with_suffix(".json").write_text(json.dumps(manifest))
    _, out, _ = runner("run", model, models / "cmapss.npz", "--limit", 2)
    lines = lines_of(out)
    assert len(lines) == 2
    assert lines[0]["unit"] == "cycles / 125"
    assert [lines[0]["value"]] == lines[0]["outputs"]["output_0"]


def decoder_of(
    task: str, *outputs: np.ndarray, shares: bool | None = None, unit: str = "", told: str = ""
):
    """What decodes the outputs of a model that says nothing else of itself."""
    model = types.SimpleNamespace(
        results=lambda: list(outputs),
        path="m.tflite",
        content=b"",
        outputs=[types.SimpleNamespace(name=name) for name in ("pose", "speed")],
    )
    manifest = {"data": {"task": task, "unit": unit, "output": told}}
    decoder = edgekit_runner.OutputDecoder(model, manifest, [], 5, 0.5)
    decoder.shares = shares
    return decoder


def test_several_values_have_names_and_the_unit_of_the_first_output():
    pose, speed = np.array([1.5, -2.0], np.float32), np.array([0.25], np.float32)
    decoder = decoder_of("regression", pose, speed, unit="m")
    answer, _ = decoder.read(types.SimpleNamespace())
    assert answer["values"] == [
        {"name": "pose[0]", "value": 1.5, "unit": "m"},
        {"name": "pose[1]", "value": -2.0, "unit": "m"},
        {"name": "speed", "value": 0.25},
    ]
    assert answer["outputs"] == {"pose": [1.5, -2.0], "speed": [0.25]}


def test_a_picture_is_no_list_of_values():
    decoder = decoder_of("regression", np.zeros((9, 9, 1), np.float32))
    answer, _ = decoder.read(types.SimpleNamespace())
    assert list(answer) == ["outputs"]


def test_a_sigmoid_of_one_unit_is_a_class_with_its_probability(runner, golden, tmp_path):
    # Given a model that tells eights from all other digits
    from sklearn.datasets import load_digits

    model = Path(shutil.copy(golden / "evaluate" / "is_eight_sigmoid.tflite", tmp_path))
    manifest = {"data": {"task": "classification"}, "labels": ["other", "eight"]}
    model.with_suffix(".json").write_text(json.dumps(manifest))
    pixels, digits = load_digits(return_X_y=True)
    eights = (pixels[1200:][digits[1200:] == 8] / 16).astype(np.float32)
    np.save(tmp_path / "digits.npy", eights)
    # When it is run
    _, out, _ = runner("run", model, tmp_path / "digits.npy")
    # Then both classes are told, the likelier first, each with its probability
    tops = [line["top"] for line in lines_of(out)]
    shares = [{one["label"]: one["score"] for one in top} for top in tops]
    samples = Samples(
        split="test", n=len(eights), sha256="", read=lambda rows: Batch(inputs={"x": eights[rows]})
    )
    (outputs,) = predict(model, samples).values()
    assert [share["eight"] for share in shares] == pytest.approx(outputs[:, 0], abs=1e-5)
    assert [top[0]["label"] == "eight" for top in tops] == (outputs[:, 0] > 0.5).tolist()
    assert {top[0]["label"] for top in tops} == {"eight", "other"}
    assert all(sum(share.values()) == pytest.approx(1) for share in shares)


@pytest.mark.parametrize(
    ("score", "shares", "told", "probability"),
    [
        (0.3, True, 0, 0.7),
        (0.3, False, 1, 1 / (1 + np.exp(-0.3))),  # a logit, though it lies in [0, 1]
        (0.3, None, 0, 0.7),
        (-2.0, None, 0, 1 / (1 + np.exp(-2.0))),
    ],
)
def test_a_unit_is_a_probability_or_a_logit_as_the_model_says(score, shares, told, probability):
    decoder = decoder_of("classification", np.array([score]), shares=shares)
    answer, _ = decoder.read(types.SimpleNamespace())
    first, second = answer["top"]
    assert first["class"] == told
    assert first["score"] == pytest.approx(probability, abs=1e-6)
    assert first["score"] + second["score"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("scores", "shares", "name"),
    [
        ([0.2, 0.8], True, "score"),
        ([-1.5, 4.0], False, "logit"),
        ([0.2, 0.8], False, "logit"),  # though they lie in [0, 1]
        ([0.2, 0.8], None, "score"),
        ([-1.5, 4.0], None, "value"),
    ],
)
def test_what_is_no_probability_is_not_called_a_score(scores, shares, name):
    given = np.array(scores, np.float32)
    answer, _ = decoder_of("classification", given, shares=shares).read(types.SimpleNamespace())
    assert answer["top"][0] == {"class": 1, name: pytest.approx(scores[1])}
    # And: a picture of it is drawn all the same.
    picture = Image.new("RGB", (64, 64))
    assert edgekit_runner._annotate(Image, picture, answer).getbbox()


def test_the_last_operator_tells_probabilities_from_logits(golden):
    def says(*place):
        return edgekit_runner.gives_probabilities(str(golden.joinpath(*place)))

    assert says("evaluate", "is_eight_sigmoid.tflite") is True  # LOGISTIC
    assert says("evaluate", "fashion_int8.tflite") is True  # SOFTMAX, in integers
    assert says("evaluate", "turbofan_int8.tflite") is False  # FULLY_CONNECTED, DEQUANTIZE
    assert says("evaluate", "logarithm.tflite") is None
    assert says("evaluate", "two_in_two_out.tflite") is False  # ADD
    damaged = (golden / "evaluate" / "fashion_int8.tflite").read_bytes()
    for length in (0, 3, 20, 200, 2000):
        assert edgekit_runner.gives_probabilities(damaged[:length]) in (None, True)


@pytest.mark.parametrize(("shares", "expected"), [(None, [[0, 1]]), (False, [[1, 1]])])
def test_a_map_of_logits_in_0_to_1_is_split_at_0_where_the_model_says_so(shares, expected):
    scores = np.array([[0.2, 0.6]], np.float32)
    assert edgekit_runner.to_class_map(scores, shares).tolist() == expected


# --- Sources ---


def test_a_folder_is_walked_through_in_order(runner, detector, tmp_path):
    for name in ("b.png", "a.bmp", "c.JPG"):
        Image.fromarray(cells((0, 0, RED))).save(tmp_path / name)
    for name in ("notes.txt", ".hidden.png"):
        (tmp_path / name).write_text("no picture")
    _, out, _ = runner("run", detector, tmp_path)
    assert [Path(line["source"]).name for line in lines_of(out)] == ["a.bmp", "b.png", "c.JPG"]


def test_files_that_cannot_be_read_are_left_out_of_a_folder(runner, detector, models, tmp_path):
    # Given a broken link, an empty picture, a text and a damaged array beside a picture
    Image.fromarray(cells((0, 0, RED))).save(tmp_path / "d.png")
    (tmp_path / "a.png").symlink_to("none.png")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_text("no picture")
    (tmp_path / "e.npy").write_bytes(b"x")
    code, out, err = runner("run", detector, tmp_path)
    # Then the picture is run, and the others are counted and named.
    assert [Path(line["source"]).name for line in lines_of(out)] == ["d.png"]
    assert code == 0
    said = f"4 of 5 files in {tmp_path} were left out: a.png (broken link), b.png (empty), "
    assert err == f"{said}c.png (no picture that Pillow reads), and 1 more.\n"
    # Alone they are an error, and so is a picture for a model that takes none.
    (tmp_path / "d.png").unlink()
    code, out, err = runner("run", detector, tmp_path)
    assert (code, out, err.startswith("4 of 4 files")) == (4, "", True)
    Image.fromarray(cells((0, 0, RED))).save(tmp_path / "d.png")
    code, _, err = runner("run", models / "fsdd_int8.tflite", tmp_path / "d.png")
    assert (code, "takes none" in err) == (4, True)


def test_a_photo_is_run_and_drawn_upright(runner, detector, tmp_path):
    # Given a picture that a camera stored upside down
    tags = Image.Exif()
    tags[0x0112] = 3
    picture = cells((0, 1, RED))
    Image.fromarray(picture[::-1, ::-1]).save(tmp_path / "p.png", exif=tags)
    model = Path(shutil.copy(detector, tmp_path))
    for spec, boxes in (
        (None, [[0, 1 / 6, 1 / 4, 2 / 6]]),
        ({"orientation": True}, [[0, 1 / 6, 1 / 4, 2 / 6]]),
        ({"orientation": False}, [[3 / 4, 4 / 6, 1, 5 / 6]]),
        ({}, [[3 / 4, 4 / 6, 1, 5 / 6]]),  # a manifest from before the key existed
    ):
        manifest = {} if spec is None else {"preprocessing": {**SIZED, **spec}}
        model.with_suffix(".json").write_text(json.dumps(manifest))
        _, out, _ = runner("run", model, tmp_path / "p.png", "--draw", tmp_path / "d", "--force")
        (line,) = lines_of(out)
        for thing, box in zip(line["objects"], boxes, strict=True):
            assert thing["box"] == pytest.approx(box, abs=1e-5)
        drawn = np.asarray(Image.open(line["drawn"]))
        upright = boxes[0][0] == 0
        assert drawn[24:32, 32:40].any() != upright


def test_an_empty_folder_is_an_error(runner, detector, tmp_path):
    code, _, err = runner("run", detector, tmp_path)
    assert (code, "--watch" in err) == (4, True)


def record(path: Path, audio: np.ndarray, rate: int = 8000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(audio.astype("<i2").tobytes())
    return path


def test_a_recording_is_heard_as_its_samples_are(runner, models, shared_data, tmp_path):
    # Given a spoken digit as WAV and as array, and two of them, a second each, in one WAV
    with np.load(shared_data / "fsdd" / "fsdd.npz") as stored:
        audio, offsets, labels = stored["audio"], stored["offsets"], stored["label"]
    clips = [0, 1500]
    sounds = [audio[offsets[k] : offsets[k + 1]][:8000] for k in clips]
    np.save(tmp_path / "one.npy", sounds[0])
    one = record(tmp_path / "one.wav", sounds[0])
    padded = [np.pad(sound, (0, 8000 - len(sound))) for sound in sounds]
    both = record(tmp_path / "both.wav", np.concatenate([*padded, sounds[0][:100]]))
    _, out, _ = runner("run", models / "fsdd_int8.tflite", tmp_path / "one.npy", one, both)
    array, wav, first, second = lines_of(out)
    # Then the answers are the same, and each second has its line.
    assert wav["top"] == array["top"] == first["top"]
    assert second["top"][0]["class"] == labels[1500]
    assert [first["start_s"], second["start_s"]] == [0.0, 1.0]


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (8000, 2)])
def test_a_recording_of_another_kind_is_refused_with_its_cure(
    runner, models, tmp_path, rate, channels
):
    path = record(tmp_path / "r.wav", np.zeros(8000), rate, channels)
    code, _, err = runner("run", models / "fsdd_int8.tflite", path)
    assert code == 4
    assert f"{rate} Hz, {channels} channels, 16 bit" in err
    assert "sox in.wav -r 8000 -c 1 -b 16 out.wav" in err


def test_what_is_no_recording(runner, models, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    for model, name in (("fsdd_int8", "text.wav"), ("fsdd_int8", "none.wav"), ("pair", "text.wav")):
        code, _, err = runner("run", models / f"{model}.tflite", tmp_path / name)
        assert code == 4
        assert len(err.splitlines()) == 3


def test_raw_frames_on_stdin(runner, detector, stdin):
    small = [cells((0, 0, RED)), cells((3, 5, GREEN))]
    stdin(b"".join(frame.tobytes() for frame in small))
    _, out, _ = runner("run", detector, "-")
    lines = lines_of(out)
    assert [line["objects"][0]["class"] for line in lines] == [0, 1]
    assert [(line["source"], line["index"]) for line in lines] == [("-", 0), ("-", 1)]
    # Frames of another size are resized like any picture.
    stdin(small[1].repeat(2, 0).repeat(2, 1).tobytes())
    _, out, _ = runner("run", detector, "-", "--frame", "64x96x3")
    assert lines_of(out)[0]["objects"][0]["box"] == lines[1]["objects"][0]["box"]


def test_a_pipe_that_brings_nothing(runner, detector, stdin):
    stdin(b"")
    code, out, err = runner("run", detector, "-")
    assert (code, out) == (4, "")
    assert err.splitlines()[0] == "stdin holds no frame."


def test_stdin_that_ends_inside_a_frame(runner, detector, stdin):
    stdin(bytes(32 * 48 * 3 + 7))
    code, out, err = runner("run", detector, "-")
    assert (code, len(out.splitlines())) == (4, 1)
    assert "stdin ends inside frame 1." in err
    assert "7 of 4608 bytes" in err


@pytest.mark.parametrize("frame", ["64x96", "0x4x3", "4x4x2", "ax4x3", "4x-4x3", "4²x4x3"])
def test_a_frame_that_is_none(runner, detector, frame):
    assert runner("run", detector, "-", "--frame", frame)[0] == 2


def test_limit_and_every(runner, detector, stdin):
    stdin(cells((0, 0, RED)).tobytes() * 5)
    start = time.monotonic()
    _, out, _ = runner("run", detector, "-", "--limit", 3, "--every", 0.1)
    assert len(lines_of(out)) == 3
    assert time.monotonic() - start >= 0.2  # a lower bound: the pauses are there


# --- A camera: only how its libraries are called is tested here, on modules that stand in ---


@pytest.fixture
def picamera2(monkeypatch):
    calls = []

    class Camera:
        def __init__(self, number):
            if number > 1:
                raise IndexError("list index out of range")
            calls.append(number)

        def create_preview_configuration(self, main):
            return main

        def configure(self, main):
            calls.append(main)

        def capture_array(self, stream):
            assert stream == "main"
            width, height = calls[1]["size"]
            return cells((1, 2, BLUE)).repeat(height // 32, 0).repeat(width // 48, 1)

        def start(self):
            calls.append("start")

        def stop(self):
            calls.append("stop")

        def close(self):
            calls.append("close")

    monkeypatch.setitem(sys.modules, "picamera2", types.SimpleNamespace(Picamera2=Camera))
    return calls


def test_a_camera_through_picamera2(runner, detector, picamera2, tmp_path):
    command = ["camera:1", "--frame", "320x480x3", "--limit", 2, "--draw", tmp_path]
    code, out, _ = runner("run", detector, *command)
    assert code == 0
    lines = lines_of(out)
    assert [line["objects"][0]["class"] for line in lines] == [2, 2]
    assert Path(lines[1]["drawn"]).name == "camera-1-000001.png"
    assert picamera2 == [1, {"format": "BGR888", "size": (480, 320)}, "start", "stop", "close"]


def test_a_camera_that_is_not_there(runner, detector, picamera2):
    code, _, err = runner("run", detector, "camera:7")
    assert (code, "rpicam-hello" in err) == (7, True)


def test_a_camera_through_opencv(runner, detector, monkeypatch):
    released = []

    class Capture:
        def __init__(self, number):
            self.pictures = [cells((0, 0, BLUE))] if number == 0 else []

        def isOpened(self):  # noqa: N802  OpenCV's name
            return bool(self.pictures)

        def set(self, key, value):
            assert (key, value) in {(1, 480), (2, 640), (3, 1)}

        def read(self):
            return (True, self.pictures.pop()) if self.pictures else (False, None)

        def release(self):
            released.append(True)

    names = {"CAP_PROP_FRAME_HEIGHT": 1, "CAP_PROP_FRAME_WIDTH": 2, "CAP_PROP_BUFFERSIZE": 3}
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(VideoCapture=Capture, **names))
    code, out, err = runner("run", detector, "camera")
    # OpenCV's blue is what the model knows as red.
    assert lines_of(out)[0]["objects"][0]["class"] == 0
    assert (code, "no more pictures" in err, released) == (7, True, [True])
    assert runner("run", detector, "camera:3")[0] == 7


def test_a_camera_without_any_library(runner, detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setitem(sys.modules, "cv2", None)
    code, _, err = runner("run", detector, "camera")
    assert code == 7
    assert "sudo apt install python3-picamera2" in err


# --- A watched folder ---


def test_a_watched_folder(copied_runner, detector, tmp_path):
    # Given a runner that watches a folder with a picture in it
    Image.fromarray(cells((0, 0, RED))).save(tmp_path / "old.png")
    command = ["run", detector, tmp_path / "old.png", "--watch", tmp_path, "--limit", "4"]
    process = subprocess.Popen(
        [sys.executable, "-I", copied_runner, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first = json.loads(process.stdout.readline())
        # When a picture grows slowly, one is damaged, one has another name until it is whole,
        content = io.BytesIO()
        Image.fromarray(cells((0, 0, GREEN))).save(content, "PNG")
        with (tmp_path / "slow.png").open("wb", buffering=0) as slow:
            for byte in content.getvalue()[:20]:
                slow.write(bytes([byte]))
                time.sleep(0.02)
            slow.write(content.getvalue()[20:])
        second = json.loads(process.stdout.readline())
        (tmp_path / "damaged.png").write_bytes(content.getvalue()[:60])
        complaint = process.stderr.readline()
        (tmp_path / "part").write_bytes(content.getvalue())
        (tmp_path / "part").rename(tmp_path / "whole.png")
        third = json.loads(process.stdout.readline())
        # and the old one is replaced,
        Image.fromarray(cells((0, 0, BLUE))).save(tmp_path / "old.png")
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    # then each is told once, and the damaged one on stderr.
    lines = [first, second, third, *lines_of(out)]
    assert [Path(line["source"]).name for line in lines] == [
        "old.png", "slow.png", "whole.png", "old.png",
    ]  # fmt: skip
    assert [line["objects"][0]["class"] for line in lines] == [0, 1, 1, 2]
    assert "damaged.png" in complaint
    assert process.returncode == 0


def test_ctrl_c_ends_a_watch(copied_runner, detector, tmp_path, interruptible):
    Image.fromarray(cells((0, 0, RED))).save(tmp_path / "p.png")
    process = subprocess.Popen(
        [sys.executable, "-I", copied_runner, "run", detector, tmp_path / "p.png",
         "--watch", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout.readline().startswith("{")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "Interrupted.\n")


def test_a_folder_that_is_not_there(runner, detector, tmp_path):
    assert runner("run", detector, "--watch", tmp_path / "none")[0] == 4


def test_run_needs_something_to_run_on(runner, detector):
    code, _, err = runner("run", detector)
    assert (code, "--watch FOLDER" in err) == (2, True)


# --- Start-up ---


def test_answering_version_loads_nothing_but_what_python_has(copied_runner):
    script = (
        f"import sys; sys.path.insert(0, {str(copied_runner.parent)!r}); "
        "before = set(sys.modules); import edgekit_runner; edgekit_runner.main(['--version']); "
        "print(set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(done.stdout.splitlines()[1]) == {"edgekit_runner", "__future__"}


# --- Labels and maps ---


@pytest.mark.parametrize("told", ["pose", "speed"])
def test_of_several_outputs_the_one_with_the_task_is_decoded_and_the_others_are_there(told):
    kinds, map_of_many = np.array([0.1, 0.7, 0.2], np.float32), np.zeros((90, 90), np.float32)
    size = np.array([12.5], np.float32)
    given = (kinds, size) if told == "pose" else (size, kinds)
    decoder = decoder_of("classification", *given, shares=True, told=told)
    answer, _ = decoder.read(types.SimpleNamespace())
    assert answer["top"][0] == {"class": 1, "score": pytest.approx(0.7)}
    assert answer["outputs"] == {"speed" if told == "pose" else "pose": [12.5]}
    # And: what is too large to be read is not printed
    decoder = decoder_of("classification", kinds, map_of_many, shares=True)
    assert "outputs" not in decoder.read(types.SimpleNamespace())[0]


@pytest.mark.parametrize(
    ("scores", "threshold", "said"),
    [
        ([0.2, 0.9, 0.6], 0.5, [("cat", 0.9), ("dog", 0.6)]),
        ([0.2, 0.9, 0.6], 0.7, [("cat", 0.9)]),
        ([-2.0, 3.0, 0.1], 0.5, [("cat", 0.952574), ("dog", 0.524979)]),  # logits
        ([0.2, 0.1, 0.5], 0.5, []),
    ],
)
def test_labels_above_the_threshold_are_told_with_their_probability(scores, threshold, said):
    # Given the scores of a model with three labels
    model = types.SimpleNamespace(
        results=lambda: [np.array(scores, np.float32)],
        path="m.tflite",
        content=b"",
        outputs=[types.SimpleNamespace(name="scores")],
    )
    manifest = {"data": {"task": "multi-label"}}
    decoder = edgekit_runner.OutputDecoder(model, manifest, ["bird", "cat", "dog"], 5, threshold)
    # When they are decoded
    answer, class_map = decoder.read(types.SimpleNamespace())
    # Then
    assert class_map is None
    assert [(one["label"], pytest.approx(one["score"])) for one in answer["labels"]] == said


def test_labels_that_do_not_fit_the_model_are_refused():
    model = types.SimpleNamespace(
        results=lambda: [np.zeros(3, np.float32)],
        path="m.tflite",
        content=b"",
        outputs=[types.SimpleNamespace(name="scores")],
    )
    decoder = edgekit_runner.OutputDecoder(
        model, {"data": {"task": "multi-label"}}, ["bird", "cat"], 5, 0.5
    )

    with pytest.raises(edgekit_runner.RunnerError) as refused:
        decoder.read(types.SimpleNamespace())

    assert refused.value.code == edgekit_runner.DATA


@pytest.mark.parametrize("scores", [[[0.2, 0.6]], [[-1.0, 0.1]]])
def test_a_map_of_one_unit_is_split_as_probabilities_or_logits(scores):
    assert edgekit_runner.to_class_map(np.array(scores)).tolist() == [[0, 1]]
