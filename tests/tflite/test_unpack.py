"""The fast reader gives the same objects as the generated one, in linear time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.tflite import unpack as unpacking
from edgekit.tflite import write
from edgekit.tflite.unpack import unpack
from edgekit.tflite.verify import _Walk

sys.path.append(str(Path(__file__).resolve().parents[2]))
from benchmarks.inspection import chain

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*/*.tflite"))


def assert_equal(ours: object, theirs: object, where: str) -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        assert ours.tobytes() == theirs.tobytes(), where
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(mine, other, f"{where}[{index}]")
    elif hasattr(ours, "__dict__"):
        # Attributes in the schema's order: one that a new schema adds is not missed.
        assert list(vars(ours)) == list(vars(theirs)), where
        for name, value in vars(ours).items():
            assert_equal(value, getattr(theirs, name), f"{where}.{name}")
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_reads_what_the_schema_reads(path: Path) -> None:
    data = path.read_bytes()
    assert_equal(unpack(data), schema.ModelT.InitFromPackedBuf(data), path.stem)


def test_rare_fields_are_read_too() -> None:
    # given a model with a field of every kind that golden files lack
    details = schema.BlockwiseQuantizationT(scales=1, zeroPoints=2, blockSize=32)
    tensor = schema.TensorT(
        name="x",
        shape=np.array([2], np.int32),
        shapeSignature=np.array([-1], np.int32),
        isVariable=True,
        hasRank=True,
        type=9,
        buffer=1,
        quantization=schema.QuantizationParametersT(
            min=np.array([-1], np.float32),
            max=np.array([1], np.float32),
            scale=np.array([0.5, 2], np.float32),
            zeroPoint=np.array([1, 2], np.int64),
            quantizedDimension=3,
        ),
        variantTensors=[schema.VariantSubTypeT(shape=np.array([3], np.int32), type=2)],
    )
    blockwise = schema.TensorT(
        name="y",
        quantization=schema.QuantizationParametersT(
            detailsType=schema.QuantizationDetails.BlockwiseQuantization, details=details
        ),
    )
    operator = schema.OperatorT(
        inputs=np.array([0], np.int32),
        customOptions=np.arange(5, dtype=np.uint8),
        intermediates=np.array([1], np.int32),
        mutatingVariableInputs=np.array([True]),
    )
    hidden = schema.OperatorT(
        builtinOptions2Type=schema.BuiltinOptions2.StablehloIotaOptions,
        builtinOptions2=schema.StablehloIotaOptionsT(iotaDimension=4),
    )
    data = write(
        schema.ModelT(
            version=3,
            subgraphs=[schema.SubGraphT(tensors=[tensor, blockwise], operators=[operator, hidden])],
            buffers=[schema.BufferT(), schema.BufferT(offset=7, size=8)],
        )
    )

    model = unpack(data)

    assert_equal(model, schema.ModelT.InitFromPackedBuf(data), "model")
    assert model.subgraphs[0].operators[1].builtinOptions2.iotaDimension == 4


def test_field_lists_are_read_once_however_many_tables_share_them() -> None:
    found = []
    for operators in (100, 1000):
        data = chain(operators)
        reader = unpacking._Reader(data)
        walk = _Walk(data)
        root = int.from_bytes(data[:4], "little")
        walk.tables(np.array([root]), "Model")
        reader.many(root, reader.fields(root)[2], reader.graph)
        found.append((len(reader._known), len(walk.field_lists)))
    assert found[0] == found[1]
    assert max(found[0]) < 12
