"""Parse recipes, TOML files of steps, and check them before TensorFlow is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError
from edgekit.files import check_input
from edgekit.modes import INT8, MODES, calibrated_modes
from edgekit.parsing import TOML_BYTES, ParseError, parse_toml, read_text
from edgekit.recipe.layer_rule import LayerRule
from edgekit.recipe.settings import REQUIRED, Setting, check, closest, naming, settings_of
from edgekit.recipe.steps import (
    PASSES,
    STEPS,
    PassStep,
    Qat,
    Quantize,
    Recipe,
    Training,
)
from edgekit.records import SOURCE, Plan, Rule

_KINDS = tuple(STEPS)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.+-]{0,99}", value) is not None


TOP: Mapping[str, Setting] = {
    "schema": Setting(
        accepts="`1`",
        default=REQUIRED,
        meaning="Version of this format.",
        fits=lambda value: type(value) is int and value == 1,
    ),
    "name": Setting(
        accepts="letters, digits, `.`, `_`, `+`, `-`",
        default="the file's stem",
        meaning="Name of the variant, and stem of the file that is written.",
        fits=_is_name,
    ),
    "step": Setting(
        accepts="`[[step]]` tables",
        default=REQUIRED,
        meaning=f"What is done: {', '.join(_KINDS)}, in this order.",
        fits=lambda value: isinstance(value, list) and all(isinstance(i, dict) for i in value),
    ),
}
"""Declares the keys of a recipe outside its steps."""

RESERVED = {
    "report": "Its files would overwrite report.json.",
    SOURCE: "The row of the source has this name in every report.",
}
"""Names that no variant may have, and why."""


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a file.

    Raises:
        UsageError: The file cannot be read, or is not a recipe.
    """
    check_input(path, UsageError, hint="Give the path of a recipe, a TOML file.")
    try:
        text = read_text(path, TOML_BYTES)
    except (OSError, ParseError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"Cannot read the recipe {path}.",
            found=f"The system says: {reason}.",
            hint="Give the path of a TOML file.",
        ) from error
    return parse_recipe(text, path.name)


def parse_recipe(text: str, name: str) -> Recipe:
    """Read a recipe from its text; `name` is its name in errors, the stem the default name.

    Raises:
        UsageError: The text is not TOML, or a key, value or order of steps is invalid.
    """
    try:
        document = parse_toml(text)
    except ParseError as error:
        raise UsageError(
            f"{name} is not TOML.",
            found=f"{error}.",
            hint="Put text in quotes; a step begins with [[step]].",
        ) from error
    check(document, TOP, name)
    recipe_name = document.get("name", Path(name).stem)
    if not TOP["name"].fits(recipe_name):
        raise UsageError(
            f"{name}: {recipe_name!r} cannot name a variant.",
            hint='Add name = "..." with letters, digits and . _ + - to the recipe.',
        )
    # Some file systems do not distinguish upper and lower case.
    if why := RESERVED.get(recipe_name.casefold()):
        raise UsageError(
            f"{name}: a variant must not be called {recipe_name!r}.",
            found=why,
            hint='Add name = "..." with another name to the recipe.',
        )
    steps = document["step"]
    _check_order([step.get("kind") for step in steps], name)
    plan = _plan(steps[-1], recipe_name, f"{name}, step {len(steps)}")
    passes = tuple(
        pass_step(step, f"{name}, step {position}")
        for position, step in enumerate(steps[:-1], start=1)
    )
    with naming(name):
        recipe = Recipe(name=recipe_name, plan=plan, passes=passes)
    trained = any(isinstance(step, Qat) for step in recipe.passes)
    if trained and recipe.plan.mode != INT8.name:
        raise UsageError(
            f"{name}: qat trains a model for int8, but the last step makes {recipe.plan.mode}.",
            hint='Write mode = "int8" there (bits = 4 in the qat step gives int4 weights).',
        )
    return recipe


def _check_order(kinds: list[Any], name: str) -> None:
    known = f"Known: {', '.join(_KINDS)}."
    if not kinds:
        raise UsageError(f"{name} has no step.", hint='Add [[step]] with kind = "quantize".')
    for position, kind in enumerate(kinds, start=1):
        if kind is None:
            raise UsageError(f"{name}, step {position}: 'kind' is missing.", hint=known)
        if not isinstance(kind, str) or kind not in STEPS:
            raise UsageError(
                f"{name}, step {position}: unknown kind {kind!r:.80}.",
                found=closest(kind, _KINDS) or None,
                hint=known,
            )
        if kind in kinds[: position - 1]:
            raise UsageError(
                f"{name}, step {position}: {kind} repeats an earlier step.",
                hint="Each kind may occur once; write a second recipe for a second variant.",
            )
    ordered = sorted(kinds, key=_KINDS.index)
    if kinds != ordered:
        raise UsageError(
            f"{name}: the steps are out of order.",
            found=f"They are {', '.join(kinds)}; each must keep what those before it did.",
            hint=f"Write {', '.join(ordered)}.",
        )
    if kinds[-1] != Quantize.kind:
        raise UsageError(
            f"{name} does not end in a quantize step.",
            found=f"Its last step is {kinds[-1]}.",
            hint='Add [[step]] with kind = "quantize" and mode = "float32" or another.',
        )


def pass_step(table: Mapping[str, Any], place: str) -> PassStep:
    """Return the pass that a `[[step]]` table describes; `table["kind"]` is a known kind.

    Raises:
        UsageError: A key is unknown, or a value is invalid.
    """
    kind = PASSES[table["kind"]]
    given = {key: value for key, value in table.items() if key != "kind"}
    check(given, {**settings_of(kind), **settings_of(Training)}, place)
    trained = {key: given.pop(key) for key in settings_of(Training) if key in given}
    if "exclude" in given:
        given["exclude"] = tuple(given["exclude"])
        for pattern in given["exclude"]:
            _compile_layers("exclude", pattern, place)
    with naming(place):
        return kind(**given, training=Training(**trained))


def _plan(table: Mapping[str, Any], variant: str, place: str) -> Plan:
    given = {key: value for key, value in table.items() if key != "kind"}
    check(given, settings_of(Quantize), place)
    rules = tuple(
        _rule(rule, f"{place}, rule {position}")
        for position, rule in enumerate(given.pop("rules", ()), start=1)
    )
    step = Quantize(**given, rules=rules)
    mode = MODES[step.mode]
    for key, value in (("input", step.input), ("output", step.output)):
        if value is not None and value not in mode.io_types:
            raise UsageError(
                f"{place}: {key} = {value!r} does not go with mode = {step.mode!r}.",
                hint=f"{key}: {', '.join(mode.io_types)}.",
            )
    if not mode.calibrated and "ranges" in given:
        raise UsageError(
            f"{place}: mode = {step.mode!r} keeps activations in float, so 'ranges' has no effect.",
            hint=f"Leave it out, or take one of: {calibrated_modes()}.",
        )
    if "percentile" in given and step.ranges != "percentile":
        raise UsageError(
            f"{place}: 'percentile' is given, but ranges are not chosen by percentile.",
            hint='Add ranges = "percentile", or leave percentile out.',
        )
    return step.plan(variant)


def _rule(table: Mapping[str, Any], place: str) -> Rule:
    check(table, settings_of(LayerRule), place)
    _compile_layers("layers", table["layers"], place)
    return Rule(layers=table["layers"], mode=table["mode"])


def _compile_layers(key: str, pattern: str, place: str) -> None:
    """Raise unless what names layers is a regular expression.

    Raises:
        UsageError: It is none.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(
            f"{place}: {key} = {pattern!r:.80} is not a regular expression.",
            found=f"{error}.",
            hint='Write ^logits$ for one layer, or "a|b" for two.',
        ) from error
