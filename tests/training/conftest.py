"""Sessions: scripts that need TensorFlow, each run once, one after another in a worker process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import session_script

from edgekit.worker import Worker

HERE = Path(__file__).parent
pytest.register_assert_rewrite("qat_kinds")


@pytest.fixture(scope="session")
def worker(repository) -> Iterator[Worker]:
    """One process for all sessions: TensorFlow takes longer to import than many of them run."""
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(HERE))
            if "EDGEKIT_DATA" not in os.environ:
                patch.setenv("EDGEKIT_DATA", str(repository.parent / "shared" / "data"))
            started = stack.enter_context(Worker())
        yield started


@pytest.fixture(scope="session")
def run_session(worker, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """Run `<name>_session.py` with a folder of its own and more arguments; returns its JSON."""

    def run(name: str, *arguments: Path | str) -> dict[str, Any]:
        script, folder = HERE / f"{name}_session.py", tmp_path_factory.mktemp(name)
        answer: dict[str, Any] = worker.run(session_script.run_script, script, (folder, *arguments))
        return answer

    return run
