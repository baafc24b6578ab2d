"""An emulated board, the commands run on it, and their results."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import userland

from edgekit.devices.remote import _RUNNER

MANY = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
import edgekit_runner
for words in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = edgekit_runner.main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
TASKS = MappingProxyType(
    {
        # name: model, data (raw ones are prepared over there), options
        "fashion-mnist": ("fashion-mnist/int8", "fashion-mnist", ()),
        "fashion-mnist, weights only": ("fashion-mnist/dynamic", "fashion-mnist", ()),
        "spoken-digits": ("spoken-digits/int8", "clips", ()),
        "turbofan": ("turbofan/int8", "turbofan", ()),
        "reference fashion-mnist": ("fashion-mnist/int8", "fashion-mnist", ("reference",)),
        "reference spoken-digits": ("spoken-digits/int8", "spoken-digits", ("reference",)),
        "reference turbofan": ("turbofan/int8", "turbofan", ("reference",)),
        "reference turbofan, 4 bits": ("turbofan-small/small", "turbofan", ("reference",)),
        "reference int16x8": ("turbofan/int16x8", "turbofan", ("reference",)),
    }
)


@dataclass(frozen=True)
class Answers:
    """What the runner said to each task.

    Attributes:
        info: Of `info`.
        scores: Task -> the JSON of `eval`.
        outputs: Task -> the outputs it wrote, by name.
        heard: The line of `run` for a WAV file.
    """

    info: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    heard: dict[str, Any]


@dataclass(frozen=True)
class Board:
    """One runtime on one architecture, and the runner's file as it was copied there."""

    land: userland.Userland
    runtime: str
    runner: Path

    def run(
        self, *words: object, libraries: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command line as edgekit does; the loader finds further libraries in a folder.

        A script is compiled at each start: seconds for the emulator, where an import has it ready.
        """
        program = ("-c", _RUNNER, self.runner.parent, self.runner.stem)
        return self._start(*program, *words, "--runtime", self.runtime, libraries=libraries)

    def run_all(self, commands: Sequence[Sequence[str]]) -> list[str]:
        """Run commands one after the other in one process; return what each printed."""
        words = [[*command, "--runtime", self.runtime] for command in commands]
        done = self._start("-c", MANY, self.runner.parent, json.dumps(words))
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        for command, (code, _, err) in zip(commands, answers, strict=True):
            assert code == 0, (command, err)
        return [out for _, out, _ in answers]

    def _start(
        self, *words: object, libraries: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.land.python, *map(str, words)],
            env={
                "PATH": self.land.path,
                **({"LD_LIBRARY_PATH": str(libraries)} if libraries else {}),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
