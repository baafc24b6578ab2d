"""Remove channels, at once or in rounds with training between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.choices import Importance
from edgekit.errors import UsageError
from edgekit.records import Array
from edgekit.training.kernels import check_names
from edgekit.training.shrinking.choose import CountedGoal, choose, least, widths_of
from edgekit.training.shrinking.graph import ChannelGraph, trace
from edgekit.training.shrinking.importance import Inputs, importances
from edgekit.training.shrinking.rebuild import rebuild

ROUNDING = 1e-9
"""Tolerance for comparing shares of counts."""

_WORDS = {"macs": "multiply-accumulates", "parameters": "parameters"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningResult:
    """A smaller model, and the channels removed from it.

    Attributes:
        model: A plain Keras model with the names of the old one.
        removed: Path of each layer -> indices, in the old model, of the output channels it no
            longer computes.
        kept_whole: Path of each layer none of whose output channels may be
                removed -> why.
        macs_before: Multiply-accumulates for one sample (convolutions and dense layers).
        macs_after: Those of the smaller model.
        parameters_before: Number of weights.
        parameters_after: That of the smaller model.
    """

    model: Any
    removed: Mapping[str, Array]
    kept_whole: Mapping[str, str]
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int


def shrink(
    model: Any,
    *,
    share: float,
    goal: CountedGoal = "macs",
    importance: Importance = "l2",
    data: tuple[Inputs, Array] | None = None,
    exclude: Sequence[str] = (),
    multiple: int = 8,
) -> PruningResult:
    """Remove whole channels until `share` of the multiply-accumulates or weights is removed.

    Channels are removed greedily, by the least importance lost per unit of cost saved; see
    `choose`.

    Args:
        model: A functional or sequential Keras model; it is not changed.
        share: Share to remove, above 0 and below 1.
        goal: Quantity to reduce: multiply-accumulates, or weights.
        importance: How channels are ranked; see `importances`.
        data: `(x, y)` for `taylor`.
        exclude: Names, or regular expressions for whole names, of layers to keep whole, or of
            models they are part of.
        multiple: Layers of at least two times as many channels keep a multiple of it, because
            SIMD kernels work on blocks; 1 rounds nothing.

    Raises:
        UsageError: An option that does not apply to this model, or a share that cannot be reached.
        ModelError: A subclassed model, one without fixed shapes, or a layer that cannot be rebuilt.
        DataError: The data does not fit the model or its loss.
    """
    return shrink_in_rounds(
        model,
        share=share,
        rounds=1,
        tune=lambda _, __: None,
        goal=goal,
        importance=importance,
        data=data,
        exclude=exclude,
        multiple=multiple,
    )


def shrink_in_rounds(
    model: Any,
    *,
    share: float,
    rounds: int,
    tune: Callable[[Any, int], None],
    goal: CountedGoal = "macs",
    importance: Importance = "l2",
    data: tuple[Inputs, Array] | None = None,
    exclude: Sequence[str] = (),
    multiple: int = 8,
) -> PruningResult:
    """Remove channels as `shrink` does, in several rounds with training after each.

    Every round keeps the share `(1 - share) ** (1 / rounds)` of what the round before kept, and
    ranks the channels of the model trained so far. Removal alternates with training as in Molchanov
    et al., arXiv 1906.10771, section 3.

    Args:
        model: As for `shrink`.
        share: Share to remove in all rounds together.
        rounds: Number of rounds, at least 1.
        tune: Called with the smaller model and the number of the round, from 1; trains the model
            in place. A round that removes nothing is tuned as well.
        goal: As for `shrink`.
        importance: How channels are ranked.
        data: `(x, y)` for `taylor`.
        exclude: Names, or regular expressions for whole names, of layers to keep whole, or of
            models they are part of.
        multiple: As for `shrink`; applies to layers by their width before the first round.

    Returns:
        The last model, compared with the first.

    Raises:
        UsageError, ModelError, DataError: As `shrink`; a share that cannot be reached is refused
            before any training.
    """
    if not 0 < share < 1 or multiple < 1 or rounds < 1:
        raise UsageError(
            "A share to remove is above 0 and below 1, a multiple and rounds at least 1.",
            found=f"Received share={share}, multiple={multiple}, rounds={rounds}.",
        )
    first = graph = trace(model, exclude=exclude)
    check_names(exclude, graph.layers.values())
    _check_share(graph, share, goal, multiple)
    cost = graph.macs if goal == "macs" else graph.parameters
    widths = widths_of(graph)
    kept = {path: np.arange(len(row)) for path, row in graph.outputs.items()}
    smaller = model
    for number in range(1, rounds + 1):
        ranked = importances(smaller, graph, importance, data=data)
        target = (1 - share) ** (number / rounds) * cost * (1 + ROUNDING)
        cut = choose(graph, ranked, target, goal=goal, multiple=multiple, widths=widths)
        smaller = rebuild(smaller, graph, cut)
        gone = np.array(sorted(cut), np.int64)
        kept = {path: kept[path][~np.isin(row, gone)] for path, row in graph.outputs.items()}
        tune(smaller, number)
        graph = trace(smaller, exclude=exclude)
    removed = {
        path: np.setdiff1d(np.arange(len(row)), kept[path]) for path, row in first.outputs.items()
    }
    return PruningResult(
        model=smaller,
        removed={path: indices for path, indices in removed.items() if len(indices)},
        kept_whole=first.kept_whole,
        macs_before=first.macs,
        macs_after=graph.macs,
        parameters_before=first.parameters,
        parameters_after=graph.parameters,
    )


def largest_share(
    model: Any, *, goal: CountedGoal = "macs", exclude: Sequence[str] = (), multiple: int = 8
) -> float:
    """Return the largest share that `shrink` can remove from this model; 0 if none."""
    graph = trace(model, exclude=exclude)
    check_names(exclude, graph.layers.values())
    return _largest_share(graph, goal, multiple)


def _largest_share(graph: ChannelGraph, goal: CountedGoal, multiple: int) -> float:
    if not graph.families:
        return 0.0
    return 1 - least(graph, goal, multiple) / (graph.macs if goal == "macs" else graph.parameters)


def _check_share(graph: ChannelGraph, share: float, goal: CountedGoal, multiple: int) -> None:
    most = _largest_share(graph, goal, multiple)
    if share > most + ROUNDING:
        stays = f", {multiple} of the wide ones" if multiple > 1 else ""
        # Rounding down: what is said to be possible is.
        possible = math.floor(100 * most)
        loosened = math.floor(100 * _largest_share(graph, goal, 1)) if multiple > 1 else possible
        hints = [f"ask for a share of {possible / 100:g} or less"] * (possible > 0)
        hints += [f"round less: multiple 1 allows {loosened / 100:g}"] * (loosened > possible)
        hints += ["prune or cluster it, which keeps its shape"] * (not hints)
        hint = ", or ".join(hints)
        raise UsageError(
            f"{100 * share:g} % of the {_WORDS[goal]} cannot be removed.",
            found=f"At most {possible} % can: one channel of each layer must remain{stays}."
            + _blocked(graph, goal),
            hint=f"{hint[0].upper()}{hint[1:]}.",
        )


def _blocked(graph: ChannelGraph, goal: CountedGoal) -> str:
    """Name the costliest layers that are kept whole, and why."""
    cost = dict.fromkeys(graph.kept_whole, 0)
    for weight in graph.weights:
        if weight.layer in cost:
            size = math.prod(weight.variable.shape)
            cost[weight.layer] += size * (weight.macs if goal == "macs" else 1)
    names = sorted(cost, key=lambda name: -cost[name])
    told = "; ".join(f"{name} {graph.kept_whole[name]}" for name in names[:3])
    more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
    return f" Kept whole: {told}{more}." if names else ""
