"""Run a reader on damaged files in forked children, and record forbidden results.

What may happen: a result, or an error with words and an exit code. A finding is anything else:
another exception, a signal, work or memory out of all proportion, an error of many lines.
Input number n of a reader is the same bytes on every run: its dice are seeded with both.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import re
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random

from mutate import Damage

from edgekit.errors import EdgekitError
from edgekit_runner import RunnerError

CPU_SECONDS = 10
"""What one input may cost; thousands of times what it usually does."""
SILENT_SECONDS = 120
"""When a child that makes no progress and uses no processor is given up."""
MEMORY_BYTES = 1 << 30
"""What one child may allocate beyond what it began with."""
BATCH = 200
"""Inputs a child, so that what one of them leaves behind does not reach far."""


class Refused(Exception):  # noqa: N818  not an error here: the right answer to a damaged file
    """The product's own refusal where it comes as an exit code and lines on stderr."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader of foreign bytes.

    Attributes:
        name: What reports and options call it.
        files: Makes the contents of real files.
        damage: How they are damaged.
        read: Reads one content, in a folder of its own that is kept from input to input.
        codes: Exit codes that a refusal may have.
        prepare: Called once before any child is started: loads what all of them use.
        skip_unsupported: It makes something of every file, so that nothing need be refused.
        fewest: Inputs that a short run must get through.
    """

    name: str
    files: Callable[[], Sequence[bytes]]
    damage: Damage
    read: Callable[[bytes, Path], object]
    codes: frozenset[int]
    prepare: Callable[[], object] = bool
    skip_unsupported: bool = False
    fewest: int = 40

    @cached_property
    def seeds(self) -> Sequence[bytes]:
        """Contents of real files."""
        return tuple(self.files())

    def content(self, number: int) -> bytes:
        """Return input `number`; the first ones are the seeds, undamaged."""
        if number < len(self.seeds):
            return self.seeds[number]
        dice = Random(f"{self.name} {number}")
        return self.damage(dice.choice(self.seeds), dice)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A forbidden result of a reader.

    Attributes:
        reader: The reader's name.
        number: Of the input.
        what: The exception and its message, or the signal.
        place: File and line in the product where it came from.
        told: The whole traceback.
    """

    reader: str
    number: int
    what: str
    place: str
    told: str

    @property
    def kind(self) -> tuple[str, str, str]:
        """What findings of one cause have in common."""
        return self.reader, self.what.partition(":")[0], self.place

    def __str__(self) -> str:
        return (
            f"{self.reader}: {self.what[:200]}\n  at {self.place}\n"
            f"  again: python tests/fuzz --reader {self.reader} --number {self.number}"
        )


@dataclass(kw_only=True)
class Outcome:
    """What a run over one reader came to."""

    read: int = 0
    refused: int = 0
    next: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """How many inputs were tried."""
        return self.read + self.refused + len(self.findings)


def hunt(
    reader: Reader,
    folder: Path,
    *,
    first: int = 0,
    step: int = 1,
    seconds: float = 0.0,
    fewest: int = 0,
) -> Outcome:
    """Try the inputs `first`, `first + step` and so on, until time is up and enough were tried."""
    reader.prepare()
    total = Outcome(next=first)
    end = time.monotonic() + seconds
    while time.monotonic() < end or total.inputs < fewest:
        # Time ends a batch only when enough were tried.
        wanted = max(fewest - total.inputs, 0)
        numbers = range(total.next, total.next + step * BATCH, step)

        def enough(done: int, wanted: int = wanted) -> bool:
            return done >= wanted and time.monotonic() >= end

        part = _batch(reader, numbers, folder, enough)
        total.read += part.read
        total.refused += part.refused
        total.findings += part.findings
        total.next = part.next
    return total


def try_one(reader: Reader, content: bytes, folder: Path, number: int = -1) -> Outcome:
    """Try one content, in a child."""
    reader.prepare()
    fixed = replace(reader, files=lambda: (content,))
    outcome = _batch(fixed, range(1), folder, lambda _: False)
    outcome.findings = [replace(finding, number=number) for finding in outcome.findings]
    return outcome


def _batch(reader: Reader, numbers: range, folder: Path, enough: Callable[[int], bool]) -> Outcome:
    """Try inputs in one child; where that dies, the input it died of is the last one."""
    place = folder / reader.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    fallen, told, fault = place / "fallen", place / "told", place / "fault"
    with mmap.mmap(-1, 32) as shared:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = _work(reader, numbers, place, shared, enough)
            except BaseException:  # a fault of the harness itself: it must not go unseen
                fault.write_text(traceback.format_exc(), encoding="utf-8")
            finally:
                os._exit(code)
        status = _wait(child, shared)
        current, done, read, refused = struct.unpack("4q", shared[:])
    if fault.exists():
        raise RuntimeError(f"{reader.name}, input {current}: {fault.read_text()}")
    findings = []
    if told.exists():
        findings = [Finding(**json.loads(line)) for line in told.read_text().splitlines()]
    if status != 0:
        name = _ending(status)
        trace = fallen.read_text(errors="replace")
        findings.append(
            Finding(
                reader=reader.name,
                number=current,
                what=f"{name}: {_CAUSES.get(name, 'the process was killed')}",
                place=_dumped_place(trace),
                told=trace,
            )
        )
        done = (current - numbers.start) // numbers.step + 1
    return Outcome(
        read=read,
        refused=refused,
        next=numbers.start + done * numbers.step,
        findings=findings,
    )


_CAUSES = {
    "SIGXCPU": f"more than {CPU_SECONDS} s of work",
    "SIGQUIT": f"nothing happened for {SILENT_SECONDS} s",
}


def _wait(child: int, shared: mmap.mmap) -> int:
    """Wait for a child, but not for one that waits for something itself."""
    before, since = shared[:8], time.monotonic()
    pause = 0.001
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if shared[:8] != before:
            before, since = shared[:8], time.monotonic()
        elif time.monotonic() - since > SILENT_SECONDS:
            os.kill(child, signal.SIGQUIT)  # faulthandler tells where it is
            since = time.monotonic()
        time.sleep(pause)
        pause = min(0.02, pause * 2)


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _work(
    reader: Reader,
    numbers: range,
    place: Path,
    shared: mmap.mmap,
    enough: Callable[[int], bool],
) -> int:
    """In the child: try the inputs one after another, and write down what should not happen."""
    fallen = (place / "fallen").open("wb")
    _silence()
    _limit(fallen.fileno())
    warnings.simplefilter("ignore")  # as in the product, which shows them but is not stopped
    inside = place / "files"
    inside.mkdir()
    os.chdir(inside)
    read = refused = 0
    for done, number in enumerate(numbers):
        shared[:] = struct.pack("4q", number, done, read, refused)
        if enough(done):
            break
        content = reader.content(number)
        soft = int(time.process_time()) + CPU_SECONDS + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
        verdict = _judged(reader, number, content, inside)
        read += verdict == "read"
        refused += verdict == "refused"
        if isinstance(verdict, Finding):
            with (place / "told").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(vars(verdict)) + "\n")
        for left in inside.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        shared[:] = struct.pack("4q", number, done + 1, read, refused)
    return 0


def _judged(reader: Reader, number: int, content: bytes, inside: Path) -> str | Finding:
    """Return "read" or "refused", or the finding."""
    try:
        reader.read(content, inside)
    except (EdgekitError, RunnerError, Refused) as error:
        code = error.exit_code if isinstance(error, EdgekitError) else error.code
        said = "\n".join(error.lines) if isinstance(error, RunnerError) else str(error)
        lines = said.splitlines()
        if code in reader.codes and 1 <= len(lines) <= 3:
            return "refused"
        what = f"code {code}, {len(lines)} lines: {said!r:.300}"
        failure: BaseException = error
    except BaseException as error:
        what = f"{type(error).__name__}: {error}"
        failure = error
    else:
        return "read"
    told = "".join(traceback.format_exception(failure, limit=-40))
    return Finding(
        reader=reader.name,
        number=number,
        what=what[:400],
        place=_raised_place(failure),
        told=told[-8000:],
    )


def _raised_place(error: BaseException) -> str:
    """The innermost line of the product that an exception went through."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    return _innermost(frames[::-1])


def _dumped_place(trace: str) -> str:
    """The same, of what faulthandler wrote, which begins with the innermost."""
    found = re.findall(r'File "([^"]*)", line (\d+)', trace)
    return _innermost([(name, int(line)) for name, line in found])


def _innermost(frames: Sequence[tuple[str, int | None]]) -> str:
    for name, line in frames:
        parts = Path(name).parts
        if "edgekit" in parts or parts[-1] == "edgekit_runner.py":
            start = parts.index("edgekit") if "edgekit" in parts else -1
            return f"{'/'.join(parts[start:])}:{line}"
    return f"{Path(frames[0][0]).name}:{frames[0][1]}" if frames else "nowhere"


def _silence() -> None:
    """Send all that is printed nowhere, but through streams that refuse what no terminal takes."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
    )


def _limit(fallen: int) -> None:
    """Bound memory and time, and let a signal write down where it came."""
    faulthandler.enable(fallen, all_threads=False)
    for number in (signal.SIGXCPU, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
        faulthandler.register(number, fallen, all_threads=False, chain=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What is written to, not what is reserved: engines of scripts reserve more than there is.
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    size = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def reduced(reader: Reader, finding: Finding, folder: Path, *, seconds: float = 10) -> bytes:
    """Return a smaller input, or one nearer to its seed, with the same finding."""
    end = time.monotonic() + seconds

    def same(content: bytes) -> bool:
        if time.monotonic() > end:
            return False
        found = try_one(reader, content, folder).findings
        return bool(found) and found[0].kind == finding.kind

    content = reader.content(finding.number)
    seeds = [seed for seed in reader.seeds if len(seed) == len(content)]
    if seeds:
        seed = min(seeds, key=lambda one: sum(a != b for a, b in zip(one, content, strict=True)))
        places = [i for i in range(len(seed)) if seed[i] != content[i]]
        for place in places:
            nearer = bytearray(content)
            nearer[place] = seed[place]
            if same(bytes(nearer)):
                content = bytes(nearer)
        return content
    size = max(1, len(content) // 2)
    while size and time.monotonic() < end:
        place = 0
        while place < len(content) and time.monotonic() < end:
            shorter = content[:place] + content[place + size :]
            if same(shorter):
                content = shorter
            else:
                place += size
        size //= 2
    return content
