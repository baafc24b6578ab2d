"""What every graph pass is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan


class Apply(Protocol):
    """The function of a pass."""

    def __call__(self, model: ModelT, observed: Observed, settings: Plan) -> ModelT:
        """Return the changed graph.

        Args:
            model: A float graph; it stays as it is (`tflite.graph.clone`).
            observed: What its activations are; empty unless the pass says that it `observes`.
            settings: The plan of the variant: mode, rules, types of inputs and outputs.

        Returns:
            A copy that computes the same outputs in float; `model` itself where nothing changes.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPass:
    """A change to a float graph that keeps its outputs.

    Attributes:
        name: The name in recipes and manifests.
        meaning: What it does, in a sentence.
        apply: The function.
        observes: Whether it needs to know what the activations are.
        moves_activations: Whether inner activations change, so that they must be observed anew.
    """

    name: str
    meaning: str
    apply: Apply
    observes: bool = False
    moves_activations: bool = False
