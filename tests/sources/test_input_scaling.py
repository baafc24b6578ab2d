"""What a model does first to its input, read from its graph, whatever wrote it there."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit import tflite
from edgekit.data.pixels import BYTES, UNIT, raw_scaling
from edgekit.worker import InProcess

pytestmark = pytest.mark.tensorflow
SIDE = 32


def _sequential(*layers):
    import keras

    return keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), *layers, keras.layers.Conv2D(2, 3, name="conv")]
    )


def _functional(scale):
    import keras

    pixels = keras.Input((SIDE, SIDE, 3))
    return keras.Model(pixels, keras.layers.Conv2D(2, 3)(scale(pixels)))


def _augmentation():
    import keras
    from keras import layers

    kinds = (layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomContrast(0.1))
    return keras.Sequential([*kinds, layers.GaussianNoise(0.1)], name="augmentation")


def _normalization(values):
    import keras

    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).random((20, SIDE, SIDE, 3)) * values)
    return layer


def _subclass():
    import keras

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(2, 3)

        def call(self, pixels):
            return self.conv(pixels / 127.5 - 1.0)

    own = Own()
    own(np.zeros((1, SIDE, SIDE, 3), np.float32))
    return own


def _applications(name, **options):
    import keras

    return getattr(keras.applications, name)(weights=None, input_shape=(SIDE, SIDE, 3), **options)


def _preprocess_input(name):
    import keras

    return _functional(getattr(keras.applications, name).preprocess_input)


def _layers(name, *args, **options):
    import keras

    return getattr(keras.layers, name)(*args, **options)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: _sequential(_layers("Rescaling", 1 / 255)), BYTES),
        (lambda: _sequential(_augmentation(), _layers("Rescaling", 1 / 127.5, -1)), BYTES),
        (lambda: _sequential(_layers("Rescaling", 2, -1)), UNIT),
        (lambda: _sequential(_normalization(1)), UNIT),
        (lambda: _sequential(_layers("Resizing", 16, 16), _normalization(255)), BYTES),
        (lambda: _sequential(_layers("CenterCrop", 8, 8), _layers("Rescaling", 1 / 255)), BYTES),
        (lambda: _functional(lambda x: x / 255.0), BYTES),
        (lambda: _functional(lambda x: 1 / 255 * x - 0.5), BYTES),
        (lambda: _functional(lambda x: (x - 0.5) * 4), UNIT),
        (lambda: _preprocess_input("mobilenet_v2"), BYTES),
        (lambda: _preprocess_input("vgg16"), BYTES),
        (lambda: _preprocess_input("densenet"), BYTES),
        (lambda: _applications("MobileNetV3Small"), BYTES),
        (lambda: _applications("MobileNetV3Small", include_preprocessing=False), None),
        (_subclass, BYTES),
        (_sequential, None),
        (lambda: _sequential(_layers("BatchNormalization")), None),
    ],
    ids=[
        "rescaling", "augmented", "units", "normalized-units", "resized", "cropped", "operator",
        "centred", "centred-units", "mobilenet", "vgg", "densenet", "application",
        "application-bare", "subclass", "none", "untrained-norm",
    ],
)  # fmt: skip
def test_keras_models(build, expected):
    with InProcess() as tensorflow:
        tensorflow.load(build())
        assert raw_scaling(tensorflow.input_scaling()) is expected


def test_files(tmp_path):
    # Given models with their scaling inside, saved in every way
    import tf_keras

    _sequential(_normalization(255)).export(tmp_path / "saved", verbose=False)
    old = tf_keras.Sequential(
        [
            tf_keras.Input((SIDE, SIDE, 3)),
            tf_keras.layers.Rescaling(1 / 255),
            tf_keras.layers.Conv2D(2, 3),
        ]
    )
    with pytest.warns(UserWarning, match="HDF5"):
        old.save(tmp_path / "old.h5")
    old.save(tmp_path / "old", save_format="tf")
    # Then it is read from each of them.
    with InProcess() as tensorflow:
        for name in ("saved", "old.h5", "old"):
            tensorflow.load(tmp_path / name)
            assert raw_scaling(tensorflow.input_scaling()) is BYTES, name


def test_several_inputs_say_nothing():
    import keras

    pair = [keras.Input((SIDE, SIDE, 3)), keras.Input((SIDE, SIDE, 3))]
    with InProcess() as tensorflow:
        tensorflow.load(keras.Model(pair, keras.layers.Add()([pair[0] / 255.0, pair[1]])))
        assert tensorflow.input_scaling() is None


def test_a_tflite_file_tells_what_its_converter_left_in_it(tmp_path):
    # Given a graph whose scaling stands before an operator that takes none into its weights
    import keras

    pixels = keras.Input((SIDE, SIDE, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(pixels)
    pooled = keras.layers.MaxPooling2D()(scaled)
    with InProcess() as tensorflow:
        tensorflow.load(keras.Model(pixels, keras.layers.Conv2D(2, 3)(pooled)))
        path = tensorflow.lower(tmp_path / "float32.tflite").path
    # Then the file tells as the model does.
    assert raw_scaling(tflite.input_scaling(tflite.read(path))) is BYTES
