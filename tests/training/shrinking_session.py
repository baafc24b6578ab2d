"""Shrink many models and print the results as JSON: run by test_shrinking.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from edgekit.data import open_data
from edgekit.errors import EdgekitError
from edgekit.training import build
from edgekit.training.clustering import cluster
from edgekit.training.pruning import prune
from edgekit.training.shrinking import largest_share, masked, shrink, shrink_in_rounds, trace
from edgekit.training.shrinking.importance import importances
from edgekit.training.shrinking.rebuild import rebuild

FOLDER = Path(sys.argv[1])
DEMO = keras.models.load_model(sys.argv[2])
TURBOFAN = keras.models.load_model(sys.argv[3])
random = np.random.default_rng(0)


def squeezed(features: Any, name: str) -> Any:
    """Hu et al., arXiv 1709.01507: a gate for each channel, broadcast over the plane."""
    width = features.shape[-1]
    gate = layers.GlobalAveragePooling2D(name=f"{name}_mean")(features)
    gate = layers.Reshape((1, 1, width), name=f"{name}_reshape")(gate)
    gate = layers.Conv2D(width // 4, 1, activation="relu", name=f"{name}_down")(gate)
    gate = layers.Conv2D(width, 1, activation="sigmoid", name=f"{name}_up")(gate)
    return layers.Multiply(name=f"{name}_scale")([features, gate])


def squeeze_excite() -> Any:
    image = keras.Input((12, 12, 3))
    features = layers.Conv2D(24, 3, activation="silu", name="one")(image)
    features = squeezed(features, "se")
    features = layers.SeparableConv2D(20, 3, depth_multiplier=2, name="two")(features)
    features = layers.PReLU(shared_axes=[1, 2], name="slope")(features)
    features = layers.Conv2DTranspose(12, 2, strides=2, name="up")(features)
    mean = keras.ops.mean(features, axis=(1, 2))
    return keras.Model(image, layers.Dense(5, name="output")(mean))


def concatenated() -> Any:
    """Two branches side by side, added to a third; then each position of a plane on its own."""
    image = keras.Input((8, 8, 3))
    left = layers.Conv2D(12, 3, padding="same", use_bias=False, name="left")(image)
    right = layers.Conv2D(20, 3, padding="same", activation="sigmoid", name="right")(image)
    both = layers.Concatenate(name="both")([left, right])
    both = layers.BatchNormalization(name="both_bn")(both)
    third = layers.Conv2D(32, 1, name="third")(image)
    features = layers.Add(name="sum")([both, third])
    features = layers.ReLU(name="sum_relu")(features)
    features = layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, name="deep")(features)
    flat = layers.Flatten(name="flat")(features)
    hidden = layers.Dense(3 * 3 * 6, activation="relu", name="hidden")(flat)
    plane = layers.Reshape((3, 3, 6), name="plane")(hidden)
    plane = layers.Conv2D(10, 2, activation="tanh", name="last")(plane)
    return keras.Model(image, layers.Dense(4, name="output")(layers.Flatten()(plane)))


def nested() -> Any:
    """A nested model called twice, one layer called twice, and a sequential one."""
    inner_input = keras.Input((6, 6, 10))
    inner = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv")(inner_input)
    inner = layers.Conv2D(10, 3, padding="same", name="back")(inner)
    body = keras.Model(inner_input, inner, name="body")
    top = keras.Sequential([keras.Input((6, 6, 10)), layers.Conv2D(9, 3, name="conv")], name="top")
    image = keras.Input((6, 6, 3))
    features = layers.Conv2D(10, 1, name="stem")(image)
    features = body(body(features)) + features * 0.5
    mean = layers.GlobalAveragePooling2D()(top(features))
    return keras.Model(image, layers.Dense(2, name="output")(mean))


def enclosed(*, sharing: bool) -> Any:
    """Borders: two inputs, a model in a model, a flattening inside.

    Keras cannot load a model with a layer used on both sides of a border; a live one may have it.
    """
    shared = layers.Conv2D(12, 3, padding="same", name="shared")
    left, right = keras.Input((6, 6, 12), name="left"), keras.Input((6, 6, 16), name="right")
    point = keras.Sequential(
        [keras.Input((6, 6, 16)), layers.Conv2D(12, 1, name="p")], name="point"
    )
    merged = layers.Add(name="merged")([shared(left), point(right)])
    flat = layers.Flatten(name="flat")(layers.MaxPooling2D(3)(merged))
    hidden = layers.Dense(2 * 2 * 5, name="hidden")(layers.ReLU()(flat))
    body = keras.Model([left, right], layers.Reshape((2, 2, 5), name="plane")(hidden), name="body")
    image = keras.Input((6, 6, 3))
    one = layers.Conv2D(12, 1, name="one")(image)
    two = layers.Conv2D(16, 1, activation="relu", name="two")(image)
    outside = shared if sharing else layers.Conv2D(12, 1, name="outside")
    out = layers.Conv2D(8, 2, name="after")(body([outside(one), two]))
    out = layers.Concatenate(name="both")([layers.Flatten()(out), layers.Flatten()(one)])
    return keras.Model(image, layers.Dense(2, name="output")(out))


def stubborn() -> Any:
    """Nearly nothing may be cut."""
    series = keras.Input((16, 8))
    residual = layers.Conv1D(8, 3, padding="same", name="residual")(series)
    features = layers.Add()([series, residual])
    features = layers.Conv1D(16, 3, name="before_norm")(features)
    features = layers.LayerNormalization(name="norm")(features)
    features = layers.Conv1D(6, 1, activation="softmax", name="attention")(features)
    one = layers.Conv1D(1, 1, name="one")(features)
    features = layers.Multiply()([layers.Conv1D(6, 1, name="kept")(features), one])
    features = layers.Conv1D(6, 1, name="free")(features)
    features = layers.LSTM(4, name="lstm")(features)
    return keras.Model(series, layers.Dense(3, activation="softmax", name="output")(features))


def grouped() -> Any:
    """Convolutions in groups of several channels and of one, then a reshaping of keras.ops."""
    image = keras.Input((8, 8, 3))
    features = layers.Conv2D(12, 3, padding="same", activation="relu", name="stem")(image)
    features = layers.Conv2D(24, 3, groups=4, use_bias=False, name="four")(features)
    features = layers.BatchNormalization(name="four_bn")(features)
    features = layers.Conv2D(48, 3, groups=24, activation="relu", name="each")(features)
    features = layers.SeparableConv2D(10, 2, name="separable")(features)
    flat = keras.ops.reshape(features, (-1, 3 * 3 * 10))
    return keras.Model(image, layers.Dense(4, name="output")(flat))


def attending() -> Any:
    """A transformer block, and attention to something else, with a mask."""
    rows = keras.Input((6, 5))
    whole = layers.Dense(16, name="embedded")(rows)
    normal = layers.LayerNormalization(name="normal")(whole)
    own = layers.MultiHeadAttention(4, 6, name="own")(normal, normal, use_causal_mask=True)
    whole = layers.Add(name="added")([whole, own])
    hidden = layers.Dense(24, activation="gelu", name="hidden")(layers.LayerNormalization()(whole))
    whole = layers.Add(name="sum")([whole, layers.Dense(16, name="back")(hidden)])
    keys = layers.Dense(12, name="keys")(rows)
    cross = layers.MultiHeadAttention(3, 4, value_dim=5, output_shape=10, name="cross")
    read = cross(query=whole, value=keys, key=keys)
    return keras.Model(rows, layers.Dense(3, name="output")(layers.GlobalMaxPooling1D()(read)))


def stirred(model: Any) -> Any:
    """Weights, and the statistics of batch normalization, as unlike as those of trained models."""
    for variable in model.weights:
        values = random.normal(0, 0.3, variable.shape)
        variable.assign(0.5 + np.abs(values) if "variance" in variable.name else values)
    return model


def switched_off(model: Any, removed: dict) -> Any:
    """Removed channels set to zero where they leave a layer: knows nothing of the graph."""

    def called(layer: Any, *arguments: Any, **keywords: Any) -> Any:
        outputs = layer(*arguments, **keywords)
        if layer.name not in removed:
            return outputs
        mask = np.ones(outputs.shape[-1], np.float32)
        mask[removed[layer.name]] = 0
        return layers.Rescaling(mask.tolist(), name=f"{layer.name}_mask")(outputs)

    copy = keras.models.clone_model(model, call_function=called)
    copy.set_weights(model.get_weights())
    return copy


def difference(one: Any, other: Any) -> float:
    inputs = random.normal(size=(4, *one.input_shape[1:])).astype(np.float32)
    expected, found = np.asarray(one(inputs)), np.asarray(other(inputs))
    return float(np.abs(expected - found).max() / max(1.0, np.abs(expected).max()))


def facts(model: Any, *, exact: bool = True, **options: Any) -> dict[str, Any]:
    before = model.get_weights()
    shrunk = shrink(model, **options)
    shrunk.model.save(FOLDER / "smaller.keras")
    loaded = keras.models.load_model(FOLDER / "smaller.keras")
    return {
        "masked": difference(masked(model, shrunk.removed), loaded),
        "switched off": difference(switched_off(model, shrunk.removed), loaded) if exact else 0.0,
        "unlike": difference(model, loaded),
        "untouched": all(map(np.array_equal, before, model.get_weights())),
        "names": [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers],
        "macs": [shrunk.macs_before, shrunk.macs_after],
        "parameters": [shrunk.parameters_before, shrunk.parameters_after],
        "counted": [model.count_params(), loaded.count_params()],
        "heads": {
            layer.name: layer.num_heads for layer in loaded.layers if hasattr(layer, "num_heads")
        },
        "groups": {layer.name: layer.groups for layer in loaded.layers if hasattr(layer, "groups")},
        "widths": {
            layer.name: getattr(layer, "filters", None) or layer.units
            for layer in loaded.layers
            if hasattr(layer, "filters") or hasattr(layer, "units")
        },
        "removed": {path: rows.tolist() for path, rows in shrunk.removed.items()},
        "kept whole": dict(shrunk.kept_whole),
    }


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except EdgekitError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def refused(model: Any, **options: Any) -> str:
    return error_of(lambda: shrink(model, **options))


def share_in(error: str) -> float:
    """The share that an error's hint asks for."""
    return float(error.partition("a share of ")[2].split()[0])


def in_rounds(model: Any, *, share: float = 0.5, rounds: int = 3) -> str:
    return error_of(lambda: shrink_in_rounds(model, share=share, rounds=rounds, tune=None))


def sequential_facts() -> list[Any]:
    model = keras.Sequential([keras.Input((6,), name="row"), layers.Dense(8), layers.Dense(2)])
    smaller = shrink(model, share=0.4).model
    kinds = [type(smaller).__name__, smaller.inputs[0].name == model.inputs[0].name]
    return [*kinds, trace(model).macs, trace(smaller).macs]


def compiled_facts() -> list[Any]:
    """A compiled model stays so, and its own loss measures importance."""
    model = keras.models.clone_model(DEMO)
    model.set_weights(DEMO.get_weights())
    model.compile("sgd", "categorical_crossentropy")
    targets = np.eye(10, dtype=np.float32)[labels]
    given = shrink(model, share=0.3, importance="taylor", data=(images, targets))
    default = shrink(DEMO, share=0.3, importance="taylor", data=(images, labels))
    same = all(map(np.array_equal, given.model.get_weights(), default.model.get_weights()))
    return [given.model.compiled, default.model.compiled, same]


def round_facts() -> dict[str, Any]:
    """Rounds without and with training; `tune` gets the model and the number of each."""
    found: dict[str, Any] = {}
    for name, model, share in (
        ("demo", DEMO, 0.7),
        ("concatenated", SHRUNK["concatenated"][0], 0.6),
        ("enclosed", stirred(enclosed(sharing=True)), 0.6),
    ):
        multiple = 4 if name == "demo" else 1
        seen: list[Any] = []
        shrunk = shrink_in_rounds(
            model,
            share=share,
            rounds=3,
            tune=lambda smaller, number, seen=seen: seen.append((number, trace(smaller).macs)),
            multiple=multiple,
        )
        once = shrink(model, share=share, multiple=multiple)
        found[name] = {
            "masked": difference(masked(model, shrunk.removed), shrunk.model),
            "seen": seen,
            "macs": [shrunk.macs_before, shrunk.macs_after],
            "counted": [model.count_params(), shrunk.model.count_params()],
            "parameters": [shrunk.parameters_before, shrunk.parameters_after],
            "once": [once.macs_before, once.macs_after],
            "families": [[list(f.layers), len(f.channels)] for f in trace(shrunk.model).families],
            "removed": {path: rows.tolist() for path, rows in shrunk.removed.items()},
            "kept whole": dict(shrunk.kept_whole) == dict(once.kept_whole),
        }
    return found


def turned_facts() -> list[Any]:
    """Training that reverses the ranking changes what the next round removes."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, name="wide"), layers.Dense(2, name="output")]
    )
    wide = np.tile(np.arange(1.0, 9.0), (4, 1))  # the first channels are the least

    def tune(smaller: Any, number: int) -> None:
        kernel = smaller.get_layer("wide").kernel
        kernel.assign(np.asarray(kernel)[:, ::-1])

    model.get_layer("wide").kernel.assign(wide)
    shrunk = shrink_in_rounds(model, share=0.75, rounds=2, tune=tune, multiple=1)
    return shrunk.removed["wide"].tolist()


def tuned_facts() -> list[float]:
    """Accuracy of 60 % fewer multiply-accumulates, at once and in three rounds of training."""

    def tune(smaller: Any, _: int) -> None:
        learner = keras.Model(smaller.inputs, smaller.outputs)
        learner.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
        learner.optimizer.build(learner.trainable_weights)
        learner.fit(images, labels, batch_size=64, epochs=2, shuffle=False, verbose=0)

    options = {"share": 0.6, "multiple": 1}
    keras.utils.set_random_seed(0)
    cut = shrink(DEMO, **options)
    tuned = shrink_in_rounds(DEMO, rounds=3, tune=tune, **options)
    return [accuracy(cut.model), accuracy(tuned.model), tuned.macs_after / tuned.macs_before]


def share_facts() -> dict[str, Any]:
    """The largest share can be removed, and no more."""
    found = {}
    for name, model in (("demo", DEMO), ("stubborn", SHRUNK["stubborn"][0])):
        most = largest_share(model, multiple=1)
        done = shrink(model, share=most, multiple=1)
        found[name] = [most, done.macs_after / done.macs_before]
        found[f"{name} more"] = refused(model, share=most + 0.001, multiple=1)
    lone = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="output")])
    found["nothing"] = largest_share(lone)
    return found


class Owned(keras.Model):
    """A model without a graph, with layers all the same."""

    def __init__(self) -> None:
        super().__init__(name="owned")
        self.first = layers.Dense(32, activation="relu")
        self.last = layers.Dense(4)

    def call(self, inputs: Any) -> Any:
        return self.last(self.first(inputs))


def without_graph() -> dict[str, Any]:
    """What can be done to a subclassed model, and what is refused."""
    model = Owned()
    model(np.ones((1, 20), np.float32))
    return {
        "refused": refused(model, share=0.5),
        "zeros": prune(model, 0.5).share,
        "distinct": dict(cluster(model, 8).distinct),
    }


def samples(split: Any) -> tuple[np.ndarray, np.ndarray]:
    batch = split.read(np.arange(split.n))
    (images,) = batch.inputs.values()
    shaped = np.asarray(images, np.float32).reshape(-1, *DEMO.input_shape[1:])
    return shaped, np.asarray(batch.targets)


digits = open_data("digits")
# importance is measured on one split, accuracy on the other
images, labels = samples(digits.train)
test_images, test_labels = samples(digits.test)


def accuracy(model: Any) -> float:
    return float(np.mean(np.asarray(model(test_images)).argmax(axis=1) == test_labels))


def ranked(criterion: str) -> list[float]:
    """Accuracy without the least and without the most important quarter of each family."""
    graph = trace(DEMO)
    figures = importances(DEMO, graph, criterion, data=(images, labels))
    least, most = [], []
    for family in graph.families:
        order = sorted(family.channels.tolist(), key=figures.__getitem__)
        least += order[: len(order) // 4]
        most += order[-(len(order) // 4) :]
    return [accuracy(rebuild(DEMO, graph, cut)) for cut in (least, most)]


def binary_importances() -> list[float]:
    """Of two channels, the first of which the single output does not read."""
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, name="wide"), layers.Dense(1, activation="sigmoid")]
    )
    model.set_weights([np.eye(2), np.zeros(2), np.array([[0.0], [1.0]]), np.zeros(1)])
    rows = random.normal(size=(32, 2)).astype(np.float32)
    graph = trace(model)
    found = importances(model, graph, "taylor", data=(rows, (rows[:, 1] > 0).astype(np.int64)))
    return [found[channel] for channel in graph.outputs["wide"].tolist()]


def two_inputs() -> list[float]:
    """Of two channels made from the second input, the first of which the output does not read."""
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    wide = layers.Dense(2, name="wide")(right)
    joined = layers.Concatenate()([left, wide])
    model = keras.Model([left, right], layers.Dense(1, activation="sigmoid")(joined))
    weights = [np.eye(2), np.zeros(2), np.array([[1.0], [0.0], [0.0], [1.0]]), np.zeros(1)]
    model.set_weights(weights)
    rows = random.normal(size=(32, 2)).astype(np.float32)
    x = {"right": rows, "left": rows[::-1]}
    graph = trace(model)
    found = importances(model, graph, "taylor", data=(x, (rows[:, 1] > 0).astype(np.int64)))
    return [found[channel] for channel in graph.outputs["wide"].tolist()]


windows = random.normal(size=(70, 30, 14)).astype(np.float32)
SHRUNK = {
    "resnet8": (stirred(build("resnet8", (32, 32, 3), 10)), {"share": 0.5}),
    "mobilenet_v2": (stirred(build("mobilenet_v2:0.35", (32, 32, 3), 10)), {"share": 0.4}),
    "ds_cnn": (
        stirred(build("ds_cnn", (49, 10, 1), 12)),
        {"share": 0.5, "goal": "parameters", "importance": "bn_scale"},
    ),
    "cnn1d": (
        TURBOFAN,
        {"share": 0.5, "importance": "taylor", "data": (windows, windows[:, 0, 0])},
    ),
    "squeeze_excite": (stirred(squeeze_excite()), {"share": 0.5, "multiple": 1}),
    "concatenated": (stirred(concatenated()), {"share": 0.6, "multiple": 1}),
    "nested": (stirred(nested()), {"share": 0.5, "multiple": 1, "exact": False}),
    "enclosed": (stirred(enclosed(sharing=False)), {"share": 0.6, "multiple": 1, "exact": False}),
    "stubborn": (stirred(stubborn()), {"share": 0.005, "multiple": 1}),
    "grouped": (stirred(grouped()), {"share": 0.5, "multiple": 1}),
    "attending": (stirred(attending()), {"share": 0.4, "multiple": 1, "exact": False}),
    "excluded": (DEMO, {"share": 0.3, "multiple": 4, "exclude": [DEMO.layers[1].name]}),
}
answer = {
    "shrunk": {name: facts(model, **options) for name, (model, options) in SHRUNK.items()},
    "excluded": DEMO.layers[1].name,
    "expression": [*trace(DEMO, exclude=["conv2_.*"]).kept_whole],
    "binary": binary_importances(),
    "two inputs": two_inputs(),
    "rounds": round_facts(),
    "turned": turned_facts(),
    "tuned": tuned_facts(),
    "shares": share_facts(),
    "without graph": without_graph(),
    "compiled": compiled_facts(),
    "sequential": sequential_facts(),
    "accuracy": {criterion: ranked(criterion) for criterion in ("l2", "bn_scale", "taylor")},
    "accuracy whole": accuracy(DEMO),
    "refused": {
        "unknown channel": error_of(lambda: masked(DEMO, {"output": [11]})),
        "subclassed": refused(Owned(), share=0.5),
        "share": refused(DEMO, share=1.5),
        "rounds": in_rounds(DEMO, rounds=0),
        "too much in rounds": in_rounds(DEMO, share=0.999),
        "too much": refused(DEMO, share=0.999),
        "blocked": refused(SHRUNK["attending"][0], share=0.9, multiple=4),
        "followed": refused(DEMO, share=share_in(refused(DEMO, share=0.999))),
        "name": refused(DEMO, share=0.5, exclude=["outptu"]),
        "no data": refused(DEMO, share=0.5, importance="taylor"),
        "no pairs": refused(DEMO, share=0.5, importance="taylor", data=(images, labels[:3])),
        "no fit": refused(DEMO, share=0.5, importance="taylor", data=(images[:, :3, :3], labels)),
        "axis": refused(
            keras.Sequential([keras.Input((None, 3)), layers.Conv1D(8, 3), layers.Conv1D(2, 3)]),
            share=0.5,
        ),
    },
}
print(json.dumps(answer))
