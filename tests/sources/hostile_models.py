"""Model files that would run code of their author, written without Keras.

Wherever that code runs, it leaves the file `MARKER` in the current folder.
"""

from __future__ import annotations

import base64
import json
import marshal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARKER = "the-code-ran"
BYTECODE = base64.b64encode(
    marshal.dumps((lambda x: __import__("pathlib").Path("the-code-ran").touch() or x).__code__)
).decode()
# A module in the current folder, which a file may only name.
PAYLOAD = f"""
from pathlib import Path

import keras

Path({MARKER!r}).touch()


class Layer(keras.layers.Layer):
    def call(self, x):
        return x


def start(shape, dtype=None):
    return keras.ops.zeros(shape)
"""

Json = dict[str, Any]


def layer(name: str, module: str | None = "keras.layers", /, **config: Any) -> Json:
    described = {"class_name": name, "config": {"name": name.lower(), **config}}
    return described if module is None else {"module": module, **described}


def function(name: str, module: str) -> Json:
    return {"class_name": "function", "module": module, "config": name, "registered_name": name}


def sequential(*layers: Json, **more: Any) -> Json:
    start = layer("InputLayer", batch_shape=[None, 4], dtype="float32")
    inside = {"name": "model", "layers": [start, *layers]}
    return {"module": "keras", "class_name": "Sequential", "config": inside, **more}


LAMBDA = {"class_name": "__lambda__", "config": {"code": BYTECODE, "defaults": None}}
OLD_LAMBDA = layer(
    "Lambda", None, function=[BYTECODE, None, None], function_type="lambda", module="os"
)
DENSE = layer("Dense", units=2)


def _wrapped(inner: Json) -> Json:
    return layer("TimeDistributed", layer=sequential(layer("Bidirectional", layer=inner)))


KERAS: dict[str, Json] = {
    "lambda": sequential(layer("Lambda", function=LAMBDA)),
    "nested_lambda": sequential(_wrapped(layer("Lambda", function=LAMBDA))),
    "lambda_output_shape": sequential(
        layer("Lambda", function=function("relu", "builtins"), output_shape=LAMBDA)
    ),
    "registered_lambda": sequential(
        {**layer("Lambda", function=LAMBDA), "registered_name": "mine>Lambda"}
    ),
    "keras_2_lambda": sequential({"module": "keras.layers", **OLD_LAMBDA}),
    "lambda_value": sequential(
        layer("Activation", activation={"class_name": "__lambda__", "config": {"value": BYTECODE}})
    ),
    "nested_lambda_loss": sequential(sequential(DENSE, compile_config={"loss": LAMBDA})),
    "module_of_a_class": sequential(layer("Layer", "payload")),
    "module_of_a_function": sequential(
        layer("Dense", units=2, kernel_initializer=function("start", "payload"))
    ),
    "python_function": sequential(layer("Activation", activation=function("system", "os"))),
    "builtin_function": sequential(layer("Activation", activation=function("eval", "builtins"))),
    "keras_download": sequential(
        layer("Lambda", function=function("get_file", "keras.utils"), arguments={"origin": "x"})
    ),
    "keras_dotted": sequential(layer("Lambda", function=function("utils.get_file", "keras"))),
    "keras_switch": sequential(
        layer("Lambda", function=function("enable_unsafe_deserialization", "keras.config"))
    ),
    "keras_loader": sequential(layer("Lambda", function=function("load_model", "keras.models"))),
    "keras_internal": sequential(
        layer("Lambda", function=function("func_load", "keras.src.utils.generic_utils"))
    ),
    "tensorflow_function": sequential(
        layer("Lambda", function=function("write_file", "tensorflow.io"))
    ),
    "saved_model_elsewhere": sequential(layer("TFSMLayer", filepath="/tmp/program")),
    "torch": sequential(layer("TorchModuleWrapper", module="bytes")),
    "vocabulary_file": sequential(layer("StringLookup", vocabulary="/etc/passwd")),
}
H5: dict[str, Json] = {
    # Keras 3 fails at `time_major`, not at the Lambda: the file was handed to tf_keras, which ran.
    "lambda_behind_lstm": sequential(
        layer("LSTM", None, units=3, time_major=False, return_sequences=True), OLD_LAMBDA
    ),
    "lambda_as_list": sequential(layer("Lambda", None, function=[BYTECODE, None, None])),
    "residual": sequential(
        layer(
            "ResidualWrapper",
            None,
            residual_function=[BYTECODE, None, None],
            residual_function_type="lambda",
            residual_function_module="os",
        )
    ),
    "initializer": sequential(
        layer("Dense", None, units=2, kernel_initializer=layer("Layer", "payload"))
    ),
    "tensorflow_symbol": sequential(layer("TFOpLambda", None, function="io.write_file")),
    "tensorflow_v1_symbol": sequential(
        layer("TFOpLambda", None, function="compat.v1.py_func", registered_name=None)
    ),
    "class_method": sequential(
        layer("ClassMethod", None, cls_symbol="data.Dataset", method_name="list_files")
    ),
    "private_attribute": sequential(layer("InstanceProperty", None, attr_name="__class__")),
    "operator": sequential(
        layer("TensorFlowOpLayer", None, node_def={"name": "w", "op": "WriteFile"})
    ),
    "operator_as_bytes": sequential(
        layer("TensorFlowOpLayer", None, node_def="\n\x01w\x12\tWriteFile")
    ),
    "named_function": sequential(
        layer("Lambda", None, function="system", function_type="function", module="os")
    ),
    "named_output_shape": sequential(
        layer(
            "Lambda",
            None,
            output_shape="eval",
            output_shape_type="function",
            output_shape_module="builtins",
        )
    ),
    "named_module_of_a_function": sequential(
        layer("Lambda", None, function="start", function_type="function", module="payload")
    ),
    "registered_function": sequential(layer("os>system", None, command="true")),
    "loader_as_class": sequential(layer("deserialize", None, config=OLD_LAMBDA)),
}


CODE_IN_LOSS: Json = {
    "loss": sequential(DENSE, compile_config={"loss": LAMBDA}),
    "metric": sequential(DENSE, compile_config={"loss": "mse", "metrics": [LAMBDA]}),
    "layer_as_loss": sequential(
        DENSE, compile_config={"loss": layer("TFSMLayer", filepath="program")}
    ),
}


def write_keras(path: Path, config: Json, version: str = "3.15.0") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


def write_h5(path: Path, config: Json) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
    return path


def write_h5_of_another_file(path: Path, kind: str) -> Path:
    """An .h5 whose weights are the contents of another file."""
    import h5py

    write_h5(path, sequential(DENSE))
    with h5py.File(path, "r+") as file:
        weights = file.create_group("model_weights")
        weights["again"] = file["/"]  # a circle
        _take_from_another_file(weights, kind)
    return path


def write_keras_of_another_file(path: Path, model: Path, kind: str) -> Path:
    """A `.keras` file of that model, whose weights are the contents of another file."""
    import h5py

    weights = path.with_suffix(".weights.h5")
    with zipfile.ZipFile(model) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name == "model.weights.h5":
                weights.write_bytes(content)
                with h5py.File(weights, "r+") as file:
                    _take_from_another_file(file.create_group("more"), kind)
                content = weights.read_bytes()
            archive.writestr(name, content)
    return path


def _take_from_another_file(weights: Any, kind: str) -> None:
    import h5py
    import numpy as np

    if kind == "circle":
        weights["one"] = h5py.SoftLink("/more/two")
        weights["two"] = h5py.SoftLink("/more/one")
    elif kind == "link":
        weights["dense"] = h5py.ExternalLink("other.h5", "/")
    elif kind == "bytes":
        secret = [("/etc/passwd", 0, 16)]
        weights.create_dataset("kernel", (16,), np.uint8, external=secret)
    else:
        layout = h5py.VirtualLayout((4,), np.float32)
        layout[:] = h5py.VirtualSource("other.h5", "kernel", (4,))
        weights.create_virtual_dataset("kernel", layout)


def write_saved_model(folder: Path, notes: Json, *, old: bool = False) -> Path:
    """A SavedModel with nothing in its graph, and with Keras' notes where they were in time."""
    folder.mkdir()
    text = json.dumps(notes).encode()
    graph = message(2, message(7, message(1, message(4, message(3, text if old else b"")))))
    (folder / "saved_model.pb").write_bytes(graph)
    if not old:
        (folder / "keras_metadata.pb").write_bytes(message(1, message(5, text)))
    return folder


def message(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    size, head = len(content), b""
    while size >= 0x80:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + head + bytes([size]) + content


def graph_with(op: str, *, function: str = "", attributes: bytes = b"") -> bytes:
    """A `saved_model.pb` with one operator: in the graph, or in a function of its library."""
    node = message(1, b"node") + message(2, op.encode()) + attributes
    if not function:
        return message(2, message(2, message(1, node)))
    body = message(1, message(1, function.encode())) + message(3, node)
    return message(2, message(2, message(2, message(1, body))))


def _program(op: str, **where: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(graph_with(op, **where))
        return folder

    return write


_TO_FILE = message(
    5, message(1, b"output_stream") + message(2, message(2, f"file://{MARKER}".encode()))
)
FOLDERS: dict[str, Callable[[Path], Path]] = {
    "notes": lambda folder: write_saved_model(folder, sequential(OLD_LAMBDA)),
    "old_notes": lambda folder: write_saved_model(folder, OLD_LAMBDA, old=True),
    "write": _program("WriteFile"),
    "write_in_function": _program("WriteFile", function="__inference_call_1"),
    "python": _program("EagerPyFunc", function="f"),
    "network": _program("RpcClient"),
    "dataset": _program("TFRecordDatasetV2", function="f"),
    "print_to_file": _program("PrintV2", attributes=_TO_FILE),
}


def write(folder: Path, name: str) -> Path:
    """Write the hostile file of a name: `keras:lambda`, `h5:residual`, `folder:write`."""
    kind, _, what = name.partition(":")
    if kind == "keras":
        return write_keras(folder / "hostile.keras", KERAS[what])
    if kind == "h5":
        return write_h5(folder / "hostile.h5", H5[what])
    return FOLDERS[what](folder / "hostile")


NAMES = [
    *(f"keras:{name}" for name in KERAS),
    *(f"h5:{name}" for name in H5),
    *(f"folder:{name}" for name in FOLDERS),
]
