"""The requests of `TensorFlowProcess`, answered where TensorFlow is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgekit.errors import ModelError
from edgekit.records import Array, Batch, InputScaling, Listener, Plan, Source, silent

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel
    from edgekit.recipe import PassStep
    from edgekit.sources import Loaded
    from edgekit.sources.predict import Predictor
    from edgekit.training import TrainingConfig, TrainingResult
    from edgekit.training.finetuning import Tuning
    from edgekit.training.passes import PassResult

TRUST_CODE: Final = "trust-code"
"""Argument of the child process: code in model files may be run."""


class Session:
    """One model after another, in a process that has TensorFlow; see `TensorFlowProcess`.

    Args:
        custom: Modules that define the models' own classes.
        listener: Progress callback.
        trust_code: Whether to run code that model files bring along.
    """

    def __init__(
        self,
        custom: Sequence[str] = (),
        listener: Listener = silent,
        *,
        trust_code: bool = False,
    ) -> None:
        self._custom = tuple(custom)
        self._trust_code = trust_code
        self._loaded: Loaded | None = None
        self._predictor: Predictor | None = None
        self.listener = listener

    @property
    def loaded(self) -> Loaded:
        """The loaded model.

        Raises:
            ModelError: There is none.
        """
        if self._loaded is None:
            raise ModelError("No model is loaded in the TensorFlow process.")
        return self._loaded

    def load(
        self, source: Path | Any, *, example: Mapping[str, tuple[int, ...]] | None = None
    ) -> Source:
        """Read a file or folder, or adopt a live model, in place of the model there was."""
        from edgekit import sources
        from edgekit.training import qat

        qat.register()
        self._loaded = self._predictor = None
        self._loaded = (
            sources.load(source, custom=self._custom, example=example, trust_code=self._trust_code)
            if isinstance(source, Path)
            else sources.adopt(source, example=example)
        )
        return self._loaded.source

    def recurrent_layers(self) -> tuple[str, ...]:
        """Names of the loaded model's recurrent layers, which can kill the converter."""
        model = self.loaded.model
        layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()  # noqa: SLF001  Keras has no public way to layers inside layers
        return tuple(layer.name for layer in layers if hasattr(layer, "unroll"))

    def lower(self, destination: Path, batch: Batch | None = None) -> LoweredModel:
        """Write the float graph of the loaded model."""
        from edgekit.lowering import lower

        loaded = self.loaded
        lowered = lower(loaded.call, loaded.source, loaded.model, destination)
        return replace(lowered, reference=self.predict(batch.inputs)) if batch else lowered

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the loaded model itself on samples."""
        return self._runs()(inputs)

    def input_scaling(self) -> InputScaling | None:
        """Return what the first operators of the loaded model do to its input."""
        return self._runs().input_scaling()

    def _runs(self) -> Predictor:
        from edgekit.sources.predict import Predictor

        if self._predictor is None:
            self._predictor = Predictor(self.loaded)
        return self._predictor

    def quantize(self, calibrated: bytes, plan: Plan, denied: Sequence[str] = ()) -> bytes:
        """Quantize a float graph whose tensors carry their ranges."""
        from edgekit.lowering import tf_quantizer

        return tf_quantizer.quantize(calibrated, plan, denied=denied)

    def transform(self, step: PassStep, tuning: Tuning, destination: Path) -> PassResult:
        """Run a compression pass over the loaded model."""
        from edgekit.training.passes import run_pass

        self._predictor = None  # the pass may change the model
        return run_pass(
            self.loaded.model,
            self.loaded.source,
            step=step,
            tuning=tuning,
            destination=destination,
            listener=self.listener,
        )

    def largest_share(self, exclude: Sequence[str] = ()) -> float:
        """Return the largest share of multiply-accumulates that shrinking can remove."""
        from edgekit.training import shrinking

        return shrinking.largest_share(self.loaded.model, exclude=exclude)

    def write_teacher(self, tuning: Tuning, destination: Path) -> None:
        """Write the loaded model's predictions on the training samples."""
        from edgekit.training.finetuning import teach

        teach(
            self.loaded.model,
            self.loaded.source,
            tuning=tuning,
            destination=destination,
            listener=self.listener,
        )

    def train(
        self,
        config: TrainingConfig,
        destination: Path,
        *,
        log_dir: Path | None = None,
        initial: Path | None = None,
        force: bool = True,
    ) -> TrainingResult:
        """Train an architecture of the zoo."""
        from edgekit.training import train

        return train(
            config,
            destination=destination,
            listener=self.listener,
            log_dir=log_dir,
            initial=initial,
            force=force,
        )
