"""Everything that needs TensorFlow, for a process that does not import it.

`TensorFlowProcess` says what can be asked. `Worker` starts one child process that imports
TensorFlow once and answers; `InProcess` answers in the caller's process, for a live Keras model.
"""

from edgekit.worker.client import Worker
from edgekit.worker.inprocess import InProcess
from edgekit.worker.protocol import TensorFlowProcess
from edgekit.worker.session import Session

__all__ = ["InProcess", "Session", "TensorFlowProcess", "Worker"]
