"""Prune while your own `model.fit` trains: no wrapper, no change of the model.

python examples/prune_in_fit.py MODEL.keras DATA PRUNED.keras
"""

import sys

import keras
import numpy as np

from edgekit.data import open_data, split_of
from edgekit.numerics.sparsity import PolynomialDecay
from edgekit.training.pruning import pruning_callback

EPOCHS, BATCH_SIZE, SPARSITY = 3, 32, 0.6


def main() -> None:
    """Fine-tune a classifier while six of ten of its weights become zero."""
    source, data, destination = sys.argv[1:]
    train = split_of(open_data(data), "train")
    batch = train.read(np.arange(train.n))
    (images,) = batch.inputs.values()

    model = keras.models.load_model(source)
    model.compile(optimizer=keras.optimizers.Adam(3e-4), loss="sparse_categorical_crossentropy")
    steps = EPOCHS * -(-train.n // BATCH_SIZE)
    prune = pruning_callback(
        # Most weights go early, while there is time to recover.
        PolynomialDecay(initial=0.0, final=SPARSITY, begin=0, end=steps // 2)
    )
    model.fit(
        images, batch.targets, batch_size=BATCH_SIZE, epochs=EPOCHS, callbacks=[prune], verbose=0
    )

    result = prune.pruning()
    model.save(destination)
    print(f"{result.share:.0%} of the pruned weights are zero:")
    for layer, share in result.layers.items():
        print(f"  {layer:12} {share:.0%}")
    print(f"Wrote {destination}; quantize it to store the zeros in fewer bytes.")


if __name__ == "__main__":
    main()
