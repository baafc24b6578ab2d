"""The runner on ARM: real code of both architectures under qemu, real models, real data.

A process there needs three seconds before it does anything, most of them for importing numpy.
So whatever need not be a process of its own shares one, and its answers serve several tests.
"""

from __future__ import annotations

import functools
import json
import py_compile
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import userland
from boards import MANY, TASKS, Answers, Board

import edgekit_runner
from edgekit.data import open_data
from edgekit.data.formats.idx import read_idx

# The sshd on loopback and the stand-in for libedgetpu serve the tests of x86 as well.
TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / "devices"), str(TESTS / "runner" / "delegate")]

SAMPLES = 40


NOT_HERE = "no ARM user land can be built here"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    """Let all tests that miss the user lands skip with one line, not one line each."""
    report = yield
    if report.skipped and NOT_HERE in report.longrepr[2]:
        report.longrepr = (str(TESTS / "device"), 1, report.longrepr[2])
    return report


@functools.cache
def built(name: str) -> userland.Userland | str:
    """The user land, or why there is none: asked once, however many tests want it."""
    try:
        return userland.build(name, userland.cache_folder())
    except userland.UnavailableError as reason:
        return f"{NOT_HERE}: {reason}"


def land(name: str) -> userland.Userland:
    found = built(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner as a device gets it, compiled where a board's Python is of this version."""
    copied = Path(shutil.copy(edgekit_runner.__file__, tmp_path_factory.mktemp("runner")))
    py_compile.compile(str(copied), doraise=True)
    return copied


@pytest.fixture(
    scope="session", params=["arm64-litert", "arm64-tflite", "trixie-litert", "armhf-tflite"]
)
def board(request: pytest.FixtureRequest, runner: Path) -> Board:
    name, runtime = request.param.split("-")
    return Board(land(name), runtime, runner)


@pytest.fixture(scope="session")
def arm64() -> userland.Userland:
    return land("arm64")


@pytest.fixture(scope="session", params=["trixie", "armhf"])
def any_land(request: pytest.FixtureRequest) -> userland.Userland:
    return land(request.param)


@pytest.fixture(scope="session")
def cache() -> Path:
    return userland.cache_folder()


@pytest.fixture(scope="session")
def packed(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real test samples as a host packs them, and raw; a clip as a WAV file; a PNG."""
    folder = tmp_path_factory.mktemp("packed")
    images = read_idx(shared_data / "fashion_mnist" / "t10k-images-idx3-ubyte.gz")[:SAMPLES]
    labels = read_idx(shared_data / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz")[:SAMPLES]
    np.savez(folder / "fashion-mnist.npz", x_test=images, y_test=labels)
    for name, raw in (("spoken-digits", False), ("turbofan", True)):
        # What is called `inputs` is preprocessed; `x_test` is raw, and preprocessed over there.
        test = open_data(name, preprocessing={"kind": "none"} if raw else None).test
        spread = np.linspace(0, test.n - 1, SAMPLES).astype(int)
        batch = test.read(spread)
        stored = {"x_test" if raw else "inputs": batch.inputs["x"], "targets": batch.targets}
        np.savez(folder / f"{name}.npz", **stored)
    clips, classes = _clips(shared_data)
    np.savez(folder / "clips.npz", x_test=clips, y_test=classes)
    with wave.open(str(folder / "clip.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(clips[0].tobytes())
    return folder


def _clips(shared_data: Path) -> tuple[Any, Any]:
    """The first takes of one speaker, which no model was trained on: int16 `[n, 8000]`, `[n]`."""
    fsdd = np.load(shared_data / "fsdd" / "fsdd.npz")
    rows = np.flatnonzero((fsdd["index"] < 5) & (fsdd["speaker"] < 2))
    clips = np.zeros((len(rows), 8000), np.int16)
    for clip, row in zip(clips, rows, strict=True):
        audio = fsdd["audio"][fsdd["offsets"][row] : fsdd["offsets"][row + 1]][:8000]
        clip[: len(audio)] = audio
    return clips, fsdd["label"][rows]


@pytest.fixture(scope="session")
def ask(
    packed: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Callable[[Sequence[Sequence[str]]], list[str]]], Answers]:
    """Put every task to a runner: here or there, the same words."""

    def ask_all(run_all: Callable[[Sequence[Sequence[str]]], list[str]]) -> Answers:
        kept = tmp_path_factory.mktemp("outputs")
        models = repository / "quantized"
        commands = [
            ["info", str(models / "fashion-mnist" / "int8.tflite"), "--json"],
            ["run", str(models / "spoken-digits" / "int8.tflite"), str(packed / "clip.wav")],
        ]
        for task, (model, data, kernels) in TASKS.items():
            chosen = ["--kernels", *kernels] if kernels else []
            files = [str(models / f"{model}.tflite"), str(packed / f"{data}.npz")]
            written = ["--outputs", str(kept / f"{task}.npz")]
            commands.append(["eval", *files, "--json", *written, *chosen])
        info, heard, *scores = map(json.loads, run_all(commands))
        outputs = {task: dict(np.load(kept / f"{task}.npz")) for task in TASKS}
        return Answers(info, dict(zip(TASKS, scores, strict=True)), outputs, heard)

    return ask_all


@pytest.fixture(scope="session")
def here(ask: Callable[..., Answers]) -> Answers:
    """This machine's answers, with numpy 2 and its own processor's kernels."""

    def run_all(commands: Sequence[Sequence[str]]) -> list[str]:
        words = [[*command, "--runtime", "litert"] for command in commands]
        folder = str(Path(edgekit_runner.__file__).parent)
        done = subprocess.run(
            [sys.executable, "-c", MANY, folder, json.dumps(words)],
            capture_output=True,
            text=True,
            check=True,
            timeout=240,
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [code for code, _, _ in answers] == [0] * len(commands), answers
        return [out for _, out, _ in answers]

    return ask(run_all)


@pytest.fixture(scope="session")
def there(board: Board, ask: Callable[..., Answers]) -> Answers:
    """The board's answers."""
    return ask(board.run_all)
