"""Peak memory of a command with all its children: the proportional set size, sampled."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path


def run_watched(command: list[str], **options: object) -> int:
    """Run `command`; return the peak of its process tree in bytes.

    The proportional set size counts a page that several processes share once, so that a tree of
    forked children is not counted many times over.
    """
    process = subprocess.Popen(command, **options)
    peak = 0
    finished = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not finished.is_set():
            peak = max(peak, sum(_pss(pid) for pid in _tree(process.pid)))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    finished.set()
    watcher.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return peak


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue
    return found


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
