"""The host's end of a session on a device: steps of `remote_agent`, done until they are done."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from edgekit.devices import remote_agent
from edgekit.devices.ssh import Connection, Dropped, Finished
from edgekit.errors import DeviceError

T = TypeVar("T")

STEP_SECONDS = 60
# How long the device waits for a lost host before it cleans up by itself.
ABANDONED_SECONDS = 120

_BOOT = "import base64,sys,zlib;exec(zlib.decompress(base64.b64decode(sys.argv.pop(1))))"
_OLDEST = "import sys;sys.exit(sys.version_info<(3,8))"


class RemoteSession:
    """A session over a connection; everything that is done there goes through it.

    Attributes:
        python: The interpreter there, once the session is open.
        facts: What the device answered when the session was opened; empty before.
    """

    def __init__(self, connection: Connection, session: str) -> None:
        self.python = ""
        self.facts: dict[str, Any] = {}
        self._connection = connection
        self._session = session
        self._watch: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Find Python, make the session's folder.

        Raises:
            DeviceError: There is no Python, or the home folder cannot be written.
        """
        self.python = self.with_reconnect(self._find_python)
        self.facts = self.do("open")

    def close(self) -> None:
        """Remove the session's folder, and those that were made for it.

        Raises:
            DeviceError: The device cannot be reached; its own watch does it then.
        """
        try:
            if self.facts:
                self.do("clean", *self.facts["made"])
            elif self.python:
                # `open` may have been interrupted when the folder was there already.
                with contextlib.suppress(Dropped, DeviceError):
                    self.attempt("clean")
        finally:
            self._end_watch()

    def do(self, step: str, *words: str, timeout: float = STEP_SECONDS) -> dict[str, Any]:
        """Do a step, again if the connection drops; return its answer.

        Raises:
            DeviceError: It was refused, or the device cannot be reached any more.
        """
        return self.with_reconnect(lambda: self.attempt(step, *words, timeout=timeout))

    def attempt(
        self,
        step: str,
        *words: str,
        stdin: IO[bytes] | None = None,
        timeout: float = STEP_SECONDS,
    ) -> dict[str, Any]:
        """Do a step once; return its answer.

        Raises:
            Dropped: The connection was lost.
            DeviceError: It was refused.
        """
        done = self.call(step, self._session, *words, stdin=stdin, timeout=timeout)
        found: dict[str, Any] = json.loads(self.content(done) or b"{}")
        return found

    def call(
        self,
        step: str,
        *words: str,
        stdin: IO[bytes] | None = None,
        timeout: float = STEP_SECONDS,
    ) -> Finished:
        """Do a step once, with these words alone; return how it ended.

        Raises:
            Dropped: The connection was lost.
        """
        return self._connection.run(self._words(step, *words), stdin=stdin, timeout=timeout)

    def content(self, done: Finished) -> bytes:
        """Return what a step wrote.

        Raises:
            DeviceError: It failed.
        """
        if done.code == 0:
            return done.out
        name = self._connection.device.name
        if done.code != remote_agent.REFUSED:
            raise DeviceError(
                f"A step failed on {name}.",
                found=(done.err.strip().splitlines() or [f"Exit code {done.code}."])[-1],
                hint="Check the Python there, or name another: python = in devices.toml.",
            )
        refused = json.loads(done.out.splitlines()[-1])
        if refused["full"]:
            raise DeviceError(
                f"{name} has no room for what is sent.",
                found=f"The system says: {refused['error']}.",
                hint="Free some space there (the home folder's disk) and try again.",
            )
        raise DeviceError(
            f"edgekit cannot write to ~/.cache/edgekit on {name}.",
            found=f"The system says: {refused['error']} ({refused['path']}).",
            hint="Make the home folder there writable for this user.",
        )

    def with_reconnect(self, step: Callable[[], T]) -> T:
        """Do something until no dropped connection is in the way.

        Raises:
            DeviceError: The device cannot be reached again.
        """

        def watched() -> T:
            self._keep_watch()
            return step()

        return self._connection.with_reconnect(watched)

    def _find_python(self) -> str:
        given = self._connection.device.python
        candidates = [given] if given else ["python3", "python"]
        reasons: list[str] = []
        for candidate in candidates:
            done = self._connection.run((candidate, "-c", _OLDEST), timeout=STEP_SECONDS)
            if done.code == 0:
                return candidate
            reasons.append((done.err.strip().splitlines() or ["older than 3.8"])[-1])
        raise DeviceError(
            f"{self._connection.device.name} has no Python 3.8 or newer.",
            found=f"Tried {', '.join(candidates)}: {'; '.join(reasons)}.",
            hint="Install python3, or name one: python = in devices.toml.",
        )

    def _words(self, *words: str) -> tuple[str, ...]:
        # Letters and digits only, so that every login shell takes it: csh and fish quote otherwise.
        text = base64.b64encode(zlib.compress(Path(remote_agent.__file__).read_bytes())).decode()
        return (self.python, "-c", _BOOT, text, *words)

    def _keep_watch(self) -> None:
        """Start the watch on the device that cleans up if this host is lost."""
        if not self.python or (self._watch is not None and self._watch.poll() is None):
            return
        self._end_watch()
        made = self.facts.get("made", ())
        words = self._words("watch", self._session, str(ABANDONED_SECONDS), *made)
        self._watch = self._connection.start(words, stdout=subprocess.PIPE)
        assert self._watch.stdout is not None
        if not self._watch.stdout.readline():
            raise Dropped

    def _end_watch(self) -> None:
        if self._watch is not None:
            assert self._watch.stdout is not None
            self._watch.stdout.close()
            self._connection.end(self._watch)
            self._watch = None
