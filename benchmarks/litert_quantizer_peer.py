"""Quantize a float file by every recipe of litert-quantizer for a mode, in its own environment.

python benchmarks/litert_quantizer_peer.py FLOAT.tflite SAMPLES.npz int8|int4 FOLDER

Writes RECIPE.tflite for each recipe; those that fail are named on stdout. int8: integer weights and
activations, with ranges by its moving average and by the extremes. int4: weights per channel and in
blocks of 32, float activations, by each of its algorithms.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from litert_quantizer import calibrator, quantizer, recipe, recipe_manager
from litert_quantizer.utils import qsv_utils

PROFILED = calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED
ALGORITHMS = ("MIN_MAX_UNIFORM_QUANT", "MSE", "OCTAV", "GPTQ")


def recipes(mode: str) -> dict[str, tuple[Any, Any]]:
    """Return the recipes of a mode by name, each with what updates its ranges."""
    if mode == "int8":
        return {
            "average": (recipe.static_wi8_ai8(), None),
            "extremes": (recipe.static_wi8_ai8(), qsv_utils.min_max_update),
        }
    found = {}
    for name in ALGORITHMS:
        key = getattr(recipe.AlgorithmName, name)
        word = name.split("_UNIFORM")[0].lower().replace("_", "-")
        found[word] = (recipe.dynamic_wi4_afp32(algorithm_key=key), None)
        found[f"{word}-b32"] = (recipe.dynamic_wi4b32_afp32(algorithm_key=key), None)
        found[f"{word}-weights"] = (recipe.weight_only_wi4_afp32(algorithm_key=key), None)
    return found


def main() -> None:
    """Make the files."""
    source, samples, mode, folder = sys.argv[1:]
    content = bytearray(Path(source).read_bytes())
    arrays = dict(np.load(samples))
    n = len(next(iter(arrays.values())))
    data = [{name: values[row : row + 1] for name, values in arrays.items()} for row in range(n)]
    for name, (chosen, update) in recipes(mode).items():
        try:
            one = quantizer.Quantizer(source, chosen)
            ranges = None
            if one.need_calibration:
                more = {} if update is None else {"qsv_update_func": update}
                observer = calibrator.Calibrator(content, mode=PROFILED, **more)
                manager = recipe_manager.RecipeManager()
                manager.load_quantization_recipe(chosen)
                observer.calibrate({"serving_default": data}, manager)
                ranges = observer.get_model_qsvs()
            made = one.quantize(ranges).quantized_model
            Path(folder, f"{name}.tflite").write_bytes(made)
        except Exception as error:  # whatever it does not cover
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")


if __name__ == "__main__":
    main()
