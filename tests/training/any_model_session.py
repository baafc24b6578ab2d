"""Take models of many kinds through passes, as commands do, and print what came of it as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from keras import layers, ops

from edgekit.errors import EdgekitError
from edgekit.recipe import Cluster, PassStep, Prune, Qat, Shrink
from edgekit.records import DataRequest
from edgekit.training.finetuning import Tuning
from edgekit.worker import Session

FOLDER = Path(sys.argv[1])
SAMPLES = 40
random = np.random.default_rng(0)
keras.utils.set_random_seed(0)
LABELS = random.integers(0, 3, SAMPLES)
IMAGES = random.random((SAMPLES, 8, 8, 1), dtype=np.float32)
ROWS = random.random((SAMPLES, 6, 4), dtype=np.float32)
RAW = 1000 * ROWS + 500
TOKENS = random.integers(1, 20, (SAMPLES, 6))
TOKENS[:, 4:] = 0


def classes(features: Any, **options: Any) -> Any:
    return layers.Dense(3, activation="softmax", name="classes", **options)(features)


def masked_words() -> Any:
    words = keras.Input((None,), dtype="int64", name="words")
    features = layers.Embedding(20, 16, mask_zero=True)(words)
    return keras.Model(words, classes(layers.Bidirectional(layers.LSTM(8))(features)))


def masked_attention() -> Any:
    words = keras.Input((6,), dtype="int64", name="words")
    features = layers.Embedding(20, 16, mask_zero=True)(words)
    features = layers.MultiHeadAttention(2, 8, name="attention")(features, features)
    features = layers.GRU(8, name="memory")(layers.Dense(8)(features))
    return keras.Model(words, classes(features))


def transformer() -> Any:
    rows = keras.Input((6, 4))
    features = layers.BatchNormalization()(layers.Dense(16)(rows))
    normal = layers.LayerNormalization()(features)
    features = layers.MultiHeadAttention(4, 8, name="attention")(normal, normal) + features
    return keras.Model(rows, classes(layers.GlobalAveragePooling1D()(features)))


def open_picture() -> Any:
    """Nested, both with open sizes, as transfer learning has it."""
    inside = keras.Input((None, None, 16))
    body = keras.Model(inside, layers.Conv2D(16, 3, activation="relu")(inside), name="body")
    picture = keras.Input((None, None, 1), name="picture")
    features = body(layers.Conv2D(16, 3, activation="relu")(picture))
    return keras.Model(picture, classes(layers.GlobalAveragePooling2D()(features)))


def baked() -> Any:
    rows = keras.Input(batch_shape=(8, 6, 4))
    features = layers.Conv1D(16, 3, activation="relu")(rows)
    return keras.Model(rows, classes(ops.reshape(features, (8, 64))))


def stateful(batch: int | None) -> Any:
    rows = keras.Input(batch_shape=(batch, 6, 4), name="rows")
    features = layers.GRU(16, return_sequences=True, stateful=bool(batch), name="gru")(rows)
    features = layers.LSTM(16, stateful=bool(batch), name="lstm")(features)
    return keras.Model(rows, classes(features))


def half(policy: str) -> Any:
    keras.config.set_dtype_policy(policy)
    try:
        rows = keras.Input((6, 4))
        normal = layers.Normalization()
        normal.adapt(ROWS)
        inner = keras.Sequential(
            [keras.Input((6, 4)), layers.Dense(16), layers.BatchNormalization()], name="inner"
        )
        features = layers.LSTM(16)(layers.MultiHeadAttention(2, 8)(*[inner(normal(rows))] * 2))
        return keras.Model(rows, classes(features, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")


def adapted() -> Any:
    """With LoRA adapters, which were trained."""
    rows = keras.Input((6, 4))
    model = keras.Model(rows, classes(layers.Flatten()(layers.Dense(16, name="wide")(rows))))
    wide = model.get_layer("wide")
    wide.enable_lora(2)
    wide.lora_kernel_b.assign(random.normal(size=wide.lora_kernel_b.shape))
    return model


def coded() -> Any:
    """Quantized by Keras."""
    rows = keras.Input((6, 4))
    model = keras.Model(rows, classes(layers.Dense(16, name="wide")(layers.Flatten()(rows))))
    model.quantize("int8")
    return model


def compiled(loss: Any) -> Any:
    rows = keras.Input((6, 4))
    model = keras.Model(rows, classes(layers.Dense(16, name="wide")(layers.Flatten()(rows))))
    model.compile("sgd", loss)
    return model


def diverged() -> Any:
    model = compiled("sparse_categorical_crossentropy")
    model.get_layer("wide").bias.assign(np.full(16, np.nan))
    return model


def badly_named() -> Any:
    """A name that is no scope of TensorFlow's graphs."""
    rows = keras.Input((6, 4))
    return keras.Model(rows, classes(layers.Flatten()(layers.Dense(16, name="wide(1)")(rows))))


def adapted_statistics() -> Any:
    """Of raw numbers, with statistics that are weights, in a nested model."""
    rows, inside = keras.Input((6, 4)), keras.Input((6, 4))
    normal = layers.Normalization()
    normal.adapt(RAW)
    features = layers.Dense(16, activation="relu")(
        keras.Model(inside, normal(inside), name="front")(rows)
    )
    return keras.Model(rows, classes(layers.Flatten()(features)))


def without_input() -> Any:
    model = keras.Sequential(
        [
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model(IMAGES[:2])
    return model


def looked_up() -> Any:
    number = keras.Input((1,), dtype="int64", name="number")
    values = layers.IntegerLookup(vocabulary=[0, 1, 2], output_mode="one_hot", name="table")(number)
    return keras.Model(number, classes(layers.Dense(16, activation="relu")(values)))


def of_keras_2(*, recurrent: bool = False, coded: bool = False) -> Any:
    """Of Keras 2; Keras 3 refuses an argument of its recurrent layers, `time_major`."""
    rows = tf_keras.Input((6, 4))
    first = tf_keras.layers.LSTM(16) if recurrent else tf_keras.layers.Conv1D(16, 3)
    features = tf_keras.layers.Flatten()(tf_keras.layers.BatchNormalization()(first(rows)))
    features = tf.nn.relu(features) if coded else features
    return tf_keras.Model(rows, tf_keras.layers.Dense(3, activation="softmax")(features))


def saved(name: str, model: Any, samples: np.ndarray, suffix: str = ".keras") -> Path:
    path = FOLDER / f"{name}{suffix}"
    if suffix:
        model.save(path)
    elif isinstance(model, keras.Model):
        model.export(path, verbose=False)
    else:
        model.save(path, save_format="tf")
    np.savez(FOLDER / f"{name}.npz", x_train=samples, y_train=LABELS)
    return path


def passed(name: str, path: Path, samples: np.ndarray, step: PassStep) -> dict[str, Any]:
    """Run a pass without fine-tuning, then load what it wrote with plain Keras."""
    session, goal = Session(), FOLDER / f"{name}.{step.kind}.keras"
    tuning = Tuning(data=DataRequest(data=FOLDER / f"{name}.npz"), epochs=0)
    example = {"data": samples.shape}
    try:
        source = session.load(path, example=example, to_train=True)
        if name not in answer:  # once a kind
            session.predict({source.inputs[0].name: samples[:4]})
        done = session.transform(step, tuning, goal)
        after = session.load(goal, example=example)
        session.predict({after.inputs[0].name: samples[:4]})
        session.lower(FOLDER / "made.tflite")
    except EdgekitError as error:
        return {"error": [type(error).__name__, *str(error).splitlines()]}
    plain = keras.models.load_model(goal)
    every = [layer for layer in plain._flatten_layers() if hasattr(layer, "dtype_policy")]
    return {
        "facts": dict(done.facts),
        "loss": done.before["loss"],
        "after": done.after["loss"],
        "input": list(plain.inputs[0].shape),
        "stateful": [layer.name for layer in every if getattr(layer, "stateful", False)],
        "policies": sorted({layer.dtype_policy.name for layer in every} - {"int64"}),
        "heads": [layer.num_heads for layer in every if hasattr(layer, "num_heads")],
        "distinct": max(len(np.unique(v)) for v in plain.trainable_variables if v.name == "kernel"),
    }


def kept(path: Path, samples: np.ndarray) -> float:
    """The largest difference of the outputs once loaded for training from those of the file."""
    session = Session()
    source = session.load(path, example={"data": samples.shape}, to_train=True)
    (found,) = session.predict({source.inputs[0].name: samples}).values()
    model = keras.models.load_model(path)
    return float(np.abs(np.asarray(model(samples), np.float32) - found).max())


def error_of(work: Callable[[], object]) -> list[str]:
    try:
        work()
    except EdgekitError as error:
        return [type(error).__name__, *str(error).splitlines()]
    return []


PRUNE, SHRINK, CLUSTER = Prune(), Shrink(share=0.2, multiple=1), Cluster(clusters=8)
KINDS = {
    "masked words": (masked_words(), TOKENS, ".keras", (CLUSTER,)),
    "masked attention": (masked_attention(), TOKENS, ".keras", (Qat(),)),
    "transformer": (transformer(), ROWS, ".keras", (SHRINK, CLUSTER)),
    "open picture": (open_picture(), IMAGES, ".keras", (SHRINK, Qat())),
    "fixed batch": (baked(), ROWS, ".keras", (SHRINK, Qat())),
    "stateful": (stateful(1), ROWS, ".keras", (CLUSTER,)),
    "stateful batch": (stateful(4), ROWS, ".keras", (PRUNE,)),
    "float16": (half("mixed_float16"), ROWS, ".keras", (CLUSTER,)),
    "bfloat16": (half("mixed_bfloat16"), ROWS, ".keras", (PRUNE,)),
    "float16 h5": (half("mixed_float16"), ROWS, ".h5", (PRUNE,)),
    "squared errors": (compiled("mse"), ROWS, ".keras", (PRUNE,)),
    "focal": (compiled(keras.losses.CategoricalFocalCrossentropy()), ROWS, ".keras", (PRUNE,)),
    "badly named": (badly_named(), ROWS, ".keras", (PRUNE,)),
    "diverged": (diverged(), ROWS, ".keras", (PRUNE,)),
    "statistics": (adapted_statistics(), RAW, ".keras", (PRUNE, SHRINK, CLUSTER, Qat())),
    "adapted": (adapted(), ROWS, ".keras", (PRUNE, Qat())),
    "coded": (coded(), ROWS, ".keras", (PRUNE, Qat())),
    "without input": (without_input(), IMAGES, ".keras", (SHRINK, Qat())),
    "keras 2 h5": (of_keras_2(recurrent=True), ROWS, ".h5", (CLUSTER,)),
    "keras 2 saved": (of_keras_2(), ROWS, "", (PRUNE,)),
    "keras 2 code": (of_keras_2(coded=True), ROWS, ".h5", (PRUNE,)),
    "exported": (transformer(), ROWS, "", (PRUNE,)),
}
answer: dict[str, Any] = {"kept": {}}
for name, (model, samples, suffix, steps) in KINDS.items():
    path = saved(name, model, samples, suffix)
    for step in steps:
        found = passed(name, path, samples, step)
        answer[name] = answer.get(name, {}) | {step.kind: found}
    if name in ("transformer", "open picture", "stateful", "float16", "bfloat16", "adapted"):
        first = samples[:1] if name == "stateful" else samples[:4]
        answer["kept"][name] = kept(path, first)

fixed = Session()
loaded = fixed.load(FOLDER / "fixed batch.keras")
singles = fixed.predict({loaded.inputs[0].name: ROWS[:8]})
whole = np.asarray(keras.models.load_model(FOLDER / "fixed batch.keras")(ROWS[:8]))
answer["singles"] = float(np.abs(next(iter(singles.values())) - whole).max())

several = keras.Input(batch_shape=(8, 6, 4))
spread = ops.broadcast_to(layers.Dense(16)(several), (8, 6, 16))
sealed = saved("sealed", keras.Model(several, classes(layers.Flatten()(spread))), ROWS)
answer["sealed"] = error_of(lambda: Session().load(sealed))

# The hint, followed: a model fed with what the table returns.
table = looked_up()
path = saved("table", table, LABELS[:, None])
session = Session()
session.load(path)
answer["table"] = error_of(lambda: session.lower(FOLDER / "table.tflite"))
fed = keras.Model(table.get_layer("table").output, table.outputs)
session.load(saved("fed", fed, np.asarray(table.get_layer("table")(LABELS[:, None]))))
answer["fed"] = error_of(lambda: session.lower(FOLDER / "fed.tflite"))
print(json.dumps(answer))
