"""Read source models: Keras files, SavedModel folders, Keras objects in memory.

This needs TensorFlow and so runs in the worker process; only a model in memory (from Python) is
handled in the caller's own process. `.tflite` files are read by `tflite`, without TensorFlow.
"""

from edgekit.sources.load import adopt, check_source, load, refuse_without_layers
from edgekit.sources.loaded import Loaded

__all__ = ["Loaded", "adopt", "check_source", "load", "refuse_without_layers"]
