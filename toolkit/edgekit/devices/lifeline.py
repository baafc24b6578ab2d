"""Run a program that must not outlive the process that started it: the connection's ssh.

    python3 lifeline.py PROGRAM ARGUMENT...

stdin is a pipe which the starter holds and never writes to. However the starter ends, by SIGKILL
too, the system closes the pipe; then PROGRAM and what it started (a jump host's ssh, the user's
ProxyCommand) are ended. Otherwise this ends when PROGRAM does, with its exit code.

A process between the two, because Linux's own signal for it (PR_SET_PDEATHSIG) is sent when the
*thread* that forked ends, which edgekit's threads do before their time. Here is one thread only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
PATIENCE_SECONDS = 2


def main(words: list[str]) -> int:
    """Run a program until it ends or stdin does; return its exit code."""
    # In a group of its own, so that all it starts is reached at once, and this process is not.
    child = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=_follow_parent,  # noqa: PLW1509  safe: there are no other threads
    )
    while child.poll() is None:
        if select.select([0], [], [], 0.1)[0]:
            end(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def end(child: subprocess.Popen[bytes]) -> None:
    """End a program and its group: ask first, since ssh then ends its own proxies and socket."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE_SECONDS)


def _follow_parent() -> None:
    """Have the system end the program if this process is killed as well (Linux)."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
