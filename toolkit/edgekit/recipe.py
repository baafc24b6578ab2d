"""Recipes: what to do with a model, written in TOML, checked before anything heavy is loaded.

    schema = 1
    name = "int8-careful"

    [[step]]
    kind = "quantize"
    mode = "int8"
    ranges = "mse"
    rules = [{ layers = "^logits$", mode = "float32" }]

Every key is declared once, in the tables below; the checks, the closest-match suggestions and the
reference in the README (`reference`) all come from them.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from edgekit.errors import UsageError
from edgekit.records import MODES, Mode, Plan, Recipe, Rule

RangesMethod = Literal["minmax", "percentile", "mse", "entropy"]

RANGES: tuple[RangesMethod, ...] = get_args(RangesMethod)
KINDS: tuple[str, ...] = ("quantize",)

IO_TYPES: Mapping[Mode, tuple[str, ...]] = {
    "float32": ("float32",),
    "float16": ("float32",),
    "dynamic": ("float32",),
    "int8": ("int8", "uint8", "float32"),
    "int16x8": ("float32", "int16"),
    "int4": ("float32",),
}
"""The types a file's inputs and outputs may have in each mode, the default first."""

CALIBRATED: tuple[Mode, ...] = ("int8", "int16x8")
"""The modes that quantize activations, and so need their ranges."""

PERCENTILE = 99.99


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
    return isinstance(value, str) and re.fullmatch(r"\w[\w.+-]*", value) is not None


def _is_percentile(value: Any) -> bool:
    return type(value) in (int, float) and 50 < value <= 100


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _words(choices: tuple[str, ...]) -> str:
    return ", ".join(f"`{choice}`" for choice in choices)


TOP_KEYS: Mapping[str, Key] = {
    "schema": Key(
        accepts="`1`",
        default="required",
        meaning="Version of this format.",
        fits=lambda value: type(value) is int and value == 1,
    ),
    "name": Key(
        accepts="letters, digits, `.`, `_`, `+`, `-`",
        default="the file's stem",
        meaning="Name of the variant, and stem of the file that is written.",
        fits=_is_name,
    ),
    "step": Key(
        accepts="`[[step]]` tables",
        default="required",
        meaning="What is done, in order; the last step quantizes.",
        fits=_is_tables,
    ),
}

QUANTIZE_KEYS: Mapping[str, Key] = {
    "kind": Key(
        accepts=_words(KINDS),
        default="required",
        meaning="What the step does.",
        fits=_is_text,
    ),
    "mode": Key(
        accepts=_words(MODES),
        default="required",
        meaning="Precision of the whole.",
        fits=_one_of(MODES),
    ),
    "ranges": Key(
        accepts=_words(RANGES),
        default="`minmax`",
        meaning="How the ranges of the activations are chosen; for `int8` and `int16x8`.",
        fits=_one_of(RANGES),
    ),
    "percentile": Key(
        accepts="a number above 50, at most 100",
        default=f"`{PERCENTILE}`",
        meaning='Share of the values kept on each side, in percent; for `ranges = "percentile"`.',
        fits=_is_percentile,
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
    "rules": Key(
        accepts="a list of `{ layers, mode }`",
        default="none",
        meaning="Layers treated apart; the first rule that matches a layer holds.",
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


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a file.

    Raises:
        UsageError: The file cannot be read, or is not a recipe.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"Cannot read the recipe {path}.",
            found=f"The system says: {reason}.",
            cure="Give the path of a TOML file.",
        ) from error
    return parse_recipe(text, path.name)


def parse_recipe(text: str, name: str) -> Recipe:
    """Read a recipe from its text; `name` stands for it in errors, and its stem names it.

    Raises:
        UsageError: The text is not TOML, or a key, value or order of steps means nothing.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{name} is not TOML.",
            found=f"{error}.",
            cure="Texts stand in quotes; steps begin with [[step]].",
        ) from error
    _check(document, TOP_KEYS, name)
    recipe_name = document.get("name", Path(name).stem)
    if not _is_name(recipe_name):
        raise UsageError(
            f"{name}: {recipe_name!r} cannot name a variant.",
            cure='Add name = "..." with letters, digits and . _ + - to the recipe.',
        )
    steps = document["step"]
    _check_order([step.get("kind") for step in steps], name)
    return Recipe(
        name=recipe_name,
        plan=_quantize_plan(steps[-1], recipe_name, f"{name}, step {len(steps)}"),
    )


def default_plan(mode: Mode, *, io: str | None = None, ranges: RangesMethod = "minmax") -> Plan:
    """Return the plan that a bare mode means.

    `io` and `ranges` concern the modes that have a choice: `io="uint8"` leaves a float16 file's
    inputs and outputs float32, and a mode without activation ranges stays at `minmax`.

    Args:
        mode: Precision of the whole.
        io: Type of inputs and outputs; None takes the mode's default.
        ranges: How activation ranges are chosen.

    Raises:
        UsageError: One of them is unknown.
    """
    known = tuple(dict.fromkeys(io_type for types in IO_TYPES.values() for io_type in types))
    for what, value, choices in (
        ("mode", mode, MODES),
        ("ranges", ranges, RANGES),
        ("type of inputs and outputs", io, known),
    ):
        if value is not None and value not in choices:
            raise UsageError(
                f"Unknown {what}: {value!r}.",
                cure=_closest(value, choices) + f" Known: {', '.join(choices)}.",
            )
    types = IO_TYPES[mode]
    io_type = io if io in types else types[0]
    ranges = ranges if mode in CALIBRATED else "minmax"
    parts: list[str] = [mode]
    if io_type != types[0]:
        parts.append(f"{io_type}io")
    if ranges != "minmax":
        parts.append(ranges)
    return Plan(
        variant="-".join(parts), mode=mode, ranges=ranges, input_type=io_type, output_type=io_type
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as it stands in a manifest."""
    return asdict(plan) | {"rules": [asdict(rule) for rule in plan.rules]}


def plan_from_json(value: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_json` wrote.

    Raises:
        UsageError: A field is missing or unknown.
    """
    try:
        return Plan(**{**value, "rules": tuple(Rule(**rule) for rule in value["rules"])})
    except (KeyError, TypeError) as error:
        raise UsageError(
            "The plan in a manifest cannot be read.",
            found=f"{type(error).__name__}: {error}.",
            cure="Quantize the model anew; the manifest was edited or is of another version.",
        ) from error


def reference() -> str:
    """Return the tables of all keys, in Markdown."""
    parts = []
    for title, keys in (
        ("Recipe", TOP_KEYS),
        ('`[[step]]` with `kind = "quantize"`', QUANTIZE_KEYS),
        ("One of `rules`", RULE_KEYS),
    ):
        rows = [
            f"| `{name}` | {key.accepts} | {key.default} | {key.meaning} |"
            for name, key in keys.items()
        ]
        head = f"| {title} | accepts | default | meaning |\n|---|---|---|---|"
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts) + "\n"


def _check(table: Mapping[str, Any], keys: Mapping[str, Key], place: str) -> None:
    """Raise unless `table` holds only known keys, all required ones, and values that fit."""
    for key, value in table.items():
        if key not in keys:
            raise UsageError(
                f"{place}: unknown key {key!r}.",
                found=_closest(key, tuple(keys)) or None,
                cure=f"Known here: {', '.join(keys)}.",
            )
        if not keys[key].fits(value):
            accepts = keys[key].accepts.replace("`", "")
            hint = _closest(value, tuple(re.findall(r"`(\w+)`", keys[key].accepts)))
            raise UsageError(
                f"{place}: {key} = {value!r} cannot be.",
                found=hint or None,
                cure=f"{key}: {accepts}.",
            )
    for key, declared in keys.items():
        if declared.default == "required" and key not in table:
            accepts = declared.accepts.replace("`", "")
            raise UsageError(f"{place}: {key!r} is missing.", cure=f"{key}: {accepts}.")


def _check_order(kinds: list[Any], name: str) -> None:
    if not kinds:
        raise UsageError(f"{name} has no step.", cure='Add [[step]] with kind = "quantize".')
    for position, kind in enumerate(kinds, start=1):
        if kind is None:
            raise UsageError(
                f"{name}, step {position}: 'kind' is missing.", cure=f"Known: {', '.join(KINDS)}."
            )
        if kind not in KINDS:
            raise UsageError(
                f"{name}, step {position}: unknown kind {kind!r}.",
                found=_closest(kind, KINDS) or None,
                cure=f"Known: {', '.join(KINDS)}.",
            )
        if kind in kinds[: position - 1]:
            raise UsageError(
                f"{name}, step {position}: {kind} repeats an earlier step.",
                cure="Each kind stands once; write a second recipe for a second variant.",
            )


def _quantize_plan(step: Mapping[str, Any], variant: str, place: str) -> Plan:
    _check(step, QUANTIZE_KEYS, place)
    mode: Mode = step["mode"]
    types = IO_TYPES[mode]
    for key in ("input", "output"):
        if step.get(key, types[0]) not in types:
            raise UsageError(
                f"{place}: {key} = {step[key]!r} does not go with mode = {mode!r}.",
                cure=f"{key}: {', '.join(types)}.",
            )
    if mode not in CALIBRATED and "ranges" in step:
        raise UsageError(
            f"{place}: mode = {mode!r} keeps activations in float, so 'ranges' means nothing.",
            cure=f"Leave it out, or take one of: {', '.join(CALIBRATED)}.",
        )
    if "percentile" in step and step.get("ranges") != "percentile":
        raise UsageError(
            f"{place}: 'percentile' is given, but ranges are not chosen by percentile.",
            cure='Add ranges = "percentile", or leave percentile out.',
        )
    return Plan(
        variant=variant,
        mode=mode,
        ranges=step.get("ranges", "minmax"),
        percentile=float(step.get("percentile", PERCENTILE)),
        input_type=step.get("input", types[0]),
        output_type=step.get("output", types[0]),
        rules=tuple(
            _rule(rule, f"{place}, rule {position}")
            for position, rule in enumerate(step.get("rules", ()), start=1)
        ),
    )


def _rule(table: Mapping[str, Any], place: str) -> Rule:
    _check(table, RULE_KEYS, place)
    try:
        re.compile(table["layers"])
    except re.error as error:
        raise UsageError(
            f"{place}: layers = {table['layers']!r} is not a regular expression.",
            found=f"{error}.",
            cure='Write ^logits$ for one layer, or "a|b" for two.',
        ) from error
    return Rule(layers=table["layers"], mode=table["mode"])


def _closest(word: Any, choices: tuple[str, ...]) -> str:
    match = difflib.get_close_matches(str(word), choices, n=1)
    return f"Did you mean {match[0]!r}?" if match else ""
