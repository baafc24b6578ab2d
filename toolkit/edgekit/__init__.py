"""From a trained Keras model to the smallest and fastest TFLite file that keeps its accuracy."""

__version__ = "0.1.0"
