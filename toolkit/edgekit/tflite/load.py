"""Does a file load and run? Tried in a child process, since a bad file can kill its process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.errors import ModelError
from edgekit.isolate import ChildDiedError, TimeLimitError, isolated

# Processor time that a first inference may take before it counts as endless.
TRIAL_LIMIT_S = 60


def check_loads(source: Path | bytes) -> None:
    """Allocate a model and invoke it once on zeros, in a forked child.

    Raises:
        ModelError: LiteRT refuses it, dies of it, or does not come to an end.
    """
    name = str(source) if isinstance(source, Path) else "The model"
    try:
        refusal = _first_run(source)
    except ChildDiedError as error:
        refusal = f"the process died ({error.reason})"
    if refusal is not None:
        raise ModelError(
            f"{name} does not run in LiteRT.",
            found=" ".join(refusal.split())[:300],
            hint="It may be damaged, or need a delegate or an operator that this runtime lacks.",
        )


def check_ends(path: Path) -> None:
    """Invoke a model once on zeros, in a forked child, where only the end of it is in question.

    Raises:
        ModelError: It does not come to an end.
    """
    try:
        _first_run(path)
    except TimeLimitError as error:
        raise ModelError(
            f"{path} does not finish its first run.",
            found=f"It was {error.reason}.",
            hint="A loop in it may never end: convert the model again.",
        ) from error
    except ChildDiedError:  # whoever runs it next says so
        return


def _first_run(source: Path | bytes) -> str | None:
    """What LiteRT says against a model; None where it ran.

    Raises:
        ChildDiedError: It died of it.
    """

    def try_once() -> str | None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            if isinstance(source, Path):
                interpreter = Interpreter(model_path=str(source), num_threads=1)
            else:
                interpreter = Interpreter(model_content=source, num_threads=1)
            interpreter.allocate_tensors()
            for spec in interpreter.get_input_details():
                interpreter.set_tensor(spec["index"], np.zeros(spec["shape"], spec["dtype"]))
            interpreter.invoke()
        except Exception as error:  # pybind raises ValueError, RuntimeError and more
            return str(error)
        return None

    return isolated(try_once, limit_s=TRIAL_LIMIT_S)
