"""A device behind SSH: what it has, files to it, the runner on it, and nothing left there."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import edgekit_runner
from edgekit.devices import answers, remote_agent
from edgekit.devices.registry import DeviceEntry
from edgekit.devices.session import STEP_SECONDS, RemoteSession
from edgekit.devices.ssh import Cancelled, Connection, Finished
from edgekit.devices.wheels import Platform, fetch_wheels, requirements
from edgekit.errors import DeviceError, EdgekitError
from edgekit.files import FILE, sha256_of, temporary_folder, what_is
from edgekit.records import Listener, Progress, Timing, silent
from edgekit.tflite.stored import manifest_path

PIP_SECONDS = 900
# In which a model is warmed up and timed in all rounds, where files are timed by turns.
TURN_SECONDS = 20
# A transfer slower than this is none; a dead connection is noticed long before.
SLOWEST_BYTES_A_SECOND = 10_000
RESENDS = 3

# Imported, not run as a script: Python then keeps a compiled copy beside it for the next call. The
# folder stands in for the working directory, whose files could pass for modules.
_RUNNER = (
    "import os,sys;sys.path[0]=sys.argv.pop(1);runner=__import__(sys.argv.pop(1));"
    "code=runner.main(sys.argv[1:]);sys.stderr.flush();os._exit(code)"
)


class Remote:
    """A session on a device; as a context manager it connects, and cleans up whatever happens.

    Args:
        device: Which one.
        keep: Leave what was sent in the device's cache, for the next time.
        digest: Returns the sha256 of a file that is sent.
        cancel: Set by another thread to give up.
        listener: Progress callback.

    Attributes:
        description: What the device is, in label -> value pairs.
    """

    def __init__(
        self,
        device: DeviceEntry,
        *,
        keep: bool = False,
        digest: Callable[[Path], str] = sha256_of,
        cancel: threading.Event | None = None,
        listener: Listener = silent,
    ) -> None:
        self.device = device
        self.description: dict[str, str] = {}
        self._goal = "cache" if keep else "session"
        self._listener = listener
        self._digest = digest
        self._connection = Connection(
            device, cancel=cancel or threading.Event(), dropped=self._tell
        )
        self._session = RemoteSession(self._connection, f"session-{secrets.token_hex(6)}")
        self._site = ""
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
            self._session.open()
            self._site = self._session.facts["site"]
            self._runner = self.send(Path(edgekit_runner.__file__))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was sent, unless it is to be kept, and disconnect."""
        # Cleaned up even when the user interrupts: that is one short command.
        self._connection.cancel = threading.Event()
        try:
            self._session.close()
        except (DeviceError, Cancelled):
            pass  # the error that led here says it; the device's own watch does the rest
        finally:
            self._connection.close()

    @property
    def platform(self) -> Platform:
        """What decides which wheels fit.

        Raises:
            DeviceError: The device's C library is another than the wheels are made for.
        """
        facts = self._session.facts
        library, version = facts["libc"]
        if library != "glibc":
            raise DeviceError(
                f"{self.device.name} has no glibc, for which the runtimes are built.",
                found=f"Its C library: {library or 'unknown'} {version}.",
                hint="Install a runtime there by hand, and leave out --setup.",
            )
        major, minor = facts["python"]
        return Platform(
            machine=facts["machine"], python=(major, minor), glibc=int(version.split(".")[1])
        )

    def setup(self, wheels: Path | None = None, *, also: Sequence[str] = ()) -> None:
        """Make a virtual environment with the runtime that fits the device.

        Args:
            wheels: A folder of wheels; None downloads them here or, where that fails, there.
            also: Further projects: Pillow, which pictures need.

        Raises:
            DeviceError: No wheel fits, or the device has no room.
        """
        name = self.device.name
        self._tell(f"{name}: setting up a runtime")
        platform = self.platform
        wanted = (*requirements(platform), *also)
        with temporary_folder() as folder:
            try:
                found = fetch_wheels(platform, wanted, folder, given=wheels)
            except DeviceError as here:
                if wheels is not None:
                    raise
                self._tell(f"{name}: asking its own pip")
                try:
                    self._site = self._fetch(wanted)
                except DeviceError as there:
                    raise DeviceError(
                        here.what,
                        found=f"Here: {here.found} On {name}: {there.found}",
                        hint=here.hint,
                    ) from there
                return
            places = [self.send(wheel) for wheel in found]
        self._site = self._session.do("install", self._goal, *places)["site"]

    def _fetch(self, wanted: Sequence[str]) -> str:
        words = (self._goal, str(PIP_SECONDS), *wanted)
        return str(self._session.do("fetch", *words, timeout=PIP_SECONDS + STEP_SECONDS)["site"])

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
                hint=f"{(error.hint or '').rstrip('.')}; or add --setup.".removeprefix("; "),
            ) from error
        self.description = {**facts["machine"], "runtime": facts["runtime"]}

    def send(self, path: Path, suffix: str | None = None) -> str:
        """Bring a file to the device, unless it is there; return its place.

        It goes by the first 16 digits of its sha256; what arrived before a connection broke is
        not sent again; it appears whole, and with the right digest, or not at all.

        Raises:
            DeviceError: There is no room, no right to write, or it does not arrive whole.
        """
        sha256, size = self._digest(path), path.stat().st_size
        name = f"{sha256[:16]}{path.suffix if suffix is None else suffix}"
        stage = f"{self.device.name}: sending"
        timeout = STEP_SECONDS + size / SLOWEST_BYTES_A_SECOND

        def attempt() -> str:
            found = self._session.attempt("look", name, sha256)
            if found["path"]:
                return str(found["path"])
            self._listener(
                Progress(stage=stage, done=found["offset"], total=size, detail=path.name)
            )
            with path.open("rb", buffering=0) as stream:
                stream.seek(found["offset"])
                words = ("put", name, str(size), sha256, self._goal)
                found = self._session.attempt(*words, stdin=stream, timeout=timeout)
            self._listener(Progress(stage=stage, done=size, total=size, detail=path.name))
            return str(found["path"])

        for _ in range(RESENDS):
            place = self._session.with_reconnect(attempt)
            if place:
                self._names[place] = str(path)
                return place
        raise DeviceError(
            f"{path} does not arrive whole on {self.device.name}.",
            found=f"Its digest was another {RESENDS} times.",
            hint="Check the device's storage.",
        )

    def send_model(self, path: Path) -> str:
        """Bring a model to the device, and its manifest beside it if there is one.

        Raises:
            DeviceError: As `send`.
        """
        place = self.send(path, ".tflite")
        manifest = manifest_path(path)
        if what_is(manifest) != FILE:
            return place
        described = self.send(manifest, ".json")
        both = str(self._session.do("pair", place, described)["path"])
        self._names[both] = str(path)
        return both

    def receive(self, place: str, destination: Path) -> None:
        """Fetch a file of the device.

        Raises:
            DeviceError: It cannot be read there, or does not arrive whole.
        """
        for _ in range(RESENDS):
            answer = self._session.with_reconnect(
                lambda: self._session.content(
                    self._session.call("get", place, timeout=10 * STEP_SECONDS)
                )
            )
            destination.write_bytes(answer[64:])
            if sha256_of(destination).encode() == answer[:64]:
                return
        raise DeviceError(f"A file of {self.device.name} does not arrive whole.", found=place)

    def ask(self, command: str, *words: str, about: object, lasting: float = 0) -> Any:
        """Run a command of the runner; return its JSON.

        Args:
            command: info, bench or eval.
            words: Options and files of the device.
            about: What an error is about, in the user's words.
            lasting: Seconds it takes on purpose, beyond the device's timeout.

        Raises:
            EdgekitError: As the runner's exit code says.
        """
        done = self._start(command, "--json", *words, lasting=lasting)
        self._check_end(done, about)
        return json.loads(done.out)

    def _start(self, *words: str, lasting: float = 0) -> Finished:
        """Run the runner to its end; a dropped connection starts it anew."""
        folder, _, module = self._runner.removesuffix(".py").rpartition("/")
        seconds = self.device.timeout + lasting
        # Trusted: a crash there is reported here, without a child process of its own.
        asked = (words[0], "--trusted", *words[1:])
        program = (self._session.python, "-c", _RUNNER, folder, module, *asked)
        return self._session.with_reconnect(
            lambda: self._session.call(
                *("run", str(seconds), self._site, *program), timeout=seconds + STEP_SECONDS
            )
        )

    def _check_end(self, done: Finished, about: object) -> None:
        if done.code == 0:
            return
        said = self._in_our_words(done.err)
        if done.code == remote_agent.TOO_LONG:
            raise DeviceError(
                f"{about} ran for more than {self.device.timeout:.0f} s on {self.device.name}.",
                hint="Give the device a larger timeout in devices.toml.",
            )
        if done.code > remote_agent.SIGNAL:
            raise answers.failure(remote_agent.SIGNAL - done.code, said, about)
        if done.code in (edgekit_runner.INTERRUPTED, remote_agent.REFUSED):
            raise DeviceError(f"The runner was stopped on {self.device.name}.", found=said.strip())
        raise answers.failure(done.code, said, about)

    def bench(
        self, place: str, options: Sequence[str], *, about: object, lasting: float = 0
    ) -> Timing:
        """Time a model that was sent; see `edgekit.devices.bench`."""
        self._tell(f"{self.device.name}: measuring")
        facts = self.ask("bench", *options, "--", place, about=about, lasting=lasting)
        after = facts["conditions"].get("after") or {}
        if "governor" in after:
            self.description["governor"] = str(after["governor"])
        return answers.timing(facts, self.device.name)

    def bench_by_turns(self, places: Sequence[str], options: Sequence[str]) -> list[list[int]]:
        """Time models that were sent by turns; return the nanoseconds of each one's runs."""
        self._tell(f"{self.device.name}: measuring by turns")
        about, seconds = f"{len(places)} files by turns", TURN_SECONDS * len(places)
        facts = self.ask("bench", *options, "--", *places, about=about, lasting=seconds)
        return [[int(value) for value in one["values_ns"]] for one in facts["files"]]

    def outputs(
        self, place: str, data: str, destination: Path, options: Sequence[str], *, about: object
    ) -> None:
        """Run a model over packed data that were sent, and fetch its outputs as an `.npz`."""
        self._tell(f"{self.device.name}: evaluating")
        kept = f"{self._session.facts['session']}/outputs.npz"
        self.ask("eval", *options, "--force", "--outputs", kept, "--", place, data, about=about)
        self.receive(kept, destination)

    def run(
        self,
        place: str,
        inputs: Sequence[Path],
        options: Sequence[str],
        *,
        about: object,
        answered: Callable[[dict[str, Any]], None],
    ) -> None:
        """Run a model that was sent on files of this machine.

        Args:
            place: The model there.
            inputs: Pictures, recordings, samples.
            options: Of the runner's `run`.
            about: What an error is about.
            answered: Called with each of the runner's JSON lines, also those before an error.

        Raises:
            EdgekitError: As the runner's exit code says.
        """
        names: dict[str, list[str]] = {}
        for path in inputs:
            # What has the same content is the same file over there.
            names.setdefault(self.send(path), []).append(str(path))
        self._tell(f"{self.device.name}: running")
        done = self._start("run", *options, "--", place, *names)
        for line in done.out.decode().split("\n")[:-1]:
            found = json.loads(line)
            for name in names[found["source"]]:
                answered({"device": self.device.name, "model": str(about), **found, "source": name})
        self._check_end(done, about)

    def _in_our_words(self, said: str) -> str:
        for place, path in self._names.items():
            said = said.replace(place, path)
        return said

    def _tell(self, stage: str) -> None:
        self._listener(Progress(stage=stage))
