"""The host runs the runner in a separate process, and reports every way it can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgekit_runner
from edgekit import devices
from edgekit.errors import DeviceError, EdgekitError, ModelError, UsageError
from edgekit.records import Progress


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Put a script of one line in the runner's place."""

    def replace(line: str) -> None:
        script = tmp_path / "stub" / "edgekit_runner.py"
        script.parent.mkdir()
        script.write_text(f"import os, sys\n{line}\n")
        monkeypatch.setenv("PYTHONPATH", str(script.parent))

    return replace


def test_bench_returns_what_the_runner_measured(models):
    heard: list[Progress] = []
    timing = devices.bench(models / "fsdd_int8.tflite", runs=30, listener=heard.append)
    assert len(timing.values_ns) == 30
    assert 0 < timing.percentile_ms(50) <= timing.percentile_ms(99)
    assert timing.device == f"local: {edgekit_runner.describe_device()['device']}"
    assert timing.runtime == devices.describe()["runtime"]
    assert (timing.threads, timing.delegate) == (1, None)
    assert set(timing.cold_start_ns) == {"import", "load", "allocate", "first_invoke"}
    assert timing.stable is (timing.warning is None)
    assert [progress.detail for progress in heard] == ["fsdd_int8.tflite"]


def test_peak_memory_is_the_measuring_process_and_not_its_parent(models):
    # Given a parent that holds 300 MB
    ballast = bytearray(300_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    # When it asks for a timing, then the figure is the child's.
    timing = devices.bench(models / "fsdd_int8.tflite", runs=3)
    assert 20e6 < timing.peak_rss_bytes < 150e6
    assert len(ballast) == 300_000_000


def test_describe_tells_the_machine_in_words():
    words = devices.describe()
    assert set(words) == {"device", "cpu", "cores", "memory", "os", "python", "runtime"}
    assert all(isinstance(text, str) and text for text in words.values())


def test_a_leading_dash_in_a_file_name_is_no_option(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("-v.tflite").write_bytes((models / "pair.tflite").read_bytes())
    assert len(devices.bench(Path("-v.tflite"), runs=2).values_ns) == 2


def test_the_runners_codes_become_errors_with_its_words(models, tmp_path):
    with pytest.raises(ModelError) as missing:
        devices.bench(tmp_path / "none.tflite")
    assert str(tmp_path / "none.tflite") in missing.value.what
    assert missing.value.hint.startswith("Check its name: ")
    with pytest.raises(UsageError, match="1 or more, 256 at the most"):
        devices.bench(models / "pair.tflite", threads=0)
    cut = tmp_path / "cut.tflite"
    cut.write_bytes((models / "pair.tflite").read_bytes()[:1000])
    with pytest.raises(ModelError) as damaged:
        devices.bench(cut)
    assert len(str(damaged.value).splitlines()) == 3
    with pytest.raises(DeviceError, match="tflite-runtime is not installed"):
        devices.bench(models / "pair.tflite", runtime="tflite")


def test_a_damaged_file_never_gets_to_a_runtime_that_would_die_of_it(shared_data, models, tmp_path):
    # Given a cut file on which TensorFlow's interpreter dies, or takes all memory first
    whole = shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite"
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(whole.read_bytes()[:200_000])
    with pytest.raises(ModelError) as refused:
        devices.bench(cut, runtime="tensorflow")
    assert str(cut) in refused.value.what


def test_a_file_that_crashes_the_runtime_is_a_model_error(stub, models):
    stub("os.kill(os.getpid(), 11)")
    with pytest.raises(ModelError) as crashed:
        devices.bench(models / "pair.tflite")
    assert "pair.tflite" in crashed.value.what
    assert "SIGSEGV" in crashed.value.found


def test_a_first_run_without_an_end_is_a_model_error(stub, models):
    stub("os.kill(os.getpid(), 14 if '--first-run-limit' in sys.argv else 9)")
    with pytest.raises(ModelError) as ended:
        devices.bench(models / "pair.tflite")
    assert "does not finish its first run" in ended.value.what


def test_a_killed_runner_may_have_run_out_of_memory(stub, models):
    stub("os.kill(os.getpid(), 9)")
    with pytest.raises(ModelError) as killed:
        devices.bench(models / "pair.tflite")
    assert "SIGKILL" in killed.value.found
    assert "memory" in killed.value.hint


def test_a_bug_of_the_runner_is_no_users_error(stub, models):
    stub("raise RuntimeError('a bug')")
    with pytest.raises(EdgekitError) as bug:
        devices.bench(models / "pair.tflite")
    assert bug.value.exit_code == 1
    assert bug.value.found == "RuntimeError: a bug"


@pytest.mark.parametrize("line", ["sys.exit(130)", "os.kill(os.getpid(), 2)"])
def test_an_interrupted_runner_is_an_interrupt_here(stub, models, line, interruptible):
    stub(line)
    with pytest.raises(KeyboardInterrupt):
        devices.bench(models / "pair.tflite")


def test_ctrl_c_leaves_no_orphan(models, interruptible):
    # Given a host that measures for long, interrupted alone (a terminal would reach both)
    script = (
        "from pathlib import Path; from edgekit import devices; "
        f"devices.bench(Path({str(models / 'fsdd_int8.tflite')!r}), runs=999_999)"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{host.pid}/task/{host.pid}/children")
    end = time.monotonic() + 60
    while not (found := children.read_text().split()) and time.monotonic() < end:
        time.sleep(0.01)
    child = int(found[0])
    # When it is interrupted
    host.send_signal(signal.SIGINT)
    _, errors = host.communicate(timeout=60)
    # Then it ends as interrupted, and the runner is gone with it.
    assert "KeyboardInterrupt" in errors
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
