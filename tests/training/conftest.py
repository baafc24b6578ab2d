"""Sessions: scripts that import TensorFlow, each run once, in a worker process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import session_script

from edgekit.worker import Worker

HERE = Path(__file__).parent
pytest.register_assert_rewrite("qat_kinds")


@pytest.fixture(scope="session")
def run_session(repository, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """Run `<name>_session.py` with a folder of its own and more arguments; returns its JSON."""

    def run(name: str, *arguments: Path | str) -> dict[str, Any]:
        script, folder = HERE / f"{name}_session.py", tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(HERE))
            if "EDGEKIT_DATA" not in os.environ:
                patch.setenv("EDGEKIT_DATA", str(repository.parent / "shared" / "data"))
            with Worker() as worker:
                return worker.run(session_script.run_script, script, (folder, *arguments))

    return run
