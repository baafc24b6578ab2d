"""Find code in a Keras configuration by reading it as data.

Keras 2 and 3 build a model by looking up the names in its configuration. Some of them are, or refer
to, code chosen by the file's author: a Python lambda stored as bytecode, a module to import, a
function of Keras or TensorFlow that reads, writes or downloads files.
"""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from edgekit.sources.graph_operators import is_unsafe, node_operators

Kind = Literal["bytecode", "module", "function", "file", "operator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A part of a configuration that would run code.

    Attributes:
        kind: Kind of code.
        name: The class, function, file or operator named there.
        where: Name of the layer that contains it, "" where the layer has no name.
        module: Module it would be imported from.
        imports: Whether some loader imports that module; others only search the registered objects.
    """

    kind: Kind
    name: str
    where: str = ""
    module: str = ""
    imports: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """What `--custom` trusts.

    Attributes:
        modules: Dotted names of modules.
        names: Names under which Keras looks up classes and functions of these modules.
    """

    modules: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()


_PACKAGES: Final = frozenset({"keras", "tf_keras"})
_HUBS: Final = frozenset({"keras_hub", "keras_cv", "keras_nlp"})
# edgekit's own layers for quantization-aware training.
_OWN: Final = "edgekit.training.qat"
# Parts of a module path that only select the API or its version.
_NEUTRAL: Final = frozenset(
    {"keras", "src", "api", "_tf_keras", "_v1", "_v2", "v1", "v2", "compat", "__internal__"}
    | {"legacy"}
)
_CLASSES: Final = frozenset(
    {"activations", "constraints", "dtype_policies", "engine", "experimental", "feature_column"}
    | {"initializers", "layers", "losses", "metrics", "mixed_precision", "models", "ops"}
    | {"optimizers", "premade", "premade_models", "quantizers", "random", "regularizers"}
)
_FUNCTIONS: Final = frozenset(
    {"activations", "backend", "constraints", "initializers", "losses", "metrics", "ops"}
    | {"random", "regularizers"}
)
_CLASS_NAME: Final = re.compile(r"_*[A-Z]\w*")
_FUNCTION_NAME: Final = re.compile(r"(?!get$|.*serialize|.*(?:load|save|file))\w+")
_PURE_BUILTINS: Final = frozenset({"abs", "all", "any", "max", "min", "pow", "round", "sum"})
# Classes that run a program which they contain or which is stored in another file.
_PROGRAMS: Final = frozenset({"FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"})
# Their vocabulary is a list of words, or the path of a file of words.
_LOOKUPS: Final = frozenset({"IndexLookup", "IntegerLookup", "StringLookup", "TextVectorization"})
# TensorFlow functions that the functional API of Keras 2 turns into layers.
_TF_ROOMS: Final = frozenset(
    {"__operators__", "bitwise", "dtypes", "image", "linalg", "math", "nn", "quantization"}
    | {"ragged", "random", "sets", "signal", "sparse", "strings"}
)
_TF_SYMBOLS: Final = frozenset(
    """
    abs acos acosh add add_n argmax argmin argsort asin asinh atan atan2 atanh batch_to_space
    bitcast boolean_mask broadcast_static_shape broadcast_dynamic_shape broadcast_to cast
    clip_by_global_norm clip_by_norm clip_by_value complex concat constant convert_to_tensor cos
    cosh cumsum divide edit_distance einsum ensure_shape equal exp expand_dims
    extract_volume_patches eye fill fingerprint floor gather gather_nd greater greater_equal
    grad_pass_through identity
    identity_n less less_equal linspace logical_and logical_not logical_or matmul maximum meshgrid
    minimum multiply negative norm not_equal one_hot ones ones_like pad pow range rank realdiv
    reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum
    repeat reshape reverse reverse_sequence roll round saturate_cast scalar_mul scatter_nd
    searchsorted sequence_mask shape shape_n sigmoid sign sin sinh size slice sort space_to_batch
    space_to_batch_nd split sqrt square squeeze stack stop_gradient strided_slice subtract
    switch_case tan tanh tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min
    tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose truediv truncatediv
    truncatemod unique unique_with_counts unstack where zeros zeros_like
    """.split()  # noqa: SIM905  as a list it is five times as long
)


def code_in(config: Any, trusted: Trusted) -> Iterator[Finding]:
    """Yield everything in a configuration that would run code when a model is built from it.

    Args:
        config: Decoded JSON; any nesting.
        trusted: What `--custom` trusts.
    """
    todo: list[tuple[Any, str]] = [(config, "")]
    while todo:
        value, where = todo.pop()
        if isinstance(value, list):
            todo.extend((item, where) for item in value)
        elif isinstance(value, dict):
            inner = value.get("config")
            if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                where = inner["name"]
            yield from _in_object(value, where, trusted)
            todo.extend((item, where) for item in value.values())


def _in_object(value: dict[str, Any], where: str, trusted: Trusted) -> Iterator[Finding]:
    # In Keras 2 the keys `function_type`, `output_shape_type`, ... say how a function is stored.
    types = {key.removesuffix("_type") for key, kind in value.items() if kind == "lambda"}
    if types & (value.keys() - {key for key, kind in value.items() if kind == "lambda"}):
        yield Finding(kind="bytecode", name="the function of a Lambda", where=where)
    for key in [key for key, kind in value.items() if kind == "function"]:
        yield from _in_named_function(value, key.removesuffix("_type"), where, trusted)
    name = value.get("class_name")
    if not isinstance(name, str):
        return
    if name == "__lambda__":
        yield Finding(kind="bytecode", name="the function of a Lambda", where=where)
    elif name == "function":
        yield from _in_function(value, where, trusted)
    elif name == "__typespec__":
        yield from _in_class({**value, "class_name": value.get("spec_name")}, where, trusted)
    elif not name.startswith("__"):  # other names with underscores denote plain data
        yield from _in_class(value, where, trusted)


def _in_named_function(
    value: Mapping[str, Any], key: str, where: str, trusted: Trusted
) -> Iterator[Finding]:
    """Check a function that Keras 2 stored by name, with the module under another key."""
    module = value.get("module" if key == "function" else f"{key}_module")
    if not isinstance(value.get(key), str):
        return
    for finding in _in_function({"config": value[key], "module": module}, where, trusted):
        # Keras 2 looks such a name up among the registered objects. --custom may give a module of
        # TensorFlow for it; a module of Python's standard library is never part of a model.
        own = finding.module.partition(".")[0] == "tensorflow"
        name = value[key] if own else finding.name
        yield replace(finding, kind="module" if own else finding.kind, name=name, imports=False)


def _in_function(value: Mapping[str, Any], where: str, trusted: Trusted) -> Iterator[Finding]:
    name, module = value.get("config"), value.get("module")
    if not isinstance(name, str) or not module or name in trusted.names:
        return
    if not isinstance(module, str):
        yield Finding(kind="module", name=name, where=where, module=str(module))
    elif module == "builtins":
        # For Keras 3 this denotes its own functions; Keras 2 would also find Python's.
        if (hasattr(builtins, name) and name not in _PURE_BUILTINS) or not _FUNCTION_NAME.fullmatch(
            name
        ):
            yield Finding(kind="function", name=f"builtins.{name}", where=where)
    else:
        yield from _in_module(module, name, where, trusted, function=True)


def _in_class(value: Mapping[str, Any], where: str, trusted: Trusted) -> Iterator[Finding]:
    name, module = value.get("class_name"), value.get("module")
    registered = value.get("registered_name", name)
    if isinstance(registered, str) and registered in trusted.names:
        return
    short = str(name).rpartition(">")[2]
    config = value.get("config")
    if isinstance(config, dict):
        yield from _in_known_class(short, config, where)
    if short in _PROGRAMS:
        yield Finding(kind="function", name=short, where=where)
    elif module is not None and not isinstance(module, str):
        yield Finding(kind="module", name=short, where=where, module=str(module))
    elif not module:
        # Old configurations name no module: the name is looked up in Keras itself, which includes
        # functions that load files.
        package = str(name).rpartition(">")[0].partition(".")[0]
        is_class = bool(_CLASS_NAME.fullmatch(short))
        if package in sys.stdlib_module_names and is_class:
            yield Finding(kind="module", name=str(name), where=where, module=package, imports=False)
        elif package in sys.stdlib_module_names or (
            not is_class and not _FUNCTION_NAME.fullmatch(short)
        ):
            yield Finding(kind="function", name=str(name) if package else short, where=where)
    elif _is_type_spec(module, short):
        return
    elif isinstance(registered, str) and not _CLASS_NAME.fullmatch(registered.rpartition(">")[2]):
        yield Finding(kind="function", name=registered, where=where)
    else:
        yield from _in_module(module, str(name), where, trusted, function=False)


def _in_known_class(name: str, config: dict[str, Any], where: str) -> Iterator[Finding]:
    """Check classes whose configuration determines what they run."""
    if name.endswith("Lambda"):
        stored = [config.get(key) for key in ("function", "output_shape", "mask")]
        if any(isinstance(s, list) and s and isinstance(s[0], str) for s in stored):
            yield Finding(kind="bytecode", name="the function of a Lambda", where=where)
    if name in ("TFOpLambda", "SlicingOpLambda") and not _is_pure(config.get("function")):
        yield Finding(kind="function", name=f"tf.{config.get('function')}", where=where)
    elif name == "ClassMethod":
        symbol, method = config.get("cls_symbol"), str(config.get("method_name"))
        if symbol not in ("RaggedTensor", "sparse.SparseTensor") or not method.startswith("from_"):
            yield Finding(kind="function", name=f"tf.{symbol}.{method}", where=where)
    elif name in ("InstanceMethod", "InstanceProperty"):
        if str(config.get("attr_name")).startswith("_"):
            yield Finding(kind="function", name=str(config.get("attr_name")), where=where)
    elif name in _LOOKUPS and isinstance(config.get("vocabulary"), str):
        yield Finding(kind="file", name=config["vocabulary"], where=where)
    elif name == "TensorFlowOpLayer":
        ops = _operators_of(config.get("node_def"))
        for op in [op for op in ops if is_unsafe(op)] if ops else ["an unreadable operator"]:
            yield Finding(kind="operator", name=op, where=where)


def _in_module(
    module: str, name: str, where: str, trusted: Trusted, *, function: bool
) -> Iterator[Finding]:
    """Whether a loader may look up a name in a module, and import the module for that."""
    if any(module == own or module.startswith(f"{own}.") for own in trusted.modules):
        return
    package, *rest = module.split(".")
    foreign: Kind = "module"
    if package == "tensorflow" or package in sys.stdlib_module_names:
        foreign = "function"  # no module of the user
    if package == "tensorflow":
        package, *rest = [part for part in rest if part != "python"] or [""]
    fits = _FUNCTION_NAME if function else _CLASS_NAME
    if package in _PACKAGES:
        while rest and rest[0] in _NEUTRAL:
            rest.pop(0)
        rooms = _FUNCTIONS if function else _CLASSES
        # Classes are also in the package itself: keras.Model.
        known = rest[0] in rooms if rest else not function
        if not known or not fits.fullmatch(name):
            yield Finding(kind="function", name=f"{module}.{name}", where=where)
    elif package in _HUBS or module.startswith(_OWN):
        if function or not fits.fullmatch(name):
            yield Finding(kind="function", name=f"{module}.{name}", where=where)
    else:
        called = name if foreign == "module" else f"{module}.{name}"
        yield Finding(kind=foreign, name=called, where=where, module=module)


def _is_type_spec(module: str, name: str) -> bool:
    return module.startswith("tensorflow.python.") and bool(re.fullmatch(r"[A-Z]\w*Spec", name))


def _is_pure(symbol: Any) -> bool:
    """Whether a TensorFlow function only computes on tensors."""
    if not isinstance(symbol, str):
        return False
    room, _, name = symbol.removeprefix("compat.v1.").rpartition(".")
    if room.startswith("experimental.numpy"):
        return True
    if room.startswith("keras."):
        return room in ("keras.activations", "keras.backend") and bool(
            _FUNCTION_NAME.fullmatch(name)
        )
    return room.partition(".")[0] in _TF_ROOMS if room else name in _TF_SYMBOLS


def _operators_of(node: Any) -> list[str]:
    """Yield the operators of a NodeDef, given as JSON or as bytes in a string."""
    if isinstance(node, dict):
        return [str(node.get("op"))]
    try:
        return node_operators(str(node).encode())
    except ValueError:
        return []
