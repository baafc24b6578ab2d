"""How Keras and TensorFlow read pictures, asked in the process that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.worker import Session


def read_as_keras(
    session: Session, folder: Path, size: tuple[int, int], colours: str
) -> dict[str, np.ndarray]:
    """Return float32 `[height, width, channels]` of every picture, by path relative to `folder`.

    Args:
        session: Given by the worker.
        folder: Pictures, not sorted into classes.
        size: Height and width.
        colours: Keras's `color_mode`.
    """
    import keras

    dataset = keras.utils.image_dataset_from_directory(
        folder,
        label_mode=None,
        color_mode=colours,
        batch_size=1,
        image_size=size,
        shuffle=False,
        verbose=False,
    )
    return {
        str(Path(path).relative_to(folder)): pixels.numpy()[0]
        for path, pixels in zip(dataset.file_paths, dataset, strict=True)
    }


def list_as_keras(session: Session, folder: Path) -> tuple[list[str], list[int], list[str]]:
    """Return paths relative to `folder`, classes, and names of the classes."""
    import keras

    dataset = keras.utils.image_dataset_from_directory(
        folder, batch_size=1, image_size=(8, 8), shuffle=False, verbose=False, follow_links=True
    )
    paths = [str(Path(path).relative_to(folder)) for path in dataset.file_paths]
    return paths, [int(y.numpy()[0]) for _, y in dataset], dataset.class_names


def decode_accurately(session: Session, path: Path, channels: int) -> np.ndarray:
    """Decode a JPEG with the slower of libjpeg's integer transforms."""
    import tensorflow as tf

    content = tf.io.read_file(str(path))
    return np.asarray(
        tf.io.decode_jpeg(content, channels=channels, dct_method="INTEGER_ACCURATE").numpy()
    )
