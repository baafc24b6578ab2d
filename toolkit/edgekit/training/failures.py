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
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("[[")]
    if not lines:
        return type(error).__name__
    if lines[0].startswith("Graph execution error"):
        return lines[-1]
    # The reason follows, printed bold.
    line = lines[1] if lines[0].startswith(CALLING) and len(lines) > 1 else lines[0]
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
