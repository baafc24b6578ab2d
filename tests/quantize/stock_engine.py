"""TensorFlow's quantizer in a process of its own, as `quantize.make` calls it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence

from edgekit.records import Plan

_SERVER = """
import os, pickle, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
import tensorflow as tf
from tensorflow.lite.python import convert
from tensorflow.lite.python.optimize import calibrator
from tensorflow.lite.python.convert import _types_pb2

def quantize(calibrated, mode, input_type, output_type, denied):
    return convert.mlir_quantize(
        calibrated,
        fully_quantize=True,
        inference_type={"int8": _types_pb2.QUANTIZED_INT8, "int16x8": _types_pb2.QUANTIZED_INT16}[mode],
        input_data_type=tf.dtypes.as_dtype(input_type),
        output_data_type=tf.dtypes.as_dtype(output_type),
        denylisted_nodes=denied or None,
    )

def calibrate(model, rows):
    return calibrator.Calibrator(model).calibrate(lambda: iter(rows))

while True:
    try:
        name, arguments = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = globals()[name](*arguments)
    except Exception as error:
        answer = RuntimeError(f"{type(error).__name__}: {error}")
    pickle.dump(answer, answers)
    answers.flush()
"""


class StockEngine:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def quantize(self, calibrated: bytes, plan: Plan, denied: Sequence[str]) -> bytes:
        return self._ask(
            "quantize", calibrated, plan.mode, plan.input_type, plan.output_type, list(denied)
        )

    def calibrate(self, model: bytes, rows) -> bytes:
        return self._ask("calibrate", model, rows)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _ask(self, *question):
        pickle.dump((question[0], question[1:]), self.process.stdin)
        self.process.stdin.flush()
        answer = pickle.load(self.process.stdout)
        if isinstance(answer, Exception):
            raise answer
        return answer
