"""Quantize a Keras model from Python, and take the file that is recommended.

python examples/quantize_model.py MODEL.keras DATA OUTPUT_FOLDER
"""

import sys

import edgekit
from edgekit.records import Progress


def show(progress: Progress) -> None:
    """Print a line for each stage."""
    if not progress.done:
        print(f"... {progress.stage}", file=sys.stderr)


def main() -> None:
    """Make three variants, print what each costs, and name the one to ship."""
    model, data, folder = sys.argv[1:]
    report = edgekit.quantize(
        model,
        data=data,
        modes=["float16", "dynamic", "int8"],
        max_drop=0.5,  # points of accuracy that may be lost
        output=folder,
        latency=False,  # True measures this machine, too
        listener=show,
    )
    for row in report.files:
        score = row.score
        assert score is not None, "the data has a test split"
        low, high = score.ci95
        print(
            f"{row.artifact.variant:8} {row.artifact.size_bytes / 1000:6.1f} kB  "
            f"{score.value:.1%} ({low:.1%} to {high:.1%})  {row.drop.verdict if row.drop else ''}"
        )
    best = next((row for row in report.rows if row.recommended), None)
    if best is None:
        sys.exit(f"Nothing is recommended: {report.reason}")
    print(f"Ship {best.artifact.path}: {report.reason}")


if __name__ == "__main__":
    main()
