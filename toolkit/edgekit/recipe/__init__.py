"""Recipes: what to do with a model, written in TOML, checked before anything heavy is loaded.

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

- `keys`: every key there is, what it accepts and means.
- `reading`: a file or text becomes a `Recipe`.
- `plans`: what a bare mode means, and plans from manifests.
"""

from edgekit.recipe.keys import reference
from edgekit.recipe.parse import load_recipe, parse_recipe
from edgekit.recipe.plans import (
    IO_TYPES,
    RANGES,
    RangesMethod,
    default_plan,
    plan_from_json,
    plan_json,
)

__all__ = [
    "IO_TYPES",
    "RANGES",
    "RangesMethod",
    "default_plan",
    "load_recipe",
    "parse_recipe",
    "plan_from_json",
    "plan_json",
    "reference",
]
