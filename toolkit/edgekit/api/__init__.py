"""The verbs of the command line, from Python. Each returns records (`edgekit.records`).

```python
import edgekit

report = edgekit.quantize("model.keras", data="data.npz", max_drop=0.5)
best = next(row for row in report.rows if row.recommended)
print(best.artifact.path, best.score.value, best.timing.p50_ms)
```

`with edgekit.unpacked_limit(8 << 30):` is `--max-unpacked 8G` of the command line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from edgekit.api.accuracy import compare, sensitivity
    from edgekit.api.adaptation import adapt
    from edgekit.api.files import (
        demo,
        doctor,
        expand,
        export,
        import_model,
        inspect,
        quantize,
        rebuild,
        report,
    )
    from edgekit.api.gate import check, diff, verify
    from edgekit.api.measure import bench, deploy, evaluate
    from edgekit.api.training import cluster, compress, prune, qat, shrink, train, transform
    from edgekit.archives import unpacked_limit
    from edgekit.recipe import Adapt, Cluster, Prune, Qat, Shrink, Training

_HOMES: Final = {
    "api.adaptation": "adapt",
    "api.accuracy": "compare sensitivity",
    "api.files": "demo doctor expand export import_model inspect quantize rebuild report",
    "api.gate": "check diff verify",
    "api.measure": "bench deploy evaluate",
    "api.training": "cluster compress prune qat shrink train transform",
    "archives": "unpacked_limit",
    "recipe": "Adapt Cluster Prune Qat Shrink Training",
}
"""Module -> what is there. Each is imported when it is first used: inspecting needs no recipes."""

__all__ = [
    "Adapt",
    "Cluster",
    "Prune",
    "Qat",
    "Shrink",
    "Training",
    "adapt",
    "bench",
    "check",
    "cluster",
    "compare",
    "compress",
    "demo",
    "deploy",
    "diff",
    "doctor",
    "evaluate",
    "expand",
    "export",
    "import_model",
    "inspect",
    "prune",
    "qat",
    "quantize",
    "rebuild",
    "report",
    "sensitivity",
    "shrink",
    "train",
    "transform",
    "unpacked_limit",
    "verify",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names.split():
            found = getattr(import_module(f"edgekit.{module}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'edgekit.api' has no attribute {name!r}")
