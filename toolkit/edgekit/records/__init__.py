"""What flows through edgekit, in the order in which it flows. Read this first.

```
dataset    Source, Dataset, Samples, Batch
artifacts  Ranges, Plan -> Artifact -> Inspection
results    Score, Drop, Fidelity, Collapse, Timing -> Row -> Report
latencies  Timing, Timing -> LatencyRatio: how surely one file is slower
views      Views (of a Score), Example (of a Report): what is drawn
checks     ConditionResult -> Check; Comparison: files held against conditions, and compared
sensitivity  OperatorCost -> Sensitivity: which operators cost accuracy
layer_differences  OperatorDifference -> LayerDifferences: where two models part
```

All records are frozen; a pass takes records and returns new ones.
"""

from __future__ import annotations

from edgekit.records.artifacts import (
    Artifact,
    EdgeTpuCompilation,
    EdgeTpuProgram,
    Inspection,
    MemoryFit,
    MixedPlan,
    NpuEstimate,
    Operator,
    Plan,
    Ranges,
    Rule,
    TargetFit,
)
from edgekit.records.checks import Basis, Check, Comparison, ConditionResult, FigureUnit
from edgekit.records.dataset import (
    EACH_ROW,
    Array,
    Batch,
    DataRequest,
    Dataset,
    InputScaling,
    LiveData,
    OutputTask,
    Samples,
    Source,
    Split,
    TableOptions,
    TaskChoice,
    TensorSpec,
)
from edgekit.records.latencies import TIE, LatencyRatio, latency_ratio
from edgekit.records.layer_differences import LayerDifferences, OperatorDifference
from edgekit.records.progress import Listener, Progress, silent
from edgekit.records.proofs import Proof, Replayed, Status
from edgekit.records.results import (
    SOURCE,
    ClassScore,
    Collapse,
    CollapseKind,
    ColumnDrop,
    ColumnScore,
    Drop,
    Fidelity,
    OutputDrop,
    OutputScore,
    Report,
    Row,
    Score,
    Timing,
    Verdict,
    verdict_on,
    within,
)
from edgekit.records.sensitivity import OperatorCost, Sensitivity
from edgekit.records.views import (
    TRUTH,
    Answer,
    Box,
    Example,
    Histogram,
    PrecisionRecall,
    Scatter,
    Views,
)

__all__ = [
    "EACH_ROW",
    "SOURCE",
    "TIE",
    "TRUTH",
    "Answer",
    "Array",
    "Artifact",
    "Basis",
    "Batch",
    "Box",
    "Check",
    "ClassScore",
    "Collapse",
    "CollapseKind",
    "ColumnDrop",
    "ColumnScore",
    "Comparison",
    "ConditionResult",
    "DataRequest",
    "Dataset",
    "Drop",
    "EdgeTpuCompilation",
    "EdgeTpuProgram",
    "Example",
    "Fidelity",
    "FigureUnit",
    "Histogram",
    "InputScaling",
    "Inspection",
    "LatencyRatio",
    "LayerDifferences",
    "Listener",
    "LiveData",
    "MemoryFit",
    "MixedPlan",
    "NpuEstimate",
    "Operator",
    "OperatorCost",
    "OperatorDifference",
    "OutputDrop",
    "OutputScore",
    "OutputTask",
    "Plan",
    "PrecisionRecall",
    "Progress",
    "Proof",
    "Ranges",
    "Replayed",
    "Report",
    "Row",
    "Rule",
    "Samples",
    "Scatter",
    "Score",
    "Sensitivity",
    "Source",
    "Split",
    "Status",
    "TableOptions",
    "TargetFit",
    "TaskChoice",
    "TensorSpec",
    "Timing",
    "Verdict",
    "Views",
    "latency_ratio",
    "silent",
    "verdict_on",
    "within",
]
