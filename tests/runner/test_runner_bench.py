"""What `bench`, `eval` and `selftest` find out about a model, a device and a runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekit_runner


@pytest.fixture
def facts(runner):
    """Run a command in this process and return its JSON."""

    def run(*arguments):
        code, out, err = runner(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


@pytest.fixture
def board(monkeypatch, tmp_path) -> Path:
    """A folder in which the runner looks for the kernel's files."""
    root = tmp_path / "board"
    root.mkdir()
    monkeypatch.setattr(edgekit_runner, "SYSTEM_ROOT", str(root))
    return root


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)


# --- bench: sustained load ---

RASPBERRY_PI = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "81234\n",
    "sys/class/thermal/thermal_zone1/type": "nvme\n",
    "sys/class/thermal/thermal_zone1/temp": "90000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "1500000\n",
}
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


def test_sustained_load_tells_what_the_board_goes_through(facts, board, models):
    # Given a Raspberry Pi that is hot, short of voltage now, and was throttled before
    write(board, {**RASPBERRY_PI, FIRMWARE: "40001\n"})
    # When a model runs for two seconds
    found = facts("bench", models / "fsdd_int8.tflite", "--runs", 5, "--duration", 2)
    # Then every second is told, with the hottest zone of the processor and its fastest core
    first, *_, last = found["sustained"]
    assert len(found["sustained"]) == 2
    assert first["temperature_c"] == 81.234
    assert first["frequency_mhz"] == 1500
    assert first["throttled"] == ["under-voltage"]
    assert 0 < first["t_s"] < last["t_s"]
    assert last["t_s"] >= 2
    assert min(first["p50_ms"], first["n"]) > 0
    # And nobody is asked to trust it.
    assert not found["stable"]
    assert "low voltage (under-voltage)" in found["warning"]
    assert "throttles under load (under-voltage)" in found["warning"]
    assert found["conditions"]["after"]["throttled"] == "40001"
    # What is advised can be done from here and from a host, whatever its options are called.
    assert found["warning"].endswith("let the board cool, or time more runs.")


def test_degrees_below_zero_are_numbers(board):
    write(board, {"sys/class/thermal/thermal_zone0/temp": "-12500\n"})
    assert edgekit_runner.conditions()["temperature_millicelsius"] == -12500
    assert edgekit_runner.sensors()["temperature_c"] == -12.5


def test_a_device_without_sensors_says_so(facts, board, models):
    found = facts("bench", models / "fsdd_int8.tflite", "--runs", 5, "--duration", 0.2)
    (entry,) = found["sustained"]
    assert [entry[key] for key in ("temperature_c", "frequency_mhz", "throttled")] == [None] * 3


def test_sustained_load_in_words(runner, board, models):
    write(board, {**RASPBERRY_PI, FIRMWARE: "4\n"})
    out = runner("bench", models / "fsdd_int8.tflite", "--runs", 5, "--duration", 0.2)[1]
    assert fits_the_terminal(out)
    told = " ".join(out[out.index("sustained") :].split())
    assert "81 to 81 degrees C, 1500 to 1500 MHz, throttled from" in told


def fits_the_terminal(out: str) -> bool:
    """All but the line with the path of the model, which is as long as it is."""
    return max(map(len, out.splitlines()[1:])) <= 80


def test_load_that_slows_a_device_down_is_named():
    steady = {"p50_ms": 10.0, "throttled": []}
    hot = {"p50_ms": 12.5, "throttled": ["throttled"]}
    assert edgekit_runner.load_warnings([]) == []
    assert edgekit_runner.load_warnings([steady, {"p50_ms": 10.9, "throttled": None}]) == []
    throttles, slower = edgekit_runner.load_warnings([steady, hot])
    assert throttles == "the board throttles under load (throttled)"
    assert slower == "latency rose by 25 % under load"


@pytest.mark.parametrize(
    ("flags", "now", "since_start"),
    [
        ("0", [], []),
        ("0x0", [], []),
        ("0x50005", ["under-voltage", "throttled"], ["under-voltage", "throttled"]),
        ("80008", ["soft temperature limit"], ["soft temperature limit"]),
        ("20000", [], ["frequency capped"]),
    ],
)
def test_flags_of_the_firmware(flags, now, since_start):
    assert edgekit_runner.throttling(flags) == now
    assert edgekit_runner.throttling(flags, since_start=True) == since_start


def test_the_firmware_is_asked_where_the_kernel_does_not_tell(board, monkeypatch, tmp_path):
    write(board, RASPBERRY_PI)
    tool = tmp_path / "vcgencmd"
    tool.write_text('#!/bin/sh\ntest "$1" = get_throttled && echo "throttled=0x50000"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert edgekit_runner.throttle_flags() == "0x50000"
    assert edgekit_runner.sensors()["throttled"] == []
    assert edgekit_runner.conditions()["throttled"] == "0x50000"
    # Without the tool, and on a board that is no Raspberry Pi, there is nothing to tell.
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert edgekit_runner.throttle_flags() == ""
    write(board, {"proc/device-tree/model": "Radxa ROCK 5B\0"})
    assert edgekit_runner.sensors()["throttled"] is None


# --- bench: several models ---


def test_several_models_are_timed_by_turns(facts, runner, models, tmp_path):
    # Given a model, the same again, and another
    one, other = models / "fsdd_int8.tflite", models / "pair.tflite"
    found = facts("bench", one, one, other)
    # When they are timed, then each has as many runs in every round;
    assert found["rounds"] == edgekit_runner.ROUNDS == 20
    assert [each["model"] for each in found["files"]] == [str(one), str(one), str(other)]
    for each in found["files"]:
        assert each["n"] == len(each["values_ns"]) > 0
        assert each["n"] % 20 == 0
        assert 0 < each["p50_ms"] <= each["p90_ms"] <= each["p99_ms"]
    # and is compared with the first.
    first, same, third = found["files"]
    assert "ratio" not in first
    for each in (same, third):
        assert 0 < each["ratio"]["low"] <= each["ratio"]["value"] <= each["ratio"]["high"]
    code, out, _ = runner("bench", one, other)
    assert code == 0
    lines = out.splitlines()
    assert max(len(line) for line in lines if "/" not in line) <= 80
    assert "By turns, 20 rounds, 1 thread" in lines
    assert lines[-1].endswith(" times that of the first")


def test_ratios_are_those_of_the_rounds():
    # Given 20 rounds of two runs, one model twice as slow, in a machine that slows down meanwhile
    reference = [value for k in range(20) for value in (100 + 10 * k, 102 + 10 * k)]
    slower = [2 * value for value in reference]
    slower[0] = slower[1] = 10_000  # one round in which something else ran

    found = edgekit_runner.ratio_by_turns(slower, reference)

    assert found == {"value": 2, "low": 2, "high": 2}


@pytest.mark.parametrize(
    "option",
    [["--runs", "3"], ["--duration", "1"], ["--sweep"], ["--data", "x.npy"], ["--seconds", "1"]],
)
def test_what_is_measured_of_one_model_only(runner, models, option):
    model = models / "fsdd_int8.tflite"
    code, out, err = runner("bench", model, model, *option)
    assert (code, out) == (2, "")
    assert f"{option[0]} takes one model." in err


def test_models_without_a_manifest_are_timed_in_a_child_process(alone, models, tmp_path):
    # Given models of unknown origin, the second of which is damaged inside
    sound, damaged = tmp_path / "sound.tflite", tmp_path / "damaged.tflite"
    shutil.copy(models / "pair.tflite", sound)
    damaged.write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))

    ended = alone("bench", sound, sound)
    assert ended.returncode == 0, ended.stderr
    assert "Not every model has a manifest with its digest: tried in a child process." in (
        ended.stderr
    )
    broken = alone("bench", sound, damaged)
    assert broken.returncode == 3
    assert str(damaged) in broken.stderr
    assert not broken.stdout


# --- bench: sweep, kernels, end to end ---


def test_sweep_covers_kernels_and_threads(facts, models, monkeypatch):
    monkeypatch.setattr(edgekit_runner, "_cores", lambda: 2)
    found = facts("bench", models / "fsdd_int8.tflite", "--runs", 20, "--sweep")
    pairs = [(row["kernels"], row["threads"]) for row in found["sweep"]]
    assert pairs == [("default", 1), ("default", 2), ("builtin", 1), ("builtin", 2)]
    assert all(0 < row["p50_ms"] <= row["p90_ms"] for row in found["sweep"])
    assert {row["n"] for row in found["sweep"]} == {20}
    # The measurement itself is what was asked for, whatever the sweep did.
    assert (found["kernels"], found["threads"]) == ("default", 1)


def test_the_table_of_a_sweep_marks_the_fastest(runner, models, monkeypatch):
    monkeypatch.setattr(edgekit_runner, "_cores", lambda: 1)
    out = runner("bench", models / "fsdd_int8.tflite", "--runs", 20, "--sweep")[1]
    assert fits_the_terminal(out)
    table = out[out.index("  sweep") :].splitlines()
    assert [line[13:25].strip() for line in table] == ["kernels", "with XNNPACK", "without"]
    assert sum("fastest" in line for line in table) == 1


def test_kernels_are_those_that_are_named(runner, models, shared_data, tmp_path):
    """XNNPACK, the runtime's own and the reference kernels round differently on a real model."""
    outputs = {}
    for kernels in edgekit_runner.KERNELS:
        kept = tmp_path / f"{kernels}.npz"
        data = _nine(tmp_path, shared_data)
        path = shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite"
        code, _, err = runner("eval", path, data, "--outputs", kept, "--kernels", kernels)
        assert code == 0, err
        (outputs[kernels],) = np.load(kept).values()
    assert (outputs["default"] != outputs["reference"]).any()
    assert len({int(codes.argmax()) for codes in outputs.values()}) == 1


def _nine(folder: Path, shared_data: Path) -> Path:
    from PIL import Image

    with Image.open(shared_data / "coral_pairs" / "cat.bmp") as picture:
        pixels = edgekit_runner.resize_image(picture, {"height": 128, "width": 128})
    np.savez(folder / "cat.npz", inputs=pixels[None])
    return folder / "cat.npz"


def test_end_to_end_is_more_than_the_invocation(facts, models):
    # Given sound, whose features cost more than the network
    found = facts("bench", models / "fsdd_int8.tflite", "--runs", 5)["end_to_end"]
    assert found["input"] == "random audio, 8000 samples"
    assert list(found["parts_ms"]) == ["prepare", "set", "invoke", "get"]
    # When the medians of the parts are added, they are the whole, roughly
    assert found["parts_ms"]["prepare"] > found["parts_ms"]["set"]
    assert sum(found["parts_ms"].values()) == pytest.approx(found["p50_ms"], rel=0.5)
    assert found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"]
    assert found["n"] >= 20


def test_end_to_end_starts_at_a_picture(facts, shared_data):
    """A model of pictures is given one as large as a camera's, and resizes it."""
    folder = shared_data / "coral_pairs"
    model = folder / "mobilenet_v1_0.25_128_quant.tflite"
    found = facts("bench", model, "--runs", 5)["end_to_end"]
    assert found["input"] == "a random picture of 640 x 480"
    assert found["parts_ms"]["prepare"] > 10 * found["parts_ms"]["set"]
    picture = folder / "cat.bmp"
    found = facts("bench", model, "--runs", 5, "--data", picture)["end_to_end"]
    assert found["input"] == f"{picture}, read anew each time"


def test_end_to_end_on_data(facts, models):
    data = models / "cmapss.npz"
    found = facts("bench", models / "cmapss_uint8.tflite", "--runs", 5, "--data", data)
    assert found["end_to_end"]["input"] == f"{data}, sample 0"


@pytest.mark.parametrize("name", ["one.npy", "MANY.NPY"])
def test_bench_takes_an_npy_of_one_sample_or_of_many(facts, models, tmp_path, name):
    windows = np.load(models / "cmapss.npz")["x_test"]
    data = tmp_path / name
    with data.open("wb") as stream:  # the name as it is
        np.save(stream, windows[0] if name == "one.npy" else windows)
    found = facts("bench", models / "cmapss_uint8.tflite", "--runs", 5, "--data", data)
    assert found["end_to_end"]["input"] == f"{data}, sample 0"


def test_a_preprocessing_without_a_kind_is_none(facts, models, tmp_path):
    # Given a manifest that names no kind of preprocessing
    model = Path(shutil.copy(models / "cmapss_uint8.tflite", tmp_path))
    model.with_suffix(".json").write_text('{"preprocessing": {"scale": 2}}')
    # When the model is timed, then there is nothing to prepare, and info says so.
    found = facts("bench", model, "--runs", 5)
    assert found["end_to_end"]["input"] == edgekit_runner.RANDOM_CODES
    assert facts("info", model)["preprocessing"] == {"kind": "none", "scale": 2}


# --- eval in little memory ---


def test_memory_does_not_grow_with_the_data(alone, models, tmp_path):
    """Ten times the samples, 34 MB more of them, and their outputs kept: the same memory."""
    peaks = []
    windows = np.load(models / "cmapss.npz")["x_test"]
    for n in (2_000, 22_000):
        data = tmp_path / f"{n}.npz"
        save = np.savez_compressed if n == 2_000 else np.savez
        many = np.resize(windows, (n, *windows.shape[1:]))
        save(data, x_test=many, y_test=np.zeros(n, np.float32))
        kept = tmp_path / f"outputs_{n}.npz"
        done = alone("eval", models / "cmapss_uint8.tflite", data, "--outputs", kept, "--json")
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads(done.stdout)["peak_rss_bytes"])
        assert [array.shape for array in np.load(kept).values()] == [(n, 1)]
    assert peaks[1] - peaks[0] < 4_000_000


def test_outputs_are_kept_on_a_board_whose_clock_starts_in_1970(tmp_path):
    kept = tmp_path / "kept.npz"
    with edgekit_runner.OutputFile(str(kept), ["y"], 1) as outputs:
        outputs.add([np.float32([3])])
        (part,) = outputs.parts
        part.flush()
        os.utime(part.name, (0, 0))
    assert np.load(kept)["y"].tolist() == [[3.0]]


def test_outputs_that_cannot_be_written_leave_nothing(runner, models, tmp_path):
    data = models / "cmapss.npz"
    kept = tmp_path / "kept.npz"
    kept.mkdir()
    code, _, err = runner(
        "eval", models / "cmapss_uint8.tflite", data, "--outputs", kept, "--force"
    )
    assert code == 2
    assert "kept.npz is not a regular file." in err
    assert list(tmp_path.iterdir()) == [kept]


def test_a_full_disk_leaves_nothing(copied_runner, models, tmp_path):
    # Given room for one block, and outputs for 2000 samples
    windows = np.load(models / "cmapss.npz")["x_test"]
    np.savez(tmp_path / "many.npz", x_test=np.resize(windows, (2_000, *windows.shape[1:])))
    command = [sys.executable, "-I", copied_runner, "eval", models / "cmapss_uint8.tflite"]
    options = ["many.npz", "--outputs", "kept.npz"]
    # When they are to be kept
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *command, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # Then it is the disk that is named, and no half of a file stays.
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Cannot write kept.npz.")
    assert [path.name for path in tmp_path.iterdir()] == ["many.npz"]


# --- selftest ---


def test_a_sound_runtime(alone):
    done = alone("selftest", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["working"]
    assert [result["kernels"] for result in found["results"]] == ["default", "reference"]
    assert {result["right"] for result in found["results"]} == {10}
    assert found["results"][1]["largest_difference"] == 0
    words = alone("selftest").stdout
    assert "reference kernels: 10 of 10 right, equal to the bit" in words


def test_the_carried_model_is_small():
    assert sum(map(len, edgekit_runner.SELFTEST)) < 3_000


BROKEN = {
    # A runtime that counts one place too far, one that dies, and one that refuses.
    "get_tensor": ("return np.roll(super().get_tensor(index), 1)", "0 of 10 right"),
    "invoke": ("os.kill(os.getpid(), signal.SIGILL)", "ended by SIGILL"),
    "allocate_tensors": ("raise RuntimeError('no kernel for CONV_2D')", "no kernel for CONV_2D"),
}


@pytest.mark.parametrize("method", BROKEN)
def test_a_broken_runtime(copied_runner, tmp_path, method):
    # Given a runtime of which one method is broken
    body, words = BROKEN[method]
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '0.0.broken'\n")
    (package / "interpreter.py").write_text(
        "import os, signal\n"
        "import numpy as np\n"
        "from ai_edge_litert.interpreter import OpResolverType, load_delegate\n"
        "from ai_edge_litert.interpreter import Interpreter as Sound\n"
        "class Interpreter(Sound):\n"
        f"    def {method}(self, index=0):\n"
        f"        {body}\n"
    )
    # When it tests itself
    done = subprocess.run(
        [sys.executable, copied_runner, "selftest", "--runtime", "tflite"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    # Then it is the runtime that gets the blame, even where it takes the process down.
    assert (done.returncode, done.stdout) == (7, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("The runtime is broken")
    assert words in lines[1]


def test_no_runtime_to_test(alone):
    done = alone("selftest", flags=("-I", "-S"))
    assert done.returncode == 7
    assert done.stderr.startswith("numpy is not installed.")
