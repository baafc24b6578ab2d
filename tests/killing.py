"""Commands that are ended by a signal at seeded moments, and what must not be left of them.

`EDGEKIT_KILLS` is how often each test kills; a handful of times where it is not set.
`EDGEKIT_KILLS_SEED` gives other moments.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# What a process that draws charts imports in the library's place: its engine takes most of the
# processor time of a short command. The process and all that it is given and answers stay.
DRAWING = """
def vegalite_to_svg(spec):
    assert spec["$schema"]
    return '<svg xmlns="http://www.w3.org/2000/svg"></svg>'


def javascript_bundle(snippet):
    return "x" * 800_000
"""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
# In the environment of every process of a run, and of no other process.
MARK = "EDGEKIT_TEST_RUN"


def moments(default: int, seed: int) -> Iterator[tuple[signal.Signals, float]]:
    """Yield signals, and when they come as a share of the command's duration."""
    generator = random.Random(seed + 1000 * int(os.environ.get("EDGEKIT_KILLS_SEED", "0")))
    for number in range(int(os.environ.get("EDGEKIT_KILLS", default))):
        yield SIGNALS[number % len(SIGNALS)], generator.random()


@dataclass
class Command:
    """A command to be killed again and again.

    Attributes:
        words: Its words, without `edgekit`.
        folder: Where it runs; `tmp` in it is its folder for temporary files.
        environment: Variables it needs.
        duration: Seconds that it takes, as far as that is known.
    """

    words: Sequence[object]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    duration: float = 0.0

    def start(self, **streams: object) -> subprocess.Popen[str]:
        """Start it, as a shell starts a job in the foreground."""
        self.temporary.mkdir(exist_ok=True)
        stubs = self.folder / "stubs"
        stubs.mkdir(exist_ok=True)
        (stubs / "vl_convert.py").write_text(DRAWING)
        return subprocess.Popen(
            [sys.executable, "-m", "edgekit", *map(str, self.words)],
            cwd=self.folder,
            env={
                **os.environ,
                **self.environment,
                "TMPDIR": str(self.temporary),
                "PYTHONPATH": str(stubs),
                "PYTHONDONTWRITEBYTECODE": "1",
                MARK: str(self.folder),
            },
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            restore_signals=True,
            preexec_fn=_hears_everything,  # noqa: PLW1509
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **streams},
        )

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def finish(self) -> None:
        """Let it run to its end, and take the time."""
        begun = time.monotonic()
        with self.start() as process:
            assert process.wait(timeout=300) == 0, process.stderr.read()
        self.duration = time.monotonic() - begun

    def kill(self, number: signal.Signals, share: float) -> bool:
        """End it after that share of its duration, and look around; False if it had ended."""
        before = self.leftovers()  # of SIGKILL, until a run comes so far as to sweep
        begun = time.monotonic()
        with self.start() as process:
            while process.poll() is None and not _answers(process.pid):
                time.sleep(0.001)  # Python is starting, and nothing of ours runs yet
            time.sleep(max(0.0, begun + share * self.duration - time.monotonic()))
            ended = process.poll() is not None
            # As a terminal does it, which reaches all processes of the job.
            os.killpg(process.pid, number) if not ended else None
            said = process.stderr.read()
            code = process.wait(timeout=60)
        told = f"{number.name} at {share:.3f}: exit code {code}, {said}"
        assert "Traceback" not in said, told
        if number == signal.SIGKILL:
            assert code in {-number, 0}, told
        else:
            assert code in {128 + number, 0}, told
            # Stages that are finished are kept, which is said.
            kept = ("[", "The stages so far are in ")
            lines = [line for line in said.splitlines() if not line.startswith(kept)]
            assert len(lines) == (code != 0), told
            assert self.leftovers() <= before, told
        assert alone(self.folder), told
        return not ended

    def leftovers(self) -> set[Path]:
        """What only a running command may have."""
        return {*self.folder.rglob(".edgekit-*"), *self.temporary.glob("*")}


def _hears_everything() -> None:
    # What a background job of a shell ignores is inherited.
    for number in SIGNALS[:-1]:
        signal.signal(number, signal.SIG_DFL)


def _answers(pid: int) -> bool:
    """Whether a process has installed a handler of SIGHUP, which is the first that edgekit does."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


def alone(folder: Path) -> bool:
    """Whether all processes of runs in a folder end within seconds."""
    mark = f"{MARK}={folder}".encode()
    end = time.monotonic() + 15
    while time.monotonic() < end:
        alive = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    alive.append((entry / "cmdline").read_bytes())
            except OSError:
                continue
        if not alive:
            return True
        time.sleep(0.05)
    return False


def whole(folder: Path) -> set[str]:
    """Check that every file of a folder is whole; return their names."""
    names = set()
    for path in folder.glob("*"):
        content = path.read_bytes()
        if path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".html":
            assert content.rstrip().endswith(b"</html>"), path
        elif path.suffix == ".tflite":
            described = json.loads(path.with_suffix(".json").read_text())
            assert described["size_bytes"] == len(content), path
        names.add(path.name)
    return names
