"""Quantize a float graph to any precision, with calibration samples.

- `float_graph`: the graph, parsed once.
- `observe`: calibration, the statistics of its activations; once for all variants.
- `passes`: changes to the graph before it is quantized, one module each.
- `rules`: the precision of every operator.
- `writer`: a float graph and ranges, written in integers.
- `variant`: the graph written in one precision, and checked.
"""

from edgekit.quantization.float_graph import FloatGraph, read_float_graph
from edgekit.quantization.observe import MINMAX, Observed, learned, observe
from edgekit.quantization.passes import PASSES, GraphPass, passes_named
from edgekit.quantization.variant import QuantizedModel, make

__all__ = [
    "MINMAX",
    "PASSES",
    "FloatGraph",
    "GraphPass",
    "Observed",
    "QuantizedModel",
    "learned",
    "make",
    "observe",
    "passes_named",
    "read_float_graph",
]
