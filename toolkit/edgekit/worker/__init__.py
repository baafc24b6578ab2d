"""Everything that needs TensorFlow, for a process that does not want it.

`Worker` starts one child process that imports TensorFlow once and answers requests; `InProcess`
answers the same requests in the caller's process, for a live Keras model.
"""

from edgekit.worker.client import Worker
from edgekit.worker.inprocess import InProcess

__all__ = ["InProcess", "Worker"]
