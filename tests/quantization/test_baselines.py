"""Every variant of the trained baselines, against the files TensorFlow's own converter made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import ModelT

from edgekit.data import bind, open_data
from edgekit.isolate import spread
from edgekit.modes import MODES
from edgekit.quantization import FloatGraph, Observed, make, observe, read_float_graph
from edgekit.records import Array, Dataset, Plan, Rule
from edgekit.tflite import read, signature
from edgekit.worker import Worker

pytestmark = [pytest.mark.tensorflow, pytest.mark.data]

DATA = {
    "fashion_mnist_cnn": "fashion-mnist",
    "fsdd_dscnn": "spoken-digits",
    "cmapss_cnn1d": "turbofan",
}
STOCK_NAMES = {"float32": "f32", "float16": "f16", "dynamic": "dyn", "int8": "int8"}


@dataclass(frozen=True)
class Baseline:
    graph: FloatGraph
    dataset: Dataset
    stock: Mapping[str, Mapping[str, float]]
    observed: Observed
    scores: dict[tuple[bytes, int], float] = field(default_factory=dict)
    """Of each file, on as many samples: that of the float graph is asked for again and again."""

    def observe(self, model: ModelT) -> Observed:
        assert model is self.graph.model
        return self.observed

    def score(self, data: bytes, n: int | None = None) -> float:
        """Accuracy, or minus the root mean square error in cycles; of the first `n` samples."""
        key = data, n or self.dataset.test.n
        if key not in self.scores:
            self.scores[key] = self._score(*key)
        return self.scores[key]

    def _score(self, data: bytes, n: int) -> float:
        batch = self.dataset.test.read(np.arange(n))
        (inputs,) = batch.inputs.values()
        halves = spread(lambda k: outputs_of(data, inputs[k::2]), [0, 1])
        found = np.empty((len(inputs), *halves[0].shape[1:]), np.float32)
        found[0::2], found[1::2] = halves
        if self.dataset.task == "classification":
            return float(np.mean(found.argmax(1) == batch.targets))
        # The model answers in units of 125 cycles.
        error = 125 * found.reshape(-1) - np.asarray(batch.targets).reshape(-1)
        return -float(np.sqrt(np.mean(np.square(error))))

    def slack(self, *, points: float = 0.0, share: float = 0.0) -> float:
        """What a score may fall by: accuracy points and one sample, or a share of the error."""
        if self.dataset.task == "classification":
            return points / 100 + 1.01 / self.dataset.test.n
        return share * self.stock["f32"]["metric"]


def outputs_of(data: bytes, rows: Array) -> Array:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for row in rows:
        values = row[None]
        if given["dtype"] != np.float32:
            scale, zero_point = given["quantization"]
            codes, ends = np.rint(values / scale) + zero_point, np.iinfo(given["dtype"])
            values = np.clip(codes, ends.min, ends.max).astype(given["dtype"])
        interpreter.set_tensor(given["index"], values)
        interpreter.invoke()
        answer = interpreter.get_tensor(result["index"])[0]
        if result["dtype"] != np.float32:
            scale, zero_point = result["quantization"]
            answer = (answer.astype(np.float32) - zero_point) * scale
        found.append(answer)
    return np.stack(found)


@pytest.fixture(scope="module", params=DATA)
def baseline(
    request, worker: Worker, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Baseline:
    folder = shared_data / "baselines"
    worker.load(folder / f"{request.param}.keras")
    path = worker.lower(tmp_path_factory.mktemp("graph") / "float32.tflite").path
    told = json.loads((folder / "baselines.json").read_text())[request.param]
    (stock,) = [value for key, value in told.items() if key.startswith("formats")]
    graph = read_float_graph(path)
    dataset = bind(open_data(DATA[request.param]), *signature(graph.model))
    observed = observe(graph.model, dataset.calibrate, histograms=True)
    return Baseline(graph=graph, dataset=dataset, stock=stock, observed=observed)


def test_no_variant_is_larger_or_worse_than_stock(baseline: Baseline, worker: Worker) -> None:
    for mode in MODES:
        plan = Plan(variant=mode, mode=mode)
        made = make(plan, baseline.graph, observe=baseline.observe)
        assert signature(read(made.data)) == signature(baseline.graph.model)
        # The int16 kernels are slow: on part of the samples, against float on the same.
        n = min(baseline.dataset.test.n, 1000) if mode == "int16x8" else None
        score, reference = baseline.score(made.data, n), baseline.score(baseline.graph.data, n)
        if mode in STOCK_NAMES:
            stock = baseline.stock[STOCK_NAMES[mode]]
            assert len(made.data) <= stock["size"], mode
            metric = stock["metric"]
            reference = metric if baseline.dataset.task == "classification" else -metric
        # Another draw of calibration samples moves an int8 score by this much as well. Of dynamic
        # files the small weights are rounded, too, which stock's are not.
        allowed = {"int8": (0.1, 0.01), "int16x8": (0.1, 0.01), "int4": (1.0, 0.04)}
        allowed["dynamic"] = (0.05, 0.005)
        points, share = allowed.get(mode, (0.01, 0.001))
        assert score >= reference - baseline.slack(points=points, share=share), mode


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_every_way_of_choosing_ranges_keeps_the_score(
    baseline: Baseline, worker: Worker, method: str
) -> None:
    plan = Plan(variant=method, mode="int8", ranges=method)
    score = baseline.score(make(plan, baseline.graph, observe=baseline.observe).data)
    assert score >= baseline.score(baseline.graph.data) - baseline.slack(points=0.4, share=0.02)


@pytest.mark.parametrize(
    ("mode", "kind"), [("int8", "int8"), ("int8", "uint8"), ("int16x8", "int16")]
)
def test_integer_inputs_and_outputs(
    baseline: Baseline, worker: Worker, mode: str, kind: str
) -> None:
    plan = Plan(variant=kind, mode=mode, input_type=kind, output_type=kind)
    made = make(plan, baseline.graph, observe=baseline.observe)
    inputs, outputs = signature(read(made.data))
    assert (inputs[0].dtype, outputs[0].dtype) == (kind, kind)
    assert inputs[0].scale is not None
    n = min(baseline.dataset.test.n, 1000)
    reference = baseline.score(baseline.graph.data, n)
    assert baseline.score(made.data, n) >= reference - baseline.slack(points=0.4, share=0.02)


@pytest.mark.parametrize("mode", ["float32", "float16"])
def test_a_rule_leaves_a_layer_in_float(baseline: Baseline, worker: Worker, mode: str) -> None:
    plan = Plan(variant="ruled", mode="int8", rules=(Rule(layers="^dense$", mode=mode),))
    made = make(plan, baseline.graph, observe=baseline.observe)
    assert {e["layer"] for e in made.left_in_float} == {"dense"}
    assert {e["reason"] for e in made.left_in_float} == {f"a rule asks for {mode}"}
    whole = make(
        Plan(variant="int8", mode="int8"),
        baseline.graph,
        observe=baseline.observe,
    )
    assert len(made.data) > len(whole.data)
