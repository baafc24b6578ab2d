"""Run a model with LiteRT's reference kernels, which agree to the bit on every processor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.errors import ModelError
from edgekit.isolate import ChildDiedError, isolated
from edgekit.records import Array
from edgekit.tflite.load import TRIAL_LIMIT_S


def reference_outputs(content: bytes, inputs: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Return the outputs of each run, one after the other, without resetting the state.

    Args:
        content: A plain TFLite file.
        inputs: Arrays of each run, in the file's order.

    Raises:
        ModelError: LiteRT refuses it, or crashes.
    """

    def run() -> list[list[Array]] | str:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            interpreter = Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            )
            interpreter.allocate_tensors()
            ends = interpreter.get_input_details(), interpreter.get_output_details()
            found = []
            for arrays in inputs:
                for spec, array in zip(ends[0], arrays, strict=True):
                    interpreter.set_tensor(spec["index"], array)
                interpreter.invoke()
                found.append([np.array(interpreter.get_tensor(spec["index"])) for spec in ends[1]])
        except Exception as error:  # pybind raises ValueError, RuntimeError and others
            return " ".join(str(error).split())[:300]
        return found

    try:
        found = isolated(run, limit_s=TRIAL_LIMIT_S)
    except ChildDiedError as error:
        found = f"the process died ({error.reason})"
    if isinstance(found, str):
        raise ModelError(
            "The model does not run in LiteRT's reference kernels.",
            found=found,
            hint="It may be damaged, or need an operator that this runtime lacks.",
        )
    return found
