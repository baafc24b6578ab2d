"""Answer the requests of `TensorFlowProcess`, in the process that imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgekit.choices import COMPACT, RecurrentForm
from edgekit.errors import ModelError
from edgekit.records import Array, InputScaling, Listener, Source, silent

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel
    from edgekit.recipe import PassStep
    from edgekit.sources import Loaded
    from edgekit.sources.predict import Predictor, Reference
    from edgekit.training import TrainingConfig, TrainingResult
    from edgekit.training.adapting import Chosen, Site
    from edgekit.training.finetuning import Tuning
    from edgekit.training.passes import PassResult

TRUST_CODE: Final = "trust-code"
"""Argument of the child process that permits running code in model files."""


class Session:
    """The loaded model and the requests on it; see `TensorFlowProcess`.

    Args:
        custom: Modules that define the models' own classes.
        listener: Progress callback.
        trust_code: Whether to run code that model files contain.
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
        # The loaded model as it was read, from which `adapt` starts.
        self._original: Loaded | None = None
        self._example: Mapping[str, tuple[int, ...]] | None = None
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
        self,
        source: Path | Any,
        *,
        example: Mapping[str, tuple[int, ...]] | None = None,
        to_train: bool = False,
    ) -> Source:
        """Load a file or folder, or take a model in memory; it replaces the loaded model."""
        from edgekit import sources
        from edgekit.training import qat

        qat.register()
        self._loaded = self._original = self._predictor = None
        self._example = example
        self._loaded = self._original = (
            sources.load(
                source,
                custom=self._custom,
                example=example,
                trust_code=self._trust_code,
                to_train=to_train,
            )
            if isinstance(source, Path)
            else sources.adopt(source, example=example)
        )
        return self._loaded.source

    def trace(self) -> None:
        """Trace the loaded model."""
        self._predicting().singly.get_concrete_function()

    def recurrent_layers(self) -> tuple[str, ...]:
        """Return the loaded model's recurrent layers, which can crash the converter."""
        model = self.loaded.model
        layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()  # noqa: SLF001  Keras has no public way to layers inside layers
        return tuple(layer.name for layer in layers if hasattr(layer, "unroll"))

    def lower(self, destination: Path, *, recurrent: RecurrentForm = COMPACT) -> LoweredModel:
        """Write the float graph of the loaded model."""
        from edgekit.lowering import lower

        loaded = self.loaded
        predicting = self._predicting()
        predicting.state.restore()  # what the model holds now becomes constants
        lowered = lower(
            loaded.call,
            loaded.source,
            loaded.model,
            destination,
            recurrent=recurrent,
            plain=predicting.singly,  # traced once for both
        )
        lowered = replace(lowered, notes=(*loaded.notes, *lowered.notes))
        if loaded.loss_code is not None:
            name = loaded.source.path.name
            note = f"The loss in {name} was not read: it holds {loaded.loss_code}."
            lowered = replace(lowered, notes=(*lowered.notes, note))
        return lowered

    def reference(self, inputs: Mapping[str, Array]) -> Reference:
        """Run the loaded model on samples, and see which layers keep a state."""
        from edgekit.sources.predict import Reference

        predicting = self._predicting()
        outputs = self.predict(inputs)
        predicting.state.restore()
        return Reference(outputs=outputs, stateful=tuple(predicting.state.layers))

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the loaded model itself on samples."""
        return self._predicting()(inputs)

    def input_scaling(self) -> InputScaling | None:
        """Return what the first operators of the loaded model do to its input."""
        return self._predicting().input_scaling()

    def _predicting(self) -> Predictor:
        from edgekit.lowering import plain_function
        from edgekit.sources.predict import Predictor

        if self._predictor is None:
            loaded = self.loaded
            plain = plain_function(loaded.call, loaded.source.inputs, loaded.model)
            self._predictor = Predictor(loaded, plain)
        return self._predictor

    def transform(self, step: PassStep, tuning: Tuning, destination: Path) -> PassResult:
        """Run a compression pass over the loaded model."""
        from edgekit.training.passes import run_pass

        self._predictor = None  # the pass may change the model
        done = run_pass(
            self.loaded.model,
            self.loaded.source,
            step=step,
            tuning=replace(self._with_trust(tuning), restore=self.loaded.restore),
            destination=destination,
            listener=self.listener,
        )
        facts = {**done.facts}
        if self.loaded.notes:
            facts["loaded"] = " ".join(self.loaded.notes)
        if self.loaded.loss_code is not None:
            code = self.loaded.loss_code
            facts["loss"] = f"the task's: the file's holds {code} (--trust-code runs it)"
        return replace(done, facts=facts)

    def swaps(
        self, blocked: Mapping[str, Sequence[str]], exclude: Sequence[str] = ()
    ) -> tuple[Site, ...]:
        """Return the layers behind operators that a target does not take, and their swaps."""
        from edgekit.sources.reconfigure import configuration
        from edgekit.training.adapting import sites

        model = self.loaded.model
        _refuse_without_configuration(model)
        return sites(model, configuration(model), blocked, exclude)

    def adapt(self, chosen: Chosen) -> None:
        """Replace layers of the loaded model as it was read, and keep its weights."""
        from edgekit.sources.interface import interface_of
        from edgekit.sources.reconfigure import rebuilt
        from edgekit.training.adapting import carry_weights, replace_layers

        self._loaded, self._predictor = self._original, None
        if not chosen:
            return
        loaded = self.loaded
        _refuse_without_configuration(loaded.model)
        try:
            changed = rebuilt(
                loaded.model, lambda config: replace_layers(loaded.model, config, chosen)
            )
            carry_weights(loaded.model, changed)
        except Exception as error:
            raise ModelError(
                f"{loaded.source.name} cannot be built with other layers.",
                found=f"{type(error).__name__}: {error!s:.200}",
                hint="Leave the layer named there as it is: --exclude LAYER.",
            ) from error
        interface = interface_of(changed, loaded.source.path.name, self._example)
        self._loaded = replace(loaded, model=changed, call=interface.call)

    def largest_share(self, exclude: Sequence[str] = (), multiple: int = 8) -> float:
        """Return the largest share of multiply-accumulates that shrinking can remove."""
        from edgekit.training import shrinking

        return shrinking.largest_share(self.loaded.model, exclude=exclude, multiple=multiple)

    def write_teacher(self, tuning: Tuning, destination: Path) -> None:
        """Write the loaded model's predictions on the training samples."""
        from edgekit.training.finetuning import teach

        teach(
            self.loaded.model,
            self.loaded.source,
            tuning=self._with_trust(tuning),
            destination=destination,
            listener=self.listener,
        )

    def _with_trust(self, tuning: Tuning) -> Tuning:
        """Say how the loss in the loaded file may be read."""
        if self._trust_code:
            return replace(tuning, file_loss="trusted")
        return tuning if self.loaded.loss_code is None else replace(tuning, file_loss="ignored")

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


def _refuse_without_configuration(model: Any) -> None:
    """Raise unless a model is built from a configuration that names its layers."""
    if type(model).__name__ not in ("Functional", "Sequential"):
        raise ModelError(
            f"{model.name} is no functional or sequential model: its layers cannot be replaced.",
            found=f"It is a {type(model).__name__}, whose call is code.",
            hint="Replace the layers in that code, and train it again.",
        )
