"""Recipes: what to do with a model, written in TOML, checked before anything heavy is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError
from edgekit.files import check_input
from edgekit.parsing import TOML_BYTES, ParseError, parse_toml, read_text
from edgekit.recipe.keys import (
    KINDS,
    PASS_KEYS,
    QUANTIZE_KEYS,
    RULE_KEYS,
    TOP_KEYS,
    TRAINING_KEYS,
    check,
)
from edgekit.recipe.plans import CALIBRATED, IO_TYPES, PERCENTILE, closest
from edgekit.records import Mode, PassStep, Plan, Recipe, Rule

REPORT = "report"
"""The stem of the files that tell of all variants."""


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
    """Read a recipe from its text; `name` stands for it in errors, and its stem names it.

    Raises:
        UsageError: The text is not TOML, or a key, value or order of steps means nothing.
    """
    try:
        document = parse_toml(text)
    except ParseError as error:
        raise UsageError(
            f"{name} is not TOML.",
            found=f"{error}.",
            hint="Texts stand in quotes; steps begin with [[step]].",
        ) from error
    check(document, TOP_KEYS, name)
    recipe_name = document.get("name", Path(name).stem)
    if not TOP_KEYS["name"].fits(recipe_name):
        raise UsageError(
            f"{name}: {recipe_name!r} cannot name a variant.",
            hint='Add name = "..." with letters, digits and . _ + - to the recipe.',
        )
    # Some file systems do not tell upper case from lower.
    if recipe_name.casefold() == REPORT:
        raise UsageError(
            f"{name}: a variant cannot be called {recipe_name!r}.",
            found="Its files would take the place of report.json.",
            hint='Add name = "..." with another name to the recipe.',
        )
    steps = document["step"]
    _check_order([step.get("kind") for step in steps], name)
    recipe = Recipe(
        name=recipe_name,
        plan=_quantize_plan(steps[-1], recipe_name, f"{name}, step {len(steps)}"),
        passes=tuple(
            _pass(step, f"{name}, step {position}")
            for position, step in enumerate(steps[:-1], start=1)
        ),
    )
    trained = any(step.kind == "qat" for step in recipe.passes)
    if trained and recipe.plan.mode != "int8":
        raise UsageError(
            f"{name}: qat trains a model for int8, but the last step makes {recipe.plan.mode}.",
            hint='Write mode = "int8" there (bits = 4 in the qat step narrows the weights).',
        )
    return recipe


def _check_order(kinds: list[Any], name: str) -> None:
    if not kinds:
        raise UsageError(f"{name} has no step.", hint='Add [[step]] with kind = "quantize".')
    for position, kind in enumerate(kinds, start=1):
        if kind is None:
            raise UsageError(
                f"{name}, step {position}: 'kind' is missing.", hint=f"Known: {', '.join(KINDS)}."
            )
        if not isinstance(kind, str) or kind not in KINDS:
            raise UsageError(
                f"{name}, step {position}: unknown kind {kind!r:.80}.",
                found=closest(kind, KINDS) or None,
                hint=f"Known: {', '.join(KINDS)}.",
            )
        if kind in kinds[: position - 1]:
            raise UsageError(
                f"{name}, step {position}: {kind} repeats an earlier step.",
                hint="Each kind stands once; write a second recipe for a second variant.",
            )
    if kinds != sorted(kinds, key=KINDS.index):
        raise UsageError(
            f"{name}: the steps are out of order.",
            found=f"They are {', '.join(kinds)}; each must keep what those before it did.",
            hint=f"Write {', '.join(sorted(kinds, key=KINDS.index))}.",
        )
    if kinds[-1] != "quantize":
        raise UsageError(
            f"{name} does not end in a quantize step.",
            found=f"Its last step is {kinds[-1]}.",
            hint='Add [[step]] with kind = "quantize" and mode = "float32" or another.',
        )


def _pass(step: Mapping[str, Any], place: str) -> PassStep:
    check(step, {**PASS_KEYS[step["kind"]], **TRAINING_KEYS}, place)
    return PassStep(kind=step["kind"], options={k: v for k, v in step.items() if k != "kind"})


def _quantize_plan(step: Mapping[str, Any], variant: str, place: str) -> Plan:
    check(step, QUANTIZE_KEYS, place)
    mode: Mode = step["mode"]
    types = IO_TYPES[mode]
    for key in ("input", "output"):
        if step.get(key, types[0]) not in types:
            raise UsageError(
                f"{place}: {key} = {step[key]!r} does not go with mode = {mode!r}.",
                hint=f"{key}: {', '.join(types)}.",
            )
    if mode not in CALIBRATED and "ranges" in step:
        raise UsageError(
            f"{place}: mode = {mode!r} keeps activations in float, so 'ranges' means nothing.",
            hint=f"Leave it out, or take one of: {', '.join(CALIBRATED)}.",
        )
    if "percentile" in step and step.get("ranges") != "percentile":
        raise UsageError(
            f"{place}: 'percentile' is given, but ranges are not chosen by percentile.",
            hint='Add ranges = "percentile", or leave percentile out.',
        )
    return Plan(
        variant=variant,
        mode=mode,
        ranges=step.get("ranges", "minmax"),
        percentile=float(step.get("percentile", PERCENTILE)),
        input_type=step.get("input", types[0]),
        output_type=step.get("output", types[0]),
        sparse=step.get("sparse", False),
        rules=tuple(
            _rule(rule, f"{place}, rule {position}")
            for position, rule in enumerate(step.get("rules", ()), start=1)
        ),
    )


def _rule(table: Mapping[str, Any], place: str) -> Rule:
    check(table, RULE_KEYS, place)
    try:
        re.compile(table["layers"])
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(
            f"{place}: layers = {table['layers']!r:.80} is not a regular expression.",
            found=f"{error}.",
            hint='Write ^logits$ for one layer, or "a|b" for two.',
        ) from error
    return Rule(layers=table["layers"], mode=table["mode"])
