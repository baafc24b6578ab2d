"""The first run of an untrusted file always terminates."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit import devices
from edgekit.errors import ModelError
from edgekit.evaluation import predict
from edgekit.isolate import Background
from edgekit.records import Batch, Samples
from edgekit.tflite import check_ends, check_loads, load, read, write
from edgekit.tflite.load import start_check


def tensor(name: str, kind: int = 0, buffer: int = 0) -> schema.TensorT:
    return schema.TensorT(shape=np.array([1], np.int32), type=kind, buffer=buffer, name=name)


def operator(code: int, inputs: list[int], output: int, options: object) -> schema.OperatorT:
    name = type(options).__name__.removesuffix("T")
    return schema.OperatorT(
        opcodeIndex=code,
        inputs=np.array(inputs, np.int32),
        outputs=np.array([output], np.int32),
        builtinOptionsType=getattr(schema.BuiltinOptions, name),
        builtinOptions=options,
    )


def graph(tensors: list[schema.TensorT], op: schema.OperatorT) -> schema.SubGraphT:
    return schema.SubGraphT(
        tensors=tensors, inputs=np.array([0], np.int32), outputs=op.outputs, operators=[op]
    )


def endless() -> bytes:
    """While x < 1e9: x + 0."""
    loop = schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2)
    return write(
        schema.ModelT(
            version=3,
            operatorCodes=[
                schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1)
                for code in (119, 0, 58)
            ],
            buffers=[
                schema.BufferT(),
                schema.BufferT(data=np.array([1e9], np.float32).view(np.uint8)),
                schema.BufferT(data=np.zeros(1, np.float32).view(np.uint8)),
            ],
            subgraphs=[
                graph([tensor("x"), tensor("y")], operator(0, [0], 1, loop)),
                graph(
                    [tensor("a"), tensor("limit", buffer=1), tensor("less", 6)],
                    operator(2, [0, 1], 2, schema.LessOptionsT()),
                ),
                graph(
                    [tensor("b"), tensor("zero", buffer=2), tensor("sum")],
                    operator(1, [0, 1], 2, schema.AddOptionsT()),
                ),
            ],
        )
    )


def share(limit: int) -> bytes:
    """8 // x for an int32 x, whose kernel refuses 0; and a table of `limit` rows at x."""
    table = schema.TensorT(
        shape=np.array([limit], np.int32), type=0, buffer=2, name="table", hasRank=True
    )
    divide = operator(0, [1, 0], 2, schema.DivOptionsT())
    look_up = operator(1, [3, 0], 4, schema.GatherOptionsT())
    both = graph(
        [tensor("x", 2), tensor("eight", 2, 1), tensor("share", 2), table, tensor("row")], divide
    )
    both.operators = [divide, look_up]
    both.outputs = np.array([2, 4], np.int32)
    return write(
        schema.ModelT(
            version=3,
            operatorCodes=[
                schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1)
                for code in (42, 36)
            ],
            buffers=[
                schema.BufferT(),
                schema.BufferT(data=np.array([8], np.int32).view(np.uint8)),
                schema.BufferT(data=np.zeros(limit, np.float32).view(np.uint8)),
            ],
            subgraphs=[both],
        )
    )


def test_a_model_that_refuses_nothing_but_padding_is_run_on_ones(tmp_path: Path) -> None:
    # Given an integer division by the input: a mean over the words that are no padding
    path = tmp_path / "share.tflite"
    path.write_bytes(share(limit=2))

    check_loads(path)  # does not raise
    assert devices.bench(path).p50_ms > 0

    # A model that refuses both is refused, by what it says of zeros.
    with pytest.raises(ModelError) as raised:
        check_loads(share(limit=1))
    assert "div.cc" in (raised.value.found or "")


def test_a_loop_without_an_end_is_a_model_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "endless.tflite"
    path.write_bytes(endless())
    monkeypatch.setattr(load, "TRIAL_LIMIT_S", 1)
    # The package shows the function of that name, not the module.
    module = importlib.import_module("edgekit.evaluation.predict")
    monkeypatch.setattr(module, "TRIAL_LIMIT_S", 1)
    ones = Samples(
        split="test",
        n=1,
        sha256="",
        read=lambda rows: Batch(inputs={"x": np.ones(len(rows), np.float32)}),
    )

    with pytest.raises(ModelError, match="ended after 1 s of processor time"):
        check_loads(path)
    with pytest.raises(ModelError, match="ended after 1 s of processor time"):
        predict(path, ones)
    # Whether a manifest vouches for it or not, and before the runner sees it.
    with pytest.raises(ModelError, match=r"does not finish its first run\.\n.* 1 s of processor"):
        devices.bench(path)
    with pytest.raises(ModelError, match="does not finish its first run"):
        devices.bench(path, runtime="tensorflow")


def test_a_loop_with_an_end_is_timed(golden: Path) -> None:
    timing = devices.bench(golden / "inspect" / "loop_float32.tflite", runs=3)

    assert len(timing.values_ns) == 3


def test_only_the_end_is_in_question(golden: Path, tmp_path: Path) -> None:
    # An operator of no name: LiteRT refuses the file at once.
    model = read(golden / "inspect" / "loop_float32.tflite")
    for code in model.operatorCodes:
        code.builtinCode, code.customCode = 32, "unknown"
    path = tmp_path / "unknown.tflite"
    path.write_bytes(write(model))

    check_ends(path)
    with pytest.raises(ModelError, match="does not run in LiteRT"):
        check_loads(path)


def test_a_model_is_checked_in_the_background_and_then_more_is_done(
    tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a model that runs, one that LiteRT refuses, and one that ends the process
    sound, refused, deadly = golden / "inspect" / "loop_float32.tflite", tmp_path / "r", tmp_path
    refused.write_bytes(share(limit=1))
    run = load._refusal
    monkeypatch.setattr(load, "_refusal", lambda path: os.abort() if path == deadly else run(path))
    done = tmp_path / "done"

    def then() -> int:
        done.write_text(str(os.getpid()))
        return 7

    with Background() as background:
        answers = [start_check(path, background, then=then) for path in (refused, deadly)]

        # When their answers are waited for, then errors say why, and no more is done;
        for answer, why in zip(answers, ("div.cc", "the process died (SIGABRT)"), strict=True):
            with pytest.raises(ModelError) as raised:
                answer()
            assert why in (raised.value.found or "")
        assert not done.exists()
        # of the model that runs it is, in another process.
        assert start_check(sound, background, then=then)() == 7
        assert done.read_text() != str(os.getpid())
