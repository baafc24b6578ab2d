"""This machine as a device: the runner in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edgekit_runner
from edgekit.devices import answers
from edgekit.files import FILE, what_is
from edgekit.isolate import with_parent
from edgekit.records import Listener, Progress, Timing, silent
from edgekit.tflite import check_interface, read


def bench(
    path: Path,
    *,
    threads: int = 1,
    listener: Listener = silent,
    **options: object,
) -> Timing:
    """Time single invocations of a `.tflite` file on this machine.

    Args:
        path: The file.
        threads: Interpreter threads.
        listener: Progress callback; called once, when the measurement starts.
        **options: Further options of the runner's `bench`, None for its default: runs (invocations
            to time), runtime (litert, tflite or tensorflow), kernels, duration, sweep.

    Raises:
        ModelError: The file cannot be loaded or run, or the runtime crashes on it.
        DeviceError: No runtime is installed, or it does not work.
        UsageError: An option is invalid.
    """
    if what_is(path) == FILE:
        # Checked first: a damaged file can make a runtime allocate all memory before it crashes.
        graph = read(path).subgraphs[0]
        check_interface(str(path), graph.inputs, graph.outputs)
    listener(Progress(stage="measuring", detail=path.name))
    facts = _runner("bench", path, answers.options(threads=threads, **options))
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
    runner = [sys.executable, edgekit_runner.__file__]
    process = None
    bound = with_parent()
    try:
        with edgekit_runner.DeferSigint():
            process = subprocess.Popen(
                # Trusted: this process is isolated already, and `answers.failure` reports a crash.
                [*runner, command, "--json", "--trusted", *options, "--", str(path)],
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
