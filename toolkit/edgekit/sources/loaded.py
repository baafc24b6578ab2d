"""A loaded model as a function from tensors to tensors, whatever its file format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.records import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that can be called.

    Attributes:
        source: Its description, with batch size 1 in all shapes.
        model: The Keras model, or the object restored from a SavedModel.
        call: Tensors in the order of `source.inputs` -> tensors in that of `source.outputs`,
            for inference.
        loss_code: Code in the loss or metrics of the file, which is not run; None where there is
            none, or where it is trusted.
        notes: What was changed on loading, for the user.
        restore: Name of a layer -> arguments that were changed for training, and are set back in
            the file that a pass writes.
    """

    source: Source
    model: Any
    call: Callable[[Sequence[Any]], Sequence[Any]]
    loss_code: str | None = None
    notes: tuple[str, ...] = ()
    restore: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
