"""Small models of every kind, made in a TensorFlow process for the tests of several rooms."""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

from edgekit.records import Source
from edgekit.worker import Session

OWN_LAYERS = '''
import keras


class Scale(keras.layers.Layer):
    """Multiplies by a learned factor for each channel."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="random_normal")

    def call(self, x):
        return x * self.factor


def triple(x):
    return 3.0 * x


class Pair(keras.Model):
    """A subclassed model with a dictionary in and one out."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.left = keras.layers.Dense(3)
        self.right = keras.layers.Dense(2)

    def call(self, inputs):
        return {"wide": self.left(inputs["b"]), "narrow": self.right(inputs["a"])}
'''


def make(session: Session, folder: Path) -> None:
    """Save one model of each kind into `folder`."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    sys.path.insert(0, str(folder))
    (folder / "own_layers.py").write_text(OWN_LAYERS)
    own = importlib.import_module("own_layers")

    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Flatten(name="flat")(x)
    functional = keras.Model(image, layers.Dense(5, name="logits")(x), name="net")
    functional.save(folder / "functional.keras")
    functional.save(folder / "functional.h5")
    functional.save_weights(folder / "only.weights.h5")
    functional.export(folder / "exported", verbose=False)

    sequential = keras.Sequential([layers.Dense(6, activation="tanh"), layers.Dense(2)])
    sequential(keras.ops.zeros((2, 4)))
    sequential.save(folder / "sequential.keras")

    zeta, alpha = keras.Input((6,), name="zeta"), keras.Input((4,), name="alpha")
    both = layers.Concatenate()([zeta, alpha])
    first = layers.Dense(3, name="first")(both)
    second = layers.Dense(2, name="second")(alpha)
    keras.Model([zeta, alpha], [second, first]).save(folder / "lists.keras")
    keyed = keras.Model({"zeta": zeta, "alpha": alpha}, {"y": first, "b": second})
    keyed.save(folder / "keyed.keras")
    keyed.export(folder / "exported_pair", verbose=False)

    pair = own.Pair()
    pair({"a": keras.ops.zeros((2, 3)), "b": keras.ops.zeros((2, 4))})
    pair.save(folder / "subclassed.keras")

    open_size = keras.Input((None, None, 1), name="picture")
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(open_size))
    keras.Model(open_size, pooled).save(folder / "open_size.keras")

    flat = keras.Input((4,), name="x")
    for suffix in (".keras", ".h5"):
        keras.Model(flat, own.Scale()(flat)).save(folder / f"custom{suffix}")
    keras.Model(flat, layers.Dense(2, activation=own.triple)(flat)).save(folder / "function.keras")
    keras.Model(flat, layers.Lambda(lambda v: v * 2)(flat)).save(folder / "lambda.keras")
    keras.Model(flat, layers.Dense(2)(flat)).save(folder / "dense.keras")

    sequence = keras.Input((7, 3), name="sequence")
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both_ways")(sequence)
    keras.Model(sequence, layers.GRU(3, name="gru")(x)).save(folder / "recurrent.keras")

    depthwise = keras.Input((6, 6, 3), name="image")
    x = layers.DepthwiseConv2D(3, name="depthwise")(depthwise)
    keras.Model(depthwise, layers.Flatten()(x)).save(folder / "depthwise.h5")
    _add_groups(folder / "depthwise.h5")
    _say_keras_2(folder / "custom.keras", folder / "older.keras")

    # From here on the classes are as unknown as a user's are.
    sys.path.remove(str(folder))
    del sys.modules["own_layers"]


def make_legacy(session: Session, folder: Path) -> None:
    """Save models with Keras 2."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    sequence = layers.Input((7, 3), name="sequence")
    x = layers.LSTM(4, name="lstm")(sequence)
    model = tf_keras.Model(sequence, layers.Dense(2, name="out")(x))
    model.save(folder / "legacy.keras")
    model.save(folder / "legacy.h5")
    model.save(folder / "legacy_saved", save_format="tf")


def make_with_code(session: Session, folder: Path) -> None:
    """Save models that leave the file `the-code-ran` here; SavedModels, hostile and harmless."""
    import keras
    import tensorflow as tf
    from keras import layers

    x = keras.Input((4,), name="x")
    touch = layers.Lambda(lambda v: __import__("pathlib").Path("the-code-ran").touch() or v)
    model = keras.Model(x, touch(x))
    model.save(folder / "lambda.keras")
    model.save(folder / "lambda.h5")
    dense = keras.Model(x, layers.Dense(2)(x))
    dense.compile(
        loss=lambda t, y: (
            (t - y) ** 2 if __import__("pathlib").Path("the-code-ran").touch() is None else t
        )
    )
    dense.save(folder / "lambda_loss.keras")
    dense.save(folder / "lambda_loss.h5")
    dense.compile(loss=lambda t, y: {}[t.name, y.name])
    dense.save(folder / "failing_loss.keras")
    dense.export(folder / "functional", verbose=False)
    words = keras.Input((1,), dtype="int64")
    lookup = keras.Model(words, layers.IntegerLookup(vocabulary=[3, 5])(words))
    lookup.export(folder / "vocabulary", verbose=False)

    prefix = str(folder / "variables")

    def restored() -> object:
        return tf.raw_ops.RestoreV2(
            prefix=prefix, tensor_names=["v"], shape_and_slices=[""], dtypes=[tf.float32]
        )[0]

    def saved(v: object) -> object:
        save = tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=["v"], shape_and_slices=[""], tensors=[v]
        )
        with tf.control_dependencies([save]):
            return tf.identity(v)

    def written(v: object) -> object:
        with tf.control_dependencies([tf.io.write_file("the-code-ran", "")]):
            return tf.identity(v)

    programs = {
        "writes": written,
        "reads": lambda v: v + tf.cast(tf.strings.length(tf.io.read_file(prefix)), tf.float32),
        "restores": lambda v: v + restored(),
        "saves": saved,
        "python": lambda v: tf.ensure_shape(tf.py_function(abs, [v], tf.float32), (None, 4)),
        "loop": lambda v: tf.while_loop(lambda _: True, lambda w: [w * 0.5], [v])[0],
    }
    for name, program in programs.items():
        _save_program(program, folder / name)
    _save_tables(folder)
    _save_first_version(folder / "tf1")


def make_legacy_with_code(session: Session, folder: Path) -> None:
    """Save models of Keras 2 with a Lambda that leaves a file, behind what Keras 3 cannot read."""
    import tf_keras
    from tf_keras import layers

    x = layers.Input((4,), name="x")
    y = layers.LSTM(3)(layers.Reshape((2, 2))(x))
    touch = layers.Lambda(lambda v: __import__("pathlib").Path("the-code-ran").touch() or v)
    model = tf_keras.Model(x, touch(y))
    model.save(folder / "lambda_2.h5")
    model.save(folder / "lambda_2.keras")
    model.save(folder / "lambda_2_saved", save_format="tf")


def _save_program(program: Any, path: Path, **parts: Any) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.variable = tf.Variable([1.0, 2.0, 3.0, 4.0])
    for name, part in parts.items():
        setattr(module, name, part)
    module.run = tf.function(
        lambda x: program(x * module.variable),
        input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")],
    )
    tf.saved_model.save(module, str(path), signatures=module.run)


def _save_tables(folder: Path) -> None:
    """One table that only looks up, and one whose initializer writes a file on loading."""
    import tensorflow as tf

    class Writing(tf.lookup.KeyValueTensorInitializer):
        def initialize(self, table: Any) -> Any:
            with tf.control_dependencies([tf.io.write_file("the-code-ran", "")]):
                return super().initialize(table)

    keys, values = tf.constant([1, 2], tf.int64), tf.constant([3, 4], tf.int64)
    for name, kind in (("table", tf.lookup.KeyValueTensorInitializer), ("writes_on_load", Writing)):
        table = tf.lookup.StaticHashTable(kind(keys, values), -1)

        def look_up(v: Any, table: Any = table) -> Any:
            return tf.cast(table.lookup(tf.cast(v, tf.int64)), tf.float32)

        _save_program(look_up, folder / name, table=table)


def _save_first_version(path: Path) -> None:
    """A SavedModel as TensorFlow 1 wrote it: a graph with a saver in it."""
    import tensorflow as tf

    one = tf.compat.v1
    with tf.Graph().as_default() as graph, one.Session(graph=graph) as session:
        x = one.placeholder(tf.float32, (None, 4), name="x")
        weights = one.get_variable("weights", (4, 2), use_resource=True)
        y = tf.matmul(x, weights)
        session.run(one.global_variables_initializer())
        one.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})


def load_with(session: Session, path: Path, custom: tuple[str, ...]) -> Source:
    """Load with custom modules, in a process whose worker was started without."""
    from edgekit import sources

    return sources.load(path, custom=custom).source


def load_without_tf_keras(session: Session, path: Path) -> Source:
    """Load where the extra for Keras 2 is not installed."""
    from unittest import mock

    from edgekit import sources

    with mock.patch("importlib.util.find_spec", return_value=None):
        return sources.load(path, custom=("own_layers",)).source


def process(session: Session) -> int:
    """Return the id of the process that answers."""
    return os.getpid()


def _add_groups(path: Path) -> None:
    """Write what Keras 2 wrote about DepthwiseConv2D."""
    import h5py

    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        old = '"depth_multiplier": 1'
        assert old in config
        file.attrs["model_config"] = config.replace(old, f'{old}, "groups": 1')


def _say_keras_2(source: Path, destination: Path) -> None:
    """Copy a file as if Keras 2 had written it, with a layer that Keras 3 cannot configure."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(destination, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "metadata.json":
                content = b'{"keras_version": "2.15.0"}'
            if name == "config.json":
                content = content.replace(b'"Scale"', b'"Functional"')
            new.writestr(name, content)
