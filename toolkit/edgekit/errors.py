"""Every error edgekit raises on purpose, and the exit code each one becomes.

```
EdgekitError
|-- UsageError        2  options, recipes, output places
|   `-- OutputError   2  the place to write to is full, read-only or taken
|-- ModelError        3  the model cannot be read, or holds what nobody supports
|-- DataError         4  the data does not fit the model, or itself
|-- ConversionError   5  lowering or quantization refused, or died
|-- BudgetError       6  a budget or a gate is unmet
`-- DeviceError       7  device, runtime or delegate
```
0 is done, 1 is a bug of ours (with its traceback), 130 is an interruption. The runner
(`edgekit_runner`) uses the same numbers.
"""

from __future__ import annotations

LONGEST = 1000
"""Characters of one line of a message."""


class EdgekitError(Exception):
    """An error the user can act on: what failed, what was found, and what to do next.

    Args:
        what: One line: what failed and where.
        found: One line: what was found there, or the foreign error's own words.
        cure: One line: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, found: str | None = None, cure: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.found = found
        self.cure = cure

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in (self.what, self.found, self.cure) if line)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way from the worker process to the parent, cure and all."""
        return _rebuild, (type(self), self.what, self.found, self.cure)


def printable(text: str) -> str:
    r"""Return text that stays one line, of a length that can be read, and moves no cursor.

    File names, labels and foreign messages may hold control characters; they are shown escaped.

    >>> printable("a\nb\x1b[2J")
    'a\\nb\\x1b[2J'
    """
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 60]} ... {text[-50:]}"


def _rebuild(
    kind: type[EdgekitError], what: str, found: str | None, cure: str | None
) -> EdgekitError:
    return kind(what, found=found, cure=cure)


class UsageError(EdgekitError):
    """Options or a recipe that cannot mean anything."""

    exit_code = 2


class OutputError(UsageError):
    """The place to write to is full, read-only, or already taken."""


class ModelError(EdgekitError):
    """A model that cannot be read or holds something unsupported."""

    exit_code = 3


class DataError(EdgekitError):
    """Data that fits neither the model nor itself."""

    exit_code = 4


class ConversionError(EdgekitError):
    """Lowering or quantization was refused, or its process died."""

    exit_code = 5


class BudgetError(EdgekitError):
    """A budget or a gate is unmet."""

    exit_code = 6


class DeviceError(EdgekitError):
    """A device, a runtime or a delegate is missing or fails."""

    exit_code = 7
