"""Read a report.json: what each file costs and keeps, and which operators take the bytes.

python examples/read_report.py REPORT.json
"""

import sys
from collections import Counter
from pathlib import Path

from edgekit.evaluation.metrics import metric_named
from edgekit.reports import read_reports


def main() -> None:
    """Print a line for each row, and where the bytes of the recommended file are."""
    report = read_reports([Path(sys.argv[1])])
    print(f"{report.title}, {report.data.get('name', 'no data')}, made {report.created[:10]}")
    for row in report.files:
        parts = [row.artifact.variant, f"{row.artifact.size_bytes / 1000:.1f} kB"]
        if row.score is not None:
            title = metric_named(row.score.metric).title
            parts.append(f"{title} {row.score.value:.4g} on {row.score.n:,} samples")
        if row.drop is not None:
            low, high = row.drop.ci95
            parts.append(f"drop {row.drop.value:+.4f} ({low:+.4f} to {high:+.4f})")
        if row.timing is not None:
            parts.append(f"{row.timing.p50_ms:.3f} ms on {row.timing.device}")
        print("; ".join(parts) + (" <- recommended" if row.recommended else ""))
    best = next((row for row in report.rows if row.recommended), None)
    if best is not None and best.inspection is not None:
        bytes_of: Counter[str] = Counter()
        for operator in best.inspection.ops:
            bytes_of[operator.name] += operator.bytes
        print(f"Weights of {best.artifact.variant}, by operator:")
        for name, size in bytes_of.most_common(3):
            print(f"  {name:20} {size / 1000:7.1f} kB")


if __name__ == "__main__":
    main()
