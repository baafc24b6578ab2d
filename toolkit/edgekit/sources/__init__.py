"""Models as the user has them: Keras files, SavedModel folders, live Keras objects.

All of it needs TensorFlow, so it runs in the worker process; only a live model (from Python) is
adopted in the caller's own. `.tflite` files are read elsewhere, without TensorFlow.
"""

from edgekit.sources.load import adopt, check_source, load
from edgekit.sources.loaded import Loaded

__all__ = ["Loaded", "adopt", "check_source", "load"]
