"""A device behind SSH: what it has, files to it, the runner on it, and nothing left there."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import edgekit_runner
from edgekit.devices import answers, far_side
from edgekit.devices.registry import Device
from edgekit.devices.ssh import Cancelled, Connection, Dropped, Finished
from edgekit.devices.wheels import Platform, fetch_wheels
from edgekit.errors import DeviceError, EdgekitError
from edgekit.files import sha256_of
from edgekit.records import Listener, Progress, Timing, silent

T = TypeVar("T")

STEP_SECONDS = 60
# A transfer slower than this is none; a dead connection is noticed long before.
SLOWEST_BYTES_A_SECOND = 10_000
# How long the device waits for a host that is gone before it tidies up by itself.
ABANDONED_SECONDS = 120
RESENDS = 3

_BOOT = "import base64,sys,zlib;exec(zlib.decompress(base64.b64decode(sys.argv.pop(1))))"
_OLDEST = "import sys;sys.exit(sys.version_info<(3,8))"


class Remote:
    """A session on a device; as a context it connects, and tidies up whatever happens.

    Args:
        device: Which one.
        keep: Leave what was sent in the device's cache, for the next time.
        cancel: Set by another thread to give up.
        listener: Hears of progress.

    Attributes:
        description: What the device is, in label -> value pairs.
    """

    def __init__(
        self,
        device: Device,
        *,
        keep: bool = False,
        cancel: threading.Event | None = None,
        listener: Listener = silent,
    ) -> None:
        self.device = device
        self.description: dict[str, str] = {}
        self._goal = "cache" if keep else "session"
        self._listener = listener
        self._session = f"session-{secrets.token_hex(6)}"
        self._connection = Connection(
            device, cancel=cancel or threading.Event(), dropped=self._tell
        )
        self._python = ""
        self._site = ""
        self._opened: dict[str, Any] = {}
        self._watch: subprocess.Popen[bytes] | None = None
        self._runner = ""
        self._names: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Connect, find Python, open a session.

        Raises:
            DeviceError: The device cannot be reached, has no Python, or cannot be written to.
        """
        self._tell(f"connecting to {self.device.name}")
        try:
            self._connection.open()
            self._python = self._steadily(self._find_python)
            self._opened = self._far("open", self._session)
            self._site = self._opened["site"]
            self._runner = self.send(Path(edgekit_runner.__file__))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was sent, unless it is to be kept, and hang up."""
        # Tidied even when the user interrupts: that is one short command.
        self._connection.cancel = threading.Event()
        try:
            if self._opened:
                self._far("clean", self._session, *self._opened["made"])
        except (DeviceError, Cancelled):
            pass  # the error that led here says it; the device's own watch does the rest
        finally:
            self._end_watch()
            self._connection.close()

    @property
    def platform(self) -> Platform:
        """What decides which wheels fit.

        Raises:
            DeviceError: The device's C library is another than the wheels are made for.
        """
        facts = self._opened
        library, version = facts["libc"]
        if library != "glibc":
            raise DeviceError(
                f"{self.device.name} has no glibc, for which the runtimes are built.",
                found=f"Its C library: {library or 'unknown'} {version}.",
                cure="Install a runtime there by hand, and leave out --setup.",
            )
        major, minor = facts["python"]
        return Platform(
            machine=facts["machine"], python=(major, minor), glibc=int(version.split(".")[1])
        )

    def setup(self, wheels: Path | None = None) -> None:
        """Make a virtual environment with the runtime that fits the device.

        Args:
            wheels: A folder of wheels; None downloads them here.

        Raises:
            DeviceError: No wheel fits, or the device has no room.
        """
        self._tell(f"{self.device.name}: setting up a runtime")
        with tempfile.TemporaryDirectory() as folder:
            found = fetch_wheels(self.platform, Path(folder), given=wheels)
            places = [self.send(wheel) for wheel in found]
        self._site = self._far("install", self._session, self._goal, *places)["site"]

    def check(self) -> None:
        """Ask the runner what is there.

        Raises:
            DeviceError: No runtime, or one that does not work.
        """
        try:
            facts = self.ask("info", about=self.device.name)
        except EdgekitError as error:
            raise DeviceError(
                f"{self.device.name}: {error.what}",
                found=error.found,
                cure=f"{(error.cure or '').rstrip('.')}; or add --setup.".removeprefix("; "),
            ) from error
        self.description = {**facts["machine"], "runtime": facts["runtime"]}

    def send(self, path: Path, suffix: str | None = None) -> str:
        """Bring a file to the device, unless it is there; return its place.

        It goes by the first 16 digits of its sha256; what arrived before a connection broke is
        not sent again; it appears whole, and with the right digest, or not at all.

        Raises:
            DeviceError: There is no room, no right to write, or it does not arrive whole.
        """
        sha256, size = sha256_of(path), path.stat().st_size
        name = f"{sha256[:16]}{path.suffix if suffix is None else suffix}"
        stage = f"{self.device.name}: sending"
        timeout = STEP_SECONDS + size / SLOWEST_BYTES_A_SECOND

        def attempt() -> str:
            found = self._try_far("look", self._session, name, sha256)
            if found["path"]:
                return str(found["path"])
            self._listener(
                Progress(stage=stage, done=found["offset"], total=size, detail=path.name)
            )
            with path.open("rb", buffering=0) as stream:
                stream.seek(found["offset"])
                words = ("put", self._session, name, str(size), sha256, self._goal)
                found = self._try_far(*words, stdin=stream, timeout=timeout)
            self._listener(Progress(stage=stage, done=size, total=size, detail=path.name))
            return str(found["path"])

        for _ in range(RESENDS):
            place = self._steadily(attempt)
            if place:
                self._names[place] = str(path)
                return place
        raise DeviceError(
            f"{path} does not arrive whole on {self.device.name}.",
            found=f"Its digest was another {RESENDS} times.",
            cure="Check the device's storage.",
        )

    def receive(self, place: str, destination: Path) -> None:
        """Fetch a file of the device.

        Raises:
            DeviceError: It cannot be read there, or does not arrive whole.
        """
        for _ in range(RESENDS):
            answer = self._steadily(
                lambda: self._understood(self._call("get", place, timeout=10 * STEP_SECONDS))
            )
            destination.write_bytes(answer[64:])
            if sha256_of(destination).encode() == answer[:64]:
                return
        raise DeviceError(f"A file of {self.device.name} does not arrive whole.", found=place)

    def ask(self, command: str, *words: str, about: object) -> Any:
        """Run a command of the runner; return its JSON.

        Args:
            command: info, bench or eval.
            words: Options and files of the device.
            about: What an error is about, in the user's words.

        Raises:
            EdgekitError: As the runner's exit code says.
        """
        program = (self._python, self._runner, command, "--json", *words)
        seconds = str(self.device.timeout)
        done = self._steadily(
            lambda: self._call(
                *("run", seconds, self._site, *program), timeout=self.device.timeout + STEP_SECONDS
            )
        )
        if done.code == 0:
            return json.loads(done.out)
        said = self._in_our_words(done.err)
        if done.code == far_side.TOO_LONG:
            raise DeviceError(
                f"{about} ran for more than {self.device.timeout:.0f} s on {self.device.name}.",
                cure="Give the device a larger timeout in devices.toml.",
            )
        if done.code > far_side.SIGNAL:
            raise answers.failure(far_side.SIGNAL - done.code, said, about)
        if done.code in (edgekit_runner.INTERRUPTED, far_side.REFUSED):
            raise DeviceError(f"The runner was stopped on {self.device.name}.", found=said.strip())
        raise answers.failure(done.code, said, about)

    def bench(self, place: str, options: Sequence[str], *, about: object) -> Timing:
        """Time a model that was sent; see `edgekit.devices.bench`."""
        self._tell(f"{self.device.name}: measuring")
        facts = self.ask("bench", *options, "--", place, about=about)
        after = facts["conditions"].get("after") or {}
        if "governor" in after:
            self.description["governor"] = str(after["governor"])
        return answers.timing(facts, self.device.name)

    def outputs(
        self, place: str, data: str, destination: Path, options: Sequence[str], *, about: object
    ) -> None:
        """Run a model over packed data that were sent, and fetch its outputs as an `.npz`."""
        self._tell(f"{self.device.name}: evaluating")
        kept = f"{self._opened['session']}/outputs.npz"
        self.ask("eval", *options, "--force", "--outputs", kept, "--", place, data, about=about)
        self.receive(kept, destination)

    def _find_python(self) -> str:
        candidates = [self.device.python] if self.device.python else ["python3", "python"]
        reasons: list[str] = []
        for candidate in candidates:
            done = self._connection.run((candidate, "-c", _OLDEST), timeout=STEP_SECONDS)
            if done.code == 0:
                return candidate
            reasons.append((done.err.strip().splitlines() or ["older than 3.8"])[-1])
        raise DeviceError(
            f"{self.device.name} has no Python 3.8 or newer.",
            found=f"Tried {', '.join(candidates)}: {'; '.join(reasons)}.",
            cure="Install python3, or name one: python = in devices.toml.",
        )

    def _far(self, *words: str) -> Any:
        return self._steadily(lambda: self._try_far(*words))

    def _try_far(
        self, *words: str, stdin: Any = None, timeout: float = STEP_SECONDS
    ) -> dict[str, Any]:
        out = self._understood(self._call(*words, stdin=stdin, timeout=timeout))
        found: dict[str, Any] = json.loads(out or b"{}")
        return found

    def _call(self, *words: str, stdin: Any = None, timeout: float = STEP_SECONDS) -> Finished:
        return self._connection.run(self._words(*words), stdin=stdin, timeout=timeout)

    def _words(self, *words: str) -> tuple[str, ...]:
        # Letters and digits only, so that every login shell takes it: csh and fish quote otherwise.
        text = base64.b64encode(zlib.compress(Path(far_side.__file__).read_bytes())).decode()
        return (self._python, "-c", _BOOT, text, *words)

    def _understood(self, done: Finished) -> bytes:
        if done.code == 0:
            return done.out
        name = self.device.name
        if done.code != far_side.REFUSED:
            raise DeviceError(
                f"A step failed on {name}.",
                found=(done.err.strip().splitlines() or [f"Exit code {done.code}."])[-1],
                cure="Check the Python there, or name another: python = in devices.toml.",
            )
        refused = json.loads(done.out.splitlines()[-1])
        if refused["full"]:
            raise DeviceError(
                f"{name} has no room for what is sent.",
                found=f"The system says: {refused['error']}.",
                cure="Free some space there (the home folder's disk) and try again.",
            )
        raise DeviceError(
            f"{name} does not let edgekit write to ~/.cache/edgekit.",
            found=f"The system says: {refused['error']} ({refused['path']}).",
            cure="Make the home folder there writable for this user.",
        )

    def _steadily(self, step: Callable[[], T]) -> T:
        def watched() -> T:
            self._keep_watch()
            return step()

        return self._connection.steadily(watched)

    def _keep_watch(self) -> None:
        """See that the device notices when this host is gone for good."""
        if not self._opened or (self._watch is not None and self._watch.poll() is None):
            return
        self._end_watch()
        words = self._words("watch", self._session, str(ABANDONED_SECONDS), *self._opened["made"])
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

    def _in_our_words(self, said: str) -> str:
        for place, path in self._names.items():
            said = said.replace(place, path)
        return said

    def _tell(self, stage: str) -> None:
        self._listener(Progress(stage=stage))
