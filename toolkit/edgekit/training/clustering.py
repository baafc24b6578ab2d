"""Weight clustering of Keras models: few distinct weights per kernel, trained as centroids.

The result is a plain Keras model. Its file is as large as before; what shrinks is its compressed
size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgekit.choices import Initial
from edgekit.errors import UsageError
from edgekit.numerics.palette import Palette, palette
from edgekit.recipe import Cluster
from edgekit.training.kernels import Kernel, kernels_of, left_alone, nothing_to
from edgekit.training.learner import after_each_step

MANY = 64
"""A kernel with more distinct weights than this does not count as clustered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """What clustering did to a model.

    Attributes:
        distinct: Every kernel, clustered or not -> number of its distinct weights.
        left_alone: Kernel -> why it was not clustered.
    """

    distinct: Mapping[str, int]
    left_alone: Mapping[str, str]


def cluster(
    model: Any, clusters: int, *, initial: Initial = "linear", exclude: Sequence[str] = ()
) -> Clustering:
    """Replace each weight by the nearest of its kernel's palette, in place, without training.

    Args:
        model: Any built Keras model, subclassed ones included.
        clusters: Largest number of clusters per kernel, 0 included where the kernel has zeros.
        initial: Centroid initialization of k-means: `linear` over the range, or by `density`.
        exclude: Names, or regular expressions for whole names, of layers to leave alone, or of
            layers and models they are part of.

    Raises:
        UsageError: There are fewer than 2 clusters, or an exclusion matches no layer.
        ModelError: There is no kernel to cluster.
    """
    chosen, left = _choose(model, clusters, exclude)
    for kernel in chosen:
        found = _palette(kernel, clusters, initial)
        kernel.variable.assign(found.centroids[found.codes])
    return Clustering(distinct=distinct_of(model), left_alone=left)


def clustering_callback(
    clusters: int, *, initial: Initial = "linear", exclude: Sequence[str] = ()
) -> Any:
    """Make a Keras callback that trains palettes during `model.fit`, with any optimizer.

    Weights are assigned to clusters when training starts, and stay in them. After every batch the
    weights of a cluster are set to their mean, so that its centroid follows the mean of their
    updates (Han et al. 2016, "Deep Compression", section 3.3, where it follows the sum of the
    gradients). Weights that are zero stay zero. An interrupted run resumes from its saved weights,
    from which the palettes are recovered exactly.

    Args:
        clusters: As for `cluster`.
        initial: As for `cluster`.
        exclude: As for `cluster`.

    Returns:
        The callback; its method `clustering()` returns the result so far (a `Clustering`).

    Raises:
        UsageError: There are fewer than 2 clusters. When training starts: an exclusion matches no
            layer.
        ModelError: When training starts: there is no kernel to cluster.
    """
    _check(clusters)

    def choose(model: Any) -> tuple[list[tuple[Kernel, Palette]], dict[str, str]]:
        chosen, left = _choose(model, clusters, exclude)
        return [(kernel, _palette(kernel, clusters, initial)) for kernel in chosen], left

    return _tying_callback(choose)


def keeping_callbacks(layers: Sequence[Any]) -> list[Any]:
    """Make the Keras callback that keeps the clusters of kernels that are clustered, if any is.

    Args:
        layers: Layers whose kernels are kept so; each cluster's weight is trained.
    """
    found = [
        (kernel, _palette(kernel, clusters, "linear"))
        for kernel in kernels_of(SimpleNamespace(layers=layers))
        if (clusters := _clusters(kernel)) is not None
    ]
    return [_tying_callback(lambda _: (found, {}))] if found else []


def _tying_callback(
    choose: Callable[[Any], tuple[list[tuple[Kernel, Palette]], dict[str, str]]],
) -> Any:
    """Make a Keras callback that keeps the weights of each cluster equal.

    Args:
        choose: Given the model when training starts, returns the kernels and their clusters, and
            why others are left alone.
    """
    import keras
    import tensorflow as tf

    class ClusterCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        """Keeps the weights of a cluster equal."""

        def clustering(self) -> Clustering:
            return Clustering(distinct=distinct_of(self.model), left_alone=self._left_alone)

        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  Keras's signature
            chosen, self._left_alone = choose(self.model)
            tied = [_Tied(*each) for each in chosen]

            def tie() -> None:
                for one in tied:
                    one.tie()

            self._tie = tf.function(tie, autograph=False)
            self._tie()
            self._after_batch = after_each_step(self.model, tie)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self._after_batch()

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            self._tie()

    return ClusterCallback()


def distinct_of(model: Any) -> dict[str, int]:
    """Return kernel -> number of its distinct weights."""
    return {kernel.name: len(np.unique(kernel.read())) for kernel in kernels_of(model)}


def palettes_of(model: Any) -> dict[str, int]:
    """Return kernel -> number of its distinct weights, at least 4, where it is clustered.

    Args:
        model: A model, or what else has a list `layers`; names are those of `Kernel.name`.
    """
    return {
        kernel.name: max(4, distinct)
        for kernel in kernels_of(model)
        if (distinct := _clusters(kernel)) is not None
    }


def _clusters(kernel: Kernel) -> int | None:
    """Return the number of distinct weights of a kernel, or None where it is not clustered."""
    values = kernel.read()
    distinct = len(np.unique(values))
    return distinct if 2 <= distinct <= MANY and values.size >= 8 * distinct else None


class _Tied:
    """A kernel whose assignment to clusters is fixed.

    Args:
        kernel: The kernel.
        found: Centroids, and the cluster of each weight.
    """

    def __init__(self, kernel: Kernel, found: Palette) -> None:
        import keras

        counts = np.bincount(found.codes.ravel(), minlength=len(found.centroids))
        share = 1 / np.maximum(counts, 1).astype(np.float32)
        if found.holds_zero:
            share[0] = 0
        self._variable = kernel.variable
        self._clusters = len(found.centroids)
        self._codes = keras.ops.convert_to_tensor(found.codes)
        self._flat = keras.ops.reshape(self._codes, (-1,))
        self._share = keras.ops.convert_to_tensor(share)

    def tie(self) -> None:
        """Set the weights of each cluster to their mean."""
        from keras import ops

        flat = ops.cast(ops.reshape(self._variable, (-1,)), "float32")
        sums = ops.segment_sum(flat, self._flat, num_segments=self._clusters)
        # A negative sum times zero is -0.0, whose bits are not all zero.
        centroids = ops.where(self._share == 0, 0.0, sums * self._share)
        self._variable.assign(ops.take(centroids, self._codes))


def _palette(kernel: Kernel, clusters: int, initial: Initial) -> Palette:
    return palette(np.asarray(kernel.variable, np.float32), clusters, initial)


def _choose(
    model: Any, clusters: int, exclude: Sequence[str]
) -> tuple[list[Kernel], dict[str, str]]:
    """Find the kernels to cluster, and why others are skipped."""
    _check(clusters)
    chosen, left = [], {}
    for kernel in kernels_of(model, exclude):
        reason = left_alone(kernel, exclude)
        if reason is None and int(np.prod(kernel.variable.shape)) <= clusters:
            reason = f"it has no more than {clusters} weights"
        if reason is None:
            chosen.append(kernel)
        else:
            left[kernel.name] = reason
    if not chosen:
        raise nothing_to(Cluster.kind, left, "Ask for fewer clusters.")
    return chosen, left


def _check(clusters: int) -> None:
    if clusters < 2:
        raise UsageError(
            f"{clusters} is too small a number of clusters.", hint="Give 2 or more, such as 16."
        )
