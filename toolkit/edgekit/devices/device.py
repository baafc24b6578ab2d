"""What a device is to the rest of edgekit: it scores a file, and it times one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from edgekit.evaluation import Predictions
from edgekit.evaluation.metrics import MetricChoice
from edgekit.records import Dataset, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How files are run and timed; each None leaves the choice to the device and its runner.

    Attributes:
        threads: Interpreter threads; None takes the device's own number, else 1.
        runtime: litert, tflite or tensorflow; None takes the first found.
        delegate: What runs the model there, as the runner takes it (edgetpu, usb, a library).
        kernels: default, builtin or reference.
        runs: Invocations to time; None stops when the measurement has settled.
        duration: Seconds of sustained load after the measurement; None leaves it out.
        sweep: Whether to time other kernels and numbers of threads as well.
    """

    threads: int | None = None
    runtime: str | None = None
    delegate: str | None = None
    kernels: str | None = None
    runs: int | None = None
    duration: float | None = None
    sweep: bool = False


class Device(Protocol):
    """A machine that runs `.tflite` files. As a context manager it connects and cleans up."""

    @property
    def name(self) -> str:
        """What tables and messages call it."""
        ...

    @property
    def place(self) -> str | None:
        """Where a score was taken, as `records.Row.device` says it; None for this machine."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def describe(self) -> Mapping[str, str]:
        """Return what the device is, in label -> value pairs."""
        ...

    def evaluate(
        self,
        path: Path,
        dataset: Dataset,
        settings: RunSettings,
        *,
        output: str | None = None,
        metric: MetricChoice = None,
    ) -> Predictions:
        """Run a file over the test split, and score its outputs: an `Evaluation`.

        Without targets (`evaluation.scorable`) it is run on the inputs that there are, and not
        scored.

        Args:
            path: The `.tflite` file.
            dataset: Bound to the model.
            settings: How it is run.
            output: The output that is scored; the first where None.
            metric: The metric to judge by, of several the first; the task's default where None.

        Raises:
            ModelError: The file cannot be loaded or run there.
            DeviceError: The device fails.
        """
        ...

    def bench(self, path: Path, settings: RunSettings) -> Timing:
        """Time single invocations of a file.

        Raises:
            ModelError: The file cannot be loaded or run there.
            DeviceError: The device fails.
        """
        ...

    def bench_by_turns(
        self, paths: Sequence[Path], settings: RunSettings
    ) -> list[list[int]] | None:
        """Time files that were timed alone by turns, in `edgekit_runner.ROUNDS` rounds.

        Returns:
            For each the nanoseconds of its runs, as many in every round; None where one of them
            fails beside the others.
        """
        ...
