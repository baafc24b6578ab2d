"""Train the recurrent model that the tests of lowering quantize: `python make_recurrent_model.py`.

Handwritten digits, read row by row as sequences of 8 steps; about 0.89 on the last 397.
"""

from __future__ import annotations

from pathlib import Path

import keras
from sklearn.datasets import load_digits

images, labels = load_digits(return_X_y=True)
images = (images / 16).reshape(-1, 8, 8).astype("float32")
keras.utils.set_random_seed(0)
rows = keras.Input((8, 8), name="rows")
x = keras.layers.Bidirectional(
    keras.layers.LSTM(8, return_sequences=True, name="lstm"), name="both_ways"
)(rows)
x = keras.layers.GRU(16, name="gru")(x)
digits = keras.layers.Dense(10, activation="softmax", name="digit")(x)
model = keras.Model(rows, digits, name="digits_recurrent")
model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(images[:1400], labels[:1400], epochs=12, verbose=2)
print(model.evaluate(images[1400:], labels[1400:], verbose=0))
# Without the optimizer's moments the file is a third of the size.
keras.Model(model.input, model.output, name=model.name).save(
    Path(__file__).parent / "lowering" / "digits_recurrent.keras"
)
