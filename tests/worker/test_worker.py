"""The TensorFlow process: its results and errors, and what remains when it dies.

The child starts with an empty module in TensorFlow's place, which makes it quick; the rooms that
use TensorFlow test it for real.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import worker_jobs

from edgekit.errors import ConversionError, DataError, EdgekitError, ModelError
from edgekit.recipe import Prune
from edgekit.records import DataRequest, Progress
from edgekit.training.finetuning import Tuning
from edgekit.worker import Session, Worker, startup

HERE = Path(__file__).parent


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules for the child, with nothing behind the name of TensorFlow."""
    modules = tmp_path / "modules"
    modules.mkdir()
    for name in ("tensorflow", "keras"):
        (modules / f"{name}.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", f"{modules}:{HERE}")
    return modules


@pytest.fixture
def worker(light: Path) -> Iterator[Worker]:
    with Worker() as started:
        yield started


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"


def gone(pid: int) -> bool:
    for _ in range(200):
        if not alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_the_parent_stays_light() -> None:
    code = "import edgekit.worker, sys; print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_results_and_progress_come_back(light: Path) -> None:
    heard: list[Progress] = []
    with Worker(listener=heard.append) as worker:
        assert worker.run(worker_jobs.count, to=3) == [0, 1, 2]
    assert heard == [Progress(stage="counting", done=i, total=3) for i in (1, 2, 3)]


def test_an_answer_that_nobody_took_is_not_the_next_one(worker: Worker) -> None:
    # Given requests whose answers nobody waited for, one of them an error
    worker._begin(worker_jobs.count, "counting", to=2)
    worker._begin(worker_jobs.refuse, "refusing")
    # When something else is asked, then that is answered.
    assert worker.run(worker_jobs.echo, 5) == (5,)


def test_a_refusal_comes_back_whole(worker: Worker) -> None:
    with pytest.raises(DataError) as caught:
        worker.run(worker_jobs.refuse)
    assert str(caught.value) == "The data is odd.\none\nGive two."
    assert worker.run(worker_jobs.count, to=1) == [0]


def test_a_bug_comes_back_with_the_childs_traceback(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        worker.run(worker_jobs.fail)
    assert "in fail" in "\n".join(caught.value.__notes__)


def test_an_exception_that_cannot_travel_is_told(worker: Worker) -> None:
    with pytest.raises(RuntimeError, match="UnpicklableError: mine") as caught:
        worker.run(worker_jobs.fail, unpicklable=True)
    assert "in fail" in "\n".join(caught.value.__notes__)


def test_a_function_that_the_child_cannot_import_is_an_error(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def greet(session): ...")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = importlib.import_module("only_here")
    with pytest.raises(ModuleNotFoundError, match="only_here"):
        worker.run(only_here.greet)
    assert worker.run(worker_jobs.count, to=1) == [0]


def test_large_contents_go_there_and_back(worker: Worker) -> None:
    large = bytes(range(256)) * 1024
    assert worker.run(worker_jobs.echo, large, {"again": [large, b"x"]}) == (
        large,
        {"again": [large, b"x"]},
    )


def test_a_request_is_named_where_the_process_dies_in_it(worker: Worker, light: Path) -> None:
    worker.run(worker_jobs.die_on_import, "edgekit.training.passes")
    tuning = Tuning(data=DataRequest(data="digits"))
    with pytest.raises(ConversionError, match=r"running the pass prune \(SIGABRT\)"):
        worker.transform(Prune(), tuning, light / "x.keras")


def test_death_by_a_signal_is_an_error_and_the_next_request_has_a_new_child(
    worker: Worker,
) -> None:
    first = worker.run(worker_jobs.pid)
    with pytest.raises(ConversionError, match=r"died while die \(SIGSEGV\)") as caught:
        worker.run(worker_jobs.die, by=signal.SIGSEGV, words="bad operator 7")
    assert caught.value.found == "Its last message: bad operator 7"
    assert worker.run(worker_jobs.pid) != first


def test_a_kill_points_to_memory(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="SIGKILL") as caught:
        worker.run(worker_jobs.die, by=signal.SIGKILL)
    assert "memory" in str(caught.value)


def test_an_exit_without_an_answer_is_an_error(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="exit code 7"):
        worker.run(worker_jobs.leave)


def test_death_while_loading_is_the_models_fault(worker: Worker, light: Path) -> None:
    model = light / "model.h5"
    model.write_bytes(b"\x89HDF\r\n\x1a\n")
    worker.run(worker_jobs.die_on_import, "edgekit.training.qat")
    with pytest.raises(ModelError, match=r"loading model\.h5 \(SIGABRT\)"):
        worker.load(model)


def test_recurrent_layers_are_the_first_to_be_suspected(worker: Worker) -> None:
    worker._recurrent = ("lstm", "gru")
    with pytest.raises(ConversionError) as caught:
        worker.run(worker_jobs.die, by=signal.SIGSEGV)
    assert "lstm, gru" in (caught.value.found or "")
    assert "unroll=True" in (caught.value.hint or "")


def test_lowering_before_loading_is_refused(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No model is loaded"):
        worker.lower(tmp_path / "x.tflite")


def test_what_nobody_waits_for_fails_in_the_request_that_needs_it(
    worker: Worker, tmp_path: Path
) -> None:
    # Given no model that could be traced
    worker.run(worker_jobs.pid)
    # When tracing begins all the same, then only what is asked next says so.
    worker.start_tracing()
    lowering = worker.start_lowering(tmp_path / "x.tflite")
    with pytest.raises(ModelError, match="No model is loaded"):
        lowering()
    worker.start_tracing()
    assert worker.run(worker_jobs.pid) > 0


def test_without_tensorflow_every_request_says_so(light: Path) -> None:
    (light / "tensorflow.py").write_text("raise ImportError('libtensorflow.so: not found')")
    with Worker() as worker:
        for _ in range(2):
            with pytest.raises(EdgekitError, match="cannot be imported") as caught:
                worker.input_scaling()
            assert "libtensorflow.so" in (caught.value.found or "")


@pytest.mark.parametrize(
    "program",
    [
        "raise ImportError('libtensorflow_cc.so.2: failed to map segment from shared object')",
        "raise OSError(12, 'Cannot allocate memory')",
        "raise MemoryError",
        "try:\n    raise MemoryError\nexcept MemoryError:\n    raise ImportError('x')",
    ],
    ids=["segment", "system", "python", "cause"],
)
def test_a_tensorflow_without_memory_is_no_broken_installation(light: Path, program: str) -> None:
    (light / "tensorflow.py").write_text(program)
    with Worker() as worker, pytest.raises(ConversionError, match="not enough memory") as caught:
        worker.run(worker_jobs.pid)
    assert caught.value.hint == "Free some memory and run it again."


@pytest.fixture
def limited() -> Iterator[int]:
    """A limit on the address space of this process and those it starts."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_AS, before)


# Takes what there is, then goes on trying, as an allocator may.
NEVER_ENOUGH = """
import mmap, time
kept = []
while True:
    try:
        kept.append(mmap.mmap(-1, 1 << 24))
    except OSError:
        time.sleep(0.01)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells the size")
def test_a_start_that_is_stuck_without_address_space_ends(
    light: Path, limited: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_STUCK_SECONDS", 2)
    (light / "tensorflow.py").write_text(NEVER_ENOUGH)
    with Worker() as worker, pytest.raises(ConversionError, match="not enough memory") as caught:
        worker.run(worker_jobs.pid)
    assert f"limited to {limited / 1e9:.1f} GB" in (caught.value.hint or "")


def test_a_death_at_the_start_is_not_the_models_fault(light: Path) -> None:
    (light / "keras.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    with Worker() as worker, pytest.raises(ConversionError, match=r"start \(SIGILL\)") as caught:
        worker.lower(light / "x.tflite")
    assert "Reinstall" in (caught.value.hint or "")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells the size")
def test_a_death_at_the_start_in_little_address_space_points_to_that(
    light: Path, limited: int
) -> None:
    (light / "keras.py").write_text("import os\nos.abort()")
    with Worker() as worker, pytest.raises(ConversionError, match="not enough memory") as caught:
        worker.run(worker_jobs.pid)
    assert "ulimit -v" in (caught.value.hint or "")


def test_a_death_in_little_address_space_points_to_that(worker: Worker, limited: int) -> None:
    worker._recurrent = ("lstm",)
    with pytest.raises(ConversionError, match="SIGABRT") as caught:
        worker.run(worker_jobs.die, by=signal.SIGABRT)
    assert "ulimit -v" in (caught.value.hint or "")


def test_the_models_time_begins_when_tensorflow_is_there(light: Path) -> None:
    (light / "tensorflow.py").write_text("import time\ntime.sleep(2)")
    with Worker(timeout=1) as worker, pytest.raises(ModelError, match="No model is loaded"):
        worker._ask(Session.recurrent_layers, "loading")


def test_a_start_without_end_is_an_error(light: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "START_SECONDS", 1)
    (light / "tensorflow.py").write_text("import time\ntime.sleep(600)")
    with Worker() as worker, pytest.raises(ConversionError, match="within 1 seconds"):
        worker.run(worker_jobs.pid)


def test_the_child_ends_with_the_context(light: Path) -> None:
    with Worker() as worker:
        pid = worker.run(worker_jobs.pid)
    assert not alive(pid)


def test_files_in_the_current_folder_do_not_pass_for_libraries(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    with Worker() as worker:
        assert worker.run(worker_jobs.count, to=1) == [0]


def test_keras_runs_on_tensorflow_whatever_the_user_set(
    light: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with Worker() as worker:
        assert worker.run(worker_jobs.environment, name="KERAS_BACKEND") == "tensorflow"


PARENT = """
    import worker_jobs

    from edgekit.worker import Worker

    with Worker() as worker:
        print(worker.run(worker_jobs.pid), flush=True)
        worker.run(worker_jobs.wait)
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_child_survives_its_parent(light: Path, by: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    # The whole group, as a terminal's Ctrl-C does.
    os.killpg(parent.pid, by)
    _, said = parent.communicate(timeout=20)
    assert gone(pid)
    assert ("KeyboardInterrupt" in said) == (by == signal.SIGINT)
