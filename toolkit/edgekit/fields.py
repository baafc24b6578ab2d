"""Typed access to untrusted JSON: every value is checked when it is read.

A missing key, a wrong type or a number out of range raises an error that names the place, e.g.
`rows[3].score.ci95[0]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# Far deeper than any record, far shallower than what exhausts a recursive writer.
MOST_DEPTH = 50
# Larger ones cannot be sizes, counts or nanoseconds, and overflow when they are divided.
MOST_INTEGER = 2**63 - 1
MOST_NUMBER = 1e100


class FieldError(ValueError):
    """A value is invalid; the text says where it is and what was expected."""


class MissingFieldError(FieldError):
    """A required key is missing."""


class Fields:
    """One JSON object, read key by key.

    Args:
        value: Decoded JSON; anything but an object is refused.
        place: Its path in the document.
    """

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, Mapping):
            raise _unexpected(value, place, "an object")
        self._values: Mapping[str, Any] = value
        self._place = place

    def place(self, key: str) -> str:
        """Return the path of a key's value in the document."""
        return f"{self._place}.{key}" if self._place else key

    def has(self, key: str) -> bool:
        """Whether there is a value other than null."""
        return self._values.get(key) is not None

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string; `default` if it is missing."""
        if default is not None and not self.has(key):
            return default
        return _text(self._required(key), self.place(key))

    def fact(self, key: str) -> str:
        """Return a string, or another value of a table of facts as text."""
        value = self._required(key)
        return str(value) if isinstance(value, bool | int | float) else self.text(key, "")

    def choice(self, key: str, known: Sequence[str]) -> str:
        """Return a string that is one of `known`."""
        value = self.text(key)
        if value not in known:
            raise _unexpected(value, self.place(key), f"one of {', '.join(known)}")
        return value

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        """Return an integer of at least `least`; `default` if it is missing."""
        if default is not None and not self.has(key):
            return default
        return _integer(self._required(key), self.place(key), least)

    def number(self, key: str) -> float:
        """Return a number; null stands for one that was not finite and is NaN."""
        if key in self._values and self._values[key] is None:
            return math.nan
        return _number(self._required(key), self.place(key))

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Return a boolean; `default` if it is missing."""
        if default is not None and not self.has(key):
            return default
        value = self._required(key)
        if not isinstance(value, bool):
            raise _unexpected(value, self.place(key), "true or false")
        return value

    def maybe(self, key: str, read: Callable[[str], T]) -> T | None:
        """Return `read(key)`, or None where there is no value."""
        return read(key) if self.has(key) else None

    def object(self, key: str) -> Fields:
        """Return an object to read on."""
        return Fields(self._required(key), self.place(key))

    def objects(self, key: str) -> Iterator[Fields]:
        """Yield the objects of a list."""
        for position, value in enumerate(self._list(key)):
            yield Fields(value, f"{self.place(key)}[{position}]")

    def maybe_objects(self, key: str) -> Iterator[Fields]:
        """Yield the objects of a list; none where there is no list, as in older documents."""
        return self.objects(key) if self.has(key) else iter(())

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings; empty where there is none."""
        return self._each(key, _text)

    def integers(self, key: str, *, least: int = 0) -> tuple[int, ...]:
        """Return a list of integers of at least `least`; empty where there is none."""
        return self._each(key, lambda value, place: _integer(value, place, least))

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return a list of finite numbers; empty where there is none."""
        return self._each(key, _number)

    def integer_rows(self, key: str) -> tuple[tuple[int, ...], ...]:
        """Return a list of lists of integers of at least 0; empty where there is none."""

        def row(value: object, place: str) -> tuple[int, ...]:
            if not isinstance(value, list):
                raise _unexpected(value, place, "a list")
            return tuple(_integer(one, f"{place}[{i}]", 0) for i, one in enumerate(value))

        return self._each(key, row)

    def pair(self, key: str) -> tuple[float, float]:
        """Return two numbers; null stands for one that was not finite and is NaN."""
        value = self._required(key)
        if not isinstance(value, list) or len(value) != 2:
            raise _unexpected(value, self.place(key), "a list of two numbers")
        low, high = (
            math.nan if end is None else _number(end, f"{self.place(key)}[{position}]")
            for position, end in enumerate(value)
        )
        return low, high

    def table(self, key: str, read: Callable[[Fields, str], T]) -> dict[str, T]:
        """Return an object whose values all have one type; empty where there is none.

        Args:
            key: Where the object stands.
            read: A method of `Fields`, e.g. `Fields.integer`.
        """
        if not self.has(key):
            return {}
        fields = self.object(key)
        return {name: read(fields, name) for name in fields.keys()}  # noqa: SIM118

    def free(self, key: str) -> Mapping[str, Any]:
        """Return an object of any content; empty where there is none."""
        return self.object(key)._values if self.has(key) else {}  # noqa: SLF001

    def keys(self) -> tuple[str, ...]:
        """Return the keys, in order."""
        return tuple(self._values)

    def _required(self, key: str) -> Any:
        if key not in self._values:
            raise MissingFieldError(f"{self._place or 'The document'} has no {key!r}.")
        return self._values[key]

    def _list(self, key: str) -> list[Any]:
        value = self._required(key)
        if not isinstance(value, list):
            raise _unexpected(value, self.place(key), "a list")
        return value

    def _each(self, key: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
        if not self.has(key):
            return ()
        place = self.place(key)
        return tuple(
            read(value, f"{place}[{position}]") for position, value in enumerate(self._list(key))
        )


def refuse_deep(document: object) -> None:
    """Raise if lists and objects are nested deeper than in any record.

    Raises:
        FieldError: They are nested too deeply.
    """
    if is_deeper(document, MOST_DEPTH):
        raise FieldError(f"It is nested deeper than {MOST_DEPTH} levels.")


def is_deeper(document: object, most: int) -> bool:
    """Whether lists and objects are nested deeper than `most` levels; found without recursion."""
    level = [document]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _unexpected(value, place, "a text")
    return value


def _integer(value: object, place: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _unexpected(value, place, "an integer")
    if not least <= value <= MOST_INTEGER:
        raise _unexpected(value, place, f"an integer from {least} to {MOST_INTEGER}")
    return value


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unexpected(value, place, "a number")
    if not abs(value) <= MOST_NUMBER:
        raise _unexpected(value, place, f"a finite number of at most {MOST_NUMBER:g}")
    return float(value)


def _unexpected(value: object, place: str, expected: str) -> FieldError:
    shown = f"{type(value).__name__}" if isinstance(value, dict | list) else f"{value!r:.60}"
    return FieldError(f"{place or 'The document'} is {shown}; expected {expected}.")
