"""Runs the session scripts of these tests in the worker process."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from edgekit.worker import Session


def run_script(session: Session, script: Path, arguments: tuple[Path | str, ...]) -> dict[str, Any]:
    """Run a script as Python runs a file; returns the JSON in the last line that it prints."""
    from keras.src.trainers import trainer

    printed = io.StringIO()
    with (
        # XLA compiles for seconds what runs for a fraction of one.
        mock.patch.object(trainer, "model_supports_jit", return_value=False),
        mock.patch.object(sys, "argv", [str(script), *map(str, arguments)]),
        contextlib.redirect_stdout(printed),
    ):
        runpy.run_path(str(script), run_name="__main__")
    answer: dict[str, Any] = json.loads(printed.getvalue().splitlines()[-1])
    return answer
