"""Pictures of examples as data URIs: the sample itself, and masks to be laid over it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from edgekit.records import Array, Example

LARGEST: Final = 200
"""Pixels of the longer side."""
SMALL: Final = 64
"""Pictures up to this size are stored without loss: a viewer sees their single pixels."""
# M. Okabe, K. Ito, "Color Universal Design" (2008): told apart by colour-blind people. Class 0,
# mostly the background, is left clear.
CLASS_COLOURS: Final = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff",
)  # fmt: skip
IGNORED_COLOUR: Final = "#808080"
INSIDE, OUTLINE = 115, 255
"""Opacity of a class, and of the pixels at its border."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplePictures:
    """The pictures of an example.

    Attributes:
        size: Width and height of `picture`.
        picture: The sample, as a data URI.
        masks: For each answer its mask, of the sample's aspect, or "".
    """

    size: tuple[int, int]
    picture: str
    masks: tuple[str, ...]


def class_colour(number: int) -> str:
    """Return the colour of a class from 1, or of what is ignored."""
    return IGNORED_COLOUR if number < 0 else CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def draw_examples(examples: Sequence[Example]) -> tuple[ExamplePictures, ...]:
    """Encode the pictures of examples, each of a few kB."""
    return tuple(map(_pictures, examples))


def _pictures(example: Example) -> ExamplePictures:
    image = Image.fromarray(example.picture)
    small = max(image.size) <= SMALL
    image.thumbnail((LARGEST, LARGEST))
    return ExamplePictures(
        size=image.size,
        picture=_uri(image, lossless=small),
        masks=tuple(
            "" if answer.mask is None else _uri(_overlay(answer.mask), lossless=True)
            for answer in example.answers
        ),
    )


def _overlay(mask: Array) -> Image.Image:
    """Colour classes from 1, their borders most; `[h, w]` class numbers."""
    step = -(-max(mask.shape) // (2 * LARGEST))
    mask = np.asarray(mask[::step, ::step], np.int64)
    layers = np.zeros((*mask.shape, 4), np.uint8)
    padded = np.pad(mask, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.any([one != mask for one in neighbours], axis=0)
    for number in np.unique(mask[mask != 0]).tolist():
        here = mask == number
        layers[here, :3] = tuple(bytes.fromhex(class_colour(number)[1:]))
        layers[here, 3] = np.where(border[here], OUTLINE, INSIDE)
    return Image.fromarray(layers)


def _uri(image: Image.Image, *, lossless: bool) -> str:
    stream = io.BytesIO()
    image.save(stream, "WEBP", lossless=lossless, quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
