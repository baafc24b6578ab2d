"""The verbs of the command line, from Python. Each returns records (`edgekit.records`).

```python
import edgekit

report = edgekit.quantize("model.keras", data="data.npz", max_drop=0.5)
best = next(row for row in report.rows if row.recommended)
print(best.artifact.path, best.score.value, best.timing.p50_ms)
```

`with edgekit.unpacked_limit(8 << 30):` is `--max-unpacked 8G` of the command line.
"""

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
from edgekit.api.measure import bench, deploy, evaluate
from edgekit.api.training import cluster, compress, prune, qat, shrink, train, transform
from edgekit.archives import unpacked_limit
from edgekit.recipe import Cluster, Prune, Qat, Shrink, Training

__all__ = [
    "Cluster",
    "Prune",
    "Qat",
    "Shrink",
    "Training",
    "bench",
    "cluster",
    "compress",
    "demo",
    "deploy",
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
    "shrink",
    "train",
    "transform",
    "unpacked_limit",
]
