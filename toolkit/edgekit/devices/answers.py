"""Options for the runner, and the records and errors its answers become, local or remote."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from edgekit.errors import DataError, DeviceError, EdgekitError, ModelError, UsageError
from edgekit.records import Timing

# A run on another device has as long (`timeout` of `DeviceEntry`), with all that follows.
FIRST_RUN_SECONDS = 600
DETAILS = ("kernels", "operators", "without_delegate_ms", "end_to_end", "sustained", "sweep")
_ERRORS = {kind.exit_code: kind for kind in (UsageError, ModelError, DataError, DeviceError)}


def options(**given: object) -> list[str]:
    """Return options as the runner takes them: `runs=3, sweep=True` are `--runs 3 --sweep`."""
    words: list[str] = []
    for name, value in given.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", str(value)]
    return words


def timing(facts: Mapping[str, Any], name: str) -> Timing:
    """Return the timing in the JSON of `bench`, taken on the device called `name`."""
    return Timing(
        values_ns=tuple(facts["values_ns"]),
        warmup_ns=tuple(facts["warmup_ns"]),
        threads=facts["threads"],
        device=f"{name}: {facts['device']}",
        runtime=facts["runtime"],
        delegate=facts["delegate"],
        peak_rss_bytes=facts["peak_rss_bytes"],
        memory_bytes=facts.get("memory_bytes"),
        cold_start_ns=facts["cold_start_ns"],
        conditions=facts["conditions"],
        stable=facts["stable"],
        warning=facts["warning"],
        details={key: facts[key] for key in DETAILS if key in facts},
    )


def failure(code: int, said: str, about: object) -> EdgekitError:
    """Return the error that the runner's exit code and stderr stand for.

    Args:
        code: Its exit code; negative for the signal that ended it.
        said: What it wrote to stderr.
        about: The file it worked on, or the device.
    """
    if code < 0:
        return _death(about, signal.Signals(-code))
    lines = said.strip().splitlines() or [f"The runner ended with code {code}."]
    if code not in _ERRORS:
        return EdgekitError(
            f"The runner failed on {about}.", found=lines[-1], hint="This is a bug of the runner."
        )
    what, *details = lines
    hint = details.pop() if details else None
    return _ERRORS[code](what, found=" ".join(details) or None, hint=hint)


def _death(about: object, by: signal.Signals) -> ModelError:
    hint = "The file is damaged, or holds what the runtime cannot run: convert it again."
    if by is signal.SIGKILL:
        hint = "The system may have run out of memory: close other programs and try again."
    if by is signal.SIGALRM:  # of `--first-run-limit`
        return ModelError(
            f"{about} does not finish its first run.",
            found=f"It was ended after {FIRST_RUN_SECONDS} s.",
            hint="The file is damaged, or holds a loop without an end: convert it again.",
        )
    return ModelError(
        f"{about} crashes the runtime.",
        found=f"The process that ran it was ended by {by.name}.",
        hint=hint,
    )
