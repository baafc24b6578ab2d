"""One connection to a device, by the user's own OpenSSH client.

Their configuration, keys, agents and jump hosts hold, host keys are checked as they have it, and
nothing is ever asked: a password or an unknown host key is an error with its hint.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from edgekit.devices import lifeline
from edgekit.devices.registry import DeviceEntry
from edgekit.devices.socket_folder import SocketFolder
from edgekit.errors import DeviceError

T = TypeVar("T")

CONNECT_SECONDS = 10
# Before each attempt to reconnect: a Raspberry Pi reboots in half a minute.
PAUSES = (1, 2, 4, 8, 15, 30)
# A connection that breaks this often during one step is given up.
MOST_DROPS = 8
LOST = 255  # ssh's own exit code, whatever went wrong

_UNKNOWN_HOST = "Could not resolve hostname"
# In this order: a host key that has changed fails verification, too.
_FINAL = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": (
        "The host key of {host} has changed.",
        "If the device was set up anew: ssh-keygen -R with its address, then ssh {reach}",
    ),
    "Host key verification failed": (
        "ssh does not trust the host key of {host}.",
        "Connect once by hand and compare the key: ssh {reach}",
    ),
    "Permission denied": (
        "Permission denied by {host}.",
        "A key is needed, no password is asked: ssh-copy-id {copy}",
    ),
    _UNKNOWN_HOST: (
        "There is no host {host}.",
        "Check the name, and that it is in devices.toml or in the ssh configuration.",
    ),
}


class Dropped(Exception):  # noqa: N818  an event on the way, not an error: it is retried
    """The connection ended before the command did."""


class Cancelled(BaseException):
    """The user interrupted the whole: what KeyboardInterrupt is to the main thread."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ran to its end on the device: exit code, stdout, stderr."""

    code: int
    out: bytes
    err: str


class Connection:
    """A connection that every command shares and that is rebuilt when it drops.

    Args:
        device: The device to connect to.
        cancel: Set by another thread to give up everything at once.
        dropped: Called with a message whenever the connection is lost.
    """

    def __init__(
        self, device: DeviceEntry, *, cancel: threading.Event, dropped: Callable[[str], None]
    ) -> None:
        self.device = device
        self.cancel = cancel
        self._dropped = dropped
        self._master: subprocess.Popen[bytes] | None = None
        self._folder: SocketFolder | None = None

    def open(self) -> None:
        """Connect.

        Raises:
            DeviceError: ssh is missing, or cannot reach or enter the host.
        """
        self._close_master()
        if self._folder is None:
            self._folder = SocketFolder()
        log = self._folder.path / "log"
        with log.open("wb") as errors:
            self._master = self._start(
                ["-M", "-N", "-o", "ControlPersist=no"],
                # A pipe that nothing is written to; `lifeline` ends ssh when it closes.
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        end = time.monotonic() + 3 * CONNECT_SECONDS
        while not self._socket.exists():
            ended = self._master.poll() is not None
            if ended or time.monotonic() > end:
                self._close_master()
                raise self._refusal(log.read_text(errors="replace"))
            self._pause(0.02)

    def close(self) -> None:
        """Disconnect."""
        try:
            self._close_master()
        finally:
            if self._folder is not None:
                self._folder.remove()
                self._folder = None

    def run(
        self,
        words: Sequence[str],
        *,
        timeout: float,
        stdin: IO[bytes] | None = None,
    ) -> Finished:
        """Run a command on the device; every word is quoted for its shell.

        Args:
            words: Program and arguments.
            timeout: Seconds it may take.
            stdin: A file to read from; None is a line that stays silent and open, so that the
                command can see it end.

        Raises:
            Dropped: The connection was lost.
            DeviceError: It took too long.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self.start(words, stdin=stdin, stdout=out, stderr=err)
            try:
                end = time.monotonic() + timeout
                while process.poll() is None:
                    if time.monotonic() > end:
                        raise DeviceError(
                            f"{self.device.name} did not answer within {timeout:.0f} s.",
                            hint="Give the device a larger timeout in devices.toml.",
                        )
                    try:
                        process.wait(0.05)
                    except subprocess.TimeoutExpired:
                        self._pause(0)
            finally:
                self.end(process)
            out.seek(0)
            err.seek(0)
            if process.returncode == LOST or process.returncode < 0:
                raise Dropped(err.read().decode(errors="replace"))
            return Finished(process.returncode, out.read(), err.read().decode(errors="replace"))

    def start(
        self,
        words: Sequence[str],
        *,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | int = subprocess.DEVNULL,
        stderr: IO[bytes] | int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a command and leave it running; see `run`."""
        # Without the shared connection this must fail, not open another silently.
        sharing = ["-o", "ControlMaster=no", "-o", "ProxyCommand=false"]
        return self._start(
            sharing, shlex.join(words), stdin=stdin or subprocess.PIPE, stdout=stdout, stderr=stderr
        )

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> None:
        """End a command that was started: its stdin closes, which the device notices."""
        if process.stdin:
            process.stdin.close()
        process.kill()
        process.wait()

    def with_reconnect(self, step: Callable[[], T]) -> T:
        """Do a step, again and again while the connection drops in between.

        Raises:
            DeviceError: The device cannot be reached again, or the connection drops too often.
        """
        for _ in range(MOST_DROPS):
            try:
                return step()
            except Dropped:
                self._dropped(f"{self.device.name}: the connection was lost; trying again")
                self._reopen()
        raise DeviceError(
            f"The connection to {self.device.name} was lost {MOST_DROPS} times.",
            hint="Check the network; what had arrived is not sent again.",
        )

    def _reopen(self) -> None:
        for pause in PAUSES:
            self._pause(pause)
            try:
                self.open()
            except DeviceError as error:
                last = error
                continue
            return
        raise DeviceError(
            f"{self.device.name} was lost and could not be reached again within {sum(PAUSES)} s.",
            found=last.found,
            hint="Its leftovers in ~/.cache/edgekit go within minutes, or with the next deploy.",
        ) from last

    def _start(
        self,
        options: Sequence[str],
        command: str | None = None,
        *,
        stdin: IO[bytes] | int,
        stdout: IO[bytes] | int,
        stderr: IO[bytes] | int,
    ) -> subprocess.Popen[bytes]:
        device = self.device
        program = shutil.which("ssh")
        if program is None:
            raise DeviceError(
                "There is no ssh here.", hint="Install OpenSSH's client (openssh-client)."
            )
        words = [program, "-T", "-S", str(self._socket), *options]
        if command is None:
            # Only the shared connection would go on without edgekit; the rest ends with it.
            words = [sys.executable, "-I", "-S", lifeline.__file__, *words]
        for key, value in (
            ("BatchMode", "yes"),
            ("ConnectTimeout", CONNECT_SECONDS),
            ("ServerAliveInterval", 5),
            ("ServerAliveCountMax", 3),
            ("ClearAllForwardings", "yes"),
            ("RemoteCommand", "none"),
        ):
            words += ["-o", f"{key}={value}"]
        # A client of the shared connection goes nowhere itself: no second proxy for it.
        words += _options(device, jump=("-J", "{}") if command is None else ())
        words += ["--", device.host, *([command] if command is not None else [])]
        # In a session of its own: Ctrl-C is handled here, after which the device is cleaned up.
        return subprocess.Popen(
            words, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )

    @property
    def _socket(self) -> Path:
        assert self._folder is not None
        return self._folder.path / "s"

    def _close_master(self) -> None:
        if self._master is not None:
            assert self._master.stdin is not None
            self._master.stdin.close()
            try:
                self._master.wait(3 * lifeline.PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
            self._master = None
        if self._folder is not None:
            self._socket.unlink(missing_ok=True)

    def _pause(self, seconds: float) -> None:
        if self.cancel.wait(seconds):
            raise Cancelled

    def _refusal(self, said: str) -> DeviceError:
        host = self.device.host
        words = {
            "host": host,
            "reach": shlex.join([*_options(self.device), host]),
            # It has no -J.
            "copy": shlex.join([*_options(self.device, jump=("-o", "ProxyJump={}")), host]),
        }
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        for sign, (what, hint) in _FINAL.items():
            if sign in said:
                line = next(line for line in lines if sign in line).strip("@ ")
                meant = self.device.meant if sign == _UNKNOWN_HOST else None
                todo = f"Did you mean {meant}, of devices.toml?" if meant else hint
                return DeviceError(what.format(host=host), found=line, hint=todo.format(**words))
        return DeviceError(
            f"{host} cannot be reached.",
            found=lines[-1] if lines else f"No answer within {3 * CONNECT_SECONDS} s.",
            hint=f"Check that it is on and in the network: ssh {words['reach']}",
        )


def _options(device: DeviceEntry, *, jump: Sequence[str] = ("-J", "{}")) -> list[str]:
    """Return the options of ssh that reach a device; `jump` says how a jump host is given."""
    words: list[str] = []
    for option, given in (
        ("-F", device.ssh_config and str(Path(device.ssh_config).expanduser())),
        ("-p", device.port),
        ("-i", device.identity and str(Path(device.identity).expanduser())),
    ):
        if given:
            words += [option, str(given)]
    if device.jump:
        words += [word.format(device.jump) for word in jump]
    return words
