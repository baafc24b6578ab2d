"""Interface of graph passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan


class Apply(Protocol):
    """Function of a pass."""

    def __call__(self, model: ModelT, observed: Observed, settings: Plan) -> ModelT:
        """Return the changed graph.

        Args:
            model: A float graph, not to be changed (`tflite.graph.clone` copies it).
            observed: Statistics of its activations; empty unless `observes` is set for the pass.
            settings: Plan of the variant: mode, rules, types of inputs and outputs.

        Returns:
            A changed copy that computes the same outputs in float, unless `fits` is set for the
            pass; `model` itself if unchanged.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPass:
    """A change to a float graph.

    Attributes:
        name: Name in recipes and manifests.
        meaning: What it does, in a sentence.
        apply: The function.
        observes: Whether it needs statistics of the activations.
        moves_activations: Whether inner activations change, which requires a new calibration.
        fits: Whether weights or biases are fitted to the precision of the plan, so that the float
            outputs change. Such passes come last; they are given the graph before the first of
            them (`Observed.exact`).
    """

    name: str
    meaning: str
    apply: Apply
    observes: bool = False
    moves_activations: bool = False
    fits: bool = False
