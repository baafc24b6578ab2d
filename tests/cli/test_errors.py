"""Wrong input: the right exit code, at most three lines, no half file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import run

EDGEKIT = [sys.executable, "-m", "edgekit.cli"]


def edgekit(*words: object, cwd: Path | None = None, **more: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*EDGEKIT, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        timeout=300,
        **more,
    )


@pytest.fixture
def asked(monkeypatch, capsys):
    """Run a command in this process, which spares the start of another one."""

    def ask(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        code = run([*map(str, words)])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, out, err)

    return ask


def complaint(done: subprocess.CompletedProcess, code: int) -> str:
    """Return stderr, after checking its form."""
    said = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert 1 <= len(said) <= 3, said
    assert "Traceback" not in done.stderr
    return "\n".join(said)


def left(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


@pytest.fixture(scope="module")
def demo_model(repository):
    return repository / "toolkit" / "edgekit" / "demo" / "digits_cnn.keras"


@pytest.fixture(scope="module")
def float_file(demo_model, tmp_path_factory):
    """The float graph of the demo's model: what comes after lowering needs no TensorFlow."""
    path = tmp_path_factory.mktemp("float") / "digits.tflite"
    assert run(["import", str(demo_model), "-o", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def digits(tmp_path_factory):
    """The demo's digits as a user's .npz, as a function that changes some arrays first."""
    from edgekit.data import open_data

    dataset = open_data("digits")
    parts = {}
    for samples, split in ((dataset.train, "train"), (dataset.test, "test")):
        batch = samples.read(np.arange(samples.n))
        parts[f"x_{split}"], parts[f"y_{split}"] = batch.inputs["x"], batch.targets

    def write(**changes: object) -> Path:
        path = tmp_path_factory.mktemp("data") / "digits.npz"
        arrays = {**parts, **changes}
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
        return path

    write.parts = parts
    return write


# --- usage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["quantise"], "No such command"),
        (["quantize"], "Missing argument"),
        (["quantize", "m.keras", "--mode", "int3"], "int16x8, int4, mixed."),
        (["quantize", "m.keras", "--mode", "int8", "--mode", "int8"], "Two variants"),
        (["quantize", "m.keras", "--ranges", "guess"], "minmax"),
        (["quantize", "m.keras", "--io", "int7"], "uint8"),
        (["quantize", "m.keras", "--task", "guess", "--data", "digits"], "regression"),
        (["quantize", "m.keras", "--recipe", "missing.toml"], "missing.toml"),
        (["quantize", "m.keras", "--target", "corall"], "coral"),
        (["train", "mobilnet_v2", "--data", "digits", "-o", "x.keras"], "mobilenet_v2"),
        (["bench"], "Missing argument"),
        (["report", "missing.json"], "missing.json"),
    ],
)
def test_usage(words, hint, tmp_path, asked):
    done = asked(*words, cwd=tmp_path)
    assert hint in complaint(done, 2)
    assert left(tmp_path) == []


# --- models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inspect", "bench", "eval"])
@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "truncated"])
def test_a_bad_tflite_is_a_model_error(command, kind, tmp_path, golden, asked):
    path = tmp_path / "model.tflite"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("I am no model at all, just words.\n" * 10)
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        whole = min(golden.rglob("*.tflite")).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    more = ["--data", "digits"] if command == "eval" else []
    assert str(path) in complaint(asked(command, path, *more), 3)


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["missing", "folder", "text", "truncated"])
def test_a_bad_keras_file_is_a_model_error(kind, tmp_path, demo_model, asked):
    work = tmp_path / "work"
    work.mkdir()
    path = tmp_path / "model.keras"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("I am no model at all.\n")
    elif kind == "truncated":
        path.write_bytes(demo_model.read_bytes()[:5000])
    done = asked("quantize", path, "--data", "digits", "--mode", "int8", "-o", "out", cwd=work)
    assert "model.keras" in complaint(done, 3)
    assert left(work) == []


# --- data --------------------------------------------------------------------------------------


@pytest.mark.tensorflow
def test_bad_data_is_a_data_error_and_leaves_nothing(
    digits, float_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    parts = digits.parts
    nan = parts["x_train"].copy()
    nan[3, 2, 2] = np.nan
    cases = {
        "NaN": digits(x_train=nan),
        "7x8x1": digits(x_train=parts["x_train"][:, :7], x_test=parts["x_test"][:, :7]),
        "label": digits(y_test=parts["y_test"] + 5),
        "empty": digits(x_test=parts["x_test"][:0], y_test=parts["y_test"][:0]),
        "calibrat": digits(x_train=None, y_train=None),
    }
    for word, path in cases.items():
        words = ["quantize", str(float_file), "--data", str(path), "--mode", "int8", "-o", "out"]
        assert run([*words, "-q"]) == 4, word
        said = capsys.readouterr().err
        assert 1 <= len(said.splitlines()) <= 3, said
        assert word.lower() in said.lower()
        assert left(tmp_path) == [], word


@pytest.mark.parametrize("spec", ["missing.npz", "no.module:function", "sys:nothing", "digit"])
def test_data_that_is_not_there(spec, golden, tmp_path, asked):
    model = min(golden.rglob("*.tflite"))
    complaint(asked("eval", model, "--data", spec, cwd=tmp_path), 4)


# --- places ------------------------------------------------------------------------------------


@pytest.mark.tensorflow
def test_existing_output_needs_force_and_is_untouched(demo_model, tmp_path, asked):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "int8.tflite").write_bytes(b"mine")
    done = asked("quantize", demo_model, "--data", "digits", "-o", "out", cwd=tmp_path)
    assert "--force" in complaint(done, 2)
    assert (tmp_path / "out" / "int8.tflite").read_bytes() == b"mine"


@pytest.mark.tensorflow
def test_an_output_below_a_file(demo_model, tmp_path):
    (tmp_path / "file").touch()
    done = edgekit(
        "quantize", demo_model, "--mode", "float16", "--no-bench", "-o", "file/out", cwd=tmp_path
    )
    assert "Cannot write" in complaint(done, 2)


@pytest.mark.tensorflow
@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_a_full_or_read_only_disk(options, float_file, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        words = ("--data", "digits", "--no-bench", "-o", place / "out")
        done = edgekit("quantize", float_file, *words)
        assert "Cannot write" in complaint(done, 2)
        assert left(place) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


# --- interruption ------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found.extend(int(child) for child in task.read_text().split())
    return found[1:]


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "stage", ["loading the model", "lowering", "calibrating", "quantizing", "evaluating", "timing"]
)
def test_ctrl_c_in_each_stage(stage, demo_model, float_file, tmp_path):
    # The later stages are the same for both.
    source = demo_model if stage in {"loading the model", "lowering"} else float_file
    with subprocess.Popen(
        [*EDGEKIT, "quantize", str(source), "--data", "digits", "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as running:
        said = []
        for line in running.stderr:
            said.append(line)
            if stage in line:
                break
        else:
            pytest.fail(f"no stage {stage!r} in {said}")
        children = descendants(running.pid)
        os.killpg(running.pid, signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait(timeout=60) == 130, (said, rest)
    assert "Traceback" not in rest
    assert "Interrupted; nothing half-written was left." in rest
    assert left(tmp_path) == []
    deadline = time.monotonic() + 10
    while (alive := [c for c in children if Path(f"/proc/{c}/cmdline").exists()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert not alive


# --- hostile bytes -----------------------------------------------------------------------------


def test_two_hundred_mutations_never_crash(golden, tmp_path):
    """Through `run`, in one process: a crash of edgekit would end this test's child."""
    model = min(golden.rglob("*.tflite"), key=lambda p: p.stat().st_size)
    script = f"""
import contextlib, io, json, sys
import numpy as np
from pathlib import Path
from edgekit.cli import run
whole = Path({str(model)!r}).read_bytes()
generator = np.random.default_rng(20)
codes = {{}}
path = Path({str(tmp_path)!r}) / "mutant.tflite"
for number in range(240):
    data = bytearray(whole)
    if number % 4 == 0:
        data = data[: generator.integers(0, len(data))]
    else:
        # Structure sits outside of the weights, mostly at the ends: hit it on purpose.
        for _ in range(generator.integers(1, 9)):
            at = generator.integers(0, len(data))
            data[at] ^= 1 << generator.integers(0, 8)
    path.write_bytes(data)
    words = ["inspect", str(path), "--json"]
    if number % 3 == 0:
        words = ["eval", str(path), "--data", {str(tmp_path / "noise.npz")!r}, "--quiet"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run(words)
    codes[code] = codes.get(code, 0) + 1
print(json.dumps(codes))
"""
    from edgekit.tflite import read, signature

    shape = signature(read(model))[0][0].shape[1:]
    generator = np.random.default_rng(0)
    outputs = signature(read(model))[1][0].shape[-1]
    targets = generator.integers(0, outputs, 8) if outputs > 1 else generator.random((8, 1))
    x = generator.random((16, *shape), dtype=np.float32)
    np.savez(tmp_path / "noise.npz", x_train=x[:8], y_train=targets, x_test=x[8:], y_test=targets)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    codes = {int(code): n for code, n in json.loads(done.stdout.splitlines()[-1]).items()}
    assert set(codes) <= {0, 3, 4}, codes
    assert codes.get(3, 0) > 20
    assert sum(codes.values()) == 240
