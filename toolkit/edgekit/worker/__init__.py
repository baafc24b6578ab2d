"""Access to TensorFlow for a process that does not import it.

`TensorFlowProcess` defines the requests. `Worker` starts a child process, which imports TensorFlow
once and answers them; `InProcess` answers them in the caller's process, for a Keras model in
memory.
"""

from edgekit.worker.client import Worker
from edgekit.worker.inprocess import InProcess
from edgekit.worker.protocol import TensorFlowProcess
from edgekit.worker.session import Session

__all__ = ["InProcess", "Session", "TensorFlowProcess", "Worker"]
