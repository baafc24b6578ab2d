from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.errors import DataError, EdgekitError, ModelError
from edgekit.evaluation import predict
from edgekit.records import Array, Batch, Dataset, Progress, Samples


def samples_of(**inputs: Array) -> Samples:
    n = len(next(iter(inputs.values())))
    return Samples(
        split="test",
        n=n,
        sha256="",
        read=lambda rows: Batch(inputs={name: values[rows] for name, values in inputs.items()}),
    )


def only(outputs) -> Array:
    (values,) = outputs.values()
    return values


def test_quantized_model_gives_what_a_bare_loop_gives(models: Path, fashion: Dataset) -> None:
    path = models / "fashion_int8.tflite"
    images = fashion.test.read(np.arange(300)).inputs["x"]
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    expected = []
    for image in images:
        scale, zero_point = into["quantization"]
        codes = np.clip(np.rint(image / np.float32(scale)) + zero_point, -128, 127)
        interpreter.set_tensor(into["index"], codes.astype(np.int8)[None])
        interpreter.invoke()
        scale, zero_point = out["quantization"]
        codes = interpreter.get_tensor(out["index"])[0].astype(np.float32)
        expected.append((codes - zero_point) * np.float32(scale))

    found = predict(path, samples_of(x=images))

    assert list(found) == ["output_0"]
    assert only(found).dtype == np.float32
    np.testing.assert_array_equal(only(found), np.array(expected))


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_any_number_of_children_keeps_the_order(models: Path, processes: int) -> None:
    inputs = np.arange(3000, dtype=np.float32).reshape(-1, 3)

    found = predict(models / "free_batch.tflite", samples_of(a=inputs), processes=processes)

    np.testing.assert_array_equal(found["double"], inputs * 2)


@pytest.mark.parametrize("n", [1, 3, 4, 10, 1001])
def test_larger_batch_is_filled_and_cut(models: Path, n: int) -> None:
    inputs = np.arange(n * 3, dtype=np.float32).reshape(n, 3)

    found = predict(models / "batch_of_4.tflite", samples_of(a=inputs))

    np.testing.assert_array_equal(found["double"], inputs * 2)


def test_several_inputs_and_outputs_go_by_their_signature_names(models: Path) -> None:
    a, b = np.ones((5, 3), np.float32), np.arange(15, dtype=np.float32).reshape(5, 3)

    found = predict(models / "two_in_two_out.tflite", samples_of(a=a * 3, b=b))

    np.testing.assert_array_equal(found["total"], 3 + b)
    np.testing.assert_array_equal(found["product"], 3 * b)


def test_inputs_of_other_names_are_refused(models: Path) -> None:
    a = np.ones((5, 3), np.float32)

    with pytest.raises(DataError) as refused:
        predict(models / "two_in_two_out.tflite", samples_of(a=a, c=a))

    assert "b, a" in str(refused.value)
    assert "a, c" in str(refused.value)


def test_recurrent_state_does_not_leak_into_the_next_sample(shared_data: Path) -> None:
    path = shared_data / "coral_pairs" / "keras_lstm_mnist_ptq.tflite"
    codes = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)

    found = only(predict(path, samples_of(x=np.repeat(codes, 6, axis=0)), processes=1))

    assert found.dtype == np.float32
    assert np.ptp(found) > 0
    np.testing.assert_array_equal(found, np.repeat(found[:1], 6, axis=0))


def test_samples_of_a_quantized_type_are_codes_and_names_come_from_tensors(
    shared_data: Path,
) -> None:
    path = shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite"
    codes = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    scale, zero_point = 0.0078125, 128

    as_codes = predict(path, samples_of(x=codes))
    as_reals = predict(path, samples_of(x=(codes.astype(np.float32) - zero_point) * scale))

    assert list(as_codes) == ["MobilenetV1/Predictions/Reshape_1"]
    np.testing.assert_array_equal(only(as_codes), only(as_reals))


def test_wrong_shape_names_both_shapes(models: Path) -> None:
    with pytest.raises(DataError) as refused:
        predict(models / "fashion_int8.tflite", samples_of(x=np.zeros((4, 32, 32, 1), np.float32)))

    assert "[28, 28, 1]" in str(refused.value)
    assert "[32, 32, 1]" in str(refused.value)


def test_empty_split_is_refused(models: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        predict(models / "free_batch.tflite", samples_of(a=np.zeros((0, 3), np.float32)))


def test_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        predict(tmp_path / "none.tflite", samples_of(x=np.zeros((1, 3))))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_a_model_error(models: Path, tmp_path: Path, share: float) -> None:
    whole = (models / "fashion_int8.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(ModelError, match=r"cut\.tflite"):
        predict(path, samples_of(x=np.zeros((2, 28, 28, 1), np.float32)))


def test_flipped_bits_end_in_numbers_or_in_an_error_of_ours(models: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    whole = np.frombuffer((models / "is_eight_sigmoid.tflite").read_bytes(), np.uint8)
    path = tmp_path / "flipped.tflite"
    refused = []
    for _ in range(40):
        broken = whole.copy()
        broken[generator.integers(0, len(whole), 8)] ^= generator.integers(1, 256, 8, np.uint8)
        path.write_bytes(broken.tobytes())
        try:
            predict(path, samples_of(x=np.zeros((2, 64), np.float32)), processes=1)
        except EdgekitError as error:
            refused.append(error)
    assert len(refused) > 5
    assert max(len(str(error).splitlines()) for error in refused) <= 3


def test_a_native_crash_names_file_and_signal(models: Path) -> None:
    def read(rows: Array) -> Batch:
        if rows[-1] > 0:
            os.kill(os.getpid(), signal.SIGSEGV)
        return Batch(inputs={"a": np.zeros((len(rows), 3), np.float32)})

    samples = Samples(split="test", n=100, sha256="", read=read)

    with pytest.raises(ModelError) as died:
        predict(models / "free_batch.tflite", samples)

    assert "free_batch.tflite" in str(died.value)
    assert "SIGSEGV" in str(died.value)


def test_a_reader_s_error_arrives_as_it_was_raised(models: Path) -> None:
    def read(rows: Array) -> Batch:
        if rows[-1] > 50:
            raise DataError("image 51 is damaged", hint="Remove it.")
        return Batch(inputs={"a": np.zeros((len(rows), 3), np.float32)})

    samples = Samples(split="test", n=100, sha256="", read=read)

    with pytest.raises(DataError, match="image 51 is damaged\nRemove it"):
        predict(models / "free_batch.tflite", samples)


def test_progress_ends_at_the_last_sample_and_the_runtime_is_quiet(
    models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[Progress] = []

    predict(
        models / "free_batch.tflite",
        samples_of(a=np.zeros((777, 3), np.float32)),
        listener=heard.append,
    )

    done = [progress.done for progress in heard]
    assert done == sorted(done)
    assert done[-1] == heard[-1].total == 777
    assert capfd.readouterr() == ("", "")
