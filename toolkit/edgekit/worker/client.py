"""The parent's side: one child process that has TensorFlow, asked and answered over a pipe."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self

from edgekit.errors import ConversionError, EdgekitError, ModelError, UsageError
from edgekit.records import Batch, Listener, Plan, Progress, Source, silent
from edgekit.sources import check_source
from edgekit.worker import wire
from edgekit.worker.session import TRUST_CODE

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel

_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONUNBUFFERED": "1",
}
# TensorFlow copies weights many times over. By default glibc returns the memory of every large
# array to the system, which then clears it, page by page, for the next one: half the time of a
# conversion of 100 MB. A user's own setting comes first; other systems do not read it.
_ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"
    ":glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=536870912"
}
# Lines of TensorFlow, absl and the converter that say nothing about a failure.
TIMEOUT_VARIABLE: Final = "EDGEKIT_MODEL_TIMEOUT"
"""Environment variable with the seconds that a model may take, in place of the default."""
_TIMEOUT_SECONDS: Final = 1800.0
# These run the model's own program, which need not end; training takes what it takes.
_LIMITED: Final = frozenset({"load", "recurrent_layers", "lower"})
_CHATTER = re.compile(r"\s*(WARNING|INFO|[IW]\d{4} |fully_quantize:)")


@dataclass(frozen=True, slots=True)
class _Child:
    """A running child: its process, our end of the pipe, its lifeline, and what it prints."""

    process: subprocess.Popen[bytes]
    connection: Connection
    lifeline: int
    chatter: IO[bytes]


class Worker:
    """A child process that reads, lowers, trains and quantizes models.

    As a context manager it starts the child at once, so that TensorFlow's import overlaps with
    what the caller does until its first request. If the child dies in a request, that request
    raises an ordinary error and the next one starts a fresh child; a model has to be loaded
    again then, while `quantize` needs none.

    Args:
        custom: Modules that define the models' own classes.
        listener: Progress callback, in the caller's thread, during requests.
        trust_code: Whether to run code that model files bring along.
        timeout: Seconds that reading or lowering a model may take, its own program included;
            None for `$EDGEKIT_MODEL_TIMEOUT`, by default 1800.
    """

    def __init__(
        self,
        custom: Sequence[str] = (),
        listener: Listener = silent,
        *,
        trust_code: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._custom = tuple(custom)
        self._trust_code = trust_code
        self._timeout = _default_timeout() if timeout is None else timeout
        self._listener = listener
        self._child: _Child | None = None
        self._recurrent: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self._child = self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def load(self, source: Path, *, example: Mapping[str, tuple[int, ...]] | None = None) -> Source:
        """Read a model file or folder, in place of the model there was.

        Args:
            source: A `.keras` or `.h5` file, or a SavedModel folder.
            example: Input name -> shape of a batch; fills dimensions the model leaves open.

        Raises:
            ModelError: It cannot be read, kills its reader, or holds code that is not trusted.
        """
        if not self._trust_code:
            check_source(source, custom=self._custom)
        found: Source = self._ask("load", f"loading {source.name}", source=source, example=example)
        self._recurrent = self._ask("recurrent_layers", "loading")
        return found

    def lower(self, destination: Path, batch: Batch | None = None) -> LoweredModel:
        """Write the float graph of the loaded model.

        Args:
            destination: The `.tflite` to write.
            batch: Samples on which the source's own outputs are returned along.

        Raises:
            ConversionError: A layer was refused, or the converter died.
            OutputError: The file cannot be written.
        """
        lowered: LoweredModel = self._ask("lower", "lowering", destination=destination, batch=batch)
        return lowered

    def represent(self, batch: Batch) -> None:
        """Give the samples that the published converter calibrates on.

        Only of use where `edgekit.lowering.tf_quantizer:available` says no: otherwise the
        ranges come from the caller.
        """
        self._ask("represent", "calibrating", batch=batch)

    def quantize(self, calibrated: bytes, plan: Plan, denied: Sequence[str] = ()) -> bytes:
        """Quantize a float graph to int8 or int16x8.

        Args:
            calibrated: A float flatbuffer with activation ranges.
            plan: What is wanted.
            denied: Output tensor names of operators that stay float.

        Raises:
            ConversionError: It was refused, or the quantizer died.
        """
        data: bytes = self._ask(
            "quantize",
            f"quantizing {plan.variant}",
            calibrated=calibrated,
            plan=plan,
            denied=tuple(denied),
        )
        return data

    def call(self, function_path: str, **arguments: Any) -> Any:
        """Call a function of another room in the child.

        Args:
            function_path: `module:function`. It is given `listener` if it takes one; the loaded
                Keras model as `model`, and what that is as `source`, if it requires them.
            arguments: Picklable keyword arguments.

        Raises:
            ConversionError: The process died.
        """
        return self._ask(
            "call",
            function_path.partition(":")[2],
            function_path=function_path,
            arguments=arguments,
        )

    def _ask(self, method: str, stage: str, **arguments: Any) -> Any:
        if self._child is None:
            self._child = self._start()
        child = self._child
        limit = self._timeout if method in _LIMITED else None
        try:
            wire.send(child.connection, (method, arguments))
            while True:
                if not child.connection.poll(limit):
                    raise self._timed_out(stage)
                kind, value = wire.receive(child.connection)
                if kind == "progress":
                    assert isinstance(value, Progress)
                    self._listener(value)
                elif kind == "error":
                    raise value
                else:
                    return value
        except (EOFError, ConnectionError) as error:
            child.process.wait()
            died = _died(child, stage, self._recurrent, reading=method == "load")
            self._end()
            raise died from error

    def _start(self) -> _Child:
        return _start(self._custom, trust_code=self._trust_code)

    def _timed_out(self, stage: str) -> ModelError:
        self._end()
        return ModelError(
            f"The model took longer than {self._timeout:g} seconds while {stage}.",
            found="A program in it may not end; the process was stopped.",
            hint=f"If it is only slow, allow more seconds: {TIMEOUT_VARIABLE}="
            f"{4 * max(self._timeout, 1):.0f} edgekit ...",
        )

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.connection.close()
        # Nothing in the child needs a farewell, and TensorFlow's takes seconds.
        child.process.kill()
        child.process.wait()
        os.close(child.lifeline)
        child.chatter.close()


def _default_timeout() -> float:
    written = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(written or _TIMEOUT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(
            f"Invalid value for {TIMEOUT_VARIABLE}: {written}.", hint="Give seconds, above 0."
        )
    return seconds


def _start(custom: Sequence[str], *, trust_code: bool) -> _Child:
    ours, theirs = Pipe()
    watched, lifeline = os.pipe()
    chatter = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the child
    # -P: a file in the current folder must not pass for a library.
    command = [sys.executable, "-P", "-m", "edgekit.worker.server"]
    try:
        process = subprocess.Popen(
            [
                *command,
                str(theirs.fileno()),
                str(watched),
                TRUST_CODE if trust_code else "",
                *custom,
            ],
            stdin=subprocess.DEVNULL,
            stdout=chatter,
            stderr=chatter,
            pass_fds=(theirs.fileno(), watched),
            env={**_ALLOCATOR, **os.environ, **_ENVIRONMENT},
            # Ctrl-C is the parent's to interpret; its exit ends the child.
            start_new_session=True,
        )
    finally:
        theirs.close()
        os.close(watched)
    return _Child(process, ours, lifeline, chatter)


def _died(child: _Child, stage: str, recurrent: Sequence[str], *, reading: bool) -> EdgekitError:
    code = child.process.returncode
    reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    kind = ModelError if reading else ConversionError
    what = f"The TensorFlow process died while {stage} ({reason})."
    if code == -signal.SIGKILL:
        return kind(
            what,
            found="The system kills a process like this when memory runs out.",
            hint="Free some memory, or take a smaller model or batch.",
        )
    if recurrent:
        return kind(
            what,
            found=f"Suspected: the recurrent layers {', '.join(recurrent[:5])}.",
            hint="Build them with unroll=True, or choose float16 or dynamic.",
        )
    return kind(
        what,
        found=_last_words(child.chatter),
        hint="Check that the model runs in Keras, or choose another mode.",
    )


def _last_words(chatter: IO[bytes]) -> str | None:
    """The last line the child printed, which is where native code says why it aborts."""
    end = chatter.seek(0, os.SEEK_END)
    chatter.seek(max(0, end - 4096))
    lines = chatter.read().decode(errors="replace").split("\n")
    told = [line.strip() for line in lines if line.strip() and not _CHATTER.match(line)]
    return f"It said: {told[-1][:200]}" if told else None
