"""The child process of a `Worker`: how it is started, and what its death tells."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import IO, Final

from edgekit.errors import ConversionError, EdgekitError, ModelError
from edgekit.worker.session import TRUST_CODE
from edgekit.worker.startup import address_space_hint

ENVIRONMENT: Final = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONUNBUFFERED": "1",
}
# TensorFlow copies weights many times. By default glibc returns the memory of every large array to
# the system, which clears its pages for the next one: half the time of a conversion of 100 MB. A
# setting of the user takes precedence; other systems ignore it.
ALLOCATOR: Final = {
    "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"
    ":glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=67108864"
}
# Log lines of TensorFlow, absl and the converter that are unrelated to a failure.
_IRRELEVANT = re.compile(r"\s*(WARNING|INFO|[IW]\d{4} |fully_quantize:)")


@dataclass(slots=True)
class Child:
    """A running child process.

    Attributes:
        process: The process.
        connection: The parent's end of the pipe.
        lifeline: Descriptor of a pipe that only the parent holds open; the child exits when it
            closes.
        log: Output of the child.
        ready: Whether it has imported TensorFlow.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    lifeline: int
    log: IO[bytes]
    ready: bool = False


def start(custom: Sequence[str], *, trust_code: bool) -> Child:
    """Start a child that imports TensorFlow.

    Args:
        custom: Modules that define the models' own classes.
        trust_code: Whether to run code that model files contain.
    """
    ours, theirs = Pipe()
    watched, lifeline = os.pipe()
    log = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the child
    # -P: a file in the current folder must not be imported in place of a library.
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
            stdout=log,
            stderr=log,
            pass_fds=(theirs.fileno(), watched),
            env={**ALLOCATOR, **os.environ, **ENVIRONMENT},
            # Ctrl-C goes to the parent only; its exit ends the child.
            start_new_session=True,
        )
    finally:
        theirs.close()
        os.close(watched)
    return Child(process, ours, lifeline, log)


def died(child: Child, stage: str, recurrent: Sequence[str], *, reading: bool) -> EdgekitError:
    """Return the error of a request during which the child died.

    Args:
        child: The child.
        stage: What it was doing.
        recurrent: The model's recurrent layers, which are suspected first.
        reading: Whether it was reading a model file.
    """
    code = child.process.returncode
    reason = reason_of(child)
    kind = ModelError if reading else ConversionError
    what = f"The TensorFlow process died while {stage} ({reason})."
    if code == -signal.SIGKILL:
        return kind(
            what,
            found="The system kills a process like this when memory runs out.",
            hint="Free some memory, or use a smaller model or batch.",
        )
    if code < 0 and (hint := address_space_hint()):
        # A failed allocation in native code can cause many kinds of exit.
        return kind(what, found=last_line(child.log), hint=hint)
    if recurrent:
        return kind(
            what,
            found=f"Suspected: the recurrent layers {', '.join(recurrent[:5])}.",
            hint="Build them with unroll=True, or choose float16 or dynamic.",
        )
    return kind(
        what,
        found=last_line(child.log),
        hint="Check that the model runs in Keras, or choose another mode.",
    )


def reason_of(child: Child) -> str:
    """Return the signal or the exit code that a child ended with."""
    code = child.process.returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def last_line(log: IO[bytes]) -> str | None:
    """Return the last line the child printed, where native code reports why it aborts."""
    end = log.seek(0, os.SEEK_END)
    log.seek(max(0, end - 4096))
    lines = log.read().decode(errors="replace").split("\n")
    relevant = [line.strip() for line in lines if line.strip() and not _IRRELEVANT.match(line)]
    return f"Its last message: {relevant[-1][:200]}" if relevant else None
