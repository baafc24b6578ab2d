"""Training configuration: a record, and the `model.toml` it is read from.

```toml
schema = 1
name = "digits"

[architecture]
name = "cnn"
options = { widths = [[12], [24, 24]] }

[data]
source = "digits"              # a built-in name or a path, as for --data

[training]
epochs = 30
learning_rate = 0.003
augment = { shift = [1, 1] }
```

`[data]` may also hold `split`, `column`, `task`, `licence` and `citation`; `[preprocessing]`
describes how raw inputs become model inputs; `[published]` and `[measured]` are the model card, for
readers.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from edgekit.choices import MAX_COUNT, MAX_SEED, SplitBy
from edgekit.errors import UsageError
from edgekit.evaluation.tasks import NO_TASK, TASKS
from edgekit.files import check_input
from edgekit.parsing import ParseError, read_toml
from edgekit.records import EACH_ROW, LiveData, TableOptions
from edgekit.training import zoo
from edgekit.training.augment import Augmentation

MAX_UNITS = 1 << 16
"""Largest number of channels or units of a layer; a larger one would exhaust the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Complete description of a training run; picklable, so that it can be sent to the worker.

    Attributes:
        name: Name of the model.
        architecture: Name in the zoo.
        options: Options of the architecture.
        data: The data, as `edgekit.data.open_data` takes it.
        split: Share of the samples that is set aside for testing.
        table: How the rows of a `.csv` become samples.
        column: The column to predict, where the data is a `.csv`.
        preprocessing: How raw inputs are prepared; None uses the data's own.
        task: Name of the task; None infers it from the data.
        epochs: Training epochs, at most.
        batch_size: Batch size.
        learning_rate: Peak learning rate (cosine decay to zero).
        weight_decay: Decoupled decay of kernels (AdamW); 0 switches it off.
        loss: Loss of a regression; classification uses cross-entropy, reconstruction squared
            errors.
        label_smoothing: Share of the probability that is spread over all classes, 0 to 0.9.
        patience: Epochs without a better validation score before training stops.
        split_by: How the validation samples are chosen; see `data.training_split`.
        seed: Random seed of the initial weights, the order of samples, dropout and augmentation.
        augment: Augmentation of training inputs.
    """

    name: str
    architecture: str
    data: str | LiveData
    options: Mapping[str, Any] = field(default_factory=dict)
    split: float | None = None
    table: TableOptions = EACH_ROW
    column: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    task: str | None = None
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.002
    weight_decay: float = 0.0
    loss: Literal["mse", "mae"] = "mse"
    label_smoothing: float = 0.0
    patience: int = 10
    split_by: SplitBy = "auto"
    seed: int = 0
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        zoo.find(self.architecture)
        for key in ("epochs", "batch_size", "patience"):
            _check(self, key, "a whole number from 1", _is_count(getattr(self, key)))
        _check(self, "options", f"numbers up to {MAX_UNITS:,}", _are_sizes(self.options))
        _check(self, "weight_decay", "a number in 0..1", 0 <= self.weight_decay <= 1)
        _check(self, "label_smoothing", "a number in 0..0.9", 0 <= self.label_smoothing <= 0.9)
        check_numbers(self)
        _check(self, "split", "a number between 0 and 1", _is_share(self.split))
        _check(self, "loss", "mse or mae", self.loss in {"mse", "mae"})
        ways = get_args(SplitBy)
        _check(self, "split_by", " or ".join(ways), self.split_by in ways)
        tasks = [name for name in TASKS if name != NO_TASK.name]
        _check(self, "task", " or ".join(tasks), self.task in {None, *tasks})


def _is_share(value: Any) -> bool:
    return value is None or (isinstance(value, float) and 0 < value < 1)


def check_numbers(run: Any) -> None:
    """Check `epochs`, `batch_size`, `patience`, `seed` and `learning_rate` of a fine-tuning.

    Raises:
        UsageError: One of them is invalid.
    """
    for name, least, most in (
        ("epochs", 0, MAX_COUNT),
        ("batch_size", 1, MAX_COUNT),
        ("patience", 1, MAX_COUNT),
        ("seed", 0, MAX_SEED),
    ):
        value = getattr(run, name)
        fits = value is None or (type(value) is int and least <= value <= most)
        _check(run, name, f"a whole number from {least} to {most}", fits)
    # A comparison also refuses NaN; float32 can represent all values of the interval.
    _check(run, "learning_rate", "a number above 0", 1e-30 <= run.learning_rate <= 1e30)


_TRAINING = tuple(
    entry.name
    for entry in fields(TrainingConfig)
    if entry.name
    not in {
        "name",
        "architecture",
        "options",
        "data",
        "split",
        "table",
        "column",
        "preprocessing",
        "task",
    }
)
_KEYS: Mapping[str, tuple[str, ...]] = {
    "": (
        "schema",
        "name",
        "architecture",
        "data",
        "preprocessing",
        "training",
        "published",
        "measured",
    ),
    "architecture": ("name", "options"),
    "data": ("source", "split", "column", "task", "licence", "citation"),
    "training": _TRAINING,
    "training.augment": tuple(entry.name for entry in fields(Augmentation)),
}


def load_config(path: Path) -> TrainingConfig:
    """Read a `model.toml`.

    Raises:
        UsageError: The file is missing or not TOML, or has an unknown key or an invalid value.
    """
    check_input(path, UsageError, hint="See models/ for examples.")
    try:
        table = read_toml(path)
    except OSError as error:
        raise UsageError(f"Cannot read {path}.", found=f"{error.strerror}.") from error
    except ParseError as error:
        raise UsageError(
            f"{path} is not TOML.", found=f"{error}.", hint="See models/ for examples."
        ) from error
    try:
        return _config(table)
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", found=error.found, hint=error.hint) from error


def _config(table: dict[str, Any]) -> TrainingConfig:
    _known(table, "")
    if table.get("schema") != 1:
        raise UsageError(
            "schema must be 1.", found=f"Found {table.get('schema')!r}.", hint="Write schema = 1."
        )
    architecture = _section(table, "architecture")
    data = _section(table, "data")
    training = _section(table, "training")
    augment = _section(training, "augment", "training.")
    values = {
        "name": table.get("name"),
        "architecture": architecture.get("name"),
        "data": data.get("source"),
    }
    for key, value in values.items():
        if not isinstance(value, str) or not value:
            place = {"architecture": "architecture.name", "data": "data.source"}.get(key, key)
            raise UsageError(f"{place} is missing.", hint=f'Write {place} = "..." there.')
    try:
        return TrainingConfig(
            **cast("dict[str, Any]", values),
            options=_section(architecture, "options", "architecture."),
            split=data.get("split"),
            column=data.get("column"),
            task=data.get("task"),
            preprocessing=table.get("preprocessing"),
            **{key: value for key, value in training.items() if key != "augment"},
            augment=Augmentation(**augment),
        )
    except TypeError as error:
        raise UsageError(
            "A value has the wrong type.", found=f"{error}.", hint="Compare with models/."
        ) from error


def _section(table: Mapping[str, Any], name: str, above: str = "") -> dict[str, Any]:
    section = table.get(name, {})
    if not isinstance(section, dict):
        raise UsageError(
            f"{above}{name} must be a table.", found=f"Found {section!r}.", hint=f"Write [{name}]."
        )
    if above + name in _KEYS:
        _known(section, above + name)
    return section


def _known(table: Mapping[str, Any], section: str) -> None:
    for key in table:
        if key not in _KEYS[section]:
            match = difflib.get_close_matches(key, _KEYS[section], n=1, cutoff=0.5)
            raise UsageError(
                f"Unknown key {key!r}{f' in [{section}]' if section else ''}.",
                found=f"Did you mean {match[0]!r}?" if match else None,
                hint=f"Known keys: {', '.join(_KEYS[section])}.",
            )


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_COUNT


def _are_sizes(value: object) -> bool:
    """Whether all numbers in the options of an architecture can be widths, depths or shares."""
    if isinstance(value, Mapping | list | tuple):
        return all(map(_are_sizes, value.values() if isinstance(value, Mapping) else value))
    return not isinstance(value, int | float) or abs(value) <= MAX_UNITS


def _check(config: object, key: str, accepts: str, fits: bool) -> None:
    if not fits:
        raise UsageError(
            f"{key} must be {accepts}.",
            found=f"Found {getattr(config, key)!r:.200}.",
            hint="Correct it in the TOML file or in the option of that name.",
        )
