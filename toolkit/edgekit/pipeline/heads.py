"""Where the head of a model is declared: by the user, in its manifest, or in a file beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from edgekit.data.heads import bound_head, head_beside
from edgekit.records import DataRequest, Dataset, TensorSpec

T = TypeVar("T", Dataset, DataRequest)


def with_head(data: T, model: Path | Any, described: Mapping[str, Any] | None = None) -> T:
    """Return data with the head of a model, unless they declare one; a file beside it is named.

    Args:
        data: Not bound to the model.
        model: Its file or folder, or a live model.
        described: Its manifest, where it has one.

    Raises:
        DataError: The file beside it is invalid.
    """
    if data.head is not None:
        return data
    head, note = _found(model, described)
    if isinstance(data, Dataset) and note:
        return replace(data, head=head, origins=(*data.origins, note))
    return replace(data, head=head)


def head_for(
    model: Path | Any,
    declared: Mapping[str, Any] | None,
    described: Mapping[str, Any] | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> Mapping[str, Any] | None:
    """Return the head of a model without data, None where nothing but a shape tells of one.

    Raises:
        DataError: The file beside it is invalid, or does not fit the outputs.
    """
    head = declared or _found(model, described)[0]
    if head is None:
        return None
    bound, _ = bound_head(head, inputs, outputs)
    return None if bound is None else bound.table


def _found(
    model: Path | Any, described: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, str | None]:
    told = (described or {}).get("head")
    if isinstance(told, Mapping):
        return told, None
    beside = head_beside(model) if isinstance(model, Path) else None
    if beside is None:
        return None, None
    head, name = beside
    return head, f"The detection head was read from {name}."
