"""What can be asked of a process that has TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.records import Array, Batch, InputScaling, Plan, Source

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel
    from edgekit.recipe import PassStep
    from edgekit.training import TrainingConfig, TrainingResult
    from edgekit.training.finetuning import Tuning
    from edgekit.training.passes import PassResult


class TensorFlowProcess(Protocol):
    """A process with TensorFlow that holds one Keras model at a time.

    `Worker` is a child process, `InProcess` the caller's own. Both answer with what `Session` does.
    """

    def load(
        self, source: Path | Any, *, example: Mapping[str, tuple[int, ...]] | None = None
    ) -> Source:
        """Read a model, in place of the model there was.

        Args:
            source: A `.keras` or `.h5` file or a SavedModel folder; in the caller's own process
                also a Keras model.
            example: Input name -> shape of a batch; fills dimensions the model leaves open.

        Raises:
            ModelError: It cannot be read, kills its reader, or holds code that is not trusted.
        """
        ...

    def lower(self, destination: Path, batch: Batch | None = None) -> LoweredModel:
        """Write the float graph of the loaded model.

        Args:
            destination: The `.tflite` to write.
            batch: Samples on which the source's own outputs are returned along.

        Raises:
            ModelError: No model is loaded.
            ConversionError: A layer was refused, or the converter died.
            OutputError: The file cannot be written.
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

    def quantize(self, calibrated: bytes, plan: Plan, denied: Sequence[str] = ()) -> bytes:
        """Quantize a float graph to int8 or int16x8; needs no loaded model.

        Args:
            calibrated: A float flatbuffer with activation ranges.
            plan: The mode, and the types of inputs and outputs.
            denied: Output tensor names of operators that stay float.

        Raises:
            ConversionError: It was refused, or the quantizer died.
        """
        ...

    def transform(self, step: PassStep, tuning: Tuning, destination: Path) -> PassResult:
        """Run a compression pass with its fine-tuning; the loaded model may change as it does.

        Args:
            step: Which pass, and its settings.
            tuning: Data and training.
            destination: The `.keras` to write.

        Raises:
            EdgekitError: As the pass raises it.
        """
        ...

    def largest_share(self, exclude: Sequence[str] = ()) -> float:
        """Return the largest share of multiply-accumulates that shrinking can remove.

        Args:
            exclude: Regular expressions of the layers that keep all channels.

        Raises:
            UsageError: An expression matches no layer.
        """
        ...

    def write_teacher(self, tuning: Tuning, destination: Path) -> None:
        """Write the loaded model's predictions on the training samples, for distillation.

        Args:
            tuning: Data and training of the models that learn from them.
            destination: The `.npy` to write.

        Raises:
            DataError: The model computes NaN or infinity for them.
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
        """Train an architecture of the zoo; the loaded model plays no part.

        Args:
            config: What to train, and how.
            destination: The `.keras` to write.
            log_dir: Folder for a TensorBoard log.
            initial: A `.keras` file of the same architecture to start from.
            force: Whether a file that is at `destination` by the end is replaced.

        Raises:
            EdgekitError: As `training.train` raises it.
        """
        ...
