"""Every key of a recipe, declared once: checks, suggestions and the reference come from here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errors import UsageError
from edgekit.numerics.sparsity import parse_pattern
from edgekit.recipe.plans import PERCENTILE, RANGES, closest
from edgekit.records import MODES

LARGEST = 3.4e38
TINY = 1e-30
"""Numbers that float32 holds, with room for what is computed from them."""
MOST = 10**9
"""Of whatever is counted."""
MOST_SEED = 2**32 - 1
"""What numpy and Keras take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a recipe.

    Attributes:
        accepts: What may be written there, in words.
        default: What holds where it is left out, in words.
        meaning: What it does, in a sentence.
        fits: Whether a value may stand there.
    """

    accepts: str
    default: str
    meaning: str
    fits: Callable[[Any], bool]


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.+-]{0,99}", value) is not None


def _is_number(value: Any) -> bool:
    # Compared rather than converted: a TOML integer may be beyond any float. NaN compares false.
    return type(value) in (int, float) and abs(value) <= LARGEST


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and parse_pattern(value) is not None
    except UsageError:
        return False


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _words(choices: tuple[str, ...]) -> str:
    return ", ".join(f"`{choice}`" for choice in choices)


def _choice(choices: tuple[str, ...], meaning: str) -> Key:
    """One of several words, by default the first."""
    return Key(
        accepts=_words(choices),
        default=f"`{choices[0]}`",
        meaning=meaning,
        fits=_one_of(choices),
    )


def _count(least: int, default: str, meaning: str, most: int = MOST) -> Key:
    return Key(
        accepts=f"a whole number from {least}" if least else "a whole number",
        default=default,
        meaning=meaning,
        fits=lambda value: type(value) is int and least <= value <= most,
    )


def _switch(meaning: str) -> Key:
    return Key(
        accepts="`true`, `false`",
        default="`false`",
        meaning=meaning,
        fits=lambda value: isinstance(value, bool),
    )


def _kind(name: str) -> Key:
    return Key(
        accepts=f"`{name}`",
        default="required",
        meaning="What the step does.",
        fits=_one_of((name,)),
    )


TOP_KEYS: Mapping[str, Key] = {
    "schema": Key(
        accepts="`1`",
        default="required",
        meaning="Version of this format.",
        fits=lambda value: type(value) is int and value == 1,
    ),
    "name": Key(
        accepts="up to 100 letters, digits, `.`, `_`, `+`, `-`",
        default="the file's stem",
        meaning="Name of the variant, and stem of the file that is written.",
        fits=_is_name,
    ),
    "step": Key(
        accepts="`[[step]]` tables",
        default="required",
        meaning="What is done: shrink, prune, cluster, qat, quantize, in this order.",
        fits=_is_tables,
    ),
}

TRAINING_KEYS: Mapping[str, Key] = {
    "epochs": _count(
        0,
        "as many as make 2,000 steps, at least 3",
        "Walks through the training samples; 0 trains nothing.",
    ),
    "learning_rate": Key(
        accepts="a number above 0",
        default="`0.001`; `qat` `0.00002`, with `bits = 4` `0.0002`",
        meaning="Where a cosine begins.",
        fits=lambda value: _is_number(value) and value >= TINY,
    ),
    "batch_size": _count(1, "`64`", "Samples a step."),
    "patience": _count(
        1,
        "a quarter of `epochs`, at least 5",
        "Epochs without a lower validation loss after which training stops.",
    ),
    "seed": _count(0, "`0`", "Of every random choice.", MOST_SEED),
    "distill": _switch("Learn from the predictions of the recipe's source too."),
}
"""Keys of every step that trains."""

_EXCLUDE = Key(
    accepts="a list of names or regular expressions",
    default="none",
    meaning="Layers to leave alone.",
    fits=lambda value: isinstance(value, list) and all(map(_is_text, value)),
)

PASS_KEYS: Mapping[str, Mapping[str, Key]] = {
    "shrink": {
        "kind": _kind("shrink"),
        "share": Key(
            accepts="a number above 0, below 1",
            default="`0.5`",
            meaning="Share to remove by cutting whole channels.",
            fits=lambda value: _is_number(value) and TINY <= value < 1,
        ),
        "goal": _choice(
            ("macs", "parameters", "latency"), "Of what; latency is measured, cut by cut."
        ),
        "rounds": _count(1, "`1`", "Cuts, each followed by all the epochs."),
        "importance": _choice(("l2", "bn_scale", "taylor"), "How channels are ranked."),
        "exclude": _EXCLUDE,
    },
    "prune": {
        "kind": _kind("prune"),
        "sparsity": Key(
            accepts="a number from 0, below 1",
            default="`0.5`",
            meaning="Share of weights to drop.",
            fits=lambda value: _is_number(value) and 0 <= value < 1,
        ),
        "pattern": Key(
            accepts="`unstructured`, `2:4` (any N:M), `block 1x4` (any)",
            default="`unstructured`",
            meaning="Which weights may be dropped together.",
            fits=_is_pattern,
        ),
        "scope": _choice(
            ("global", "layer"), "Weights are compared over the whole model, or by layer."
        ),
        "exclude": _EXCLUDE,
    },
    "cluster": {
        "kind": _kind("cluster"),
        "clusters": _count(2, "`16`", "Distinct weights a kernel."),
        "initial": _choice(("linear", "density"), "Where the palette starts."),
        "exclude": _EXCLUDE,
    },
    "qat": {
        "kind": _kind("qat"),
        "bits": Key(
            accepts="`8`, `4`",
            default="`8`",
            meaning="Width of the weights that the model is trained for.",
            fits=lambda value: type(value) is int and value in (8, 4),
        ),
        "exclude": replace(_EXCLUDE, meaning="Layers to leave in float, in the file too."),
    },
}
"""Keys of the steps before the last, in the order in which the steps must stand."""

KINDS: tuple[str, ...] = (*PASS_KEYS, "quantize")


QUANTIZE_KEYS: Mapping[str, Key] = {
    "kind": _kind("quantize"),
    "mode": Key(
        accepts=_words(MODES),
        default="required",
        meaning="Precision of the whole.",
        fits=_one_of(MODES),
    ),
    "ranges": _choice(
        RANGES, "How the ranges of the activations are chosen; for `int8` and `int16x8`."
    ),
    "percentile": Key(
        accepts="a number above 50, at most 100",
        default=f"`{PERCENTILE}`",
        meaning='Share of the values kept on each side, in percent; for `ranges = "percentile"`.',
        fits=lambda value: _is_number(value) and 50 < value <= 100,
    ),
    "input": Key(
        accepts="`float32`; `int8`, `uint8` with `int8`; `int16` with `int16x8`",
        default="`int8` with `int8`, else `float32`",
        meaning="Type of the file's inputs.",
        fits=_is_text,
    ),
    "output": Key(
        accepts="as `input`",
        default="as `input`'s default",
        meaning="Type of the file's outputs.",
        fits=_is_text,
    ),
    "sparse": _switch(
        "Store kernels sparse where that makes the file smaller; unpacked when loaded."
    ),
    "rules": Key(
        accepts="a list of `{ layers, mode }`",
        default="none",
        meaning="Layers treated apart; the last rule that matches a layer holds.",
        fits=_is_tables,
    ),
}

RULE_KEYS: Mapping[str, Key] = {
    "layers": Key(
        accepts="a regular expression",
        default="required",
        meaning="The layers meant, searched for in their names.",
        fits=_is_text,
    ),
    "mode": Key(
        accepts=_words(MODES),
        default="required",
        meaning="The precision of those layers.",
        fits=_one_of(MODES),
    ),
}


def reference() -> str:
    """Return the tables of all keys, in Markdown."""
    parts = []
    steps = {**PASS_KEYS, "quantize": QUANTIZE_KEYS}
    for title, keys in (
        ("Recipe", TOP_KEYS),
        *((f'`[[step]]` with `kind = "{kind}"`', known) for kind, known in steps.items()),
        ("Every step that trains, also", TRAINING_KEYS),
        ("One of `rules`", RULE_KEYS),
    ):
        rows = [
            f"| `{name}` | {key.accepts} | {key.default} | {key.meaning} |"
            for name, key in keys.items()
        ]
        head = f"| {title} | accepts | default | meaning |\n|---|---|---|---|"
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts) + "\n"


def check(table: Mapping[str, Any], keys: Mapping[str, Key], place: str) -> None:
    """Raise unless `table` holds only known keys, all required ones, and values that fit."""
    for key, value in table.items():
        if key not in keys:
            raise UsageError(
                f"{place}: unknown key {key!r:.80}.",
                found=closest(key, tuple(keys)) or None,
                hint=f"Known here: {', '.join(keys)}.",
            )
        if not keys[key].fits(value):
            accepts = keys[key].accepts.replace("`", "")
            hint = closest(value, tuple(re.findall(r"`(\w+)`", keys[key].accepts)))
            raise UsageError(
                f"{place}: {key} = {value!r:.80} cannot be.",
                found=hint or None,
                hint=f"{key}: {accepts}.",
            )
    for key, declared in keys.items():
        if declared.default == "required" and key not in table:
            accepts = declared.accepts.replace("`", "")
            raise UsageError(f"{place}: {key!r} is missing.", hint=f"{key}: {accepts}.")
