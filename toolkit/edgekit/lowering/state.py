"""What a Keras model carries from one call to the next: a file keeps none of it."""

from __future__ import annotations

from typing import Any

import numpy as np


class State:
    """Set a model back to where it starts, as `evaluation.predict` does with files.

    Recurrent layers start from zeros, other layers from what their variables hold now.

    Args:
        model: A Keras model; any other object has no state that is known.

    Attributes:
        layers: Names of the layers that were found to change their variables while they run.
    """

    def __init__(self, model: Any) -> None:
        self.layers: dict[str, None] = {}
        held: dict[int, tuple[str, Any]] = {}
        # Keras has no public way to the layers inside layers. A layer comes after the one it is in,
        # so that a variable gets the name of the innermost.
        layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()  # noqa: SLF001  see above
        for layer in layers:
            carried = stateful(layer)
            if carried:
                layer.reset_state()
            # The states of a recurrent layer are not among its variables.
            states = layer.states or () if carried else ()
            for variable in (*layer.non_trainable_variables, *states):
                held[id(variable)] = (layer.name, variable)
        self._held = [(name, variable, variable.numpy()) for name, variable in held.values()]

    def restore(self) -> None:
        """Set back what has changed, and remember whose it is."""
        for name, variable, value in self._held:
            if not np.array_equal(variable.numpy(), value):
                self.layers[name] = None
                variable.assign(value)


def stateful(layer: Any) -> bool:
    """Tell whether a layer is a Keras 3 recurrent layer made with `stateful=True`."""
    return bool(getattr(layer, "stateful", False)) and hasattr(layer, "reset_state")
