"""Find operators in a SavedModel's graph that access files, the network or Python.

A SavedModel is a program. Some of its functions run while it is loaded (initializers of tables),
so every function is checked, not only the signature's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edgekit.sources.protobuf import fields, messages, strings

_UNSAFE: Final = re.compile(
    r"""
      ReadFile | WriteFile | MatchingFiles | FileSystemSetConfiguration
    | \w*PyFunc\w* | RemoteCall | RemoteFusedGraphExecute | Rpc\w+ | XlaCustomCall\w*
    | \w*Dataset\w* | \w*Reader\w* | RecordInput
    | InitializeTableFromTextFile\w* | Skipgram | FixedUnigramCandidateSampler
    | GenerateVocabRemapping | LoadAndRemapMatrix | DTensorRestoreV2 | DistributedSave
    | DecodeProto\w* | EncodeProto\w* | DumpTensor | CalibrationStatisticsSaver
    | (Create|Write|Flush|Close)\w*Summary\w* | SummaryWriter | ImportEvent
    | StatsAggregatorSetSummaryWriter | Debug(Identity|Nan|Numeric)\w*
    | _?Send | _?Recv | _?Host(Send|Recv) | Collective\w+
    | InitializeTRTResource | CreateTRTResourceHandle | TRTEngineOp
    """,
    re.VERBOSE,
)
_SAVES: Final = frozenset({"Save", "SaveV2", "SaveSlices", "MergeV2Checkpoints"})
_RESTORES: Final = frozenset({"Restore", "RestoreV2", "RestoreSlice"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A node of a graph: its operator, the nodes it depends on, and the functions it calls."""

    name: str
    op: str
    inputs: tuple[str, ...]
    calls: frozenset[str]
    unsafe: bool


def unsafe_operator(saved_model: bytes) -> str | None:
    """Return an operator with effects outside of the graph, and its location; None if none.

    Every SavedModel saves and restores its variables; this is allowed in the checkpoint functions,
    which only a saver calls.

    Args:
        saved_model: The bytes of `saved_model.pb`.

    Raises:
        ValueError: The bytes are no protocol buffer.
    """
    for graph in messages(saved_model, 2):
        if found := _unsafe_in(graph):
            return found
    return None


def is_unsafe(op: str) -> bool:
    """Whether an operator, by its name, has or may have effects outside of its graph."""
    return op in _SAVES | _RESTORES | {"PrintV2"} or _is_denied(op)


def node_operators(node: bytes) -> list[str]:
    """Return the operators of a serialized NodeDef; several where the field is repeated.

    Raises:
        ValueError: It is no protocol buffer.
    """
    return list(strings(node, 2))


def _unsafe_in(graph: memoryview) -> str | None:
    main = [_node(view) for view in messages(graph, 2, 1)]
    functions: dict[str, list[_Node]] = {}
    for function in messages(graph, 2, 2, 1):  # of the library
        nodes = [_node(view) for view in messages(function, 3)]
        for name in [*strings(function, 1, 1)] or [""]:
            functions.setdefault(name, []).extend(nodes)
    for place, nodes in (("the graph", main), *functions.items()):
        for node in nodes:
            if node.unsafe:
                return f"{node.op} in {place}"
    return _checkpoint_misuse(graph, main, functions)


def _node(view: memoryview) -> _Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: []}
    attributes: list[memoryview] = []
    for number, content in fields(view):
        if number in texts:
            texts[number].append(bytes(content).decode(errors="replace"))
        elif number == 5:
            attributes += messages(content, 2)
    names, ops, inputs = texts[1], texts[2], texts[3]
    calls = set(ops)  # an operator's name may be that of a function
    for attribute in attributes:
        calls.update(strings(attribute, 10, 1))
        calls.update(strings(attribute, 1, 9, 1))
    # tf.print can write to a file.
    prints = "PrintV2" in ops and any(
        text.startswith("file:") for attribute in attributes for text in strings(attribute, 2)
    )
    unsafe = next((op for op in ops if _is_denied(op)), None)
    return _Node(
        name=names[-1] if names else "",
        op=unsafe or (ops[-1] if ops else ""),
        inputs=tuple(text.lstrip("^").partition(":")[0] for text in inputs),
        calls=frozenset(calls),
        unsafe=prints or unsafe is not None,
    )


@functools.cache
def _is_denied(op: str) -> bool:
    return _UNSAFE.fullmatch(op) is not None


def _checkpoint_misuse(
    graph: memoryview, main: list[_Node], functions: Mapping[str, list[_Node]]
) -> str | None:
    """Find an operator that saves or restores outside of the checkpoint functions."""
    calls = {name: {c for node in nodes for c in node.calls} for name, nodes in functions.items()}
    saving = _leading_to(_SAVES, calls)
    both = _leading_to(_SAVES | _RESTORES, calls)
    # Functions that objects call: those of signatures, layers, tables.
    called = {
        *strings(graph, 7, 2, 1),  # concrete functions, by name
        *strings(graph, 7, 1, 6, 1),  # of a function object
        *strings(graph, 7, 1, 8, 1),  # of a bare concrete function
    }
    if found := called & both:
        return f"{_first(found, functions, both)} in {min(found)}"
    inputs = {node.name: set(node.inputs) for node in main}
    run = [*_run_tensors(graph)]
    restored = list(strings(graph, 3, 3))
    for ops, roots in ((both, run), (saving, restored)):
        touching = {node.name for node in main if node.calls & ops}
        if found := {name.partition(":")[0] for name in roots} & _leading_to(touching, inputs):
            return f"{_first(['the graph'], {'the graph': main}, ops)} in {min(found)}"
    return None


def _run_tensors(graph: memoryview) -> Iterator[str]:
    """Return the nodes of the main graph that are run: signatures, init operators."""
    for output in messages(graph, 5, 2, 2, 2):
        yield from strings(output, 1)
        for field in (1, 2, 3):  # values, indices and shape of a sparse tensor
            yield from strings(output, 4, field)
        yield from strings(output, 5, 2, 1)  # parts of a composite tensor
    yield from strings(graph, 4, 2, 1, 1)


def _leading_to(ends: Iterable[str], edges: Mapping[str, set[str]]) -> set[str]:
    """Return the given nodes, and all nodes that they depend on."""
    found = set(ends)
    before: dict[str, set[str]] = {}
    for name, targets in edges.items():
        for target in targets:
            before.setdefault(target, set()).add(name)
    todo = list(found)
    while todo:
        fresh = before.get(todo.pop(), set()) - found
        found |= fresh
        todo.extend(fresh)
    return found


def _first(names: Iterable[str], functions: Mapping[str, list[_Node]], ops: set[str]) -> str:
    """Return an offending operator of these functions, for the message."""
    nodes = (node for name in sorted(names) for node in functions.get(name, ()))
    return next(node.op for node in nodes if node.calls & ops)
