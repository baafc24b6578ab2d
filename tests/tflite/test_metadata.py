"""Metadata that edgekit writes and other tools read, and the other way round."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import ModelError
from edgekit.tflite import (
    carry_metadata,
    check_loads,
    files_behind,
    has_metadata,
    read,
    read_metadata,
    signature,
    with_files,
    with_metadata,
    write,
)
from edgekit.tflite.flatbuffer_tables import Byte, UInt, pack, unpack
from edgekit.tflite.inspect import inspect
from edgekit_runner import affine

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NONE = {"kind": "none"}
AFFINE = {"kind": "affine", "scale": 1 / 255, "mean": [0.5, 0.25], "std": [0.5, 2.0]}
IMAGE = {"kind": "image", "height": 61, "width": 40, "channels": 1, "order": "rgb"}
IMAGE |= {"resize": "bilinear", "fit": "crop", "scale": 1 / 255, "mean": 0.0, "std": 1.0}


@pytest.fixture(scope="module")
def described(speech) -> bytes:
    return with_metadata(speech, name="speech", preprocessing=IMAGE, labels=WORDS)


def test_what_is_written_is_read(described):
    found = read_metadata(described)
    assert found.name == "speech"
    assert found.min_parser_version == "1.0.0"
    (image,), (scores,) = found.inputs, found.outputs
    assert (image.colours, image.mean, image.std) == ("grayscale", (0.0,), (255.0,))
    assert scores.labels == WORDS


def test_the_model_computes_the_same(described, speech, run):
    (spec,), _ = signature(read(speech))
    x = np.random.default_rng(0).standard_normal((3, *spec.shape[1:])).astype(np.float32)
    before, after = run(speech, {spec.name: x}), run(described, {spec.name: x})
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])


def test_the_archive_behind_the_model_harms_no_reader(described, tmp_path):
    path = tmp_path / "speech.tflite"
    path.write_bytes(described)
    check_loads(path)
    inspection = inspect(path)
    assert inspection.size_bytes == len(described) == sum(inspection.bytes.values())
    with zipfile.ZipFile(path) as archive:
        (entry,) = archive.infolist()
        # Readers on the device map the file into memory: it must lie there as it is.
        assert entry.compress_type == zipfile.ZIP_STORED
        assert archive.read("labels.txt").decode().splitlines() == list(WORDS)


def test_the_same_model_gives_the_same_bytes_and_metadata_replace_metadata(described, speech):
    assert described == with_metadata(speech, name="speech", preprocessing=IMAGE, labels=WORDS)
    again = with_metadata(described, name="speech", preprocessing=IMAGE, labels=WORDS)
    assert again == described
    bare = with_metadata(described, name="other", preprocessing=NONE)
    assert not zipfile.is_zipfile(io.BytesIO(bare))
    assert [entry.name for entry in read(bare).metadata].count(b"TFLITE_METADATA") == 1
    assert read_metadata(bare).outputs[0].labels == ()


@pytest.mark.parametrize(
    ("changes", "colours", "description"),
    [
        ({"channels": 3}, "rgb", ""),
        ({"channels": 3, "order": "bgr"}, "unknown", "channels in the order blue, green, red"),
        ({"channels": 1, "order": "bgr"}, "grayscale", ""),
    ],
)
def test_the_order_of_colours_is_told(speech, changes, colours, description):
    data = with_metadata(speech, name="m", preprocessing=IMAGE | changes)
    image = read_metadata(data).inputs[0]
    assert (image.colours, image.description) == (colours, description)


def test_what_the_schema_cannot_say_is_left_out(speech):
    log_mel = {"kind": "log-mel", "sample_rate": 8000, "mean": -10.0, "std": 5.0}
    for spec in (NONE, log_mel, AFFINE | {"scale": 0}):
        found = read_metadata(with_metadata(speech, name="m", preprocessing=spec)).inputs[0]
        assert (found.mean, found.std, found.colours) == ((), (), None)
    heard = read_metadata(with_metadata(speech, name="m", preprocessing=log_mel)).inputs[0]
    assert "8000 Hz" in heard.description


def test_labels_go_where_they_fit_and_nowhere_else(speech):
    data = with_metadata(speech, name="m", preprocessing=NONE, labels=("no", "yes"))
    assert read_metadata(data).outputs[0].labels == ()
    assert not zipfile.is_zipfile(io.BytesIO(data))


def test_a_label_stays_on_its_line(speech):
    labels = ("two\nlines", "näh 中", *WORDS[2:])
    data = with_metadata(speech, name="m", preprocessing=NONE, labels=labels)
    assert read_metadata(data).outputs[0].labels == ("two lines", "näh 中", *WORDS[2:])


def test_several_inputs_are_named_without_a_normalization(golden):
    data = (golden / "runner" / "pair.tflite").read_bytes()
    found = read_metadata(with_metadata(data, name="pair", preprocessing=AFFINE))
    assert [(t.name, t.mean) for t in found.inputs] == [("left", ()), ("index", ()), ("right", ())]


@given(
    scale=st.floats(1e-3, 1e3).map(np.float32).map(float),
    mean=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=4),
    std=st.floats(0.125, 1e3, width=32),
)
@settings(max_examples=40, deadline=None)
def test_the_normalization_is_the_affine_map(speech, scale, mean, std):
    spec = {"kind": "affine", "scale": scale, "mean": mean, "std": std}
    found = read_metadata(with_metadata(speech, name="m", preprocessing=spec)).inputs[0]
    assert len(found.mean) == len(found.std) == len(mean)
    raw = np.arange(0.0, 256.0)[:, None] * np.ones(len(mean))
    theirs = (raw - np.array(found.mean)) / np.array(found.std)
    # Both are float32 of one map: cancellation may cost a few units of the largest term.
    largest = (255 * scale + np.abs(mean).max()) / std
    np.testing.assert_allclose(theirs, affine(raw, spec), rtol=0, atol=4e-6 * largest)


def test_what_others_wrote_is_read_and_carried(shared_data, speech):
    data = (shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    found = read_metadata(data)
    assert found.inputs[0].colours == "rgb"
    assert (found.inputs[0].mean, found.inputs[0].std) == ((127.5,), (127.5,))
    assert (len(found.outputs[0].labels), found.outputs[0].labels[2]) == (
        1001,
        "goldfish, Carassius auratus",
    )
    carried = write(carry_metadata(read(data), read(speech)))
    assert read_metadata(with_files(carried, files_behind(data))) == found


def test_a_model_without_metadata_says_nothing(speech, described):
    assert read_metadata(speech) is None
    assert not has_metadata(read(speech))
    model = read(described)
    assert has_metadata(model)
    assert carry_metadata(read(speech), model) is model


def test_damage_is_told_in_words_or_harmless(described):
    place = described.index(b"M001") - 4
    rng = np.random.default_rng(7)
    refusals = []
    for _ in range(300):
        broken = bytearray(described)
        for at in rng.integers(place, place + 300, 3):
            broken[at] = rng.integers(256)
        try:
            read_metadata(bytes(broken))
        except ModelError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert all(len(text.splitlines()) <= 3 for text in refusals)


def test_a_damaged_archive_is_told(described):
    broken = bytearray(described)
    broken[described.index(b"zero\n")] ^= 1  # its checksum no longer holds
    with pytest.raises(ModelError, match="cannot be unpacked"):
        read_metadata(bytes(broken))


def test_a_small_file_that_points_to_itself_stays_small():
    inner = {0: "x" * 1000}
    root = unpack(pack({3: [inner] * 4}, b"M001"), b"M001")
    assert [table.text(0) for table in root.tables(3)] == ["x" * 1000] * 4
    data = pack({0: "a" * 200_000}, b"M001")
    table = unpack(data, b"M001")
    for _ in range(8):
        assert len(table.text(0)) == 200_000
    with pytest.raises(ValueError, match="overlap"):
        table.text(0)


def test_tables_hold_every_kind_of_field():
    data = pack({0: Byte(7), 1: "é", 2: (1.5, -2.0), 3: {0: UInt(1 << 31)}, 5: {}}, b"ABCD")
    table = unpack(data, b"ABCD")
    assert (table.byte(0), table.text(1), table.floats(2)) == (7, "é", (1.5, -2.0))
    assert table.table(5) is not None
    assert (table.table(4), table.tables(4), table.byte(9)) == (None, [], 0)
    with pytest.raises(ValueError, match="not as WXYZ"):
        unpack(data, b"WXYZ")


def test_the_formats_own_reader_reads_it(described):
    support = pytest.importorskip(
        "tensorflow_lite_support.metadata.python.metadata", exc_type=ImportError
    )
    displayed = support.MetadataDisplayer.with_model_buffer(described)
    assert displayed.get_packed_associated_file_list() == ["labels.txt"]
    (graph,) = json.loads(displayed.get_metadata_json())["subgraph_metadata"]
    (image,), (scores,) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert image["content"]["content_properties"]["color_space"] == "GRAYSCALE"
    assert image["process_units"][0]["options"] == {"mean": [0.0], "std": [255.0]}
    assert scores["associated_files"] == [{"name": "labels.txt", "type": "TENSOR_AXIS_LABELS"}]
    populator = support.MetadataPopulator.with_model_buffer(described)
    populator.load_metadata_buffer(bytearray(displayed.get_metadata_buffer()))
    populator.populate()
