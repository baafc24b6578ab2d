"""This machine as a device: the runner in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import edgekit_runner
from edgekit import evaluation
from edgekit.devices import answers
from edgekit.devices.device import RunSettings
from edgekit.evaluation.metrics import MetricChoice
from edgekit.files import FILE, what_is
from edgekit.isolate import ChildDiedError, isolated, with_parent
from edgekit.records import Dataset, Listener, Progress, Timing, silent
from edgekit.tflite import check_ends, check_interface, has_loops, read

_LIMIT_S: Final = 600
"""Limit of the processor time of files that are timed by turns."""


class LocalDevice:
    """This machine; see `devices.device.Device`.

    Args:
        listener: Progress callback.

    Attributes:
        name: What tables call it.
        place: None: rows of this machine need not say where they were scored.
    """

    name = "local"
    place = None

    def __init__(self, *, listener: Listener = silent) -> None:
        self._listener = listener

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @staticmethod
    def describe() -> Mapping[str, str]:
        """Return what this machine is, in label -> value pairs."""
        return describe()

    def evaluate(
        self,
        path: Path,
        dataset: Dataset,
        settings: RunSettings,
        *,
        output: str | None = None,
        metric: MetricChoice = None,
    ) -> evaluation.Predictions:
        """Run a file over the test split on all cores; `settings` do not change its outputs."""
        _ = settings
        samples = evaluation.compared(dataset)
        if samples is not None and not evaluation.scorable(dataset):
            return evaluation.compute(path, samples, listener=self._listener)
        return evaluation.evaluate(
            path, dataset, output=output, metric=metric, listener=self._listener
        )

    @staticmethod
    def bench(path: Path, settings: RunSettings) -> Timing:
        """Time single invocations of a file in a process of its own."""
        return bench(
            path,
            threads=settings.threads or 1,
            runs=settings.runs,
            runtime=settings.runtime,
            delegate=settings.delegate,
            kernels=settings.kernels,
            duration=settings.duration,
            sweep=settings.sweep,
        )

    @staticmethod
    def bench_by_turns(paths: Sequence[Path], settings: RunSettings) -> list[list[int]] | None:
        """Time files by turns in a process of their own."""

        def by_turns() -> list[list[int]] | None:
            try:
                models = [_opened(path, settings) for path in paths]
                return edgekit_runner.time_by_turns(models)
            except (edgekit_runner.RunnerError, RuntimeError, ValueError):
                return None

        try:
            return isolated(by_turns, limit_s=_LIMIT_S)
        except ChildDiedError:
            return None


def _opened(path: Path, settings: RunSettings) -> edgekit_runner.Model:
    options = edgekit_runner.Options()
    vars(options).update(
        model=str(path),
        threads=settings.threads or 1,
        runtime=settings.runtime,
        kernels=settings.kernels or options.kernels,
        trusted=True,
    )
    model = edgekit_runner.open_model(options)
    model.feed(edgekit_runner.random_inputs(model))
    return model


def bench(
    path: Path,
    *,
    threads: int = 1,
    runs: int | None = None,
    runtime: str | None = None,
    delegate: str | None = None,
    kernels: str | None = None,
    duration: float | None = None,
    sweep: bool = False,
    listener: Listener = silent,
) -> Timing:
    """Time single invocations of a `.tflite` file on this machine.

    Args:
        path: The file.
        threads: Interpreter threads.
        runs: Invocations to time; None stops when the measurement has settled.
        runtime: litert, tflite or tensorflow; None takes the first found.
        delegate: What runs the model: a delegate library.
        kernels: default, builtin or reference.
        duration: Seconds of sustained load after the measurement.
        sweep: Whether to time other kernels and numbers of threads as well.
        listener: Called once, when the measurement starts.

    Raises:
        ModelError: The file cannot be loaded or run, it does not end, or the runtime crashes on it.
        DeviceError: No runtime is installed, or it does not work.
        UsageError: An option is invalid.
    """
    if what_is(path) == FILE:
        # Checked first: a damaged file can make a runtime allocate all memory before it crashes.
        model = read(path)
        graph = model.subgraphs[0]
        check_interface(str(path), graph.inputs, graph.outputs)
        if has_loops(model):
            # How long a measurement may take is not known, but how long a first run may.
            check_ends(path)
    listener(Progress(stage="measuring", detail=path.name))
    options = answers.options(
        threads=threads,
        runs=runs,
        runtime=runtime,
        delegate=delegate,
        kernels=kernels,
        duration=duration,
        sweep=sweep,
    )
    facts = _runner("bench", path, options)
    return answers.timing(facts, "local")


def describe() -> Mapping[str, str]:
    """Return a description of this machine: device, cpu, cores, memory, os, python, runtime."""
    return {
        **edgekit_runner.describe_device(),
        # From the package's metadata: importing the runtime would take time and memory.
        "runtime": f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}",
    }


def _runner(command: str, path: Path, options: list[str]) -> Any:
    """Run one command of the runner on a file and return its JSON."""
    # As a module Python keeps it compiled; compiling the script would take a tenth of a second.
    runner = [sys.executable, "-P", "-m", "edgekit_runner"]
    limit = ("--first-run-limit", str(answers.FIRST_RUN_SECONDS))
    process = None
    bound = with_parent()
    try:
        with edgekit_runner.DeferSigint():
            process = subprocess.Popen(
                # Trusted: this process is isolated already, and `answers.failure` reports a crash.
                [*runner, command, "--json", "--trusted", *limit, *options, "--", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=bound,  # noqa: PLW1509  it takes nothing that threads may hold
            )
        out, err = process.communicate()
    finally:
        if process is not None:
            with process:  # closes its pipes and waits for it: Ctrl-C leaves no orphan
                process.kill()
    code = process.returncode
    if code == 0:
        return json.loads(out)
    if code in (edgekit_runner.INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    raise answers.failure(code, err, path)
