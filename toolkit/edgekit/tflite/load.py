"""Check that a file loads and runs, in a child process, because a bad file can crash it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from edgekit.errors import ModelError
from edgekit.isolate import Background, ChildDiedError, TimeLimitError, isolated

R = TypeVar("R")

# Limit of the processor time of a first inference, in seconds.
TRIAL_LIMIT_S = 60


def check_loads(source: Path | bytes) -> None:
    """Allocate a model and invoke it once on zeros, in a forked child.

    Where a kernel refuses zeros, ones are tried: zeros may be nothing but padding, and an integer
    DIV refuses to divide by the number of the other words.

    Raises:
        ModelError: LiteRT refuses it, crashes, or exceeds the time limit.
    """
    _judged(source, lambda: (_first_run(source), None))


def start_check(path: Path, background: Background, *, then: Callable[[], R]) -> Callable[[], R]:
    """Start `check_loads`, and `then` in the same child where the model runs.

    The returned function waits for both, raises as `check_loads` does, and is called once.

    Args:
        path: The model.
        background: Runs it.
        then: What else is to be done, within the limit of the check.
    """

    def checked() -> tuple[str | None, R | None]:
        refusal = _refusal(path)
        return refusal, then() if refusal is None else None

    answer = background.start(checked, limit_s=TRIAL_LIMIT_S)
    return lambda: _judged(path, answer)


def _judged(source: Path | bytes, answer: Callable[[], tuple[str | None, R | None]]) -> R:
    """Return the second part of an answer; raise an error where the first says why it is none."""
    name = str(source) if isinstance(source, Path) else "The model"
    made: R | None = None
    try:
        refusal, made = answer()
    except ChildDiedError as error:
        refusal = f"the process died ({error.reason})"
    if refusal is not None:
        raise ModelError(
            f"{name} does not run in LiteRT.",
            found=" ".join(refusal.split())[:300],
            hint="It may be damaged, or need a delegate or an operator that this runtime lacks.",
        )
    return cast("R", made)


def check_ends(path: Path) -> None:
    """Invoke a model once on zeros, in a forked child, to check only that it terminates.

    Raises:
        ModelError: It exceeds the time limit.
    """
    try:
        _first_run(path)
    except TimeLimitError as error:
        raise ModelError(
            f"{path} does not finish its first run.",
            found=f"It was {error.reason}.",
            hint="A loop in it may never end: convert the model again.",
        ) from error
    except ChildDiedError:  # reported by the next function that runs it
        return


def _first_run(source: Path | bytes) -> str | None:
    """Return LiteRT's error for a model, which is run in a child; None if it ran.

    Raises:
        ChildDiedError: It crashed.
    """
    return isolated(lambda: _refusal(source), limit_s=TRIAL_LIMIT_S)


def _refusal(source: Path | bytes) -> str | None:
    refused = _refusal_of(source, 0)
    return refused if refused is None or _refusal_of(source, 1) is not None else None


def _refusal_of(source: Path | bytes, value: int) -> str | None:
    """Return LiteRT's error for a model whose inputs all have a value; None if it ran."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        if isinstance(source, Path):
            interpreter = Interpreter(model_path=str(source), num_threads=1)
        else:
            interpreter = Interpreter(model_content=source, num_threads=1)
        interpreter.allocate_tensors()
        for spec in interpreter.get_input_details():
            sample = np.full(spec["shape"], value).astype(spec["dtype"])
            interpreter.set_tensor(spec["index"], sample)
        interpreter.invoke()
    except Exception as error:  # pybind raises ValueError, RuntimeError and others
        return str(error)
    return None
