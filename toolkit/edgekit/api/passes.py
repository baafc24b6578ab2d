"""What the passes over Keras models take from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from edgekit.api.data import Data, picklable, required
from edgekit.recipe import PassStep
from edgekit.records import EACH_ROW, DataRequest, Listener, TableOptions, TaskChoice, silent

if TYPE_CHECKING:
    from edgekit.pipeline.pass_run import PassRequest
    from edgekit.tflite.pruning_estimate import PruningEstimate


class TransformOptions(TypedDict, total=False):
    """What every pass takes beside its step.

    Attributes:
        split: Share of the samples that is drawn for testing, where the data has no test split.
        table: How the rows of a `.csv` become samples: windows, columns that are left out.
        column: The column to predict, for a `.csv`.
        classes: Names of the classes in the model's order; the data's by default.
        task: What the targets mean, default inferred from the targets.
        preprocessing: How raw images become inputs.
        head: How the outputs of a detector tell boxes.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that a model file brings along; see SECURITY.md.
        resume: Resume an interrupted run from what it left beside `output`.
        force: Replace an existing file.
        listener: Progress callback.
        on_estimate: Called before any training with what `prune` is predicted to save.
    """

    split: float | None
    table: TableOptions
    column: str | None
    classes: tuple[str, ...] | None
    task: TaskChoice
    preprocessing: Mapping[str, Any] | None
    head: Mapping[str, Any] | None
    custom: Sequence[str]
    trust_code: bool
    resume: bool
    force: bool
    listener: Listener
    on_estimate: Callable[[PruningEstimate], None] | None


def pass_request(
    source: str | Path,
    step: PassStep,
    output: str | Path | None,
    data: Data,
    options: TransformOptions,
) -> PassRequest:
    """Return what a pass is asked for, after a look at the places of its files.

    Raises:
        ModelError: There is no such source.
        UsageError: The output has another ending, is there already, or is a folder.
    """
    from edgekit.errors import ModelError
    from edgekit.files import check_input, refuse_existing
    from edgekit.pipeline.pass_run import PassRequest
    from edgekit.training.saving import refuse_other_formats

    check_input(Path(source), ModelError, folder=True, hint="Give a .keras or .h5 file.")
    request = PassRequest(
        step=step,
        source=Path(source),
        destination=None if output is None else Path(output),
        data=DataRequest(
            data=required(picklable(data)),
            split=options.get("split"),
            table=options.get("table", EACH_ROW),
            column=options.get("column"),
            classes=options.get("classes"),
            task=options.get("task"),
            preprocessing=options.get("preprocessing"),
            head=options.get("head"),
        ),
        custom=tuple(options.get("custom", ())),
        trust_code=options.get("trust_code", False),
        resume=options.get("resume", False),
        force=options.get("force", False),
        listener=options.get("listener", silent),
    )
    if request.destination is not None and request.checkpoint is not None:
        refuse_other_formats(request.destination)
        refuse_existing(request.destination, force=request.force)
        refuse_existing(request.checkpoint, force=True)
    return request
