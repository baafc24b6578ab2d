"""Real values as a file's inputs store them, and its outputs' codes as real values."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from edgekit.records import Array, TensorSpec

CACHED_NUMBERS: Final = 1 << 16
"""Numbers quantized at a time."""


def encoded(values: Array, spec: TensorSpec, batch: int) -> Array:
    """Return `values` as the input stores them, padded with the last one to whole batches."""
    dtype = np.dtype(spec.dtype)
    if values.dtype != dtype and spec.scale is not None:
        limits = np.iinfo(dtype)
        stored = np.empty(values.shape, dtype)
        # A few at a time, so that they stay in the processor's cache from step to step.
        step = max(1, CACHED_NUMBERS // max(1, math.prod(values.shape[1:])))
        for start in range(0, len(values), step):
            codes = np.asarray(values[start : start + step], np.float32) / np.float32(spec.scale)
            np.rint(codes, out=codes)
            codes += np.float32(spec.zero_point or 0)
            stored[start : start + step] = np.clip(codes, limits.min, limits.max, out=codes)
        values = stored
    if missing := -len(values) % batch:
        values = np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
    return np.ascontiguousarray(values, dtype)


def decoded(codes: Array, spec: TensorSpec) -> Array:
    """Return the real values, float32, that an output's codes stand for."""
    if spec.scale is None or codes.dtype.kind == "f":
        return codes
    real = codes.astype(np.float32) - np.float32(spec.zero_point or 0)
    return real * np.float32(spec.scale)
