"""Values of options as the command line gives them, read into what the verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.evaluation.metrics import Metric


def task_of(name: str | None) -> str | None:
    """Check `--task`.

    Raises:
        UsageError: There is no such task.
    """
    if name is None:
        return None
    from edgekit.evaluation.tasks import task_named

    return task_named(name).name


def tasks_of(given: list[str] | None) -> str | dict[str, str] | None:
    """Read `--task`, which may say the task of each of several outputs.

    Raises:
        UsageError: There is no such task, or several are given and an output is not named.
    """
    if not given:
        return None

    named = dict(one.rpartition("=")[::2] for one in given)
    if (len(given) > 1 and "" in named) or len(named) < len(given):
        raise UsageError(
            f"--task is given {len(given)} times.",
            hint="Give one task, or one for each output: --task OUTPUT=NAME.",
        )
    tasks = {output: str(task_of(name)) for output, name in named.items()}
    return tasks.get("", tasks)


def metrics_of(names: list[str] | None) -> tuple[str | Metric, ...]:
    """Read `--metric`: the judged one first.

    Raises:
        UsageError: There is no such metric.
        DataError: A function is not there, or its file cannot be run.
    """
    if not names:
        return ()
    from edgekit.data import asked_metrics

    return asked_metrics(names)


def classes_of(text: str | None) -> tuple[str, ...] | None:
    """Read `--classes`: names separated by commas."""
    return None if text is None else tuple(" ".join(name.split()) for name in text.split(","))


def preprocessing_of(given: str | None) -> Any:
    """Read `--preprocess`: a file, or an inline table of TOML.

    Raises:
        DataError: The file is missing, or has an unknown key or an invalid value.
    """
    if given is None:
        return None
    from edgekit.data.preprocessing import parse_preprocessing, read_preprocessing

    inline = given.lstrip().startswith("{")
    return parse_preprocessing(given) if inline else read_preprocessing(Path(given))


def head_of(given: str | None) -> Any:
    """Read `--head`: a file, or an inline table of TOML.

    Raises:
        DataError: The file is missing, or the head invalid.
    """
    if given is None:
        return None
    from edgekit.data.heads import parse_head, read_head

    return parse_head(given) if given.lstrip().startswith("{") else read_head(Path(given))
