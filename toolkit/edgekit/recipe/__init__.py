"""Recipes: TOML files of compression and quantization steps, checked before TensorFlow is loaded.

```toml
schema = 1
name = "int8-careful"

[[step]]
kind = "prune"
sparsity = 0.5

[[step]]
kind = "quantize"
mode = "int8"
ranges = "mse"
rules = [{ layers = "^logits$", mode = "float32" }]
```

- `settings`: how a field is declared: what it accepts, its default and meaning.
- `steps`: the steps, one dataclass each.
- `parse`: a file or text becomes a `Recipe`.
- `plans`: the plan of a mode with defaults, and plans from manifests.
- `write`: a plan becomes the text of a recipe.
- `reference`: the tables of the docs.
"""

from edgekit.recipe.parse import load_recipe, parse_recipe, pass_step
from edgekit.recipe.plans import default_plan, pass_json, plan_from_json, plan_json
from edgekit.recipe.reference import reference
from edgekit.recipe.settings import naming
from edgekit.recipe.steps import (
    PASSES,
    RANGES,
    STEPS,
    Adapt,
    Cluster,
    PassStep,
    Prune,
    Qat,
    Quantize,
    Recipe,
    Shrink,
    Training,
)
from edgekit.recipe.write import recipe_text

__all__ = [
    "PASSES",
    "RANGES",
    "STEPS",
    "Adapt",
    "Cluster",
    "PassStep",
    "Prune",
    "Qat",
    "Quantize",
    "Recipe",
    "Shrink",
    "Training",
    "default_plan",
    "load_recipe",
    "naming",
    "parse_recipe",
    "pass_json",
    "pass_step",
    "plan_from_json",
    "plan_json",
    "recipe_text",
    "reference",
]
