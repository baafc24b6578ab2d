"""Delegates for real: a small library claims the Edge TPU's operator in Google's compiled models.

The library is tests/runner/delegate/stand_in.c, built here with the machine's C compiler. Loading,
running and every error go through the runtime's own delegate interface.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgekit_runner

SOURCES = Path(__file__).parent / "delegate"
COMPILED = "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
NEWER = (
    "Failed precondition: Package requires runtime version (14), "
    "which is newer than this runtime version (13)."
)
# What libedgetpu reports when the runtime's structures are not those it was compiled with.
MISREAD = "Internal: Unsupported data type in custom op handler: 24348008"
# Every compiled model of the shared data whose other operators the runtimes know.
MODELS = [
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_edgetpu_0.75_224_post_training_quant",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.5_160_quant",
    "mobilenet_v2_1.0_224_quant",
    "movenet_single_pose_lightning_ptq",
    "split_concat",
]


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Compile the stand-in; return the folder in which it is called libedgetpu.so.1."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is here to build the delegate with")

    def run(*defines: str, compiler: str = compiler) -> Path:
        folder = tmp_path_factory.mktemp("delegate")
        flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        library = folder / "libedgetpu.so.1"
        command = [compiler, *flags, *defines, "-o", library, SOURCES / "stand_in.c"]
        subprocess.run(command, check=True)
        return folder

    return run


@pytest.fixture(scope="session")
def stick(build) -> Path:
    """The folder of a library that finds one stick on USB."""
    return build()


@pytest.fixture(scope="session")
def pairs(shared_data) -> Path:
    return shared_data / "coral_pairs"


@pytest.fixture
def edge_tpu(copied_runner):
    """Run the copied runner where the loader finds libedgetpu in a folder, or nowhere."""

    def run(*arguments, library: Path | None = None):
        return subprocess.run(
            [sys.executable, "-I", copied_runner, *map(str, arguments)],
            env={"LD_LIBRARY_PATH": str(library)} if library else {},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def refused(done, code: int) -> str:
    """Return the message of a run that ended with this code."""
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 3
    return done.stderr


# --- It runs ---


@pytest.mark.parametrize("name", MODELS)
def test_every_compiled_model_runs(edge_tpu, stick, pairs, name):
    # When a compiled model is timed with the delegate
    model = pairs / f"{name}_edgetpu.tflite"
    options = ["--delegate", "edgetpu", "--runs", 3, "--json"]
    done = edge_tpu("bench", model, *options, library=stick)
    # Then it runs, and the figures say with what.
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert (facts["delegate"], facts["n"]) == ("edgetpu", 3)


@pytest.mark.parametrize("device", ["edgetpu", "usb", "usb:0"])
def test_the_library_gets_the_input_and_gives_the_output(edge_tpu, stick, pairs, tmp_path, device):
    # Given two pictures, and a library that answers with a pattern made of them
    pictures = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    np.savez(tmp_path / "pictures.npz", inputs=pictures)
    kept = tmp_path / "kept.npz"
    options = ["--outputs", kept, "--delegate", device, "--delegate-option", "offset=5", "--json"]
    # When they run through it
    done = edge_tpu("eval", pairs / COMPILED, tmp_path / "pictures.npz", *options, library=stick)
    # Then the outputs are that pattern, dequantized, with the option in it.
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["delegate"] == f"{device} offset=5"
    (found,) = np.load(kept).values()
    sums = pictures.reshape(2, -1).sum(1, dtype=np.int64) + 5
    codes = (sums[:, None] + np.arange(1001)) % 256
    np.testing.assert_array_equal(found, codes.astype(np.float32) / 256)


def test_any_library_by_its_path(edge_tpu, stick, pairs, tmp_path):
    renamed = shutil.copy(stick / "libedgetpu.so.1", tmp_path / "of my own.so")
    done = edge_tpu("info", pairs / COMPILED, "--delegate", renamed, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["outputs"][0]["shape"] == [1, 1001]


@pytest.mark.parametrize("command", ["bench", "info"])
def test_a_library_that_claims_nothing_is_told(edge_tpu, stick, models, command):
    # Given an ordinary model, and a delegate that takes none of its operators
    library = stick / "libedgetpu.so.1"
    options = ["--delegate", library, "--json", *(["--runs", 3] if command == "bench" else [])]
    # When it is run with it
    done = edge_tpu(command, models / "fsdd_int8.tflite", *options)
    # Then it runs as without it, and that is said.
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["delegate"] == str(library)
    n = facts["operators"]["n"]
    told = f"takes over none of {n} operators: all of them run on the CPU."
    assert told in (facts["warning"] if command == "bench" else done.stderr)
    assert sum(facts["operators"]["delegated"].values()) > 0  # XNNPACK's


def test_a_library_that_computes_on_the_cpu_is_told_by_its_time(edge_tpu, build, models):
    # Given a delegate that claims a softmax, and is slow
    library = build("-DCLAIM=25") / "libedgetpu.so.1"
    # When a model of a fraction of a millisecond is timed with it
    done = edge_tpu("bench", models / "fsdd_int8.tflite", "--delegate", library, "--runs", 3)
    # Then the operators that it has are counted, and what it costs is said.
    assert done.returncode == 0, done.stderr
    assert "operators: " in done.stdout
    assert f"1 by {library}" in " ".join(done.stdout.split())
    assert "brings no speed" in done.stderr
    assert "It may compute on the CPU." in done.stderr


def test_operators_are_counted_by_who_runs_them(runner, models):
    code, out, _ = runner("info", models / "fsdd_int8.tflite", "--json")
    assert code == 0
    operators = json.loads(out)["operators"]
    assert 0 < operators["delegated"]["XNNPACK"] <= operators["n"]
    code, out, _ = runner("info", models / "fsdd_int8.tflite", "--json", "--kernels", "reference")
    assert json.loads(out)["operators"] == {"n": operators["n"], "delegated": {}}


# --- Something is missing, and each time something else ---


def test_no_library(edge_tpu, pairs):
    message = refused(edge_tpu("bench", pairs / COMPILED, "--delegate", "edgetpu"), 7)
    assert message.startswith("libedgetpu.so.1 is not installed.")
    assert "libedgetpu1-std" in message


def test_no_library_at_a_path(edge_tpu, pairs, tmp_path):
    absent = tmp_path / "absent.so"
    message = refused(edge_tpu("bench", pairs / COMPILED, "--delegate", absent), 7)
    assert message.startswith(f"{absent} is not installed.")
    assert "Give the path of the library." in message


@pytest.mark.parametrize("device", ["edgetpu", "usb", "usb:0"])
def test_no_device(edge_tpu, build, pairs, device):
    none = build("-DDEVICES=0")
    done = edge_tpu("bench", pairs / COMPILED, "--delegate", device, library=none)
    message = refused(done, 7)
    assert message.startswith(f"There is no Edge TPU for --delegate {device}.")
    assert "Found 0 on USB and 0 on PCIe." in message
    assert "lsusb" in message


@pytest.mark.parametrize("device", ["pci", "pci:0", "usb:1", "edgetpu:1"])
def test_another_device_than_the_one_that_is_there(edge_tpu, stick, pairs, device):
    done = edge_tpu("run", pairs / COMPILED, "x.npy", "--delegate", device, library=stick)
    assert f"no Edge TPU for --delegate {device}." in refused(done, 7)


def test_a_device_that_is_connected_and_cannot_be_opened(monkeypatch, tmp_path):
    # Given a stick that the kernel lists, and a library that does not open it
    port = tmp_path / "sys/bus/usb/devices/2-1"
    port.mkdir(parents=True)
    (port / "idVendor").write_text("1a6e\n")
    (port / "idProduct").write_text("089a\n")
    monkeypatch.setattr(edgekit_runner, "SYSTEM_ROOT", str(tmp_path))
    delegate = edgekit_runner.Delegate("usb", [])
    # Then it is a matter of rights or of another program,
    assert "sudo usermod" in delegate._no_device_error().lines[2]
    # and for a second stick, or one on PCIe, of plugging it in.
    for name in ("usb:1", "pci"):
        error = edgekit_runner.Delegate(name, [])._no_device_error()
        assert error.lines[1] == "Found 1 on USB and 0 on PCIe."


def test_a_model_that_is_not_compiled(edge_tpu, stick, pairs):
    model = pairs / "mobilenet_v1_0.25_128_quant.tflite"
    message = refused(edge_tpu("bench", model, "--delegate", "usb", library=stick), 3)
    assert message.startswith(f"{model} is not compiled for the Edge TPU.")
    assert "edgetpu_compiler" in message


@pytest.mark.parametrize("name", MODELS)
def test_compiled_models_are_recognized_before_any_library_is_loaded(edge_tpu, pairs, name):
    compiled = pairs / f"{name}_edgetpu.tflite"
    assert edgekit_runner.custom_operators(str(compiled)) == ["edgetpu-custom-op"]
    assert edgekit_runner.custom_operators(str(pairs / f"{name}.tflite")) == []
    if name == MODELS[0]:
        message = refused(edge_tpu("bench", compiled), 3)
        assert "needs its delegate" in message
        assert "--delegate edgetpu" in message


def test_a_model_compiled_for_a_newer_runtime(edge_tpu, build, pairs):
    old = build(f'-DREFUSAL="{NEWER}"')
    done = edge_tpu("bench", pairs / COMPILED, "--delegate", "usb", library=old)
    message = refused(done, 7)
    assert "compiled for a newer Edge TPU runtime" in message
    assert "requires runtime version (14)" in message
    assert "--min_runtime_version" in message


@pytest.mark.parametrize("define", [f'-DREFUSAL="{MISREAD}"', "-DCRASH"])
def test_a_library_for_another_runtime(edge_tpu, build, pairs, define):
    # Given a library that misreads the runtime's structures, and notices, or dies of it
    foreign = build(define)
    done = edge_tpu("bench", pairs / COMPILED, "--delegate", "usb", library=foreign)
    message = refused(done, 7)
    assert message.startswith("--delegate usb does not work with this runtime.")
    assert "one TensorFlow version" in message
    assert ("SIGABRT" if define == "-DCRASH" else "custom op handler") in message


def test_a_kernel_that_refuses_for_reasons_of_its_own(edge_tpu, build, pairs):
    odd = build('-DREFUSAL="the moon is full"')
    done = edge_tpu("bench", pairs / COMPILED, "--delegate", "usb", library=odd)
    message = refused(done, 7)
    assert "fails to prepare" in message
    assert "the moon is full" in message


def test_an_option_the_library_does_not_know(edge_tpu, stick, pairs):
    options = ["--delegate", "usb", "--delegate-option", "colour=red"]
    message = refused(edge_tpu("bench", pairs / COMPILED, *options, library=stick), 7)
    assert "unknown option" in message
    assert "--delegate-option" in message


def test_a_library_for_another_processor(edge_tpu, build, stick, pairs, tmp_path):
    cross = shutil.which("aarch64-linux-gnu-gcc")
    library = tmp_path / "libedgetpu.so.1"
    if cross and os.uname().machine != "aarch64":
        shutil.copy(build(compiler=cross) / library.name, library)
    else:
        # The header alone decides: bytes 18 and 19 of an ELF file name the processor.
        content = bytearray((stick / library.name).read_bytes())
        content[18:20] = (8).to_bytes(2, "little")
        library.write_bytes(content)
    message = refused(edge_tpu("bench", pairs / COMPILED, "--delegate", library), 7)
    there = "64-bit ARM" if cross and os.uname().machine != "aarch64" else "processor 8"
    assert f"is built for {there}." in message
    assert "This Python runs on" in message


def test_files_that_are_no_delegates(edge_tpu, pairs, tmp_path):
    text = tmp_path / "text.so"
    text.write_text("no library at all, but long enough to be looked into by the loader" * 9)
    message = refused(edge_tpu("bench", pairs / COMPILED, "--delegate", text), 7)
    assert f"{text} cannot be loaded." in message
    # A library that is one, and no delegate
    import _ctypes

    message = refused(edge_tpu("bench", pairs / COMPILED, "--delegate", _ctypes.__file__), 7)
    assert "tflite_plugin_create_delegate" in message


def test_a_library_that_lacks_another(edge_tpu, build, pairs, tmp_path):
    # Given a delegate linked with a library that has gone since
    needed = shutil.copy(build() / "libedgetpu.so.1", tmp_path / "libusb-1.0.so.0")
    folder = build("-Wl,--no-as-needed", str(needed))
    Path(needed).unlink()
    done = edge_tpu("bench", pairs / COMPILED, "--delegate", "usb", library=folder)
    message = refused(done, 7)
    assert message.startswith("libedgetpu.so.1 cannot be loaded.")
    assert "sudo apt install libusb-1.0-0" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--delegate", "coral"], "Delegates: edgetpu, usb, pci"),
        (["--delegate", "usb:first"], "There is no delegate 'usb:first'."),
        (["--delegate", "usb", "--delegate-option", "fast"], "KEY=VALUE"),
        (["--delegate-option", "fast=1"], "belongs to a --delegate."),
        (["--kernels", "fast"], "Kernels: default, builtin, reference."),
    ],
)
def test_usage(runner, options, words):
    code, out, err = runner("bench", "model.tflite", *options)
    assert (code, out) == (2, "")
    assert words in err


def test_ctrl_c_with_a_delegate_leaves_nothing_running(copied_runner, stick, pairs, interruptible):
    # Given a measurement with a delegate, which runs in a child
    process = subprocess.Popen(
        [
            sys.executable, "-I", copied_runner, "bench", pairs / COMPILED,
            "--delegate", "usb", "--duration", "600",
        ],
        env={"LD_LIBRARY_PATH": str(stick)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(children.read_text)
    child = Path(f"/proc/{children.read_text().split()[0]}")
    wait_until(lambda: "libedgetpu" in (child / "maps").read_text())
    # When it is interrupted
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    # Then both end.
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")
    assert not child.exists()


def test_a_killed_runner_takes_its_child_along(copied_runner, stick, pairs):
    process = subprocess.Popen(
        [
            sys.executable, "-I", copied_runner, "bench", pairs / COMPILED,
            "--delegate", "usb", "--duration", "600",
        ],
        env={"LD_LIBRARY_PATH": str(stick)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(children.read_text)
    child = Path(f"/proc/{children.read_text().split()[0]}/maps")
    wait_until(lambda: "libedgetpu" in child.read_text())
    process.kill()
    process.wait()
    # Whoever inherits it may take its time to bury it: a dead process maps nothing.
    wait_until(lambda: not _content(child))


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- Coral's published expectations, on the CPU ---


EXPECTATIONS = {
    # picture, class, within how many of the first, with more than which score
    "mobilenet_v1_0.25_128_quant": ("cat.bmp", 283, 3, 0.25),
    "mobilenet_v1_0.5_160_quant": ("cat.bmp", 286, 1, 0.51),
    "mobilenet_v2_1.0_224_quant": ("cat.bmp", 286, 1, 0.70),
    "keras_lstm_mnist_ptq": ("mnist_nine.bmp", 9, 1, 0.70),
    # No figure is published for this one, and kernels disagree on which of three cats comes first.
    "mobilenet_edgetpu_0.75_224_post_training_quant": ("cat.bmp", 286, 3, 0.20),
}


@pytest.mark.parametrize("kernels", ["default", "reference"])
@pytest.mark.parametrize("name", EXPECTATIONS)
def test_classification_meets_published_expectations(runner, pairs, name, kernels):
    # When a picture of Coral's own tests is classified by a model of theirs
    picture, label, among, score = EXPECTATIONS[name]
    options = ["--top", among, "--kernels", kernels]
    if picture == "cat.bmp":
        options += ["--labels", pairs / "imagenet_labels.txt"]
    code, out, err = runner("run", pairs / f"{name}.tflite", pairs / picture, *options)
    assert code == 0, err
    # Then the answer is theirs, with at least their score.
    found = {entry["class"]: entry for entry in json.loads(out)["top"]}
    assert found[label]["score"] > score
    if label == 286:
        assert "Egyptian cat" in found[label]["label"]
