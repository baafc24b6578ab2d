"""Records to JSON and back: the versioned contract of `--json` and of the files on disk.

A number that is not finite becomes null, because JSON cannot express it.
"""

from __future__ import annotations

from edgekit.schema.from_json import report_from_json
from edgekit.schema.layers_json import sensitivity_of_manifest
from edgekit.schema.to_json import (
    SCHEMA,
    check_to_json,
    comparison_to_json,
    differences_to_json,
    finite,
    inspection_to_json,
    metric_to_json,
    proof_to_json,
    report_to_json,
    row_to_json,
    sensitivity_to_json,
)

__all__ = [
    "SCHEMA",
    "check_to_json",
    "comparison_to_json",
    "differences_to_json",
    "finite",
    "inspection_to_json",
    "metric_to_json",
    "proof_to_json",
    "report_from_json",
    "report_to_json",
    "row_to_json",
    "sensitivity_of_manifest",
    "sensitivity_to_json",
]
