"""Recurrent layers that are trained with the rounding of their steps.

An LSTM is TFLite's fused operator in the file, a GRU a loop whose every value has 8 bits. As in
`composed`, the layers stay what they are; what they hand from step to step is rounded.
"""

from __future__ import annotations

from typing import Any


def recurrent_classes(keras: Any, composed: Any, fake_quantize: Any) -> dict[str, Any]:
    """Return the classes by the names of the layers that they wrap.

    Args:
        keras: The package.
        composed: The class of layers of several operators.
        fake_quantize: The class that rounds activations.
    """
    ops, on_codes = keras.ops, fake_quantize.on_codes

    class Recurrent(composed):  # type: ignore[misc]  # Keras has no types
        """A recurrent layer, called on a sequence, that starts with zeros."""

        def build(self, input_shape: Any) -> None:
            """Build the layer and its parts."""
            self.build_parts(input_shape)

        def dropped(self, values: Any, rate: float, training: bool | None) -> Any:
            """Return values of which some are dropped in training."""
            if not training or not rate:
                return values
            return keras.random.dropout(values, rate, seed=self.layer.cell.seed_generator)

        def projected(self, inputs: Any, kernel: Any, bias: Any, training: bool | None) -> Any:
            """Return what all steps are given, `[batch, steps, gates * units]`, in their order."""
            inputs = ops.flip(inputs, 1) if self.layer.go_backwards else inputs
            masks = self.dropped(ops.ones_like(inputs[:, :1]), self.layer.cell.dropout, training)
            sums = ops.matmul(inputs * masks, kernel)
            return sums if bias is None else sums + bias

        def returned(self, outputs: Any, training: bool | None) -> Any:
            """Return what the layer does of the outputs of its steps, `[steps, batch, units]`."""
            outputs = self.part("outputs", ops.swapaxes(outputs, 0, 1), training)
            return outputs if self.layer.return_sequences else outputs[:, -1]

    @keras.saving.register_keras_serializable("edgekit")
    class QuantizedLSTM(Recurrent):
        """An LSTM with a scale for each gate's kernels, outputs of 8 bits and a cell of 16."""

        parts = ("outputs", "cell")
        kernel_names = ("lstm_cell", "lstm_cell/recurrent_kernel")

        def kernels(self) -> list[tuple[Any, tuple[int, ...], tuple[int, ...]]]:
            """Return both kernels, with the four gates apart."""
            cell = self.layer.cell
            return [
                (kernel, (int(kernel.shape[0]), 4, cell.units), (0, 2))
                for kernel in (cell.kernel, cell.recurrent_kernel)
            ]

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            """Return what the layer does; its outputs are rounded before they are fed back."""
            cell = self.layer.cell
            kernel, recurrent = self.rounded(0), self.rounded(1)
            sums = self.projected(inputs, kernel, cell.bias if cell.use_bias else None, training)
            start = ops.zeros_like(sums[:, 0, : cell.units])
            kept = self.dropped(ops.ones_like(start), cell.recurrent_dropout, training)
            grid = self.ranges["outputs"].grid()

            def step(state: Any, given: Any) -> Any:
                fed, carried = state
                gates = given + ops.matmul(fed * kept, recurrent)
                let, forget, new, out = ops.split(gates, 4, axis=-1)
                carried = ops.sigmoid(forget) * carried + ops.sigmoid(let) * ops.tanh(new)
                output = ops.sigmoid(out) * ops.tanh(carried)
                fed = output if self.observed is not None else on_codes(output, grid)
                return (fed, carried), (output, carried)

            _, (outputs, cells) = ops.scan(step, (start, start), ops.swapaxes(sums, 0, 1))
            self.part("cell", cells, training)
            return self.returned(outputs, training)

    @keras.saving.register_keras_serializable("edgekit")
    class QuantizedGRU(Recurrent):
        """A GRU with a scale for each unit of its kernels, and 8 bits for every value of a step."""

        parts = (
            *("entered", "fed", "update_sum", "update", "reset_sum", "reset", "let", "let_sum"),
            *("new_sum", "new", "kept", "rest", "added", "outputs"),
        )
        kernel_names = ("gru_cell", "gru_cell/recurrent_kernel")

        def kernels(self) -> list[tuple[Any, tuple[int, ...], tuple[int, ...]]]:
            """Return both kernels."""
            cell = self.layer.cell
            return [
                (kernel, tuple(kernel.shape), (0,))
                for kernel in (cell.kernel, cell.recurrent_kernel)
            ]

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            """Return what the layer does, step by step in the order of the loop's operators."""
            cell, later = self.layer.cell, self.layer.cell.reset_after
            kernel, recurrent = self.rounded(0), self.rounded(1)
            bias = after = None
            if cell.use_bias:
                bias = cell.bias[0] if later else cell.bias
                after = cell.bias[1] if later else None
            given = self.projected(inputs, kernel, bias, training)
            sums = ops.swapaxes(self.part("entered", given, training), 0, 1)
            start = ops.zeros_like(sums[0, :, : cell.units])
            dropping = self.dropped(ops.ones_like(start), cell.recurrent_dropout, training)
            grids = {name: self.ranges[name].grid() for name in self.parts}
            watched = bool(training) or self.observed is not None
            left = ("entered", "outputs", "let_sum" if later else "")
            free = [n for n in self.parts if self.ranges[n].fixed is None and n not in left]

            def step(state: Any, given: Any) -> Any:
                fed, ends = state
                found: dict[str, Any] = {}

                def part(name: str, value: Any) -> Any:
                    if watched:
                        found[name] = ops.stack([ops.min(value), ops.max(value)])
                    return value if self.observed is not None else on_codes(value, grids[name])

                into_update, into_reset, into_new = ops.split(given, 3, axis=-1)
                taken = fed * dropping
                if later:
                    sums = ops.matmul(taken, recurrent)
                    sums = part("fed", sums if after is None else sums + after)
                    to_update, to_reset, to_new = ops.split(sums, 3, axis=-1)
                else:
                    sums = part("fed", ops.matmul(taken, recurrent[:, : 2 * cell.units]))
                    to_update, to_reset = ops.split(sums, 2, axis=-1)
                update = ops.sigmoid(part("update_sum", into_update + to_update))
                update = part("update", update)
                reset = part("reset", ops.sigmoid(part("reset_sum", into_reset + to_reset)))
                if later:
                    let = part("let", reset * to_new)
                else:
                    let = part("let", reset * taken)
                    let = part("let_sum", ops.matmul(let, recurrent[:, 2 * cell.units :]))
                new = part("new", ops.tanh(part("new_sum", into_new + let)))
                added = part("added", part("rest", 1.0 - update) * new)
                output = part("kept", update * fed) + added
                fed = part("outputs", output)
                if watched:
                    ends = ops.stop_gradient(ops.stack([found[name] for name in free]))
                return (fed, ends), (output, ends)

            # What a step returns has the shapes of what it carries.
            _, (outputs, ends) = ops.scan(step, (start, ops.zeros((len(free), 2))), sums)
            for place, name in enumerate(free):
                if watched:
                    self.part(name, ends[:, place], training)
            return self.returned(outputs, training)

    return {"LSTM": QuantizedLSTM, "GRU": QuantizedGRU}
