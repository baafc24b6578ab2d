"""The steps of a recipe, one dataclass each: adapt, shrink, prune, cluster, qat, quantize.

To add a step, add a dataclass here, an entry in `PASSES` at its position in the order of steps, and
its function in `training.passes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, get_args

from edgekit.choices import MAX_SEED, Goal, Importance, Initial, RangesMethod, Scope, SplitBy
from edgekit.errors import UsageError
from edgekit.modes import MODES
from edgekit.recipe.ends import free_ends
from edgekit.recipe.ranges import ranges_for
from edgekit.recipe.settings import (
    REQUIRED,
    TINY,
    Setting,
    check_fields,
    choice,
    declared,
    is_text,
    layer_names,
    number,
    switch,
    tables,
    text,
    whole_number,
    words,
)

if TYPE_CHECKING:
    from edgekit.records import Plan, Rule

RANGES: tuple[RangesMethod, ...] = get_args(RangesMethod)
PERCENTILE = 99.99
HALF = 0.5
_DTYPES = "`float32`; `int8`, `uint8` with `int8`; `int16` with `int16x8`"


def _is_pattern(value: object) -> bool:
    from edgekit.numerics.sparsity import parse_pattern

    try:
        parse_pattern(str(value))
    except UsageError:
        return False
    return is_text(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Fine-tuning settings, common to all steps that train.

    Attributes:
        epochs: Training epochs; None takes as many as make 2,000 steps, at least 3.
        learning_rate: Initial learning rate; None takes the step's own.
        batch_size: Batch size.
        patience: Epochs without a lower validation loss after which training stops; None takes a
            quarter of `epochs`, at least 5.
        seed: Random seed.
        split_by: How the validation samples are chosen: auto, group or time.
        distill: Also learn from the source's predictions.
    """

    epochs: int | None = whole_number(
        None,
        "Training epochs; 0 disables fine-tuning.",
        least=0,
        shown="as many as make 2,000 steps, at least 3",
    )
    learning_rate: float | None = number(
        None,
        "Initial learning rate (cosine decay).",
        accepts="a number above 0",
        fits=lambda value: value >= TINY,
        shown="`0.001`; `qat` `0.00002`, with `bits = 4` `0.0002`",
    )
    batch_size: int = whole_number(64, "Batch size.", least=1)
    patience: int | None = whole_number(
        None,
        "Epochs without a lower validation loss after which training stops.",
        least=1,
        shown="a quarter of `epochs`, at least 5",
    )
    seed: int = whole_number(0, "Random seed.", least=0, most=MAX_SEED)
    split_by: SplitBy = choice(  # noqa: RUF009
        get_args(SplitBy),
        "Which tenth of the training samples decides when training stops: whole groups, the end in "
        "time, or as the data suggests.",
    )
    distill: bool = switch("Also learn from the source's predictions (distillation).")

    def __post_init__(self) -> None:
        check_fields(self, "training")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassStep:
    """A step that turns a Keras model into another Keras model.

    Attributes:
        exclude: Layers that are not changed, by names or regular expressions.
        training: Fine-tuning settings.
    """

    kind: ClassVar[str]

    exclude: tuple[str, ...] = layer_names("Layers that are not changed.")
    training: Training = Training()

    def __post_init__(self) -> None:
        check_fields(self, self.kind)

    @property
    def learning_rate(self) -> float:
        """The initial learning rate."""
        return self.training.learning_rate or 1e-3

    @property
    def distills(self) -> bool:
        """Whether the pass also learns from the source's predictions."""
        return self.training.distill

    @property
    def noted(self) -> Mapping[str, str]:
        """What a checkpoint says of it, so that another run does not go on with it."""
        return {"pass": self.kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapt(PassStep):
    """Replace layers that a target does not take.

    Attributes:
        target: The target, such as coral.
    """

    kind: ClassVar[str] = "adapt"

    target: str = text(
        ...,
        "The target that is to take all operators of the int8 file.",
        accepts="a target, such as `coral`",
        shown=REQUIRED,
    )

    def __post_init__(self) -> None:
        from edgekit.targets import target

        PassStep.__post_init__(self)
        target(self.target)

    @property
    def distills(self) -> bool:
        """Return true: the original tells what the changed model is to compute."""
        return True

    @property
    def noted(self) -> Mapping[str, str]:
        """Return the kind and the target: another target has other replacements."""
        return {"pass": self.kind, "target": self.target}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink(PassStep):
    """Remove whole channels.

    Attributes:
        share: Share to remove, above 0 and below 1.
        goal: Quantity to reduce: macs, parameters or latency.
        rounds: Prune and fine-tune iterations.
        importance: How channels are ranked: l2, bn_scale or taylor.
        multiple: Layers of at least twice as many channels keep a multiple of it.
    """

    kind: ClassVar[str] = "shrink"

    share: float = number(
        HALF,
        "Share to remove by cutting whole channels.",
        accepts="a number above 0, below 1",
        fits=lambda value: TINY <= value < 1,
    )
    goal: Goal = choice(  # noqa: RUF009
        get_args(Goal),
        "Quantity to reduce; latency is measured for each candidate.",
    )
    rounds: int = whole_number(1, "Prune and fine-tune iterations.", least=1)
    importance: Importance = choice(get_args(Importance), "How channels are ranked.")  # noqa: RUF009
    multiple: int = whole_number(
        8,
        "Wide layers keep a multiple of this number of channels, which suits SIMD kernels.",
        least=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune(PassStep):
    """Set the smallest weights to zero.

    Attributes:
        sparsity: Share of weights to set to zero; None takes that of an N:M pattern, else 0.5.
        pattern: unstructured, N:M such as 2:4, or "block 1x4".
        scope: global or layer.
    """

    kind: ClassVar[str] = "prune"

    sparsity: float | None = number(
        None,
        "Share of weights to set to zero.",
        accepts="a number from 0, below 1",
        fits=lambda value: 0 <= value < 1,
        shown="`0.5`; with N:M the pattern's",
    )
    pattern: str = text(
        "unstructured",
        "Which weights may become zero together.",
        accepts="`unstructured`, `2:4` (any N:M), `block 1x4` (any)",
        shown="`unstructured`",
        fits=_is_pattern,
    )
    scope: Scope = choice(  # noqa: RUF009
        get_args(Scope), "Compare weights over the whole model, or by layer."
    )

    def __post_init__(self) -> None:
        from edgekit.numerics.sparsity import check_agreement, parse_pattern

        PassStep.__post_init__(self)
        check_agreement(self.share, parse_pattern(self.pattern))

    @property
    def share(self) -> float:
        """The share of weights to set to zero."""
        from edgekit.numerics.sparsity import share_of

        return share_of(self.pattern, HALF) if self.sparsity is None else self.sparsity


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(PassStep):
    """Give each kernel few distinct weights.

    Attributes:
        clusters: Clusters per kernel.
        initial: Centroid initialization: linear or density.
    """

    kind: ClassVar[str] = "cluster"

    clusters: int = whole_number(16, "Clusters per kernel.", least=2)
    initial: Initial = choice(get_args(Initial), "Centroid initialization.")  # noqa: RUF009


@dataclass(frozen=True, slots=True, kw_only=True)
class Qat(PassStep):
    """Train the model with the rounding of its int8 file.

    Attributes:
        exclude: Layers to leave in float, in the file too.
        bits: Bit width of the weights, 8 or 4.
    """

    kind: ClassVar[str] = "qat"

    exclude: tuple[str, ...] = layer_names("Layers to leave in float, in the file too.")
    bits: int = declared(
        8,
        Setting(
            meaning="Bit width of the weights that the model is trained for.",
            accepts="`8`, `4`",
            default="`8`",
            fits=lambda value: type(value) is int and value in (8, 4),
        ),
    )

    @property
    def learning_rate(self) -> float:
        """Return the initial learning rate: low, as normalization is folded and damps no steps."""
        return self.training.learning_rate or (2e-4 if self.bits == 4 else 2e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """Quantize to one precision, with per-layer overrides.

    Attributes:
        mode: Default precision.
        ranges: How activation ranges are chosen.
        percentile: Share of the values inside the range on each side, in percent.
        input: Type of the file's inputs; None takes the mode's default.
        output: Type of the file's outputs; None takes the mode's default.
        sparse: Whether kernels are stored sparse where that makes the file smaller.
        keep_names: Whether inner tensors keep their names.
        passes: Names of the graph passes that precede quantization, in order.
        rules: Per-layer overrides; the last match wins.
    """

    kind: ClassVar[str] = "quantize"

    mode: str = choice(tuple(MODES), "Default precision.", required=True)
    ranges: RangesMethod = choice(  # noqa: RUF009
        RANGES, "How activation ranges are chosen; for `int8` and `int16x8`."
    )
    percentile: float = number(
        PERCENTILE,
        'Share of the values kept on each side, in percent; for `ranges = "percentile"`.',
        accepts="a number above 50, at most 100",
        fits=lambda value: 50 < value <= 100,
    )
    input: str | None = text(
        None,
        "Type of the file's inputs.",
        accepts=_DTYPES,
        shown="`int8` with `int8` unless that loses too much, else `float32`",
    )
    output: str | None = text(
        None, "Type of the file's outputs.", accepts="as `input`", shown="as `input`'s default"
    )
    sparse: bool = switch(
        "Store kernels sparse where that makes the file smaller; unpacked when loaded."
    )
    keep_names: bool = switch(
        "Keep the names of inner tensors in `int8` and `int16x8` files, which are shortened else."
    )
    passes: tuple[str, ...] = words(
        "Graph passes that precede quantization, in order (below).",
        accepts="a list of names of graph passes",
    )
    rules: tuple[Rule, ...] = tables(
        "Per-layer overrides; the last match wins.",
        accepts="a list of `{ layers, mode }`",
        shown="none",
        default=(),
    )

    def plan(self, variant: str) -> Plan:
        """Return the step as the plan of a variant, defaults filled in."""
        from edgekit.records import Plan

        types = MODES[self.mode].io_types
        return Plan(
            variant=variant,
            mode=self.mode,
            ranges=ranges_for(self.mode, self.ranges),
            percentile=float(self.percentile),
            input_type=self.input or types[0],
            output_type=self.output or types[0],
            sparse=self.sparse,
            keep_names=self.keep_names,
            rules=self.rules,
            passes=tuple(self.passes),
            free_ends=free_ends(self.mode, self.input, self.output),
        )


PASSES: Mapping[str, type[PassStep]] = {
    step.kind: step for step in (Adapt, Shrink, Prune, Cluster, Qat)
}
"""The steps before the last, in the order required in a recipe."""

STEPS: Mapping[str, type[PassStep | Quantize]] = {**PASSES, Quantize.kind: Quantize}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The parsed steps of a recipe.

    Attributes:
        name: Name of the variant, and stem of its file.
        plan: The last step, resolved.
        passes: The steps before it.
    """

    name: str
    plan: Plan
    passes: tuple[PassStep, ...] = ()

    def __post_init__(self) -> None:
        # A step must not validate on what the step before trained on, nor be taught on it.
        ways = {step.training.split_by for step in self.passes}
        if len(ways) > 1:
            raise UsageError(
                "The steps of a recipe must have the same split_by.",
                found=f"Found {', '.join(sorted(ways))}.",
                hint="Give every step that trains the same one.",
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the passes, in order."""
        return tuple(step.kind for step in self.passes)
