"""Fuzz every reader of foreign bytes for as long as one likes, or look at one input again.

    python tests/fuzz --seconds 3600                        all readers, on all cores
    python tests/fuzz --reader report --number 1234         one input, with its traceback
    python tests/fuzz --reader report --file report.bin     one file

Exit code 1 where there are findings. Input number n of a reader is the same on every run;
`--first` (or $EDGEKIT_FUZZ_FIRST) is where the numbers begin.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from harness import Finding, Reader, hunt, reduced, try_one
from readers import READERS

SLICE_SECONDS = 4.0


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="for all readers together")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first", type=int, default=int(os.environ.get("EDGEKIT_FUZZ_FIRST", "0")))
    parser.add_argument("--reader", action="append", help="only this one; repeatable")
    parser.add_argument("--number", type=int, help="only this input")
    parser.add_argument("--file", type=Path, help="only this file")
    parser.add_argument("--findings", type=Path, help="folder for inputs that must not be lost")
    options = parser.parse_args()
    chosen = [READERS[name] for name in options.reader or READERS]
    with tempfile.TemporaryDirectory() as folder:
        if options.number is not None or options.file is not None:
            return _again(chosen[0], options.number, options.file, Path(folder))
        return _all(chosen, options, Path(folder))


def _again(reader: Reader, number: int | None, file: Path | None, folder: Path) -> int:
    content = file.read_bytes() if file else reader.content(number or 0)
    outcome = try_one(reader, content, folder, -1 if number is None else number)
    for finding in outcome.findings:
        print(f"{finding.told}\n{finding}")
    print(f"{len(content)} bytes: {'found' if outcome.findings else 'as it should be'}")
    return bool(outcome.findings)


def _all(chosen: list[Reader], options: argparse.Namespace, folder: Path) -> int:
    """Let each job take every `jobs`-th input, and put together what they wrote down."""
    print(f"{len(chosen)} readers, {options.jobs} jobs, inputs from number {options.first}")
    sys.stdout.flush()
    end = time.monotonic() + options.seconds
    children = []
    for job in range(options.jobs):
        child = os.fork()
        if child == 0:
            code = 70
            try:
                _job(chosen, options, folder / str(job), options.first + job, end)
                code = 0
            except BaseException:  # a child must not go on as its parent would
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    failed = [os.waitpid(child, 0)[1] for child in children]
    inputs: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    kinds: dict[tuple[str, str, str], list[Finding]] = {}
    for path in sorted(folder.glob("*/log.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            inputs[entry["reader"]] += entry["inputs"]
            refused[entry["reader"]] += entry["refused"]
            for found in entry["findings"]:
                finding = Finding(**found)
                kinds.setdefault(finding.kind, []).append(finding)
    for reader in chosen:
        count = sum(kind[0] == reader.name for kind in kinds)
        print(
            f"{reader.name:<16} {inputs[reader.name]:>9,} inputs  "
            f"{refused[reader.name]:>9,} refused  {count:>4} findings"
        )
    sys.stdout.flush()
    for found in kinds.values():
        print(f"\n{len(found)} x {found[0]}")
        if options.findings:
            print(f"  kept: {_keep(found[0], options.findings, chosen, folder)}")
    print(f"\n{sum(inputs.values()):,} inputs, {len(kinds)} distinct findings")
    return 1 if kinds or any(failed) else 0


def _job(
    chosen: list[Reader], options: argparse.Namespace, folder: Path, first: int, end: float
) -> None:
    folder.mkdir(parents=True)
    following = {reader.name: first for reader in chosen}
    part = min(SLICE_SECONDS, options.seconds / len(chosen))
    while time.monotonic() < end:
        for reader in chosen:
            seconds = min(part, end - time.monotonic())
            if seconds <= 0:
                break
            outcome = hunt(
                reader, folder, first=following[reader.name], step=options.jobs, seconds=seconds
            )
            following[reader.name] = outcome.next
            entry = {
                "reader": reader.name,
                "inputs": outcome.inputs,
                "refused": outcome.refused,
                "findings": [vars(finding) for finding in outcome.findings],
            }
            with (folder / "log.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")


def _keep(finding: Finding, place: Path, chosen: list[Reader], folder: Path) -> Path:
    """Write the input, made smaller, and the traceback into the folder of findings."""
    reader = next(reader for reader in chosen if reader.name == finding.reader)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{finding.reader}-{finding.number}.bin"
    path.write_bytes(reduced(reader, finding, folder))
    path.with_suffix(".txt").write_text(f"{finding.told}\n{finding}\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
