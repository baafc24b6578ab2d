"""Train the published models and make their TFLite files: `make models`.

python models/build.py [NAME...] [--keep-weights] [--no-recipes]

For every `models/<name>/model.toml`: `edgekit train` writes `models/<name>/<name>.keras`, and
`edgekit quantize` writes `quantized/<name>/` with a manifest beside each file and the report. Every
other recipe in that folder (`small.toml`) is run by `edgekit compress` into
`quantized/<name>-<recipe>/`; the Keras models of its stages go to `models/<name>/<recipe>/`.
`--keep-weights` takes the trained `.keras` files as they are, `--no-recipes` leaves out the other
recipes, which train.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

from edgekit.cli import run
from edgekit.data.heads import SUFFIX as HEAD

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Build the models named on the command line, or all of them; return an exit code."""
    words = sys.argv[1:]
    keep = "--keep-weights" in words
    recipes = "--no-recipes" not in words
    names = [w for w in words if not w.startswith("--")]
    # Reports and manifests hold paths as they were given: they shall mean something elsewhere.
    os.chdir(ROOT)
    for config in sorted(Path("models").glob("*/model.toml")):
        name = config.parent.name
        if names and name not in names:
            continue
        weights = config.with_name(f"{name}.keras")
        if not keep:
            code = run(["train", str(config), "-o", str(weights), "--force"])
            if code:
                return code
        data = tomllib.loads(config.read_text(encoding="utf-8"))["data"]["source"]
        folder = Path("quantized") / name
        words = ["quantize", str(weights), "--data", data, "--all"]
        code = run([*words, "-o", str(folder), "--force"])
        if code:
            return code
        others = [
            path
            for path in (config.parent.glob("*.toml") if recipes else ())
            if path != config and not path.name.endswith(HEAD)
        ]
        for recipe in sorted(others):
            code = compress(weights, recipe, data)
            if code:
                return code
    return 0


def compress(weights: Path, recipe: Path, data: str) -> int:
    """Run one recipe, and put the Keras models of its stages, with heads, beside the recipe."""
    folder = Path("quantized") / f"{weights.stem}-{recipe.stem}"
    words = ["compress", str(weights), "--recipe", str(recipe), "--data", data, "--gzip"]
    code = run([*words, "--max-drop", "1", "-o", str(folder), "--force"])
    if not code:
        stages = recipe.with_suffix("")
        stages.mkdir(exist_ok=True)
        for stage in (*folder.glob("*.keras"), *folder.glob("*.head.toml")):
            stage.replace(stages / stage.name)
    return code


if __name__ == "__main__":
    sys.exit(main())
