"""Train a model of each task beyond one class a sample, as JSON: run by test_training_tasks.py."""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit import sources
from edgekit.errors import EdgekitError
from edgekit.recipe import Cluster, Prune, Qat, Shrink
from edgekit.records import DataRequest
from edgekit.training import Augmentation, TrainingConfig, build, train
from edgekit.training.finetuning import Tuning, teach
from edgekit.training.losses import mask_loss
from edgekit.training.multibox import multibox_loss
from edgekit.training.passes import run_pass
from edgekit.training.saving import read_notes
from edgekit_runner import Head, as_boxes, check_head, match_boxes

FOLDER = Path(sys.argv[1])
RNG = np.random.default_rng(0)


def saved(name: str, x: Any, y: Any, **more: Any) -> str:
    """Save samples, the last fifth of them for testing."""
    k = len(x) * 4 // 5
    np.savez(
        FOLDER / f"{name}.npz", x_train=x[:k], y_train=y[:k], x_test=x[k:], y_test=y[k:], **more
    )
    return str(FOLDER / f"{name}.npz")


def trained(name: str, architecture: str, **settings: Any) -> tuple[Any, Any]:
    """The result of a training, and the outputs for the test samples."""
    path = FOLDER / f"{name}.keras"
    data = str(FOLDER / f"{name}.npz")
    config = TrainingConfig(name=name, architecture=architecture, data=data, **settings)
    result = train(config, destination=path)
    outputs = keras.models.load_model(path).predict(np.load(data)["x_test"], verbose=0)
    return result, outputs


def labels() -> dict[str, Any]:
    """Three corners of a picture, each bright or not."""
    flags = (RNG.random((500, 3)) < 0.4).astype(np.uint8)
    x = RNG.normal(0, 0.2, (500, 12, 12, 1)).astype(np.float32)
    for k, (row, column) in enumerate(((0, 0), (0, 6), (6, 0))):
        x[:, row : row + 5, column : column + 5] += flags[:, k, None, None, None]
    saved("labels", x, flags)
    result, outputs = trained(
        "labels", "cnn", options={"widths": [[12], [24]]}, epochs=12, learning_rate=0.01
    )
    right = (outputs > 0.5) == np.load(FOLDER / "labels.npz")["y_test"]
    return {"metric": result.metric, "value": result.value, "test": float(right.mean())}


def squares(classes: int) -> tuple[Any, Any]:
    """Squares of one brightness a class, on noise; a row is ignored, and says nothing."""
    x = RNG.normal(0, 0.2, (120, 32, 32, 1)).astype(np.float32)
    y = np.zeros((120, 32, 32), np.uint8)
    for k in range(120):
        for kind in range(1, classes):
            (row, column), side = RNG.integers(0, 22, 2), RNG.integers(5, 10)
            x[k, row : row + side, column : column + side] = kind
            y[k, row : row + side, column : column + side] = kind
    y[:, :2] = 255
    return x, y


def masks(classes: int) -> dict[str, Any]:
    name = f"masks{classes}"
    saved(name, *squares(classes))
    result, outputs = trained(
        name,
        "unet",
        options={"width": 6, "depth": 2},
        epochs=12,
        batch_size=16,
        learning_rate=0.01,
        augment=Augmentation(flip=True, shift=(2, 2)),
    )
    truth = np.load(FOLDER / f"{name}.npz")["y_test"]
    found = outputs.argmax(-1) if classes > 2 else outputs[..., 0] > 0.5
    counted = truth != 255
    overlaps = [
        np.sum((found == k) & (truth == k) & counted)
        / np.sum(((found == k) | (truth == k)) & counted)
        for k in range(classes)
    ]
    loaded = sources.load(FOLDER / f"{name}.keras")
    tuning = Tuning(data=DataRequest(data=str(FOLDER / f"{name}.npz")), epochs=0)
    place = FOLDER / f"{name}-pruned.keras"
    done = run_pass(
        loaded.model, loaded.source, step=Prune(sparsity=0.1), tuning=tuning, destination=place
    )
    return {
        "pruned": [done.before, done.after],
        "metric": result.metric,
        "value": result.value,
        "test": float(np.mean(overlaps)),
        "units": outputs.shape[-1],
        "parameters": result.parameters,
    }


def scenes() -> tuple[Any, Any]:
    """Bright or dark rectangles on noise, one to three a picture; the rest of the rows is empty."""
    x = RNG.normal(0, 0.1, (160, 48, 64, 1)).astype(np.float32)
    y = np.full((160, 3, 5), -1, np.float32)
    for k in range(160):
        for row in range(RNG.integers(1, 4)):
            kind = RNG.integers(0, 2)
            size = RNG.integers(10, 15, 2) if kind else RNG.integers(18, 26, 2)
            start = np.array(
                [RNG.integers(0, side - n) for side, n in zip((64, 48), size, strict=True)]
            )
            end = start + size
            x[k, start[1] : end[1], start[0] : end[0]] = 1 if kind else -1
            y[k, row] = *(start / (64, 48)), *(end / (64, 48)), kind
    return x, y


def passed(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Validation losses of a detector before and after each pass, and the outputs that are left."""
    data = DataRequest(data=str(path.with_suffix(".npz")), head=head)
    found = {}
    for name, step in (
        ("shrink", Shrink(share=0.2, importance="taylor")),
        ("prune", Prune()),
        ("cluster", Cluster(clusters=16)),
        ("qat", Qat()),
    ):
        loaded = sources.load(path)
        tuning = Tuning(data=data, epochs=1, batch_size=16)
        place = FOLDER / f"boxes-{name}.keras"
        if name == "prune":
            teacher = FOLDER / "boxes.npy"
            teach(loaded.model, loaded.source, tuning=tuning, destination=teacher)
            tuning = replace(tuning, teacher=teacher)
        done = run_pass(loaded.model, loaded.source, step=step, tuning=tuning, destination=place)
        outputs = [spec.name for spec in sources.load(place).source.outputs]
        found[name] = [done.before["loss"], done.after["loss"], outputs, sorted(done.after)]
    return found


def stored() -> dict[str, Any]:
    """What files say of how pixels were scaled: after training, and after a pass on floats."""
    spec = {"kind": "affine", "scale": 1 / 255}
    kinds = np.arange(60) % 2
    bytes_ = (RNG.integers(0, 60, (60, 8, 8, 1)) + 150 * kinds[:, None, None, None]).astype(
        np.uint8
    )
    saved("bytes", bytes_, kinds)
    saved("floats", bytes_.astype(np.float32) / 255, kinds)
    options = {"widths": [[4]]}
    trained("bytes", "cnn", options=options, epochs=1, preprocessing=spec)
    trained("floats", "cnn", options=options, epochs=1)
    path, pruned = FOLDER / "bytes.keras", FOLDER / "bytes-pruned.keras"
    loaded = sources.load(path)
    tuning = Tuning(data=DataRequest(data=str(FOLDER / "floats.npz")), epochs=1)
    run_pass(loaded.model, loaded.source, step=Prune(), tuning=tuning, destination=pruned)
    return {
        "trained": read_notes(path),
        "pruned": read_notes(pruned),
        "floats": read_notes(FOLDER / "floats.keras"),
    }


def several() -> dict[str, Any]:
    """Two outputs with targets each: what passes do to both, from a model that knows nothing."""
    x = RNG.normal(0, 1, (400, 6)).astype(np.float32)
    y = {"kind": x[:, :3].argmax(axis=1), "level": x[:, 3:].sum(axis=1, keepdims=True)}
    arrays = {f"y_train_{name}": values.astype(np.float32) for name, values in y.items()}
    arrays["y_train_kind"] = y["kind"]
    np.savez(FOLDER / "several.npz", x_train=x, **arrays)
    inputs = keras.Input((6,), name="x")
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    outputs = {
        "kind": keras.layers.Dense(3, activation="softmax", name="kind")(hidden),
        "level": keras.layers.Dense(1, name="level")(hidden),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        "adam",
        loss={"kind": "sparse_categorical_crossentropy", "level": "mae"},
        loss_weights={"kind": 1.0, "level": 0.5},
    )
    path = FOLDER / "several.keras"
    model.save(path)
    found = {}
    for name, step in (("prune", Prune(sparsity=0.1)), ("cluster", Cluster()), ("qat", Qat())):
        loaded = sources.load(path)
        data = DataRequest(data=str(FOLDER / "several.npz"))
        tuning = Tuning(data=data, epochs=25, batch_size=16, learning_rate=0.01)
        if name == "prune":
            teacher = FOLDER / "several.npy"
            teach(loaded.model, loaded.source, tuning=tuning, destination=teacher)
            tuning = replace(tuning, teacher=teacher)
        place = FOLDER / f"several-{name}.keras"
        done = run_pass(loaded.model, loaded.source, step=step, tuning=tuning, destination=place)
        kinds, levels = keras.tree.flatten(keras.models.load_model(place).predict(x, verbose=0))
        found[name] = {
            "before": done.before,
            "after": done.after,
            "right": float((kinds.argmax(1) == y["kind"]).mean()),
            "off": float(np.abs(levels - y["level"]).mean() / np.abs(y["level"]).mean()),
        }
    return found


def boxes() -> dict[str, Any]:
    saved("boxes", *scenes())
    result, outputs = trained(
        "boxes",
        "ssd",
        options={"width": 8, "sizes": [1, 1]},
        epochs=14,
        batch_size=8,
        learning_rate=0.01,
        augment=Augmentation(flip=True, shift=(2, 2)),
    )
    assert result.head is not None
    head = check_head(tomllib.loads(result.head.read_text())["head"])
    found = Head(head, [(name, value.shape) for name, value in outputs.items()])(outputs)
    truth = as_boxes(np.load(FOLDER / "boxes.npz")["y_test"])
    hit, _ = match_boxes(found, truth)
    best = found[..., 4] > 0.3  # focal losses leave scores low
    return {
        "passes": passed(FOLDER / "boxes.keras", head),
        "loss": result.history["val_loss"][result.best_epoch - 1],
        "metric": result.metric,
        "value": result.value,
        "head": result.head.name,
        "sizes": [level["sizes"] for level in head["levels"]],
        "shapes": {name: list(value.shape[1:]) for name, value in outputs.items()},
        "found": int((best & (hit & 1 > 0)).sum()) / int((truth[..., 4] >= 0).sum()),
        "wrong": float(np.mean((hit & 1)[best] == 0)),
    }


def dice() -> dict[str, Any]:
    """The mask loss, and its definition in numpy, on outputs of chance."""
    truth = RNG.integers(-1, 3, (2, 4, 5))
    logits = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    there = truth >= 0
    plain = -np.log(np.take_along_axis(chances, np.maximum(truth, 0)[..., None], -1)[..., 0])
    overlap, areas = (
        np.array([f(chances[..., k], truth == k) for k in (1, 2)])
        for f in (lambda p, t: 2 * (p * t)[there].sum(), lambda p, t: (p + t)[there].sum())
    )
    by_hand = plain[there].mean() + 1 - np.mean((overlap + 1) / (areas + 1))
    unit, binary = 1 / (1 + np.exp(-logits[..., :1])), np.minimum(truth, 1)
    right = np.where(binary == 1, unit[..., 0], 1 - unit[..., 0])
    ones = (binary == 1) & there
    share = (2 * unit[..., 0][ones].sum() + 1) / (unit[..., 0][there].sum() + ones.sum() + 1)
    return {
        "classes": [float(mask_loss(3, logits=True, dice=True)(truth, logits)), float(by_hand)],
        "unit": [
            float(mask_loss(1, logits=False, dice=True)(binary, unit)),
            float(-np.log(right[there]).mean() + 1 - share),
        ],
    }


def offsets(box: Any, anchor: Any) -> Any:
    """Liu et al. 2016, equation (2), over the usual variances."""
    (x1, y1, x2, y2), (x, y, w, h) = box, anchor
    moved = ((x1 + x2) / 2 - x) / w / 0.1, ((y1 + y2) / 2 - y) / h / 0.1
    return np.array([*moved, np.log((x2 - x1) / w) / 0.2, np.log((y2 - y1) / h) / 0.2])


def multibox() -> dict[str, Any]:
    """The loss of four anchors, two boxes and one to be ignored, and the same by hand."""
    anchors = np.array(
        [
            [0.2, 0.2, 0.2, 0.2],  # finds the first box, and overlaps it by more than half
            [0.275, 0.2, 0.2, 0.2],  # overlaps it by between 0.4 and 0.5: learns nothing
            [0.7, 0.7, 0.2, 0.2],  # the best for the second box, however little it overlaps
            [0.3, 0.8, 0.2, 0.2],  # on a box to be ignored
            [0.9, 0.1, 0.2, 0.2],  # background
        ]
    )
    boxes = np.zeros((1, 4, 6), np.float32)
    boxes[0, :3] = [
        [0.1, 0.1, 0.3, 0.28, 1, 0],
        [0.7, 0.7, 0.95, 0.95, 0, 0],
        [0.2, 0.7, 0.4, 0.9, 0, 1],
    ]
    boxes[0, 3, 4] = -1
    outputs = RNG.normal(size=(1, 5, 6)).astype(np.float32)
    away = [outputs[0, a, :4] - offsets(boxes[0, b, :4], anchors[a]) for a, b in ((0, 0), (2, 1))]
    smooth = sum(np.where(abs(d) < 1, d * d / 2, abs(d) - 0.5).sum() for d in away)
    truth = np.zeros((5, 2))
    truth[0, 1] = truth[2, 0] = 1
    chances = 1 / (1 + np.exp(-outputs[0, :, 4:]))
    right = np.where(truth == 1, chances, 1 - chances)
    focal = -np.where(truth == 1, 0.25, 0.75) * (1 - right) ** 2 * np.log(right)
    by_hand = (smooth + focal[[0, 2, 4]].sum()) / 2
    loss = multibox_loss(anchors, (0.1, 0.1, 0.2, 0.2), logits=True, background=False)
    # With a background column; three times as many free anchors would count as there are boxes.
    wide = RNG.normal(size=(1, 5, 7)).astype(np.float32)
    wide[..., :4] = outputs[..., :4]
    shares = np.exp(wide[0, :, 4:]) / np.exp(wide[0, :, 4:]).sum(-1, keepdims=True)
    entropy = -np.log([shares[0, 2], shares[2, 1], shares[4, 0]]).sum()
    softmax = multibox_loss(anchors, (0.1, 0.1, 0.2, 0.2), logits=True, background=True)
    return {
        "focal": [float(loss(boxes, outputs)), float(by_hand)],
        "softmax": [float(softmax(boxes, wide)), float((smooth + entropy) / 2)],
        "no boxes": float(loss(boxes[:, 3:], outputs)),
    }


def refusals() -> dict[str, str]:
    found = {}
    for label, name, shape, task in (
        ("a U-Net of labels", "unet", (32, 32, 1), "multi-label"),
        ("masks of a classifier", "cnn", (32, 32, 1), "segmentation"),
        ("odd sides", "unet", (30, 30, 1), "segmentation"),
    ):
        try:
            build(name, shape, 2, task=task)
        except EdgekitError as error:
            found[label] = f"{type(error).__name__}: {error}"
    return found


print(
    json.dumps(
        {
            "labels": labels(),
            "masks": masks(2),
            "masks of three": masks(3),
            "boxes": boxes(),
            "dice": dice(),
            "multibox": multibox(),
            "refusals": refusals(),
            "stored": stored(),
            "several": several(),
        }
    )
)
