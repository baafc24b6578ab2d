"""What a Keras model carries from one call to the next, and how it forgets it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

# Comparing all variables takes a millisecond in a large model; what changes does so at once.
_COMPARISONS: Final = 4


class State:
    """The variables that a model may change while it runs, set back before each sample.

    Recurrent layers made with `stateful=True` start from zeros; other variables start from what
    they held when this was made.

    Args:
        model: A Keras model. Of any other object no state is known.

    Attributes:
        layers: Names of the layers that have been found to change a variable.
    """

    def __init__(self, model: Any) -> None:
        self.layers: dict[str, None] = {}
        held: dict[int, tuple[str, Any]] = {}
        layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()  # noqa: SLF001  Keras has no public way to layers inside layers
        # Outer layers come first: a variable gets the name of the innermost.
        for layer in layers:
            variables = list(layer.non_trainable_variables)
            if getattr(layer, "stateful", False):
                # Keras 3 and Keras 2; the states are not among a Keras 3 layer's variables.
                getattr(layer, "reset_state", getattr(layer, "reset_states", lambda: None))()
                variables += getattr(layer, "states", None) or ()
            for variable in variables:
                if hasattr(variable, "assign"):
                    held[id(variable)] = (layer.name, variable)
        self._held = [(name, variable, variable.numpy()) for name, variable in held.values()]
        self._compared = 0

    def restore(self) -> None:
        """Set back what has changed."""
        changed = [
            (name, variable, value)
            for name, variable, value in self._held
            if not np.array_equal(variable.numpy(), value)
        ]
        for name, variable, value in changed:
            self.layers[name] = None
            variable.assign(value)
        self._compared += 1
        if self._compared >= _COMPARISONS:
            self._held = [entry for entry in self._held if entry[0] in self.layers]
