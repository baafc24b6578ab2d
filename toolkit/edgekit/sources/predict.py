"""Run a source itself on samples: the measure of every file that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgekit.errors import ModelError
from edgekit.printable import telling
from edgekit.records import Array, InputScaling
from edgekit.sources.input_scaling import read_input_scaling
from edgekit.sources.loaded import Loaded
from edgekit.sources.state import State

_SAME: Final = 1e-3
"""Share of an output's range by which a sample in a batch may differ from the same one alone."""

_FEW: Final = 16
"""So many samples are worth neither another trace nor an optimized graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a source model returns on some samples.

    Attributes:
        outputs: Output name -> `[n, ...]`.
        stateful: Layers that carry something from one sample to the next, as far as these show it.
    """

    outputs: Mapping[str, Array]
    stateful: tuple[str, ...]


class Predictor:
    """Runs a loaded model, several samples at once where it takes them.

    A few are run one by one, because another trace would take longer. A model may fix its batch,
    keep a state between samples or mix the samples of a batch. So of more samples the first are run
    alone and together; where that is refused or makes a difference, all are run one by one, each
    from the initial state.

    Args:
        loaded: The model.
        singly: The model as a TensorFlow function of its inputs' shapes, with batch size 1.

    Attributes:
        singly: As given.
        state: Set back before each run.
    """

    def __init__(self, loaded: Loaded, singly: Any) -> None:
        self._loaded = loaded
        self.state = State(loaded.model)
        self.singly = singly
        self._together: Callable[..., Any] | None = self._batched()
        self._tried = False

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return output name -> `[n, ...]` for inputs `[n, ...]` by name.

        Raises:
            ModelError: The model cannot be run on them.
        """
        source = self._loaded.source
        arrays = [np.asarray(inputs[spec.name], spec.dtype) for spec in source.inputs]
        outputs = self._run(arrays)
        return {spec.name: o for spec, o in zip(source.outputs, outputs, strict=True)}

    def input_scaling(self) -> InputScaling | None:
        """Return what the model does first to its only input; None where it has several."""
        if len(self._loaded.source.inputs) != 1:
            return None
        try:
            function = self.singly.get_concrete_function()
        except Exception:  # the model's own code raises what it likes, and will again when it runs
            return None
        return read_input_scaling(function)

    def _run(self, arrays: Sequence[Array]) -> list[Array]:
        try:
            if len(arrays[0]) <= _FEW:
                return self._one_by_one(arrays)
            if self._together and not self._tried:
                self._tried = True
                alone = self._one_by_one([values[:2] for values in arrays])
                if not self._agrees(alone, [values[:2] for values in arrays]):
                    self._together = None
            if self._together:
                return self._batch(self._together, arrays)
            return self._one_by_one(arrays)
        except Exception as error:  # the model's own code raises what it likes
            raise ModelError(
                f"{self._loaded.source.name} cannot be run by TensorFlow.",
                found=telling(error)[:200],
                hint="Check that the model predicts in Keras on these samples.",
            ) from error

    def _agrees(self, alone: Sequence[Array], arrays: Sequence[Array]) -> bool:
        assert self._together is not None
        try:
            together = self._batch(self._together, arrays)
        except Exception:
            return False
        return all(
            a.shape == b.shape
            and np.allclose(a, b, rtol=0, atol=_SAME * float(np.abs(a).max(initial=0.0)))
            for a, b in zip(alone, together, strict=True)
        )

    def _one_by_one(self, arrays: Sequence[Array]) -> list[Array]:
        with _as_traced() if len(arrays[0]) <= _FEW else nullcontext():
            found = [
                self._batch(self.singly, [values[row : row + 1] for values in arrays])
                for row in range(len(arrays[0]))
            ]
        return [np.concatenate(outputs) for outputs in zip(*found, strict=True)]

    def _batch(self, function: Callable[..., Any], arrays: Sequence[Array]) -> list[Array]:
        import tensorflow as tf

        self.state.restore()
        return [output.numpy() for output in function(*map(tf.constant, arrays))]

    def _batched(self) -> Any:
        import tensorflow as tf

        call = self._loaded.call
        specs = [tf.TensorSpec((None, *s.shape[1:]), s.dtype) for s in self._loaded.source.inputs]

        @tf.function(autograph=False, input_signature=specs)  # type: ignore[untyped-decorator]  # TensorFlow has no types
        def run(*tensors: Any) -> Sequence[Any]:
            return call(tensors)

        return run


@contextmanager
def _as_traced() -> Iterator[None]:
    """Within the context, run graphs without TensorFlow's optimizer, which takes longer itself."""
    import tensorflow as tf

    option = "disable_meta_optimizer"
    before = bool(tf.config.optimizer.get_experimental_options().get(option))
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})
