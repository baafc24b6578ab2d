"""The error classes of edgekit, and the exit code of each.

```
EdgekitError
|-- UsageError        2  options, recipes, output places
|   `-- OutputError   2  the output path is full, read-only or exists
|-- ModelError        3  the model cannot be read, or holds what is not supported
|-- DataError         4  the data does not fit the model, or itself
|-- ConversionError   5  lowering or quantization failed or crashed
|-- BudgetError       6  a budget or a condition is not met
`-- DeviceError       7  device, runtime or delegate
    `-- FleetError    7  several devices, each with its own error
```
0 is success, 1 a bug in edgekit (with its traceback); 130, 143 and 129 are interruptions by SIGINT,
SIGTERM and SIGHUP. The runner (`edgekit_runner`) uses the same numbers.
"""

from __future__ import annotations

from edgekit.printable import message_line, one_line


class EdgekitError(Exception):
    """An error the user can act on: what failed, what was found, and what to do next.

    When printed it has at most three lines and no control characters, whatever its names contain.

    Args:
        what: One line: what failed and where.
        found: What was found there, or the message of another library; printed as one line.
        hint: One line: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, found: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        return "\n".join([*_lines(self.what), *self._told(), *_lines(self.hint)])

    def relocate(self, old: object, new: object) -> None:
        """Name a final place instead of a temporary one, which says nothing to a reader."""
        self.what = self.what.replace(str(old), str(new))
        self.found = self.found and self.found.replace(str(old), str(new))
        self.hint = self.hint and self.hint.replace(str(old), str(new))

    def _told(self) -> list[str]:
        return [message_line(one_line(self.found))] if self.found else []

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle all fields, for the way from the worker process to the parent."""
        return _rebuild, (type(self), self.what, self.found, self.hint)


def _lines(sentence: str | None) -> list[str]:
    return [message_line(sentence)] if sentence else []


def _rebuild(
    kind: type[EdgekitError], what: str, found: str | None, hint: str | None
) -> EdgekitError:
    return kind(what, found=found, hint=hint)


class UsageError(EdgekitError):
    """Invalid options or an invalid recipe."""

    exit_code = 2


class OutputError(UsageError):
    """The output path is full, read-only, or exists already."""


class ModelError(EdgekitError):
    """A model that cannot be read or holds something unsupported."""

    exit_code = 3


class DataError(EdgekitError):
    """Data that does not fit the model, or is inconsistent.

    Args:
        what: As in `EdgekitError`.
        found: Likewise.
        hint: Likewise.
        sample: The sample whose target is to blame, by its row, so that its file can be named.
    """

    exit_code = 4

    def __init__(
        self,
        what: str,
        *,
        found: str | None = None,
        hint: str | None = None,
        sample: int | None = None,
    ) -> None:
        super().__init__(what, found=found, hint=hint)
        self.sample = sample


class ConversionError(EdgekitError):
    """Lowering or quantization failed, or its process crashed."""

    exit_code = 5


class BudgetError(EdgekitError):
    """A budget or a condition is not met (`check`, `--fail-if-lost`); results are kept."""

    exit_code = 6


class DeviceError(EdgekitError):
    """A device, a runtime or a delegate is missing or fails."""

    exit_code = 7


class FleetError(DeviceError):
    """Several devices failed; `found` has separate lines for each of them."""

    def _told(self) -> list[str]:
        return [message_line(line) for line in (self.found or "").split("\n") if line]
