"""A device behind SSH, with the same methods as this machine."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgekit import evaluation
from edgekit.devices import answers
from edgekit.devices.device import RunSettings
from edgekit.devices.registry import DeviceEntry
from edgekit.devices.remote import Remote
from edgekit.devices.uploads import Uploads
from edgekit.errors import EdgekitError
from edgekit.evaluation.fidelity import compared_rows
from edgekit.evaluation.metrics import MetricChoice
from edgekit.evaluation.predict import piece_size
from edgekit.records import Dataset, Listener, Samples, Timing, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSetup:
    """What is installed on a device, and what stays there.

    Attributes:
        install: Make a virtual environment with the runtime there.
        wheels: A folder of wheels for `install`; None downloads them.
        keep: Leave files and environment in the device's cache.
    """

    install: bool = False
    wheels: Path | None = None
    keep: bool = False


class SshDevice:
    """A session on a device behind SSH; see `devices.device.Device`.

    Args:
        entry: Where it is.
        uploads: What is sent to it, shared with other devices.
        setup: What is installed there, and whether that stays.
        also: Further projects to install: Pillow, which pictures need.
        cancel: Set by another thread to give up.
        listener: Progress callback.

    Attributes:
        name: What tables call it.
    """

    def __init__(
        self,
        entry: DeviceEntry,
        uploads: Uploads,
        *,
        setup: DeviceSetup | None = None,
        also: Sequence[str] = (),
        cancel: threading.Event | None = None,
        listener: Listener = silent,
    ) -> None:
        self.name = entry.name
        self._entry = entry
        self._uploads = uploads
        self._setup = setup or DeviceSetup()
        self._also = also
        self._remote = Remote(
            entry,
            keep=self._setup.keep,
            digest=uploads.digest,
            cancel=cancel,
            listener=listener,
        )
        self._places: dict[Path, str] = {}

    def __enter__(self) -> Self:
        """Connect, install what is to be installed, and check that a runtime works.

        Raises:
            DeviceError: The device cannot be reached or written to, or has no runtime.
        """
        self._remote.__enter__()
        try:
            if self._setup.install:
                self._remote.setup(self._setup.wheels, also=self._also)
            self._remote.check()
        except BaseException:
            self._remote.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was sent, unless it is to be kept, and disconnect."""
        self._remote.__exit__()

    @property
    def place(self) -> str:
        """The device as its timings name it."""
        return f"{self.name}: {self._remote.description['device']}"

    def describe(self) -> Mapping[str, str]:
        """Return what the device is, in label -> value pairs."""
        return self._remote.description

    def evaluate(
        self,
        path: Path,
        dataset: Dataset,
        settings: RunSettings,
        *,
        output: str | None = None,
        metric: MetricChoice = None,
    ) -> evaluation.Predictions:
        """Run a file over the test split there, and score its outputs here."""
        samples = evaluation.compared(dataset)
        assert samples is not None
        found = self.outputs(path, samples, settings)
        return score_outputs(found, dataset, output=output, metric=metric, about=path)

    def outputs(self, path: Path, samples: Samples, settings: RunSettings) -> Path:
        """Run a file over samples there; return the `.npz` of its outputs, which was fetched.

        Raises:
            EdgekitError: As the runner's exit code says.
        """
        place = self._sent(path)
        data = self._remote.send(self._uploads.package(samples))
        found = self._uploads.folder / f"outputs-{id(self)}.npz"
        self._remote.outputs(place, data, found, self._options(settings), about=path)
        return found

    def bench(self, path: Path, settings: RunSettings) -> Timing:
        """Time single invocations of a file there."""
        timed = answers.options(
            runs=settings.runs, duration=settings.duration, sweep=settings.sweep
        )
        return self._remote.bench(
            self._sent(path),
            [*self._options(settings), *timed],
            about=path,
            lasting=settings.duration or 0,
        )

    def bench_by_turns(
        self, paths: Sequence[Path], settings: RunSettings
    ) -> list[list[int]] | None:
        """Time files by turns in one process there."""
        places = [self._sent(path) for path in paths]
        try:
            return self._remote.bench_by_turns(places, self._options(settings))
        except EdgekitError:  # such as of memory for all of them, or of time
            return None

    def run(
        self,
        path: Path,
        inputs: Sequence[Path],
        settings: RunSettings,
        *,
        labels: Path | None = None,
        top: int | None = None,
        threshold: float | None = None,
        answered: Callable[[dict[str, Any]], None],
    ) -> None:
        """Run a file there on files of this machine.

        Args:
            path: The `.tflite` file.
            inputs: Pictures, recordings, samples.
            settings: How it is run.
            labels: File of class names; None takes the model's own.
            top: Number of classes named; None leaves it to the runner.
            threshold: Least score of a box that counts; None leaves it to the runner.
            answered: Called with each of the runner's JSON lines, also those before an error.

        Raises:
            EdgekitError: As the runner's exit code says.
        """
        named = answers.options(
            labels=labels and self._remote.send(labels), top=top, threshold=threshold
        )
        self._remote.run(
            self._sent(path),
            inputs,
            [*self._options(settings), *named],
            about=path,
            answered=answered,
        )

    def _options(self, settings: RunSettings) -> list[str]:
        return answers.options(
            threads=settings.threads or self._entry.threads or 1,
            runtime=settings.runtime,
            delegate=settings.delegate,
            kernels=settings.kernels,
        )

    def _sent(self, path: Path) -> str:
        if path not in self._places:
            self._places[path] = self._remote.send_model(path)
        return self._places[path]


def probe(entry: DeviceEntry, setup: DeviceSetup, *, listener: Listener = silent) -> None:
    """See that a device can be used, before work whose result will be measured there.

    A runtime that `setup` would install is not asked for.

    Raises:
        DeviceError: It cannot be reached or written to, or has no runtime.
    """
    with Remote(entry, keep=setup.keep, listener=listener) as remote:
        if not setup.install:
            remote.check()


def score_outputs(
    outputs: Path,
    dataset: Dataset,
    *,
    output: str | None = None,
    metric: MetricChoice = None,
    about: Path,
) -> evaluation.Predictions:
    """Make of a device's outputs what `evaluation.evaluate` makes of this machine's.

    Without targets, what `evaluation.compute` makes of them.

    Args:
        outputs: The runner's `.npz`: output name -> `[n, ...]`.
        dataset: Bound to the model.
        output: The output that is scored; the first where None.
        metric: The metric to judge by, of several the first; the task's default where None.
        about: The file, for messages.

    Raises:
        ModelError: Outputs are NaN or infinite.
    """
    with np.load(outputs) as stored:
        kept = _compared(stored)
        if dataset.test is None or dataset.task is None:
            return evaluation.Predictions(outputs=kept)
        # Every member of the file is read whole, once; a head takes several outputs.
        first = output or dataset.output or stored.files[0]
        needed = stored.files if dataset.head else {first: 0, **dataset.others}
        values = {name: stored[name] for name in needed if name in stored}
    size = piece_size(dataset.test.read(np.zeros(1, np.int64)))
    batches = enumerate(dataset.test.batches(size))
    pieces = (
        ({name: array[i * size : (i + 1) * size] for name, array in values.items()}, batch)
        for i, batch in batches
    )
    found = evaluation.evaluate_pieces(pieces, dataset, output=first, metric=metric, about=about)
    return replace(found, outputs=kept)


def _compared(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the samples of a device's outputs that `evaluation.evaluate` would keep."""
    arrays = {name: stored[name] for name in stored}
    n = min(map(len, arrays.values()))
    rows = compared_rows(n, sum(math.prod(values.shape[1:]) for values in arrays.values()))
    return {name: values[rows] for name, values in arrays.items()}
