"""Declare the fields of a step: accepted values, default and meaning.

The check of a TOML file, the command line's options, their help and the tables of the docs are
made from these declarations.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from edgekit.choices import MAX_COUNT
from edgekit.errors import UsageError

REQUIRED = "required"
LARGEST = 3.4e38
TINY = 1e-30
"""Bounds of numbers that float32 can represent, with a margin for computed values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Declaration of one field.

    Attributes:
        meaning: What it does, in a sentence.
        accepts: Description of the accepted values.
        default: Description of the default; `REQUIRED` where there is none.
        fits: Function that returns whether a value is accepted.
        choices: The accepted words, for a field with a fixed set of words.
        help: Help text of the option on the command line, where it differs from `meaning`.
    """

    meaning: str
    accepts: str
    default: str
    fits: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    help: str | None = None


def declared(default: Any, setting: Setting) -> Any:
    """Return a dataclass field with a setting; `...` as default makes it required."""
    if default is ...:
        return field(metadata={"setting": setting})
    return field(default=default, metadata={"setting": setting})


def setting_of(entry: Field[Any]) -> Setting | None:
    """Return the setting of a dataclass field; None for a field that is not part of recipes."""
    found: Setting | None = entry.metadata.get("setting")
    return found


def settings_of(kind: type) -> dict[str, Setting]:
    """Return name -> setting of every field of a dataclass that has one."""
    return {entry.name: found for entry in fields(kind) if (found := setting_of(entry))}


def is_required(entry: Field[Any]) -> bool:
    """Whether a field has no default."""
    return entry.default is MISSING and entry.default_factory is MISSING


def is_text(value: Any) -> bool:
    """Whether a value is a nonempty string."""
    return isinstance(value, str) and bool(value)


def is_number(value: Any) -> bool:
    """Whether a value is a number that float32 can represent: no nan, inf or boolean."""
    # A comparison, no conversion: a TOML integer may exceed any float. NaN compares false.
    return type(value) in (int, float) and abs(value) <= LARGEST


def text(default: Any, meaning: str, *, accepts: str, shown: str, fits: Any = is_text) -> Any:
    """Declare a field that holds text."""
    return declared(default, Setting(meaning=meaning, accepts=accepts, default=shown, fits=fits))


def choice(choices: tuple[str, ...], meaning: str, *, required: bool = False) -> Any:
    """Declare a field that holds one of several words, by default the first."""
    return declared(
        ... if required else choices[0],
        Setting(
            meaning=meaning,
            accepts=", ".join(f"`{word}`" for word in choices),
            default=REQUIRED if required else f"`{choices[0]}`",
            fits=lambda value: isinstance(value, str) and value in choices,
            choices=choices,
        ),
    )


def whole_number(
    default: int | None,
    meaning: str,
    *,
    least: int,
    most: int = MAX_COUNT,
    shown: str | None = None,
) -> Any:
    """Declare a field that holds a whole number from `least` to `most`."""
    return declared(
        default,
        Setting(
            meaning=meaning,
            accepts=f"a whole number from {least}" if least else "a whole number",
            default=shown or f"`{default}`",
            fits=lambda value: type(value) is int and least <= value <= most,
        ),
    )


def number(
    default: float | None,
    meaning: str,
    *,
    accepts: str,
    fits: Callable[[float], bool],
    shown: str | None = None,
) -> Any:
    """Declare a field that holds a finite number."""
    return declared(
        default,
        Setting(
            meaning=meaning,
            accepts=accepts,
            default=shown or f"`{default}`",
            fits=lambda value: is_number(value) and fits(value),
        ),
    )


def switch(meaning: str) -> Any:
    """Declare a field that is true or false, by default false."""
    return declared(
        False,
        Setting(
            meaning=meaning,
            accepts="`true`, `false`",
            default="`false`",
            fits=lambda value: isinstance(value, bool),
        ),
    )


def layer_names(meaning: str) -> Any:
    """Declare a field that lists layers, by names or regular expressions."""
    return words(meaning, accepts="a list of names or regular expressions")


def words(meaning: str, *, accepts: str) -> Any:
    """Declare a field that lists words."""
    return declared(
        (),
        Setting(
            meaning=meaning,
            accepts=accepts,
            default="none",
            fits=lambda value: isinstance(value, list) and all(map(is_text, value)),
        ),
    )


def tables(meaning: str, *, accepts: str, shown: str, default: Any = ...) -> Any:
    """Declare a field that holds a list of tables."""
    return declared(
        default,
        Setting(
            meaning=meaning,
            accepts=accepts,
            default=shown,
            fits=lambda value: (
                isinstance(value, list) and all(isinstance(item, dict) for item in value)
            ),
        ),
    )


def check(table: Mapping[str, Any], settings: Mapping[str, Setting], place: str) -> None:
    """Raise unless `table` holds only known keys, all required ones, and accepted values.

    Raises:
        UsageError: A key is unknown or missing, or a value is invalid; the message names the key
            and what it accepts.
    """
    for key, value in table.items():
        if key not in settings:
            raise UsageError(
                f"{place}: unknown key {key!r:.80}.",
                found=closest(key, tuple(settings)) or None,
                hint=f"Known here: {', '.join(settings)}.",
            )
        if not settings[key].fits(value):
            hint = closest(value, tuple(re.findall(r"`(\w+)`", settings[key].accepts)))
            raise UsageError(
                f"{place}: invalid value for {key}: {key} = {value!r:.80}.",
                found=hint or None,
                hint=f"{key}: {_accepts(settings[key])}.",
            )
    for key, setting in settings.items():
        if setting.default == REQUIRED and key not in table:
            raise UsageError(f"{place}: {key!r} is missing.", hint=f"{key}: {_accepts(setting)}.")


def check_fields(record: Any, place: str) -> None:
    """Raise unless every field of a record built in Python has an accepted value.

    Raises:
        UsageError: A value is invalid.
    """
    for key, setting in settings_of(type(record)).items():
        value = getattr(record, key)
        given = list(value) if isinstance(value, tuple) else value
        if given is not None and not setting.fits(given):
            raise UsageError(
                f"{place}: invalid value for {key}: {given!r}.",
                hint=f"{key}: {_accepts(setting)}.",
            )


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Let an error that a record or a step raises by itself name its place.

    Raises:
        UsageError: That error, behind the place.
    """
    try:
        yield
    except UsageError as error:
        what = f"{place}: {error.what[:1].lower()}{error.what[1:]}"
        raise type(error)(what, found=error.found, hint=error.hint) from error


def closest(word: Any, choices: tuple[str, ...]) -> str:
    """Return a question that suggests the most similar choice; empty if none is similar."""
    match = difflib.get_close_matches(str(word), choices, n=1)
    return f"Did you mean {match[0]!r}?" if match else ""


def _accepts(setting: Setting) -> str:
    return setting.accepts.replace("`", "")
