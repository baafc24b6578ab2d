"""Child process: imports TensorFlow, then answers requests until the parent exits."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from edgekit.errors import ConversionError, EdgekitError
from edgekit.worker import wire
from edgekit.worker.session import TRUST_CODE, Session
from edgekit.worker.startup import is_out_of_memory, out_of_memory


def main() -> None:
    """Serve on the connection and the lifeline whose descriptors the parent passed."""
    connection = Connection(int(sys.argv[1]))
    lifeline = int(sys.argv[2])
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    trust_code = sys.argv[3] == TRUST_CODE
    session = Session(
        tuple(sys.argv[4:]), lambda progress: wire.send(connection, progress), trust_code=trust_code
    )
    broken = _import_tensorflow(trust_code=trust_code)
    wire.send(connection, wire.Ready())
    while True:
        try:
            request = wire.receive(connection)
        except EOFError:
            break
        except Exception as error:  # the module of a request's function may not be importable here
            wire.send(connection, wire.Failure(_portable(error)))
            continue
        assert isinstance(request, wire.Request)
        answer = wire.Failure(broken) if broken else _answer(session, request)
        if request.answered:
            wire.send(connection, answer)
    # Skip the teardown of TensorFlow, which takes seconds.
    os._exit(0)


def _answer(session: Session, request: wire.Request) -> wire.Answer | wire.Failure:
    try:
        return wire.Answer(request.function(session, *request.args, **request.kwargs))
    except BaseException as error:  # the parent raises the error
        return wire.Failure(_portable(error))


def _die_with_parent(lifeline: int) -> None:
    """Block on a pipe that only the parent holds open: it closes when the parent ends or dies."""
    os.read(lifeline, 1)
    os._exit(1)


def _import_tensorflow(*, trust_code: bool) -> EdgekitError | None:
    try:
        importlib.import_module("tensorflow")
        keras = importlib.import_module("keras")
        if trust_code:
            # Passes clone layers, which deserializes their configurations again.
            keras.config.enable_unsafe_deserialization()
        # A million objects that stay: no collection need go through them again.
        gc.freeze()
    except Exception as error:  # a broken installation may raise anything
        if is_out_of_memory(error):
            return out_of_memory(f"{type(error).__name__}: {error}".rstrip(": "))
        return ConversionError(
            "TensorFlow cannot be imported.",
            found=f"{type(error).__name__}: {error}",
            hint="Reinstall edgekit: pip install --force-reinstall edgekit-tflite",
        )
    return None


def _portable(error: BaseException) -> BaseException:
    """Make an exception that can be pickled, with its traceback as a note."""
    if isinstance(error, EdgekitError):
        return error
    text = "".join(traceback.format_exception(error))
    error.add_note(f"In the TensorFlow process:\n{text}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception class may define any pickling
        stand_in = RuntimeError(f"{type(error).__name__}: {error}")
        stand_in.add_note(f"In the TensorFlow process:\n{text}")
        return stand_in
    return error


if __name__ == "__main__":
    main()
