"""Why a model cannot be trained, in words."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from edgekit.errors import ModelError

CALLING: Final = "Exception encountered when calling"
"""What Keras's errors of a layer's call begin with."""


def check_finite(model: Any) -> None:
    """Raise where a weight is no number, so that no training could help.

    Raises:
        ModelError: It is.
    """
    for variable in model.weights:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ModelError(
                f"{model.name} has weights that are NaN or infinite, and cannot be trained.",
                found=f"Among them {variable.path}.",
                hint="Give the model as it was before its training diverged.",
            )


def telling(error: Exception) -> str:
    """Return the line of an error that says most: of a graph's the last, which follows a trace."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # reasons are printed bold
    lines = [line for line in map(str.strip, plain.splitlines()) if line]
    # Of layers in layers each call says so, before the reason.
    found = [line for line in lines if not line.startswith(("[[", CALLING))] or lines
    if not found:
        return type(error).__name__
    return found[-1 if found[0].startswith("Graph execution error") else 0]
