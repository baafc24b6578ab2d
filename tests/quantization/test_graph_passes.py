"""Graph passes: what each keeps, and how a plan's passes are applied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT

from edgekit.errors import ConversionError, UsageError
from edgekit.quantization import PASSES, GraphPass, Observed, learned, make, read_float_graph
from edgekit.quantization import passes as passes_room
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.records import Plan, Ranges
from edgekit.tflite import operator_name, read, signature, write
from edgekit.tflite.graph import clone, operator_code
from edgekit.tflite.ranges import activations

FLOAT = Plan(variant="float", mode="float32")
DROPPING = Plan(variant="slim", mode="float32", passes=("drop_unused",))


def outputs(data: bytes) -> dict[str, np.ndarray]:
    """Every output of the speech graph for seeded noise."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    rows = np.random.default_rng(0).standard_normal((1, 61, 40, 1)).astype(np.float32)
    return dict(interpreter.get_signature_runner()(input_layer=rows))


def with_dead_branch(model: ModelT) -> ModelT:
    """The model with two operators more, of a kind of their own, whose results nobody reads."""
    changed = clone(model)
    graph = changed.subgraphs[0]
    for name, given in (("NEG", int(graph.inputs[0])), ("ABS", len(graph.tensors))):
        like = graph.tensors[graph.inputs[0]]
        changed.buffers.append(schema.BufferT())
        graph.tensors.append(
            schema.TensorT(
                shape=like.shape, type=like.type, buffer=len(changed.buffers) - 1, name=name
            )
        )
        graph.operators.append(
            schema.OperatorT(
                opcodeIndex=operator_code(changed, name, 1),
                inputs=np.array([given], np.int32),
                outputs=np.array([len(graph.tensors) - 1], np.int32),
            )
        )
    changed.buffers.append(schema.BufferT(data=np.full(5000, 7, np.uint8)))
    return changed


def test_a_dead_branch_is_dropped_and_the_outputs_stay(speech: bytes) -> None:
    # Given a graph with two operators and 5 kB that no output depends on
    model = with_dead_branch(read(speech))
    before = write(model)
    # When they are dropped
    slim = drop_unused(model, NOTHING, FLOAT)
    # Then what is left is the graph as it was, and not a bit of the outputs has changed.
    names = [operator_name(slim, op) for op in slim.subgraphs[0].operators]
    original = read(speech)
    assert names == [operator_name(original, op) for op in original.subgraphs[0].operators]
    assert {"NEG", "ABS"} <= {operator_name(model, op) for op in model.subgraphs[0].operators}
    after = write(slim)
    assert len(after) < len(before) - 5000
    found, expected = outputs(after), outputs(before)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_what_changes_a_state_stays(golden) -> None:
    for path in sorted((golden / "inspect").glob("*.tflite")):
        model = read(path)
        slim = drop_unused(model, NOTHING, FLOAT)
        names, left = (
            [operator_name(m, op) for graph in m.subgraphs for op in graph.operators]
            for m in (model, slim)
        )
        assert left == names, path.name


def test_a_model_without_waste_is_returned_itself(speech: bytes) -> None:
    slim = drop_unused(read(speech), NOTHING, FLOAT)
    assert drop_unused(slim, NOTHING, FLOAT) is slim


def test_a_plan_names_its_passes(speech: bytes) -> None:
    # Given a graph with a dead branch
    graph = read_float_graph(write(with_dead_branch(read(speech))))
    # When a plan names the pass, and one does not
    slim, plain = (make(plan, graph, observe=not_observed) for plan in (DROPPING, FLOAT))
    # Then only the first is smaller.
    assert plain.data == graph.data
    assert len(slim.data) < len(plain.data) - 5000
    assert slim.data == write(slim.model)


def test_an_unknown_pass_is_told_with_what_is_near(speech: bytes) -> None:
    plan = replace(DROPPING, passes=("drop_unuse",))
    with pytest.raises(UsageError, match="Unknown graph pass") as caught:
        make(plan, read_float_graph(speech), observe=not_observed)
    assert caught.value.found == "Did you mean drop_unused?"


def test_names_of_passes_are_unique() -> None:
    names = [each.name for each in PASSES]
    assert len(set(names)) == len(names)


def not_observed(model: ModelT) -> Observed:
    raise AssertionError("nobody asked for it")


class Copying:
    """A pass that says that it moves activations, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Plan, Observed]] = []

    def __call__(self, model: ModelT, observed: Observed, settings: Plan) -> ModelT:
        self.told.append((settings, observed))
        return clone(model)


def ranging(model: ModelT, low: float) -> Observed:
    """Ranges from `low` to 1 for every activation."""
    names = [model.subgraphs[0].tensors[i].name for i in activations(model)]
    return Observed(low=dict.fromkeys(names, low), high=dict.fromkeys(names, 1.0), n=1)


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> Copying:
    apply = Copying()
    moving = GraphPass(
        name="copy", meaning="Copies.", apply=apply, observes=True, moves_activations=True
    )
    monkeypatch.setattr(passes_room, "PASSES", (*PASSES, moving))
    return apply


def test_activations_that_a_pass_moved_are_observed_anew(speech: bytes, copying: Copying) -> None:
    # Given a pass that changes activations
    graph = read_float_graph(speech)
    seen: list[ModelT] = []

    def observe(model: ModelT) -> Observed:
        seen.append(model)
        return ranging(model, -float(len(seen)))

    # When an integer file is made
    plan = Plan(variant="v", mode="int8", passes=("copy",), input_type="int8")
    made = make(plan, graph, observe=observe)
    # Then the pass saw the graph's own activations, and the file has the ranges after it.
    assert [model is graph.model for model in seen] == [True, False]
    assert [(p, o.low["input_layer"]) for p, o in copying.told] == [(plan, -1.0)]
    (given, *_), _ = signature(made.model)
    assert given.scale == pytest.approx(3 / 255)


def test_trained_ranges_do_not_outlive_such_a_pass(speech: bytes, copying: Copying) -> None:
    trained = Ranges(method="trained", low={}, high={}, n=0)
    plan = Plan(variant="v", mode="int8", passes=("copy",))
    with pytest.raises(ConversionError, match="ranges were trained"):
        make(
            plan,
            read_float_graph(speech),
            observe=lambda _: learned(trained),
        )


class Counts:
    """How often models are parsed and serialized."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from edgekit.tflite import graph

        self.parsed = self.written = 0
        unpack, finish = graph.unpack, graph._AlignedBuilder.Finish

        def counted_unpack(data: bytes) -> ModelT:
            self.parsed += 1
            return unpack(data)

        def counted_finish(builder: object, *args: object, **options: object) -> object:
            self.written += 1
            return finish(builder, *args, **options)

        monkeypatch.setattr(graph, "unpack", counted_unpack)
        monkeypatch.setattr(graph._AlignedBuilder, "Finish", counted_finish)


@pytest.mark.parametrize("mode", ["float16", "dynamic", "int4", "int8", "int16x8"])
def test_a_variant_is_written_once_and_never_parsed_again(
    speech: bytes, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    graph = read_float_graph(speech)
    counts = Counts(monkeypatch)
    plan = Plan(variant=mode, mode=mode, passes=("drop_unused",))
    make(plan, graph, observe=lambda model: ranging(model, -1.0))
    assert (counts.parsed, counts.written) == (0, 1)
