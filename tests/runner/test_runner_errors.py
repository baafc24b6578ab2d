"""Every error has its exit code and at most three lines."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgekit_runner
from edgekit.isolate import ChildDiedError, isolated

WINDOW = np.zeros((1, 30, 14), np.float32)


@pytest.fixture
def fails(runner, monkeypatch, tmp_path):
    """Run a command in an empty folder; return its exit code and its message."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code, out, err = runner(*arguments)
        assert out == ""
        assert 1 <= len(err.splitlines()) <= 3
        assert "Traceback" not in err
        return code, err

    return run


@pytest.fixture
def model(models) -> Path:
    return models / "cmapss_uint8.tflite"


# --- 2: usage ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Commands: info, bench, eval, run, selftest."),
        (["benhc", "m.tflite"], "'benhc' is no command."),
        ([], "No command is given."),
        (["bench"], "bench needs a file."),
        (["eval", "m.tflite"], "Found m.tflite."),
        (["eval", "m.tflite"], "Usage: edgekit_runner.py eval MODEL DATA.npz [OPTIONS]"),
        (["info", "a.tflite", "b.tflite"], "Found a.tflite b.tflite."),
        (["selftest", "m.tflite"], "selftest takes other files than these."),
        (["run", "m.tflite"], "run needs an INPUT"),
        (["bench", "m.tflite", "--top", "3"], "bench has no option --top."),
        (["bench", "m.tflite", "-t", "3"], "bench has no option -t."),
        (["bench", "m.tflite", "--threads"], "--threads needs a value."),
        (["bench", "m.tflite", "--thread", "2"], "Did you mean --threads?"),
        (["bench", "m.tflite", "--threads", "--json"], "--threads needs a value."),
        (["bench", "m.tflite", "--threads", "0"], "1 or more, 256 at the most"),
        (["bench", "m.tflite", "--threads", "999999"], "256 at the most"),
        (["run", "m.tflite", "p.png", "--every", "0"], "more than 0"),
        (["run", "m.tflite", "p.png", "--limit", "-1"], "Found '-1'."),
        (["run", "m.tflite", "p.png", "--limit", "1.5"], "--limit is a whole number"),
        (["run", "m.tflite", "p.png", "--threshold", "2"], "0 or more, 1 at the most"),
        (["run", "m.tflite", "-", "--frame", "99999x99999x3"], "up to 16384"),
        (["bench", "m.tflite", "--runs=few"], "Found 'few'."),
        (["bench", "m.tflite", "--json=no"], "--json takes no value."),
        (["bench", "m.tflite", "--delegate", "usb:²"], "There is no delegate 'usb:²'."),
        (["bench", "m.tflite", "--seconds", "nan"], "Found 'nan'."),
        (["bench", "m.tflite", "--runs", "5", "--seconds", "1"], "exclude each other"),
        (["info", "m.tflite", "--runtime", "onnx"], "Runtimes: litert, tflite, tensorflow."),
    ],
)
def test_usage(fails, arguments, words):
    code, message = fails(*arguments)
    assert code == 2
    assert words in message
    assert "edgekit_runner.py" in message.splitlines()[-1]


def test_outputs_are_not_overwritten_unless_forced(fails, runner, model, models):
    Path("kept.npz").write_bytes(b"precious")
    command = ["eval", model, models / "cmapss.npz", "--outputs", "kept.npz"]
    code, message = fails(*command)
    assert code == 2
    assert "--force" in message
    assert Path("kept.npz").read_bytes() == b"precious"
    assert runner(*command, "--force")[0] == 0
    assert np.load("kept.npz")["output_0"].shape == (30, 1)


@pytest.mark.parametrize("words", [["selftest"], ["info"], ["run", "--help"]])
def test_a_full_disk_behind_stdout(copied_runner, words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-I", copied_runner, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[:2] == ["Cannot write to stdout.", "No space left on device"]
    assert len(done.stderr.splitlines()) == 3


def test_an_output_place_that_does_not_exist(fails, model, models):
    code, message = fails("eval", model, models / "cmapss.npz", "--outputs", "nowhere/kept.npz")
    assert code == 2
    assert "nowhere/kept.npz" in message


# --- 3: model ---


def test_no_model_there(fails):
    code, message = fails("info", "none.tflite")
    assert code == 3
    assert "none.tflite" in message


def test_a_folder_and_a_text_are_no_models(fails):
    Path("folder.tflite").mkdir()
    Path("text.tflite").write_text("this is no model at all")
    assert fails("info", "folder.tflite")[0] == 3
    code, message = fails("info", "text.tflite")
    assert code == 3
    assert "TFL3" in message


def test_what_else_is_taken_for_a_model(fails, shared_data, models):
    Path("empty.tflite").touch()
    for name, words in (
        (shared_data / "baselines" / "cmapss_cnn1d.keras", "It is a zip archive, as .keras"),
        (models / "cmapss.npz", "It is a zip archive"),
        ("empty.tflite", "It is empty."),
        ("missing.tflite", "Check its name: paths begin at "),
    ):
        code, message = fails("bench", name)
        assert code == 3
        assert words in message


@pytest.mark.parametrize("size", [0, 4, 8, 100, 5_000, 32_000])
def test_a_model_cut_short(fails, model, size):
    Path("cut.tflite").write_bytes(model.read_bytes()[:size])
    assert fails("run", "cut.tflite", "x.npy")[0] == 3


def test_a_broken_manifest(fails, model, models):
    shutil.copy(model, "m.tflite")
    for text in ('{"schema": 1', "[1, 2]", "\udcff"):
        Path("m.json").write_bytes(text.encode(errors="surrogateescape"))
        code, message = fails("eval", "m.tflite", models / "cmapss.npz")
        assert code == 3
        assert "m.json" in message


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ([], "It is no JSON object."),
        ({"preprocessing": "image"}, "Its preprocessing is 'image'."),
        ({"preprocessing": {"kind": "fft"}}, "known: none, affine, image, log-mel"),
        ({"preprocessing": {"kind": "image", "width": 2}}, "has height None"),
        ({"preprocessing": {"kind": "image", "height": "2", "width": 2}}, "has height '2'"),
        (
            {"preprocessing": {"kind": "image", "height": 2, "width": 2, "orientation": 1}},
            "has orientation 1",
        ),
        ({"preprocessing": {"kind": "log-mel"}}, "has sample_rate None"),
        ({"preprocessing": {"kind": "affine", "mean": "x"}}, "has mean 'x'"),
        ({"preprocessing": {"kind": "affine", "std": [1, None]}}, "has std [1, None]"),
        ({"preprocessing": []}, "Its preprocessing is []."),
        ({"labels": 3}, "Its labels is 3."),
        ({"labels": [1, 2]}, "A label in it is no text."),
        ({"data": "digits"}, "Its data is 'digits'."),
    ],
)
def test_a_manifest_of_another_shape(fails, model, models, manifest, words):
    shutil.copy(model, "m.tflite")
    Path("m.json").write_text(json.dumps(manifest))
    data = models / "cmapss.npz"
    for command in (["info", "m.tflite"], ["eval", "m.tflite", data], ["run", "m.tflite", data]):
        code, message = fails(*command)
        assert code == 3
        assert words in message


def test_bit_flips_never_end_in_a_traceback(model, models):
    """Forty damaged files: an answer or a code, also where the runtime crashes."""
    content = model.read_bytes()
    rng = random.Random(0)
    codes = []
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 4, 32])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        codes.append(_code_of(bytes(damaged), models / "cmapss.npz"))
    assert set(codes) <= {0, 3, 4}
    assert 3 in codes


def _code_of(content: bytes, data: Path) -> int | str:
    def run() -> int:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        name = f"/proc/self/fd/{os.memfd_create('damaged')}"
        Path(name).write_bytes(content)
        return edgekit_runner.main(["eval", name, str(data)])

    try:
        return isolated(run)
    except ChildDiedError:
        return "died"


# --- 4: data ---


def bad_data() -> dict[str, dict[str, np.ndarray]]:
    """Contents of an .npz by what is wrong with it."""
    hole = WINDOW.copy()
    hole[0, 3, 3] = np.nan
    y = np.zeros(1, np.float32)
    return {
        "shape [14, 30]": {"x_test": WINDOW.reshape(1, 14, 30), "y_test": y},
        "NaN": {"x_test": hole, "y_test": y},
        "infinity": {"x_test": np.full_like(WINDOW, np.inf), "y_test": y},
        "x_test [0, 30, 14]": {"x_test": WINDOW[:0], "y_test": y[:0]},
        "no array for input": {"x_train": WINDOW, "y_test": y},
        "no targets": {"x_test": WINDOW},
        "another number of targets": {"x_test": WINDOW, "y_test": np.zeros(2)},
        "has a target that does not fit": {"x_test": WINDOW, "y_test": np.array([np.nan])},
        "Python objects": {"x_test": np.array([None]), "y_test": y},
    }


@pytest.mark.parametrize("words", bad_data())
def test_data(fails, model, words):
    np.savez("bad.npz", **bad_data()[words])
    code, message = fails("eval", model, "bad.npz")
    assert code == 4
    assert words in message
    assert "bad.npz" in message


def test_numbers_that_are_none(fails, model):
    for dtype in (np.complex64, "U3"):
        np.savez("strange.npz", x_test=WINDOW.astype(dtype), y_test=[1.0])
        code, message = fails("eval", model, "strange.npz")
        assert code == 4
        assert "where numbers are expected" in message


def test_as_many_channels_as_are_scaled(fails, model):
    shutil.copy(model, "m.tflite")
    manifest = {"preprocessing": {"kind": "affine", "mean": [1.0, 2.0, 3.0]}}
    Path("m.json").write_text(json.dumps(manifest))
    np.savez("windows.npz", x_test=WINDOW, y_test=[1.0])
    code, message = fails("eval", "m.tflite", "windows.npz")
    assert code == 4
    assert "shape [30, 14] where 3 channels have a mean" in message


def test_inputs_that_are_not_what_they_seem(fails, shared_data, tmp_path):
    model = shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite"
    picture = shared_data / "coral_pairs" / "cat.bmp"
    Path("text.txt").write_text("no picture")
    Path("two.txt").write_text("cat\ndog\n")
    for arguments, words in (
        (["run", model, "text.txt"], "Give a picture"),
        (["run", model, "missing.jpg"], "Check its name: paths begin at "),
        (["run", model, picture, "--labels", "two.txt"], "2 labels do not fit"),
        (["run", model, picture, "--labels", "missing.txt"], "Check its name: paths begin at "),
        (["run", model, picture, "--labels", tmp_path], "Is a directory"),
        (["eval", model, picture], "pictures and recordings are for the command run"),
        (["eval", model, tmp_path], "Is a directory"),
        (["bench", model, "--data", "missing.npz"], "Check its name: paths begin at "),
    ):
        code, message = fails(*arguments)
        assert code == 4
        assert words in message
    code, message = fails("run", model, "camera:x")
    assert code == 2
    assert "camera:1" in message


def test_files_that_are_no_data(fails, model):
    Path("text.npy").write_text("0 1 2")
    Path("text.npz").write_text("0 1 2")
    np.save("number.npy", np.float32(3))
    for name in ("none.npz", "none.npy", "text.npy", "text.npz", "number.npy"):
        code, message = fails("run", model, name)
        assert code == 4
        assert name in message


def test_a_damaged_archive(fails, model):
    np.savez("damaged.npz", x_test=np.random.default_rng(0).random((9, 30, 14), np.float32))
    content = bytearray(Path("damaged.npz").read_bytes())
    content[len(content) // 2] ^= 1
    Path("damaged.npz").write_bytes(content)
    Path("cut.npz").write_bytes(content[: len(content) // 2])
    code, message = fails("bench", model, "--data", "cut.npz")
    assert code == 4
    assert "Cannot read cut.npz." in message
    # Where the checksum of an array fails, all its rows were read: `eval` says so at the end.
    code, message = fails("eval", model, "damaged.npz", "--outputs", "o.npz")
    assert code == 4
    assert "damaged in x_test.npy" in message
    assert not Path("o.npz").exists()


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.array([10]), "label 10 where the model has 10 classes"),
        (np.array([-1]), "label -1"),
        (np.array(["eleven"]), "'eleven' is not in list"),
    ],
)
def test_labels_out_of_range(fails, models, targets, words):
    np.savez("labels.npz", inputs=np.zeros((1, 61, 40), np.float32), targets=targets)
    code, message = fails("eval", models / "fsdd_int8.tflite", "labels.npz")
    assert code == 4
    assert words in message


def test_samples_that_do_not_fit_the_preprocessing(fails, models):
    np.savez("stereo.npz", x_test=np.zeros((1, 8000, 2), np.int16), y_test=[1])
    code, message = fails("eval", models / "fsdd_int8.tflite", "stereo.npz")
    assert code == 4
    assert "audio has shape [n], not [8000, 2]" in message


def test_a_task_that_is_not_scored(fails, models):
    shutil.copy(models / "segmenter.tflite", "m.tflite")
    Path("m.json").write_text('{"data": {"task": "pose"}}')
    np.savez("maps.npz", x_test=np.zeros((1, 32, 48, 3), np.uint8), y_test=np.zeros((1, 32, 48)))
    code, message = fails("eval", "m.tflite", "maps.npz")
    assert code == 4
    assert "eval cannot score pose." in message
    assert "--outputs" in message


def test_targets_that_only_the_users_own_metric_scores(runner, fails, models, tmp_path):
    """Given a manifest with task none, then eval writes outputs, and says why there is no score."""
    shutil.copy(models / "segmenter.tflite", "m.tflite")
    Path("m.json").write_text('{"data": {"task": "none"}}')
    np.savez("maps.npz", x_test=np.zeros((1, 32, 48, 3), np.uint8), y_test=np.zeros((1, 7)))

    code, message = fails("eval", "m.tflite", "maps.npz")

    assert code == 4
    assert "edgekit scores them on the host, by your own metric." in message
    code, _, err = runner("eval", "m.tflite", "maps.npz", "--outputs", "o.npz")
    assert (code, err) == (0, "")
    assert Path("o.npz").stat().st_size > 0


def test_an_auc_of_one_kind_only(fails, models):
    np.savez("normal.npz", x_test=np.zeros((3, 64), np.float32), y_test=np.zeros(3, int))
    code, message = fails("eval", models / "digits_autoencoder.tflite", "normal.npz")
    assert code == 4
    assert "There are 3 of class 0 and 0 of class 1" in message


def test_a_label_file_of_another_model(fails, models):
    Path("labels.txt").write_text("cat\ndog\n")
    np.save("quiet.npy", np.zeros(8000, np.int16))
    command = ["run", models / "fsdd_int8.tflite", "quiet.npy", "--labels"]
    assert fails(*command, "labels.txt")[0] == 4
    assert "2 labels do not fit" in fails(*command, "labels.txt")[1]
    assert fails(*command, "none.txt")[0] == 4


def test_pictures_for_a_model_that_takes_none_or_that_nobody_described(fails, shared_data, model):
    picture = shared_data / "coral_pairs" / "mnist_nine.bmp"
    Path("text.png").write_text("no picture")
    mobilenet = shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite"
    assert fails("run", mobilenet, "text.png")[0] == 4
    assert fails("run", mobilenet, "none.png")[0] == 4
    code, message = fails("run", model.with_name("pair.tflite"), picture)
    assert code == 4
    assert "takes none" in message
    code, message = fails("run", model.with_name("fsdd_int8.tflite"), picture)
    assert code == 4
    assert "takes none" in message
    assert "Give a .wav, an .npz or .npy." in message


# --- 7: runtime and device ---


def test_a_runtime_that_is_not_installed(fails, model, monkeypatch):
    monkeypatch.setitem(edgekit_runner.RUNTIMES, "tflite", ("no_such_runtime", "tflite-runtime"))
    code, message = fails("bench", model, "--runtime", "tflite")
    assert code == 7
    assert 'pip install tflite-runtime "numpy<2"' in message


def test_no_runtime_at_all(fails, model, monkeypatch):
    absent = {key: (f"no_such_{key}", key) for key in edgekit_runner.RUNTIMES}
    monkeypatch.setattr(edgekit_runner, "RUNTIMES", absent)
    code, message = fails("info", model)
    assert code == 7
    assert "pip install ai-edge-litert" in message


def test_a_runtime_whose_library_cannot_be_loaded(fails, model, monkeypatch, tmp_path):
    package = tmp_path / "broken_runtime"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libfoo.so: GLIBC_2.99 not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(edgekit_runner, "RUNTIMES", {"litert": ("broken_runtime", "litert")})
    code, message = fails("info", model)
    assert code == 7
    assert "GLIBC_2.99" in message


@pytest.mark.parametrize(
    ("key", "machine", "version", "words"),
    [
        (None, "aarch64", (3, 13), "pip install ai-edge-litert"),
        (None, "aarch64", (3, 9), 'pip install tflite-runtime "numpy<2"'),
        (None, "armv7l", (3, 11), 'pip install tflite-runtime "numpy<2"'),
        ("litert", "armv7l", (3, 11), 'pip install tflite-runtime "numpy<2"'),
        ("tflite", "aarch64", (3, 11), 'pip install tflite-runtime "numpy<2"'),
        ("tflite", "aarch64", (3, 12), "pip install ai-edge-litert"),
        (None, "armv7l", (3, 13), "take a 64-bit system, or Python 3.11"),
        ("tensorflow", "x86_64", (3, 11), "pip install tensorflow"),
    ],
)
def test_the_runtime_that_is_advised_has_a_wheel_there(key, machine, version, words):
    assert words in edgekit_runner._runtime_hint(key, machine, version, narrow=False)


def test_a_32_bit_python_on_a_64_bit_kernel_is_32_bit():
    # Raspberry Pi OS of 32 bits starts a kernel of 64 where the board has them.
    hint = edgekit_runner._runtime_hint(None, "aarch64", (3, 11), narrow=True)
    assert 'tflite-runtime "numpy<2"' in hint


def test_a_numpy_that_lacks_a_library(copied_runner, model, tmp_path):
    package = tmp_path / "numpy"
    package.mkdir()
    (package / "__init__.py").write_text(
        "try:\n"
        "    raise ImportError('libopenblas.so.0: cannot open shared object file')\n"
        "except ImportError as error:\n"
        "    raise ImportError('\\n\\nIMPORTANT: PLEASE READ THIS FOR ADVICE') from error\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", copied_runner, "info", model],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    assert done.stderr.splitlines() == [
        "numpy is installed and cannot be imported.",
        "libopenblas.so.0: cannot open shared object file",
        "Install with: sudo apt install libopenblas0",
    ]


def test_without_numpy(alone, model):
    # -S leaves the folder of installed packages out.
    done = alone("info", model, flags=("-I", "-S"))
    assert done.returncode == 7
    assert done.stderr.splitlines()[0] == "numpy is not installed."
    assert "pip install ai-edge-litert numpy" in done.stderr


def test_pictures_without_pillow(fails, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    code, message = fails("run", model, "cat.png")
    assert code == 7
    assert "pip install pillow" in message


def test_a_model_compiled_for_the_edge_tpu(fails, shared_data):
    code, message = fails(
        "bench", shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    )
    assert code == 3
    assert "without _edgetpu in its name" in message


# --- 130, and readers that leave ---


@pytest.mark.parametrize("library", ["_multiarray_umath", "ai_edge_litert", ".tflite"])
def test_ctrl_c_at_any_time(copied_runner, model, library, interruptible):
    process = subprocess.Popen(
        [sys.executable, "-I", copied_runner, "bench", model, "--runs", "999_999"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # An interrupt in the middle of a native import is the one that is easily swallowed.
    maps = Path(f"/proc/{process.pid}/maps")
    wait_until(lambda: library in maps.read_text())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")


AT_THE_FIRST_CLASS = """
import __future__, builtins, os, signal, sys

def interrupted(*words, make=builtins.__build_class__, **options):
    builtins.__build_class__ = make
    os.kill(os.getpid(), signal.SIGINT)
    return make(*words, **options)

path = sys.argv[1]
code = compile(open(path).read(), path, "exec")
builtins.__build_class__ = interrupted
exec(code, {"__name__": "__main__"})
"""


def test_ctrl_c_while_the_runner_itself_is_loaded(copied_runner, interruptible):
    # When it comes as the first class is made, which is hundreds of lines before `main`
    words = [sys.executable, "-I", "-c", AT_THE_FIRST_CLASS, copied_runner]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    # Then it is answered as it is later.
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "Interrupted.\n")


def test_a_reader_that_has_seen_enough(copied_runner, model, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((3000, 30, 14), np.float32))
    process = subprocess.Popen(
        [sys.executable, "-I", copied_runner, "run", model, tmp_path / "many.npy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
