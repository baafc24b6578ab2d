"""Run TensorFlow in a child process, and send it requests over a pipe."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Self, TypeVar

from edgekit.choices import COMPACT, RecurrentForm
from edgekit.errors import EdgekitError, ModelError, UsageError
from edgekit.records import Array, InputScaling, Listener, Progress, Source, silent
from edgekit.sources import check_source, refuse_without_layers
from edgekit.worker import wire
from edgekit.worker.child import Child, died, last_line, reason_of, start
from edgekit.worker.session import Session
from edgekit.worker.startup import death_at_start, wait_until_ready

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel
    from edgekit.recipe import PassStep
    from edgekit.sources.predict import Reference
    from edgekit.training import TrainingConfig, TrainingResult
    from edgekit.training.adapting import Chosen, Site
    from edgekit.training.finetuning import Tuning
    from edgekit.training.passes import PassResult

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

TIMEOUT_VARIABLE: Final = "EDGEKIT_MODEL_TIMEOUT"
"""Environment variable with the seconds that a model may take, in place of the default."""
_TIMEOUT_SECONDS: Final = 1800.0
# These run the model's own program, which may not terminate; training has no limit.
_LIMITED: Final[frozenset[Callable[..., object]]] = frozenset(
    (
        Session.load,
        Session.recurrent_layers,
        Session.lower,
        Session.reference,
        Session.predict,
        Session.input_scaling,
        Session.adapt,
    )
)


class Worker:
    """A `TensorFlowProcess` that is a child of this one.

    As a context manager it starts the child at once, so that TensorFlow's import overlaps with
    what the caller does until its first request. If the child dies during a request, that request
    raises an error and the next one starts a new child; then the model has to be loaded again.

    Args:
        custom: Modules that define the models' own classes.
        listener: Progress callback, in the caller's thread, during requests.
        trust_code: Whether to run code that model files contain.
        timeout: Seconds that reading or lowering a model may take, its own program included and
            TensorFlow's import not; None for `$EDGEKIT_MODEL_TIMEOUT`, by default 1800.
    """

    def __init__(
        self,
        custom: Sequence[str] = (),
        listener: Listener = silent,
        *,
        trust_code: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._custom = tuple(custom)
        self._trust_code = trust_code
        self._timeout = _default_timeout() if timeout is None else timeout
        self._listener = listener
        self._child: Child | None = None
        self._recurrent: tuple[str, ...] = ()
        self._unanswered: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        self._child = self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def load(
        self,
        source: Path,
        *,
        example: Mapping[str, tuple[int, ...]] | None = None,
        to_train: bool = False,
    ) -> Source:
        """Read a model file or folder; see `TensorFlowProcess.load`."""
        if not self._trust_code:
            check_source(source, custom=self._custom)
        if to_train:
            refuse_without_layers(source)
        stage = f"loading {source.name}"
        found = self._ask(Session.load, stage, source, example=example, to_train=to_train)
        self._recurrent = self._ask(Session.recurrent_layers, "loading")
        return found

    def start_tracing(self) -> None:
        """Begin to trace the loaded model; see `TensorFlowProcess.start_tracing`."""
        if self._child is not None and self._child.ready and self._unanswered is None:
            # A child that is dead is reported by the next request.
            with contextlib.suppress(OSError):
                request = wire.Request(Session.trace, (), {}, answered=False)
                wire.send(self._child.connection, request)

    def start_lowering(
        self, destination: Path, *, recurrent: RecurrentForm = COMPACT
    ) -> Callable[[], LoweredModel]:
        """Begin to write the float graph; see `TensorFlowProcess.start_lowering`."""
        return self._begin(Session.lower, "lowering", destination, recurrent=recurrent)

    def lower(self, destination: Path, *, recurrent: RecurrentForm = COMPACT) -> LoweredModel:
        """Write the float graph; see `TensorFlowProcess.lower`."""
        return self.start_lowering(destination, recurrent=recurrent)()

    def start_reference(self, inputs: Mapping[str, Array]) -> Callable[[], Reference]:
        """Begin to run the loaded model itself; see `TensorFlowProcess.start_reference`."""
        return self._begin(Session.reference, "running the model", dict(inputs))

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the loaded model itself; see `TensorFlowProcess.predict`."""
        return self._ask(Session.predict, "running the model", dict(inputs))

    def input_scaling(self) -> InputScaling | None:
        """Read the model's first operators; see `TensorFlowProcess.input_scaling`."""
        return self._ask(Session.input_scaling, "reading the model's first operators")

    def transform(self, step: PassStep, tuning: Tuning, destination: Path) -> PassResult:
        """Run a compression pass; see `TensorFlowProcess.transform`."""
        stage = f"running the pass {step.kind}"
        return self._ask(Session.transform, stage, step, tuning, destination)

    def swaps(
        self, blocked: Mapping[str, Sequence[str]], exclude: Sequence[str] = ()
    ) -> tuple[Site, ...]:
        """Find layers and their swaps; see `TensorFlowProcess.swaps`."""
        return self._ask(Session.swaps, "looking for replacements", dict(blocked), tuple(exclude))

    def adapt(self, chosen: Chosen) -> None:
        """Replace layers; see `TensorFlowProcess.adapt`."""
        self._ask(Session.adapt, "replacing layers", dict(chosen))

    def largest_share(self, exclude: Sequence[str] = (), multiple: int = 8) -> float:
        """See `TensorFlowProcess.largest_share`."""
        return self._ask(Session.largest_share, "counting channels", tuple(exclude), multiple)

    def write_teacher(self, tuning: Tuning, destination: Path) -> None:
        """Write the teacher's predictions; see `TensorFlowProcess.write_teacher`."""
        self._ask(Session.write_teacher, "writing the teacher's predictions", tuning, destination)

    def train(
        self,
        config: TrainingConfig,
        destination: Path,
        *,
        log_dir: Path | None = None,
        initial: Path | None = None,
        force: bool = True,
    ) -> TrainingResult:
        """Train an architecture of the zoo; see `TensorFlowProcess.train`."""
        stage = f"training {config.name}"
        return self._ask(
            Session.train,
            stage,
            config,
            destination,
            log_dir=log_dir,
            initial=initial,
            force=force,
        )

    def run(
        self, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call any function in the child; for tests, which look inside.

        Args:
            function: A function of a module that the child can import.
            *args: Its picklable arguments, after the session.
            **kwargs: Likewise.

        Raises:
            ConversionError: The process died.
        """
        return self._ask(function, function.__name__, *args, **kwargs)

    def _ask(
        self,
        function: Callable[Concatenate[Session, P], R],
        stage: str,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Send a request and return its answer; `stage` is for messages of its failure."""
        return self._begin(function, stage, *args, **kwargs)()

    def _begin(
        self,
        function: Callable[Concatenate[Session, P], R],
        stage: str,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callable[[], R]:
        """Send a request, and return what waits for its answer."""
        if self._unanswered is not None:  # its caller was interrupted by an error
            with contextlib.suppress(Exception):
                self._unanswered()
        if self._child is None:
            self._child = self._start()
        self._wait_until_ready()
        child = self._child
        limit = self._timeout if function in _LIMITED else None

        def answer() -> R:
            while True:
                if not child.connection.poll(limit):
                    raise self._timed_out(stage)
                match wire.receive(child.connection):
                    case Progress() as progress:
                        self._listener(progress)
                    case wire.Failure(error):
                        raise error
                    case wire.Answer(value):
                        result: R = value
                        return result

        def guarded(step: Callable[[], T]) -> T:
            try:
                return step()
            except (EOFError, ConnectionError) as error:
                child.process.wait()
                told = died(child, stage, self._recurrent, reading=function is Session.load)
                self._end()
                raise told from error

        def wait() -> R:
            self._unanswered = None
            return guarded(answer)

        guarded(lambda: wire.send(child.connection, wire.Request(function, args, kwargs)))
        self._unanswered = wait
        return wait

    def _wait_until_ready(self) -> None:
        """Wait until the child has imported TensorFlow, which is not part of the time limit."""
        child = self._child
        if child is None or child.ready:
            return
        try:
            wait_until_ready(child.connection, child.process.pid)
            wire.receive(child.connection)
        except (EOFError, ConnectionError) as error:
            child.process.wait()
            died = death_at_start(reason_of(child), last_line(child.log))
            self._end()
            raise died from error
        except EdgekitError:
            self._end()
            raise
        child.ready = True

    def _start(self) -> Child:
        return start(self._custom, trust_code=self._trust_code)

    def _timed_out(self, stage: str) -> ModelError:
        self._end()
        return ModelError(
            f"The model took longer than {self._timeout:g} seconds while {stage}.",
            found="A program in it may not end; the process was stopped.",
            hint=f"If it is only slow, allow more seconds: {TIMEOUT_VARIABLE}="
            f"{4 * max(self._timeout, 1):.0f} edgekit ...",
        )

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.connection.close()
        # The child needs no orderly shutdown, and TensorFlow's takes seconds.
        child.process.kill()
        child.process.wait()
        os.close(child.lifeline)
        child.log.close()


def _default_timeout() -> float:
    written = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(written or _TIMEOUT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(
            f"Invalid value for {TIMEOUT_VARIABLE}: {written}.", hint="Give seconds, above 0."
        )
    return seconds
