"""Quantize a float graph to any precision, with calibration samples.

- `float_graph`: the graph, parsed once.
- `observe`: calibration, the statistics of its activations; once for all variants.
- `calibration`: the samples, and which of them judge.
- `choose`: passes and ranges, by the outputs of files that are tried.
- `forms`: the graphs that are compared.
- `recorded_choice`: a choice among them, as a manifest tells it.
- `passes`: changes to the graph before it is quantized, one module each.
- `one_thread`: matrix products whose last bits do not depend on the number of cores.
- `rules`: the precision of every operator.
- `preparation`: the passes of a plan, and what `choose` chooses, in order.
- `writer`: a float graph and ranges, written in integers.
- `in_modes`: a float graph, written in the precisions of a plan.
- `variant`: the graph written in one precision, and checked.
"""

from edgekit.choices import MINMAX
from edgekit.quantization.calibration import Calibration, out_of_line
from edgekit.quantization.float_graph import FloatGraph, read_float_graph
from edgekit.quantization.observe import Observed, learned, observe
from edgekit.quantization.passes import PASSES, GraphPass, passes_named
from edgekit.quantization.passes.round_weights import rounding_work
from edgekit.quantization.recorded_choice import Recorded, recorded_choice
from edgekit.quantization.variant import QuantizedModel, first_run, make

__all__ = [
    "MINMAX",
    "PASSES",
    "Calibration",
    "FloatGraph",
    "GraphPass",
    "Observed",
    "QuantizedModel",
    "Recorded",
    "first_run",
    "learned",
    "make",
    "observe",
    "out_of_line",
    "passes_named",
    "read_float_graph",
    "recorded_choice",
    "rounding_work",
]
