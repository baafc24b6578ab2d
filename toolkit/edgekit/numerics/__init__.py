"""Arithmetic of quantization, clustering and pruning on numpy arrays."""

from edgekit.numerics.affine import (
    affine_parameters,
    dequantize,
    quantize,
    symmetric_scales,
)
from edgekit.numerics.clipping import grid_scales, octav_scales
from edgekit.numerics.gram_rounding import output_error, round_by_gram
from edgekit.numerics.packing import pack_int4, unpack_int4
from edgekit.numerics.ranges import Histogram, entropy_range, mse_range, percentile_range
from edgekit.numerics.rounding import quantize_balanced

__all__ = [
    "Histogram",
    "affine_parameters",
    "dequantize",
    "entropy_range",
    "grid_scales",
    "mse_range",
    "octav_scales",
    "output_error",
    "pack_int4",
    "percentile_range",
    "quantize",
    "quantize_balanced",
    "round_by_gram",
    "symmetric_scales",
    "unpack_int4",
]
