"""What every pass over a Keras file begins and ends with: its data, its model, and its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.data import open_request, training_split
from edgekit.errors import ModelError, UsageError
from edgekit.fields import FieldError, Fields
from edgekit.files import cleared, temporary_folder, writing
from edgekit.pipeline.heads import with_head
from edgekit.pipeline.sources import example_shapes, is_graph
from edgekit.recipe import PassStep
from edgekit.records import DataRequest, Dataset, Listener, silent
from edgekit.training.finetuning import Tuning
from edgekit.training.saving import checkpoint_path, read_notes, write_head
from edgekit.worker import TensorFlowProcess, Worker

if TYPE_CHECKING:
    from edgekit.training.passes import PassResult


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRequest:
    """Which pass, over what, and where the result goes.

    Attributes:
        step: The pass.
        source: The Keras file.
        destination: The `.keras` to write; None writes nothing.
        data: What it is trained on.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that the source brings along.
        resume: Whether it goes on from the checkpoint of an interrupted run.
        force: Whether an existing file is replaced.
        listener: Progress callback.
    """

    step: PassStep
    source: Path
    destination: Path | None
    data: DataRequest
    custom: tuple[str, ...] = ()
    trust_code: bool = False
    resume: bool = False
    force: bool = False
    listener: Listener = silent

    @property
    def checkpoint(self) -> Path | None:
        """Where the best weights so far are kept while it is trained."""
        return None if self.destination is None else checkpoint_path(self.destination)

    @property
    def start(self) -> Path:
        """The model whose training begins or goes on."""
        return self.checkpoint if self.resume and self.checkpoint else self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRun:
    """A pass whose data is open, with a process for the model.

    Attributes:
        request: What was asked for.
        data: The same data, with the head of the source.
        dataset: The data, not bound to a model.
        tensorflow: Has no model yet.
        folder: For files that are needed until the end.
        done: Epochs that an interrupted run had come to.
    """

    request: PassRequest
    data: DataRequest
    dataset: Dataset
    tensorflow: TensorFlowProcess
    folder: Path
    done: int

    def load(self, path: Path, *, to_train: bool = True) -> None:
        """Load a model of this pass: its checkpoint, or what it wrote."""
        self.tensorflow.load(path, example=example_shapes(self.dataset), to_train=to_train)

    def tuning(self, data: DataRequest) -> Tuning:
        """Return the training; where the pass distills, the loaded model is the teacher."""
        step, checkpoint = self.request.step, self.request.checkpoint
        tuning = replace(tuning_of(step, data), checkpoint=checkpoint, done=self.done)
        if step.distills:
            return replace(tuning, teacher=teach(self.tensorflow, self.folder, tuning))
        return tuning

    def write(
        self, run: Callable[[Path], PassResult], data: DataRequest
    ) -> tuple[PassResult, Path]:
        """Run the pass, and write its file.

        Args:
            run: The pass; its argument is where it writes.
            data: With the head that goes beside the file.

        Returns:
            What the pass tells, and the float graph of what was written.
        """
        destination, checkpoint = self.request.destination, self.request.checkpoint
        assert destination is not None
        assert checkpoint is not None
        # A file that appears while the model is trained is no more replaced than one before it.
        with writing(destination, replace=self.request.force) as place:
            passed = run(place)
        if data.head is not None:
            write_head(data.head, destination)
        self.load(destination, to_train=False)
        after = self.tensorflow.lower(self.folder / "after.tflite").path
        checkpoint.unlink(missing_ok=True)
        return replace(passed, path=destination), after


@contextmanager
def opened(request: PassRequest) -> Iterator[PassRun]:
    """Open the data of a pass and a process for its model.

    Raises:
        DataError: The data is missing, or does not fit the pass.
        ModelError: The source is a graph.
        UsageError: There is no interrupted run of this pass to go on with.
    """
    source, destination, checkpoint = request.source, request.destination, request.checkpoint
    if is_graph(source):
        raise ModelError(
            f"{source} has no Keras layers to train.",
            hint="Give the .keras or .h5 file that it was made of.",
        )
    done = epochs_done(request.step, checkpoint) if request.resume and checkpoint else 0
    with (
        nullcontext() if destination is None else cleared(destination.parent),
        temporary_folder() as folder,
        Worker(request.custom, request.listener, trust_code=request.trust_code) as tensorflow,
    ):
        # What is missing or does not fit is said before anything is loaded or predicted.
        data = with_head(request.data, source)
        dataset = open_request(data)
        if dataset.train is None or dataset.train.sequences is None:
            # Of a stream the model is looked at first: it may be unable to carry a state on.
            training_split(dataset, request.step.training.split_by)
        yield PassRun(
            request=request,
            data=data,
            dataset=dataset,
            tensorflow=tensorflow,
            folder=folder,
            done=done,
        )


def teach(tensorflow: TensorFlowProcess, folder: Path, tuning: Tuning) -> Path:
    """Write what the loaded model predicts, for later ones to learn from; returns the file."""
    place = folder / "teacher.npy"
    tensorflow.write_teacher(tuning, place)
    return place


def tuning_of(step: PassStep, data: DataRequest) -> Tuning:
    """Return the training that a step asks for, on this data."""
    training = step.training
    return Tuning(
        data=data,
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=step.learning_rate,
        patience=training.patience,
        seed=training.seed,
        split_by=training.split_by,
    )


def epochs_done(step: PassStep, checkpoint: Path) -> int:
    """How far an interrupted run had come.

    Raises:
        UsageError: There is no such run, or it was another pass.
    """
    notes = read_notes(checkpoint)
    found = {key: notes.get(key) for key in step.noted}
    if found == step.noted:
        try:
            return Fields(notes, "").integer("epochs")
        except FieldError as error:
            raise UsageError(
                f"{checkpoint} is not as edgekit writes it.",
                found=str(error),
                hint="Leave --resume out.",
            ) from error
    of = " for ".join(str(value) for value in found.values() if value)
    raise UsageError(
        f"There is no interrupted {' for '.join(step.noted.values())} to go on with.",
        found=f"{checkpoint} is {f'of {of}' if of else 'not there'}.",
        hint="Leave --resume out.",
    )
