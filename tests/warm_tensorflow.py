"""TensorFlow processes for tests: forks of one process that has imported it.

An import takes seconds of processor time, and the suite needs hundreds of TensorFlow processes.
Each of them is still a process of its own, which begins where an import ends: what one of them does
to Keras or to its environment, no other sees. The process that is forked does nothing but import,
so that it has no thread that a fork would lose.

tests/worker and every command that is started as a program import TensorFlow as users do.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

MODULES = ("tensorflow", "keras", "edgekit.lowering", "edgekit.sources", "edgekit.training.passes")
LARGEST_ORDER = 1 << 20


# --- In the tests -------------------------------------------------------------------------------


class Forked:
    """What `Worker` needs of a `subprocess.Popen`."""

    def __init__(self, told: int) -> None:
        self._told = told
        self.pid = self._number()
        self.returncode: int | None = None

    def kill(self) -> None:
        """End it; nothing where it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it ends; return its exit code, or the signal as a negative number."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(self._number())
            os.close(self._told)
        return self.returncode

    def _number(self) -> int:
        """Return what the process that watches it tells next: its id, then its status."""
        told = os.read(self._told, 4)
        if not told:
            raise RuntimeError("the process with TensorFlow has ended")
        return int(struct.unpack("i", told)[0])


class WarmTensorFlow:
    """The process that has imported TensorFlow; started when the first fork is wanted.

    Attributes:
        cold: Starts a child that imports TensorFlow by itself, as in use.
    """

    def __init__(self) -> None:
        from edgekit.worker import client

        self.cold = client.start
        self._environment = dict(os.environ)
        self._limit = resource.getrlimit(resource.RLIMIT_AS)
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End it."""
        if self._channel is not None and self._process is not None:
            self._channel.close()
            self._process.kill()  # it has nothing to finish, and TensorFlow's end takes seconds
            self._process.wait()

    def worker(self, custom: Sequence[str], *, trust_code: bool) -> Any:
        """Start a child as `edgekit.worker.client.start` does, which it stands in for."""
        from edgekit.worker import child
        from edgekit.worker.session import TRUST_CODE

        if resource.getrlimit(resource.RLIMIT_AS) != self._limit:
            return self.cold(custom, trust_code=trust_code)
        ours, theirs = Pipe()
        watched, lifeline = os.pipe()
        log = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the child
        process = self._fork(
            {"words": [TRUST_CODE if trust_code else "", *custom]},
            log.fileno(),
            theirs.fileno(),
            watched,
        )
        theirs.close()
        os.close(watched)
        return child.Child(process, ours, lifeline, log)

    def script(self, code: str, *words: object, cwd: Path | None = None) -> None:
        """Run a program that uses Keras as `python -c CODE WORDS` does."""
        order = {"code": code, "words": list(map(str, words))}
        with tempfile.TemporaryFile() as log:
            returned = self._fork(order, log.fileno(), cwd=cwd).wait()
            log.seek(0)
            said = log.read().decode(errors="replace")
        assert returned == 0, said

    def _fork(self, order: dict[str, Any], *descriptors: int, cwd: Path | None = None) -> Forked:
        channel = self._opened()
        heard, told = os.pipe()
        order = {**order, "environment": dict(os.environ), "folder": str(cwd or Path.cwd())}
        message = json.dumps(order).encode()
        assert len(message) < LARGEST_ORDER
        socket.send_fds(channel, [message], [told, *descriptors])
        os.close(told)
        return Forked(heard)

    def _opened(self) -> socket.socket:
        if self._channel is None:
            from edgekit.worker import child

            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_ORDER)
            environment = {**child.ALLOCATOR, **self._environment, **child.ENVIRONMENT}
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
        return self._channel


# --- In the process with TensorFlow, and its forks ----------------------------------------------


def serve(channel: socket.socket) -> None:
    """Fork for every order, until the tests end."""
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # no fork walks, and so copies, what all of them share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who watch
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, LARGEST_ORDER, 4)
        if not message:
            return
        if os.fork() == 0:
            channel.close()
            _watch(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(order: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Fork the process that was ordered, and tell its id and how it ended."""
    told, *others = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.close(told)
        code = 1
        try:
            _become(order, *others)
            code = 0
        except SystemExit as leaving:
            code = (
                leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
            )
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    for descriptor in others:
        os.close(descriptor)
    os.write(told, struct.pack("i", child))
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(told, struct.pack("i", status))
    os._exit(0)


def _become(order: dict[str, Any], log: int, *descriptors: int) -> None:
    """Turn this fork into the child of a `Worker`, or into a program."""
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:0] = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.argv = ["", *map(str, descriptors), *order["words"]]
    if "code" in order:
        sys.path.insert(0, "")
        exec(compile(order["code"], "<string>", "exec"), {"__name__": "__main__"})
        return
    from edgekit.worker import child, server

    os.environ.update(child.ENVIRONMENT)
    server.main()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
