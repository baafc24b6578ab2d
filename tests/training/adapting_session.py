"""Replace layers of models, and print what became of them as JSON: run by test_adapting.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit.data import open_data
from edgekit.errors import ModelError
from edgekit.training.sequence import inputs_of
from edgekit.worker import Session

FOLDER = Path(sys.argv[1])
layers = keras.layers
SHAPE = (8, 8, 4)


def trained() -> None:
    """A small CNN with hard swish, in a layer of its own and fused into others."""
    train = open_data("digits").train
    assert train is not None
    batch = train.read(np.arange(train.n))
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(12, 3, use_bias=False, name="stem"),
            layers.BatchNormalization(name="stem_norm"),
            layers.Activation("hard_silu", name="stem_act"),
            layers.Conv2D(24, 3, activation="hard_silu", name="body"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="hard",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = 5e-3
    model.fit(inputs_of(batch), batch.targets, epochs=12, verbose=0)
    model.save(FOLDER / "hard.keras")
    plain = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    plain.save(FOLDER / "plain.keras")
    several = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(
                8, 3, dilation_rate=(1, 2), padding="same", activation="gelu", name="first"
            ),
            layers.Conv2D(8, 3, activation="hard_silu", name="second"),
            # Without dilation its output is larger than what the dense layer takes.
            layers.Conv2D(8, 3, dilation_rate=(1, 2), name="third"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    several.save(FOLDER / "several.keras")


def functional(*parts: Any, shape: tuple[int, ...] = SHAPE) -> Any:
    made = inputs = keras.Input(shape)
    for part in parts:
        made = part(made)
    return keras.Model(inputs, made)


def with_slopes() -> Any:
    model = functional(layers.PReLU(name="slopes"))
    (alpha,) = model.get_weights()
    model.set_weights([np.linspace(0, 1, alpha.size).reshape(alpha.shape)])
    return model


def nested() -> Any:
    inner = functional(layers.Conv2D(4, 3, padding="same", name="conv"), layers.ELU(name="act"))
    inner.name = "backbone"
    return functional(inner, layers.Conv2D(2, 1, name="head"))


def twice() -> Any:
    shared = layers.Conv2D(4, 3, padding="same", activation="hard_silu", name="shared")
    return functional(shared, shared)


MODELS: Mapping[str, tuple[Any, dict[str, tuple[str, ...]]]] = {
    "leaky": (lambda: functional(layers.LeakyReLU(0.1, name="leaky")), {"leaky": ("LEAKY_RELU",)}),
    "slopes": (with_slopes, {"slopes": ("PRELU",)}),
    "nested": (nested, {"act": ("ELU",)}),
    "operation": (
        lambda: functional(layers.Conv2D(3, 3, name="conv"), keras.ops.hard_silu),
        {"functional_1": ("HARD_SWISH",)},
    ),
    "twice": (twice, {"shared": ("HARD_SWISH",)}),
    "large": (
        lambda: functional(layers.UpSampling2D(16, name="large")),
        {"large": ("RESIZE_NEAREST_NEIGHBOR",)},
    ),
    "uneven": (
        lambda: functional(layers.Conv2D(3, 3, dilation_rate=(1, 2), name="uneven")),
        {"uneven": ("CONV_2D",)},
    ),
    "both": (
        lambda: functional(
            layers.Conv2D(3, 3, dilation_rate=(1, 2), activation="gelu", name="both")
        ),
        {"both": ("CONV_2D", "GELU")},
    ),
    "activation": (
        lambda: functional(layers.Conv2D(3, 3, activation="gelu", name="activation")),
        {"activation": ("CONV_2D", "GELU")},
    ),
    "recurrent": (
        lambda: functional(layers.LSTM(4, name="memory"), shape=(5, 3)),
        {"memory": ("WHILE",)},
    ),
}


def replaced(name: str) -> dict[str, Any]:
    make, blocked = MODELS[name]
    keras.utils.set_random_seed(1)
    model = make()
    session = Session()
    source = session.load(model)
    sites = session.swaps(blocked)
    inputs = {
        spec.name: np.random.default_rng(0).standard_normal((3, *spec.shape[1:])).astype("f")
        for spec in source.inputs
    }
    before = session.predict(inputs)
    found: dict[str, Any] = {
        "sites": [(one.layer, one.swap, list(one.replacements), one.why) for one in sites]
    }
    chosen = {(one.layer, str(one.swap)): one.replacements[0] for one in sites if one.replacements}
    if not chosen:
        return found
    session.adapt(chosen)
    after = session.predict(inputs)
    changed = session.loaded.model
    kept = [
        all(np.array_equal(w, v) for w, v in zip(one.weights, two.weights, strict=True))
        for one, two in zip(model._flatten_layers(), changed._flatten_layers(), strict=False)
        if type(one) is type(two) and not isinstance(one, keras.Model)
    ]
    found["configs"] = {
        one.name: {
            "dilation_rate": list(one.dilation_rate),
            "activation": keras.activations.serialize(one.activation),
        }
        for one in changed.layers
        if hasattr(one, "dilation_rate")
    }
    found["names"] = [one.name for one in changed._flatten_layers()]
    found["classes"] = [type(one).__name__ for one in changed._flatten_layers()]
    found["kept"] = all(kept)
    found["weights"] = [np.asarray(w).ravel().tolist()[:8] for w in changed.weights]
    found["moved"] = max(
        float(np.abs(after[key] - before[key]).max())
        if after[key].shape == before[key].shape
        else -1.0
        for key in before
    )
    session.adapt({})
    again = session.predict(inputs)
    found["restored"] = all(np.array_equal(again[key], before[key]) for key in before)
    return found


class Own(keras.Model):  # type: ignore[misc]  # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return keras.ops.elu(self.dense(inputs))


def of_code() -> list[str | None]:
    model = Own()
    model(np.zeros((1, 3), np.float32))
    session = Session()
    session.load(model, example={"inputs": (1, 3)})
    try:
        session.swaps({"elu": ("ELU",)})
    except ModelError as error:
        return [error.what, error.found, error.hint]
    return []


trained()
print(
    json.dumps(
        {**{name: replaced(name) for name in MODELS}, "code": of_code(), "folder": str(FOLDER)}
    )
)
