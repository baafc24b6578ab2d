"""Compare the outputs of two files, in a child process, with the kernels that devices use."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgekit.isolate import ChildDiedError, isolated
from edgekit.records import Array
from edgekit.tflite.load import TRIAL_LIMIT_S

_SAMPLES: Final = 3
_TOLERANCE: Final = 1e-5


def difference(dense: bytes, encoded: bytes) -> str | None:
    """Run a model and its encoded form on the same seeded inputs, with XNNPACK and without.

    Returns:
        What is wrong with the encoded one; None if its outputs equal those of the dense one to
        within 1e-5 of the largest.
    """

    def compare() -> str | None:
        from ai_edge_litert.interpreter import OpResolverType

        for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
            try:
                expected = _outputs(dense, kernels)
            except Exception as error:  # pybind raises ValueError, RuntimeError and others
                return f"The dense file does not run, so nothing is verified: {_line(error)}"
            try:
                found = _outputs(encoded, kernels)
            except Exception as error:
                return f"The encoded file does not run: {_line(error)}"
            for ours, theirs in zip(found, expected, strict=True):
                # XNNPACK's sparse kernels, which are off on x86, sum in another order.
                largest = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0))
                slack = _TOLERANCE * largest
                if not np.allclose(ours, theirs, rtol=0, atol=slack, equal_nan=True):
                    return "The outputs of the encoded file differ from those of the dense one."
        return None

    try:
        return isolated(compare, limit_s=4 * _SAMPLES * TRIAL_LIMIT_S)
    except ChildDiedError as error:
        return f"The file cannot be verified: the process that ran it died ({error.reason})."


def _outputs(data: bytes, kernels: int) -> list[Array]:
    """Return all outputs of a model for seeded random inputs, sample by sample."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=kernels
    )
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    found = []
    for _ in range(_SAMPLES):
        for spec in interpreter.get_input_details():
            dtype = np.dtype(spec["dtype"])
            if dtype.kind == "f":
                sample = rng.standard_normal(spec["shape"]).astype(dtype)
            elif dtype.itemsize <= 2 and dtype.kind in "iu":
                limits = np.iinfo(dtype)
                sample = rng.integers(limits.min, limits.max, spec["shape"], dtype, endpoint=True)
            else:
                # Wider integers may be indices into a table of unknown length: 0 is always valid.
                sample = np.zeros(spec["shape"], dtype)
            interpreter.set_tensor(spec["index"], sample)
        interpreter.invoke()
        found += [
            np.asarray(interpreter.get_tensor(spec["index"]), np.float64)
            for spec in interpreter.get_output_details()
        ]
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
