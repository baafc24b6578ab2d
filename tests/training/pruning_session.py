"""Prune the demo's model and print the results as JSON: run by test_pruning.py."""

from __future__ import annotations

import json
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgekit.data import open_data
from edgekit.errors import EdgekitError
from edgekit.numerics.sparsity import Constant, PolynomialDecay
from edgekit.targets import xnnpack_sparse
from edgekit.tflite import read, write
from edgekit.tflite.nodes import nodes
from edgekit.tflite.pruning_estimate import estimate_pruning
from edgekit.tflite.sparse import store_sparse
from edgekit.training.pruning import prune, pruning_callback, sparsity_of
from edgekit.worker import InProcess

FOLDER, DEMO = map(Path, sys.argv[1:])
DIGITS = open_data("digits")
BATCH = 32


def arrays(split: str) -> tuple[Any, Any]:
    samples = getattr(DIGITS, split)
    batch = samples.read(np.arange(samples.n))
    (values,) = batch.inputs.values()
    return np.asarray(values, np.float32), batch.targets


TRAIN, TEST = arrays("train"), arrays("test")
STEPS = -(-len(TRAIN[0]) // BATCH)


def demo() -> Any:
    return keras.models.load_model(DEMO, compile=False)


def accuracy(model: Any) -> float:
    return float(np.mean(model.predict(TEST[0], verbose=0).argmax(axis=1) == TEST[1]))


def kernels(model: Any) -> dict[str, Any]:
    return {v.path: v.numpy() for v in model.trainable_weights if v.name == "kernel"}


def share(model: Any) -> float:
    flat = np.concatenate([kernel.ravel() for kernel in kernels(model).values()])
    return float(np.mean(flat == 0))


class Watch(keras.callbacks.Callback):
    """Checks after every batch whether a zero has become nonzero."""

    def __init__(self) -> None:
        super().__init__()
        self.zeros: dict[str, Any] = {}
        self.revived = 0
        self.shares: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002  Keras's
        for name, kernel in kernels(self.model).items():
            self.revived += int(np.sum(self.zeros.get(name, kernel == 0) & (kernel != 0)))
            self.zeros[name] = kernel == 0
        self.shares.append(share(self.model))


def fit(
    model: Any, optimizer: Any, callbacks: Sequence[Any], epochs: int = 3, **compiling: Any
) -> None:
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False, **compiling)
    # Made by the first step, its variables have TensorFlow trace that step twice.
    model.optimizer.build(model.trainable_weights)
    keras.utils.set_random_seed(0)
    model.fit(*TRAIN, batch_size=BATCH, epochs=epochs, callbacks=callbacks, verbose=0)


def rise(final: float, epochs: int = 2) -> PolynomialDecay:
    return PolynomialDecay(initial=0.0, final=final, begin=5, end=epochs * STEPS)


def one_shot() -> dict[str, Any]:
    found = {}
    for scope in ("global", "layer"):
        model = demo()
        before = kernels(model)
        report = prune(model, 0.5, scope=scope)
        after = kernels(model)
        found[scope] = {
            "off by": {
                name: int(np.sum(kernel == 0)) - 0.5 * kernel.size for name, kernel in after.items()
            },
            "total off by": sum(np.sum(k == 0) - 0.5 * k.size for k in after.values()),
            "rest unchanged": all(
                np.array_equal(k[k != 0], before[name][k != 0]) for name, k in after.items()
            ),
            "smaller dropped": all(
                np.abs(before[name][k == 0]).max() <= np.abs(k[k != 0]).min()
                for name, k in after.items()
            ),
            "share": [report.share, share(model)],
            "layers": [dict(report.layers), sparsity_of(model)],
            "left dense": dict(report.left_dense),
        }
    return found


def fine_tuned(optimizer: Any, **compiling: Any) -> dict[str, Any]:
    model, watch = demo(), Watch()
    callback = pruning_callback(rise(0.5), every=5)
    fit(model, optimizer, [callback, watch], **compiling)
    model.save(FOLDER / "pruned.keras")
    loaded = keras.models.load_model(FOLDER / "pruned.keras")
    values = np.concatenate([kernel.ravel() for kernel in kernels(loaded).values()])
    return {
        "accuracy": accuracy(loaded),
        "zeros": int(np.sum(values == 0)),
        "n": values.size,
        "negative zeros": int(np.sum((values == 0) & np.signbit(values))),
        "revived": watch.revived,
        "shares": [watch.shares[0], watch.shares[STEPS // 2], watch.shares[-1]],
        "callback": [callback.step, callback.finished, callback.pruning().share],
        "plain": loaded.get_config() == demo().get_config(),
        "biases": int(np.sum(loaded.get_layer("output").bias.numpy() == 0)),
    }


def two_of_four() -> dict[str, Any]:
    model = demo()
    callback = pruning_callback(rise(0.5), pattern="2:4")
    fit(model, keras.optimizers.Adam(1e-3), [callback])
    most = {}
    for name, kernel in kernels(model).items():
        inputs = np.moveaxis(kernel, -2, -1)
        if inputs.shape[-1] % 4 == 0:
            groups = inputs.reshape(-1, 4)
            most[name] = [int(n) for n in np.unique((groups != 0).sum(axis=1))]
    return {
        "accuracy": accuracy(model),
        "weights in a group": most,
        "left dense": dict(callback.pruning().left_dense),
        "layers": sparsity_of(model),
    }


def blocks() -> dict[str, Any]:
    model = demo()
    prune(model, 0.5, pattern="block 1x4", exclude=["conv1_.*"])
    whole = {}
    for name, kernel in kernels(model).items():
        if "conv1" not in name:
            groups = np.moveaxis(kernel, -2, -1).reshape(-1, 4)
            whole[name] = [int(n) for n in np.unique((groups != 0).sum(axis=1))]
    return {"weights in a block": whole, "layers": sparsity_of(model)}


def excluded() -> dict[str, Any]:
    model, watch = demo(), Watch()
    callback = pruning_callback(Constant(0.8), exclude=["output", "conv1_.*"])
    fit(model, keras.optimizers.Adam(1e-3), [callback, watch], epochs=1)
    return {"layers": sparsity_of(model), "left dense": dict(callback.pruning().left_dense)}


def resumed() -> dict[str, Any]:
    model, watch = demo(), Watch()
    first = pruning_callback(rise(0.6), every=5)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit(model, keras.optimizers.Adam(1e-3), [first], epochs=1)
    model.save(FOLDER / "interrupted.keras")
    halfway = share(model)
    model = keras.models.load_model(FOLDER / "interrupted.keras")
    watch.zeros = {name: kernel == 0 for name, kernel in kernels(model).items()}
    second = pruning_callback(rise(0.6), every=5, initial_step=first.step)
    keras.utils.set_random_seed(1)
    model.fit(*TRAIN, batch_size=BATCH, epochs=2, callbacks=[second, watch], verbose=0)
    return {
        "warning": [str(warning.message) for warning in told],
        "steps": [first.step, second.step],
        "shares": [halfway, watch.shares[0], share(model)],
        "expected": [rise(0.6)(STEPS), 0.6],
        "revived": watch.revived,
    }


def held() -> dict[str, Any]:
    """Zeros survive a later training, one that was traced before, and several steps at once."""
    model, watch = demo(), Watch()
    prune(model, 0.7)
    watch.zeros = {name: kernel == 0 for name, kernel in kernels(model).items()}
    fit(model, keras.optimizers.SGD(0.01, momentum=0.9), [], epochs=1)
    revived = share(model)
    prune(model, 0.7)
    watch.zeros = {}
    adam = keras.optimizers.Adam(1e-3, use_ema=True, ema_overwrite_frequency=None)
    callback = pruning_callback(Constant(0.0))
    fit(model, adam, [callback, watch], epochs=1, steps_per_execution=8)
    return {
        "without": revived,
        "with": share(model),
        "revived": watch.revived,
        "steps": callback.step,
    }


def by_hand() -> dict[str, Any]:
    model = demo()
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    callback = pruning_callback(PolynomialDecay(initial=0.2, final=0.4, begin=0, end=8), every=2)
    callback.set_model(model)
    callback.on_train_begin()
    shares = [share(model)]
    for epoch in range(2):
        callback.on_epoch_begin(epoch)
        for batch in range(5):
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            model.train_on_batch(TRAIN[0][rows], TRAIN[1][rows])
            callback.on_train_batch_end(batch)
            shares.append(share(model))
    callback.on_train_end()
    return {"shares": shares, "step": callback.step}


def deflated() -> dict[str, int]:
    found = {}
    for sparsity in (0.0, 0.5, 0.8):
        model = demo()
        prune(model, sparsity)
        path = FOLDER / f"{sparsity}.tflite"
        with InProcess() as tensorflow:
            tensorflow.load(model)
            tensorflow.lower(path)
        found[str(sparsity)] = len(zlib.compress(path.read_bytes(), 9))
        found[f"stored {sparsity}"] = path.stat().st_size
    return found


def converted(model: Any, *, sparse: bool) -> bytes:
    shape = (1, *model.inputs[0].shape[1:])
    traced = tf.function(model).get_concrete_function(tf.TensorSpec(shape))
    frozen = convert_variables_to_constants_v2(traced)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    return bytes(converter.convert())


def mobile() -> Any:
    """A network as XNNPACK's sparse kernels want it; its weights do not matter."""
    of = keras.layers
    image = of.Input((32, 32, 3))
    x = of.Conv2D(8, 3, strides=2, activation="relu")(of.ZeroPadding2D(1)(image))
    y = of.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = of.Add()([x, of.Conv2D(8, 1)(of.ReLU()(of.Conv2D(300, 1)(y)))])
    x = of.DepthwiseConv2D(3, strides=2)(of.ZeroPadding2D(1)(x))
    x = of.GlobalAveragePooling2D()(of.Conv2D(16, 1, activation="relu6")(x))
    return keras.Model(image, of.Dense(10)(x))


def payoff() -> dict[str, Any]:
    model = demo()
    plain = converted(model, sparse=False)
    found: dict[str, Any] = {"sizes": [], "converter's": [], "predicted": []}
    for sparsity in (0.5, 0.8):
        prune(model, sparsity, scope="layer")
        pruned = converted(model, sparse=False)
        sparse, _ = store_sparse(read(pruned))
        found["sizes"].append([len(zlib.compress(pruned, 9)), len(write(sparse))])
        found["converter's"].append(len(converted(model, sparse=True)))
        told = estimate_pruning(plain, sparsity)
        found["predicted"].append([told.pruned_deflated_bytes, told.sparse_bytes])
    model = mobile()
    plain = converted(model, sparse=False)
    found["before"] = [estimate_pruning(plain, share).faster.reason for share in (0.6, 0.8)]
    prune(model, 0.8, scope="layer")
    found["after"] = [
        xnnpack_sparse.fit(nodes(read(converted(model, sparse=sparse)))).reason
        for sparse in (False, True)
    ]
    return found


class Own(keras.Model):
    """A model without a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.layers.Dense(8, activation="relu")
        self.second = keras.layers.Dense(4)

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs))


def kinds() -> dict[str, Any]:
    of = keras.layers
    inner = keras.Sequential([of.Input((8, 8, 4)), of.Conv2D(8, 3, name="same")], name="inner")
    image = of.Input((8, 8, 4))
    x = inner(image)
    x = of.DepthwiseConv2D(3, name="depthwise")(x)
    x = of.SeparableConv2D(8, 3, name="separable")(x)
    x = of.Conv2DTranspose(6, 3, name="transpose")(x)
    x = of.Conv2D(4, 1, name="same")(x)
    x = of.Conv2D(4, 1, name="frozen", trainable=False)(x)
    x = of.Reshape((-1, 8))(x)
    x = of.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = of.TimeDistributed(of.Dense(8, name="inside"), name="each")(x)
    x = of.Bidirectional(of.LSTM(4, name="lstm"), name="both")(x)
    x = of.Dense(4, kernel_initializer="zeros", name="zeros")(x)
    tokens = of.Input((3,))
    y = of.GlobalAveragePooling1D()(of.Embedding(10, 4, name="embedding")(tokens))
    model = keras.Model([image, tokens], of.Concatenate()([x, y]))
    unstructured = prune(model, 0.5, scope="layer")
    patterned = prune(model, 0.5, pattern="2:4", exclude=["both", "inner"])
    kernel = model.get_layer("transpose").kernel.numpy()
    own = Own()
    own(np.zeros((1, 16), np.float32))
    return {
        "unstructured": [dict(unstructured.layers), dict(unstructured.left_dense)],
        "patterned": [dict(patterned.layers), dict(patterned.left_dense)],
        "transposed groups": int((kernel.reshape(-1, 4) != 0).sum(axis=1).max()),
        "subclassed": dict(prune(own, 0.5, pattern="2:4").layers),
    }


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except EdgekitError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def refusals() -> dict[str, str]:
    tiny = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    return {
        "no layer": error_of(lambda: prune(demo(), 0.5, exclude=["conv9"])),
        "no expression": error_of(lambda: prune(demo(), 0.5, exclude=["conv("])),
        "all": error_of(lambda: prune(demo(), 1.0)),
        "pattern": error_of(lambda: prune(demo(), 0.5, pattern="4:2")),
        "share": error_of(lambda: pruning_callback(Constant(0.8), pattern="2:4")),
        "every": error_of(lambda: pruning_callback(Constant(0.8), every=0)),
        "none fits": error_of(lambda: prune(tiny, 0.5, pattern="2:4")),
        "not built": error_of(lambda: prune(Own(), 0.5)),
    }


tf.config.experimental.enable_op_determinism()
answer = {
    "float": accuracy(demo()),
    "one shot": one_shot(),
    "adam": fine_tuned(keras.optimizers.Adam(1e-3)),
    "sgd": fine_tuned(keras.optimizers.SGD(0.01, momentum=0.9)),
    "2:4": two_of_four(),
    "blocks": blocks(),
    "excluded": excluded(),
    "resumed": resumed(),
    "held": held(),
    "by hand": by_hand(),
    "deflated": deflated(),
    "payoff": payoff(),
    "kinds": kinds(),
    "refusals": refusals(),
}
print(json.dumps(answer))
