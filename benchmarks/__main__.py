"""Run all benchmarks, each with the alternative that a user has without edgekit.

python -m benchmarks [SECTION ...]

Writes benchmarks/RESULTS.md. A section whose data or tools are missing on this machine is not
changed, with a message on stderr.
"""

from __future__ import annotations

import datetime as dt
import importlib
import sys
from pathlib import Path

from benchmarks.unavailable import UnavailableError

from edgekit.devices import describe
from edgekit.errors import DataError
from edgekit.pipeline.manifest import versions

SECTIONS = {
    "ladder": "Six variants, from the loaded model to the files",
    "verdict": "What is recommended where a verdict is easily wrong",
    "runner": "The runner against a bare loop and litert-benchmark",
    "evaluation": "Evaluation throughput against a bare loop on one core",
    "startup": "Start-up",
    "compression": "Compression passes, and the same by tensorflow-model-optimization",
    "compression_kinds": "Compression of a separable CNN, a transformer block and an LSTM",
    "large_data": "Peak memory on data larger than it",
    "inspection": "edgekit inspect of very many operators",
    "sparse": "Pruned models on ARM, stored dense and sparse",
    "sensors": "Networks of the zoo for sensor windows",
    "finetuning": "Fine-tuning by the passes against Model.fit",
    "sensitivity": "What each operator costs, and int8 with few operators in float",
    "recurrent": "Recurrent layers: compact, written out, and by the stock converter",
    "ranges": "int8 by the draw of its calibration samples",
    "accuracy": "int8 and int4 against the stock converter and litert-quantizer",
    "rounding": "Weights of four bits by the draw of their calibration samples",
}
RESULTS = Path(__file__).with_name("RESULTS.md")
MARK = "<!-- {} -->"


def table(rows: list[dict[str, object]]) -> str:
    heads = list(rows[0])
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    lines += [" | ".join(str(row[head]) for head in heads) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def section(name: str) -> str:
    module = importlib.import_module(f"benchmarks.{name}")
    facts = {**describe(), **versions()}
    taken = ", ".join(f"{key} {value}" for key, value in facts.items())
    rows = module.measure()
    if not rows:
        raise UnavailableError("its models and data are missing")
    text = table(rows)
    return (
        f"{MARK.format(name)}\n## {SECTIONS[name]}\n{(module.__doc__ or '').strip()}\n\n{text}\n\n"
        f"{dt.datetime.now(dt.UTC).date()}, `python -m benchmarks {name}`, on: {taken}\n"
    )


def main() -> None:
    chosen = sys.argv[1:] or list(SECTIONS)
    old = RESULTS.read_text() if RESULTS.exists() else ""
    kept = {}
    for name in SECTIONS:
        begun = old.find(MARK.format(name))
        if begun >= 0:
            ended = min(
                (p for n in SECTIONS if (p := old.find(MARK.format(n))) > begun), default=len(old)
            )
            kept[name] = old[begun:ended].rstrip() + "\n"
    for name in chosen:
        try:
            kept[name] = section(name)
        except (DataError, UnavailableError) as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
            continue
        print(kept[name], flush=True)
        parts = [kept[n] for n in SECTIONS if n in kept]
        RESULTS.write_text(
            "# Measured\nWritten by `make bench`. Ratios are of one run on one machine; absolute "
            "figures are of that machine.\n\n" + "\n".join(parts)
        )


if __name__ == "__main__":
    main()
