"""Run the loops of a float graph step by step, to observe what their bodies compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.records import Array
from edgekit.tflite.graph import constant, is_constant, write
from edgekit.tflite.loops import Loop, alone, carried
from edgekit.tflite.ranges import activations, with_all_outputs

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Values of a tensor that are kept before they are passed on together.
_KEPT: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class LoopSteps:
    """A loop, prepared to be run on what its graph gives it.

    Attributes:
        given: Each carried value at the start: a tensor index of the first graph, or a constant.
        condition: The file that decides whether there is another step.
        body: The file of a step, with all float activations as outputs.
        names: Tensor index of the body -> tensor name, of its float activations.
        carried: Tensor names of each float value that is carried (`tflite.loops.carried`).
    """

    given: tuple[int | Array, ...]
    condition: bytes
    body: bytes
    names: Mapping[int, str]
    carried: list[tuple[str, ...]]

    @property
    def read(self) -> set[int]:
        """Return the tensor indices of the first graph that are read."""
        return {value for value in self.given if isinstance(value, int)}


def prepare(model: ModelT, loop: Loop) -> LoopSteps:
    """Return a loop of a float graph, prepared."""
    graph = model.subgraphs[0]
    body = alone(model, loop.body)
    return LoopSteps(
        given=tuple(
            constant(model, graph.tensors[i]) if is_constant(model, graph.tensors[i]) else int(i)
            for i in graph.operators[loop.position].inputs
        ),
        condition=write(alone(model, loop.condition)),
        body=write(with_all_outputs(body)),
        names={i: body.subgraphs[0].tensors[i].name for i in activations(body)},
        carried=carried(model, loop),
    )


class LoopRunners:
    """Interpreters of all loops of a graph.

    Args:
        loops: The loops.
        first: Position of the first activation of the first loop among all that are observed.
    """

    def __init__(self, loops: Sequence[LoopSteps], first: int) -> None:
        starts = np.cumsum([first, *(len(loop.names) for loop in loops)])
        self._runners = [
            (int(start), _LoopRunner(loop)) for start, loop in zip(starts, loops, strict=False)
        ]

    def run(
        self, interpreter: Any, inputs: Mapping[int, Array]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Run the loops after their graph; yield the values of activations, by position.

        Args:
            interpreter: The interpreter of the graph, which has run.
            inputs: Its inputs by tensor index; the runtime may have reused their memory.
        """

        def value(index: int) -> Array:
            return inputs[index] if index in inputs else interpreter.get_tensor(index)

        for start, runner in self._runners:
            for position, values in runner.run(value):
                yield start + position, values


class _LoopRunner:
    """Interpreters of a loop's condition and body.

    Args:
        steps: The loop.
    """

    def __init__(self, steps: LoopSteps) -> None:
        self._given = steps.given
        self._condition = _opened(steps.condition)
        self._body = _opened(steps.body)
        inputs, outputs = (
            [entry["index"] for entry in details]
            for details in (self._body.get_input_details(), self._body.get_output_details())
        )
        # All activations follow the values that are carried.
        self._inputs, self._outputs = inputs, outputs[: len(inputs)]
        self._decided = [entry["index"] for entry in self._condition.get_input_details()]
        self._decision = self._condition.get_output_details()[0]["index"]
        self._changed = [
            slot for slot, (i, o) in enumerate(zip(inputs, self._outputs, strict=True)) if i != o
        ]
        self._views = [self._body.tensor(index) for index in steps.names]
        fixed = {inputs[slot] for slot in range(len(inputs)) if slot not in self._changed}
        self._fixed = [index in fixed for index in steps.names]

    def run(self, values: Callable[[int], Array]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Run the loop; yield values of the body's activations, by their position in `names`.

        Args:
            values: Returns the value of a tensor of the first graph, by its index.
        """
        state = [values(v) if isinstance(v, int) else v for v in self._given]
        for slot, index in enumerate(self._inputs):
            self._body.set_tensor(index, state[slot])
        kept: list[list[Array]] = [[] for _ in self._views]
        step = 0
        while self._goes_on(state):
            for slot in self._changed:
                self._body.set_tensor(self._inputs[slot], state[slot])
            self._body.invoke()
            for position, view in enumerate(self._views):
                if step and self._fixed[position]:
                    continue
                found = kept[position]
                found.append(_flat(view))
                if len(found) * found[-1].size >= _KEPT:
                    yield position, np.concatenate(found)
                    found.clear()
            for slot in self._changed:
                state[slot] = self._body.get_tensor(self._outputs[slot])
            step += 1
        for position, found in enumerate(kept):
            if any(map(len, found)):
                yield position, np.concatenate(found)

    def _goes_on(self, state: list[Array]) -> bool:
        for index, value in zip(self._decided, state, strict=True):
            self._condition.set_tensor(index, value)
        self._condition.invoke()
        return bool(self._condition.get_tensor(self._decision).all())


def _flat(view: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return a copy of a tensor's values, `[values]`."""
    try:
        return view().flatten()
    except ValueError:  # a slice that is empty in this step
        return np.empty(0, np.float32)


def _opened(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter
