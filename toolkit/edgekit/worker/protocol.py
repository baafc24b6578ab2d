"""Requests to a process that imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.choices import COMPACT, RecurrentForm
from edgekit.records import Array, InputScaling, Source

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel
    from edgekit.recipe import PassStep
    from edgekit.sources.predict import Reference
    from edgekit.training import TrainingConfig, TrainingResult
    from edgekit.training.adapting import Chosen, Site
    from edgekit.training.finetuning import Tuning
    from edgekit.training.passes import PassResult


class TensorFlowProcess(Protocol):
    """A process that imports TensorFlow and holds one Keras model at a time.

    `Worker` is a child process, `InProcess` the caller's own. In both, `Session` does the work.
    """

    def load(
        self,
        source: Path | Any,
        *,
        example: Mapping[str, tuple[int, ...]] | None = None,
        to_train: bool = False,
    ) -> Source:
        """Load a model, which replaces the loaded one.

        Args:
            source: A `.keras` or `.h5` file or a SavedModel folder; a Keras model only in the
                caller's own process.
            example: Input name -> shape of a batch; fills dimensions the model leaves open.
            to_train: Whether a pass will train it; a file only.

        Raises:
            ModelError: It cannot be read, crashes its reader, holds code that is not trusted, or
                has no Keras layers to train.
        """
        ...

    def start_tracing(self) -> None:
        """Begin to trace the loaded model, which lowering it needs; return at once.

        What fails will fail again, and be reported, in a request that needs it.
        """
        ...

    def start_lowering(
        self, destination: Path, *, recurrent: RecurrentForm = COMPACT
    ) -> Callable[[], LoweredModel]:
        """Begin what `lower` does; the returned function waits for it, and raises as it does.

        Nothing else may be asked before it was called.
        """
        ...

    def lower(self, destination: Path, *, recurrent: RecurrentForm = COMPACT) -> LoweredModel:
        """Write the float graph of the loaded model.

        Args:
            destination: The `.tflite` to write.
            recurrent: How recurrent layers are written (`lowering.recurrent.RecurrentLayers`).

        Raises:
            ModelError: No model is loaded.
            ConversionError: A layer is not supported, or the converter crashed.
            OutputError: The file cannot be written.
        """
        ...

    def start_reference(self, inputs: Mapping[str, Array]) -> Callable[[], Reference]:
        """Begin to run the loaded model; the returned function waits for what it computes.

        It raises as `predict` does. Nothing else may be asked before it was called.

        Args:
            inputs: Input name -> `[n, ...]`.
        """
        ...

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the loaded model itself.

        Args:
            inputs: Input name -> `[n, ...]`.

        Returns:
            Output name -> `[n, ...]`.

        Raises:
            ModelError: No model is loaded, or it cannot be run on these samples.
        """
        ...

    def input_scaling(self) -> InputScaling | None:
        """Return what the first operators of the loaded model do to its input.

        None where it has several inputs, or cannot be traced.

        Raises:
            ModelError: No model is loaded.
        """
        ...

    def transform(self, step: PassStep, tuning: Tuning, destination: Path) -> PassResult:
        """Run a compression pass with its fine-tuning; this may change the loaded model.

        Args:
            step: Which pass, and its settings.
            tuning: Data and training.
            destination: The `.keras` to write.

        Raises:
            EdgekitError: As the pass raises it.
        """
        ...

    def swaps(
        self, blocked: Mapping[str, Sequence[str]], exclude: Sequence[str] = ()
    ) -> tuple[Site, ...]:
        """Return the layers behind operators that a target does not take, and their swaps.

        Args:
            blocked: Layer name of operators (`tflite.naming`) -> names of operators.
            exclude: Names or regular expressions of layers that are left as they are.

        Raises:
            ModelError: The loaded model is neither functional nor sequential.
            UsageError: An expression matches no layer.
        """
        ...

    def adapt(self, chosen: Chosen) -> None:
        """Replace layers of the loaded model as it was read; later requests are about the result.

        Args:
            chosen: What is replaced, by what; nothing restores the model.

        Raises:
            ModelError: It cannot be built so.
        """
        ...

    def largest_share(self, exclude: Sequence[str] = (), multiple: int = 8) -> float:
        """Return the largest share of multiply-accumulates that shrinking can remove.

        Args:
            exclude: Names or regular expressions of layers that keep all channels.
            multiple: Wide layers keep a multiple of this number of channels.

        Raises:
            UsageError: An expression matches no layer.
        """
        ...

    def write_teacher(self, tuning: Tuning, destination: Path) -> None:
        """Write the loaded model's predictions on the training samples, for distillation.

        Args:
            tuning: Data and fine-tuning of the models trained on the predictions.
            destination: The `.npy` to write.

        Raises:
            DataError: The model predicts NaN or infinity for some samples.
        """
        ...

    def train(
        self,
        config: TrainingConfig,
        destination: Path,
        *,
        log_dir: Path | None = None,
        initial: Path | None = None,
        force: bool = True,
    ) -> TrainingResult:
        """Train an architecture of the zoo; the loaded model is not used.

        Args:
            config: What to train, and how.
            destination: The `.keras` to write.
            log_dir: Folder for a TensorBoard log.
            initial: A `.keras` file of the same architecture to start from.
            force: Whether a file that exists at `destination` after training is replaced.

        Raises:
            EdgekitError: As `training.train` raises it.
        """
        ...
