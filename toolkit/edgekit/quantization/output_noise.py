"""How far the outputs of a candidate are from those of the float graph, in dB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.evaluation.fidelity import WORST_SQNR_DB, sqnr_db
from edgekit.records import Array
from edgekit.tflite.signature import signature

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

NONE_DB: Final = 60.0
"""Stands for no noise at all."""
_LARGEST: Final = 1e38
"""Stands for infinity, with a square that float64 has."""
_CODES: Final = ("int8", "uint8", "int16")


def distances(reference: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, float]:
    """Return the ratio of spread to noise of every float output, in dB."""
    ratios = {}
    for (name, expected), values in zip(reference.items(), found.values(), strict=True):
        if expected.dtype.kind != "f" or expected.shape != values.shape:
            continue
        exact = expected.astype(np.float64)
        # What is infinite in float has no distance.
        exact = np.where(np.isfinite(exact), exact, 0.0)
        made = np.where(np.isfinite(expected), values, 0.0)
        signal = float(np.sum(np.square(exact - exact.mean(axis=0))))
        noise = float(
            np.sum(np.square(np.nan_to_num(made - exact, posinf=_LARGEST, neginf=-_LARGEST)))
        )
        ratio = sqnr_db(signal, noise)
        ratios[name] = NONE_DB if ratio is None else max(ratio, WORST_SQNR_DB)
    return ratios


def limits_of(reference: Mapping[str, Array], made: ModelT) -> dict[str, float]:
    """Return the ratios that the steps of outputs allow, in dB.

    Ends that a range of other samples set are no limit: a wider range would tell what lies beyond.
    A probability of 1 is half a step beyond the last code.
    """
    limits: dict[str, float] = {}
    for (name, expected), spec in zip(reference.items(), signature(made)[1], strict=True):
        if spec.scale and spec.dtype in _CODES and expected.dtype.kind == "f":
            ends = np.iinfo(spec.dtype)
            zero = spec.zero_point or 0
            codes = np.rint(expected / spec.scale) + zero
            within = np.clip(codes, ends.min, ends.max)
            codes = np.where(np.abs(codes - within) > 1, codes, within)
            nearest = {name: ((codes - zero) * spec.scale).astype(np.float32)}
            limits |= distances({name: expected}, nearest)
    return limits


def pooled(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Return the ratio of two sets of samples together: of each output, then their mean."""
    ratios = [
        -10 * np.log10((10 ** (-db / 10) + 10 ** (-second[name] / 10)) / 2)
        for name, db in first.items()
    ]
    return float(np.mean([min(ratio, NONE_DB) for ratio in ratios]))
