"""Small float networks with seeded weights, written without TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT

from edgekit.records import Array, Batch, Samples
from edgekit.tflite import read, write
from edgekit.tflite.graph import FLOAT32, INT32, operator_code

NONE, RELU, RELU6 = 0, 1, 3
SAME, VALID = 0, 1


class Net:
    """A network in the making; every method adds an operator and returns its output's name."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.model = schema.ModelT(
            version=3, operatorCodes=[], buffers=[schema.BufferT()], metadata=[], signatureDefs=[]
        )
        self.graph = schema.SubGraphT(tensors=[], operators=[], name="main")
        self.model.subgraphs = [self.graph]
        self.places: dict[str, int] = {}
        self.graph.inputs = np.array([self._tensor("x", shape)], np.int32)

    def done(self, *outputs: str) -> ModelT:
        self.graph.outputs = np.array([self.places[name] for name in outputs], np.int32)
        return read(write(self.model))

    def conv(
        self,
        x: str,
        out: int,
        *,
        k: int = 3,
        act: int = NONE,
        padding: int = SAME,
        kind: str = "CONV_2D",
        weights: Array | None = None,
        name: str | None = None,
    ) -> str:
        _, height, width, channels = self._shape(x)
        depthwise = kind != "CONV_2D"
        shape = (1, k, k, channels) if depthwise else (out, k, k, channels)
        if weights is None:
            weights = self.rng.normal(0, (k * k * channels) ** -0.5, shape).astype(np.float32)
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding, options.fusedActivationFunction = padding, act
        options.strideW = options.strideH = 1
        options.dilationWFactor = options.dilationHFactor = 1
        if depthwise:
            options.depthMultiplier = 1
        less = 0 if padding == SAME else k - 1
        return self._add(
            kind,
            [x, self._constant(weights), self._constant(self._some(weights.shape[-1 * depthwise]))],
            (1, height - less, width - less, out),
            options,
            name,
        )

    def depthwise(self, x: str, **settings: Any) -> str:
        return self.conv(x, self._shape(x)[-1], kind="DEPTHWISE_CONV_2D", **settings)

    def dense(self, x: str, out: int, *, act: int = NONE, weights: Array | None = None) -> str:
        width = self._shape(x)[-1]
        if weights is None:
            weights = self.rng.normal(0, width**-0.5, (out, width)).astype(np.float32)
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=act)
        given = [x, self._constant(weights), self._constant(self._some(out))]
        return self._add("FULLY_CONNECTED", given, (1, out), options)

    def scale(self, x: str, values: Array | None = None, name: str | None = None) -> str:
        values = self._some(self._shape(x)[-1]) if values is None else values
        given = [x, self._constant(values)]
        return self._add("MUL", given, self._shape(x), schema.MulOptionsT(), name)

    def shift(self, x: str, act: int = NONE) -> str:
        options = schema.AddOptionsT(fusedActivationFunction=act)
        given = [x, self._constant(self._some(self._shape(x)[-1]))]
        return self._add("ADD", given, self._shape(x), options)

    def add(self, x: str, y: str) -> str:
        return self._add("ADD", [x, y], self._shape(x), schema.AddOptionsT())

    def relu(self, x: str) -> str:
        return self._add("RELU", [x], self._shape(x), None)

    def pool(self, x: str, kind: str = "MAX_POOL_2D") -> str:
        _, height, width, channels = self._shape(x)
        options = schema.Pool2DOptionsT(
            padding=VALID, strideW=2, strideH=2, filterWidth=2, filterHeight=2
        )
        return self._add(kind, [x], (1, height // 2, width // 2, channels), options)

    def mean(self, x: str) -> str:
        given = [x, self._constant(np.array([1, 2], np.int32))]
        return self._add("MEAN", given, (1, self._shape(x)[-1]), schema.ReducerOptionsT())

    def flat(self, x: str) -> str:
        shape = (1, int(np.prod(self._shape(x))))
        given = [x, self._constant(np.array(shape, np.int32))]
        return self._add("RESHAPE", given, shape, schema.ReshapeOptionsT(newShape=list(shape)))

    def softmax(self, x: str) -> str:
        return self._add("SOFTMAX", [x], self._shape(x), schema.SoftmaxOptionsT(beta=1.0))

    def _some(self, n: int) -> Array:
        return self.rng.normal(0, 1, n).astype(np.float32)

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.graph.tensors[self.places[name]].shape.tolist())

    def _tensor(self, name: str, shape: tuple[int, ...], data: Array | None = None) -> int:
        buffer = 0
        if data is not None:
            flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
            self.model.buffers.append(schema.BufferT(data=flat))
            buffer = len(self.model.buffers) - 1
        kind = FLOAT32 if data is None or data.dtype == np.float32 else INT32
        self.graph.tensors.append(
            schema.TensorT(
                shape=np.array(shape, np.int32), type=kind, name=name, buffer=buffer, hasRank=True
            )
        )
        self.places[name] = len(self.graph.tensors) - 1
        return self.places[name]

    def _constant(self, values: Array) -> str:
        name = f"constant{len(self.places)}"
        self._tensor(name, values.shape, values)
        return name

    def _add(
        self,
        kind: str,
        given: list[str],
        shape: tuple[int, ...],
        options: Any,
        name: str | None = None,
    ) -> str:
        output = name or f"{kind.lower()}{len(self.graph.operators)}"
        self._tensor(output, shape)
        table = type(options).__name__.removesuffix("T")
        self.graph.operators.append(
            schema.OperatorT(
                opcodeIndex=operator_code(self.model, kind, 1),
                inputs=np.array([self.places[one] for one in given], np.int32),
                outputs=np.array([self.places[output]], np.int32),
                builtinOptionsType=getattr(schema.BuiltinOptions, table) if options else 0,
                builtinOptions=options,
            )
        )
        return output


def outlier_net(seed: int = 0, wide: float = 200.0, size: int = 8) -> ModelT:
    """Convolution, ReLU, normalization, twice, whose first normalization has one wide channel."""
    net = Net(1, size, size, 1, seed=seed)
    scales = np.abs(net.rng.normal(1, 0.2, 16)).astype(np.float32)
    scales[3] *= wide
    hidden = net.shift(net.scale(net.conv("x", 16, act=RELU), scales))
    weights = net.rng.normal(0, 0.1, (32, 3, 3, 16)).astype(np.float32)
    weights[..., 3] /= wide
    hidden = net.conv(hidden, 32, act=RELU, weights=weights)
    hidden = net.shift(net.scale(hidden))
    return net.done(net.softmax(net.dense(net.mean(hidden), 10)))


def noise(n: int, *shape: int, seed: int = 1) -> Samples:
    """Seeded calibration samples for the input `x`."""
    values = np.random.default_rng(seed).normal(0, 1, (n, *shape)).astype(np.float32)
    return samples_with(values)


def samples_with(values: Array) -> Samples:
    return Samples(
        split="calibrate",
        n=len(values),
        sha256="",
        read=lambda rows: Batch(inputs={"x": values[rows]}),
    )


def outputs_on(data: bytes, samples: Samples) -> Array:
    """What a file computes of each sample, `[n, ...]`."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    found = []
    for values in samples.read(np.arange(samples.n)).inputs["x"]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(found)
