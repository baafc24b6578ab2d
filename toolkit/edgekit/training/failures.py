"""Why a model cannot be trained, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ModelError


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
