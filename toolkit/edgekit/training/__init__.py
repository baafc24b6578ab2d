"""Training: a zoo of architectures, and one function that trains them.

TensorFlow is imported inside `build` and `train` only.
"""

from edgekit.training.augment import Augmentation
from edgekit.training.config import TrainingConfig, load_config
from edgekit.training.fit import TrainingResult, train
from edgekit.training.zoo import NAMES, Architecture, build, describe, find

__all__ = [
    "NAMES",
    "Architecture",
    "Augmentation",
    "TrainingConfig",
    "TrainingResult",
    "build",
    "describe",
    "find",
    "load_config",
    "train",
]
