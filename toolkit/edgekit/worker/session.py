"""What one TensorFlow process remembers between requests, and how it answers them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgekit.errors import ConversionError, ModelError
from edgekit.records import Batch, Listener, Plan, Source

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel
    from edgekit.sources import Loaded

TRUST_CODE: Final = "trust-code"
"""Tells the child that code in model files may be run."""


class Session:
    """One model after another, in a process that has TensorFlow.

    Args:
        custom: Modules that define the models' own classes.
        listener: Progress callback.
        trust_code: Whether to run code that model files bring along.
    """

    def __init__(
        self, custom: Sequence[str], listener: Listener, *, trust_code: bool = False
    ) -> None:
        self._custom = tuple(custom)
        self._trust_code = trust_code
        self._listener = listener
        self._loaded: Loaded | None = None
        # What the published converter needs where TensorFlow has no quicker way.
        self._traced: Any = None
        self._representative: Batch | None = None

    def load(self, source: Path | Any, *, example: Mapping[str, tuple[int, ...]] | None) -> Source:
        """Read a file, or adopt a live model, in place of the model there was."""
        from edgekit import sources
        from edgekit.training import qat

        qat.register()
        self._loaded = None
        self._loaded = (
            sources.load(source, custom=self._custom, example=example, trust_code=self._trust_code)
            if isinstance(source, Path)
            else sources.adopt(source, example=example)
        )
        return self._loaded.source

    def recurrent_layers(self) -> tuple[str, ...]:
        """Names of the layers that are known to be able to kill the converter."""
        model: Any = self._loaded and self._loaded.model
        layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()  # noqa: SLF001  Keras has no public way to layers inside layers
        return tuple(layer.name for layer in layers if hasattr(layer, "unroll"))

    def lower(self, destination: Path, batch: Batch | None) -> LoweredModel:
        """Write the float graph of the loaded model."""
        from edgekit.lowering import LoweredModel, lower, reference, tf_quantizer

        loaded = self._model()
        traced = lower(loaded.call, loaded.source, loaded.model, destination)
        found = reference(loaded.call, loaded.source, batch) if batch else {}
        if not tf_quantizer.available():
            self._traced, self._representative = traced.function, batch
        return LoweredModel(path=destination, reference=found, notes=traced.notes)

    def quantize(self, calibrated: bytes, plan: Plan, denied: Sequence[str]) -> bytes:
        """Quantize a graph with ranges; by the published converter where the quick way is gone."""
        from edgekit.lowering import tf_quantizer

        if tf_quantizer.available():
            return tf_quantizer.quantize(calibrated, plan, denied=denied)
        if self._traced is None or self._representative is None or denied:
            raise ConversionError(
                f"Variant {plan.variant}: this TensorFlow has no quantizer for float graphs.",
                hint="Install the TensorFlow that edgekit asks for, or start from the Keras model "
                "without rules.",
            )
        inputs = self._model().source.inputs
        return tf_quantizer.quantize_publicly(self._traced, inputs, self._representative, plan)

    def represent(self, batch: Batch) -> None:
        """Take the samples that the published converter calibrates on."""
        self._representative = batch

    def call(self, function_path: str, arguments: Mapping[str, Any]) -> Any:
        """Call `module:function` here, with `listener`, `model` and `source` where it asks."""
        module, _, verb = function_path.partition(":")
        function = getattr(importlib.import_module(module), verb)
        given = dict(arguments)
        parameters = inspect.signature(function).parameters
        if "listener" in parameters:
            given.setdefault("listener", self._listener)
        for name in ("model", "source"):
            asked = parameters.get(name)
            if asked is not None and asked.default is asked.empty and name not in given:
                given[name] = getattr(self._model(), name)
        return function(**given)

    def _model(self) -> Loaded:
        if self._loaded is None:
            raise ModelError("No model is loaded in the TensorFlow process.")
        return self._loaded
