"""Boxes of pictures become boxes of what the model sees of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.data.formats.images import ImageStore
from edgekit.data.store import ArrayStore, Reader, Rows, Store
from edgekit.evaluation.tasks.detection import are_boxes
from edgekit.records import Array
from edgekit_runner import as_boxes, boxes_in_window


def as_seen(reader: Reader) -> tuple[Reader, str | None]:
    """Return the reader with the boxes of its stored pictures cropped as the pictures are.

    From the targets as stored: those of the reader may have been cropped before.

    Returns:
        The reader, and a note where boxes are cut or the sizes of pictures are not known.
    """
    stored, spec = reader.store.targets, reader.preprocessing
    if stored is None or spec.get("fit", "stretch") != "crop" or not are_boxes(np.asarray(stored)):
        return reader, None
    boxes = as_boxes(stored)
    sizes = _sizes(reader.store, reader.index, spec)
    if sizes is None:
        return reader, (
            "Pictures are cropped, but their sizes are not known: boxes are taken for those of "
            "the cropped ones."
        )
    seen = boxes.copy()
    for row, (height, width) in zip(reader.index, sizes, strict=True):
        seen[row] = boxes_in_window(boxes[row], int(height), int(width), spec)
    there = boxes[reader.index, :, 4] >= 0
    cut = int((there & (seen[reader.index, :, 4] < 0)).sum())
    small = int((there & (seen[reader.index, :, 5] > boxes[reader.index, :, 5])).sum())
    parts = [
        f"{cut:,} boxes lie outside of the cropped pictures and were left out" if cut else "",
        f"{small:,} of which less than a quarter is left are ignored" if small else "",
    ]
    said = "; ".join(part for part in parts if part)
    return replace(reader, targets=seen), f"{said}." if said else None


def _sizes(store: Store, rows: Rows, spec: Mapping[str, Any]) -> Array | None:
    """Return height and width of the stored pictures, `[n, 2]`; None where that is not known."""
    if isinstance(store, ImageStore):
        return store.sizes(rows, upright=bool(spec.get("orientation")))
    if isinstance(store, ArrayStore) and len(store.inputs) == 1:
        (values,) = store.inputs.values()
        if len(values.shape) in (3, 4):
            return np.tile(np.asarray(values.shape[1:3]), (len(rows), 1))
    return None
