"""Changes to the float graph before it is quantized, one module each.

A plan lists the names of its passes in order; without names nothing is changed. To add a pass, add
a module that ends in its `GraphPass`, and an entry in `PASSES`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from edgekit.errors import UsageError
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.absorb_biases import ABSORB_BIASES
from edgekit.quantization.passes.correct_biases import CORRECT_BIASES
from edgekit.quantization.passes.drop_identities import DROP_IDENTITIES
from edgekit.quantization.passes.drop_unused import DROP_UNUSED
from edgekit.quantization.passes.equalize import EQUALIZE
from edgekit.quantization.passes.fold_constants import FOLD_CONSTANTS
from edgekit.quantization.passes.fold_normalization import FOLD_NORMALIZATION
from edgekit.quantization.passes.fold_padding import FOLD_PADDING
from edgekit.quantization.passes.fold_scaling import fold_scaling
from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.quantization.passes.round_weights import ROUND_WEIGHTS
from edgekit.records import Plan, Ranges

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

CLEANUP: Final[tuple[GraphPass, ...]] = (FOLD_CONSTANTS, DROP_IDENTITIES, FOLD_PADDING)
"""What every graph goes through before it is written in integers; exact, and for no other mode."""

PASSES: Final[tuple[GraphPass, ...]] = (
    DROP_UNUSED,
    *CLEANUP,
    FOLD_NORMALIZATION,
    EQUALIZE,
    ABSORB_BIASES,
    ROUND_WEIGHTS,
    CORRECT_BIASES,
)

__all__ = ["CLEANUP", "PASSES", "GraphPass", "cleaned", "passes_named"]


def cleaned(model: ModelT, ranges: Ranges, plan: Plan) -> tuple[ModelT, Ranges]:
    """Return a graph as it is written in integers: tidied, and inputs scaled by its first layers.

    Args:
        model: A float graph; it is not changed.
        ranges: Ranges of its activations.
        plan: The variant.

    Returns:
        The graph, and the ranges of its activations.
    """
    model = _tidied(model, plan)
    fitted = ranges.n == 0 or any(each.fits for each in passes_named(plan.passes))
    return fold_scaling(model, ranges, plan, even=fitted)


def _tidied(model: ModelT, plan: Plan) -> ModelT:
    """Return a graph after `CLEANUP`, which depends on the graph alone.

    It is kept as long as the graph, of which several variants are written.
    """
    if model not in _known:
        tidied = model
        for each in CLEANUP:
            tidied = each.apply(tidied, NOTHING, plan)
        # The graph itself would keep itself alive.
        _known[model] = None if tidied is model else tidied
    found = _known[model]
    return model if found is None else found


_known: Final[WeakKeyDictionary[ModelT, ModelT | None]] = WeakKeyDictionary()


def passes_named(names: Sequence[str]) -> tuple[GraphPass, ...]:
    """Return the passes of a plan, in its order.

    Raises:
        UsageError: There is no such pass, or one that keeps the outputs follows one that fits
            weights to the precision.
    """
    known = {each.name: each for each in PASSES}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"Unknown graph pass: {name!r:.80}.",
                found=f"Did you mean {close[0]}?" if close else None,
                hint=f"Known: {', '.join(known)}.",
            )
    found = tuple(known[name] for name in names)
    fitting = next((number for number, each in enumerate(found) if each.fits), len(found))
    late = [each.name for each in found[fitting:] if not each.fits]
    if late:
        raise UsageError(
            f"Graph pass {late[0]} would undo what {found[fitting].name} fitted.",
            hint=f"Put {late[0]} before {found[fitting].name}.",
        )
    return found
