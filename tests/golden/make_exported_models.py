"""Make the float files of litert-torch and onnx2tf that quantization is tested on.

    python3.11 -m venv torch && torch/bin/pip install litert-torch==0.10.0 onnx onnxscript
    python3.11 -m venv onnx && onnx/bin/pip install onnx2tf==1.29.24
    torch/bin/python tests/golden/make_exported_models.py torch /tmp/exported
    onnx/bin/python tests/golden/make_exported_models.py onnx /tmp/exported

The two converters need other versions of the same packages, hence two environments; PyTorch's build
for CPUs suffices. The first command trains or seeds the models, converts each with litert-torch,
keeps the outputs of PyTorch on 16 samples, and writes ONNX files to the folder; the second converts
those. Files lie in `exported/`: `NAME_torch.tflite` and `NAME_onnx.tflite`, with `NAME.npz`, whose
`x` and `y` are inputs and outputs in PyTorch's layout. The classifier is trained on Fashion-MNIST
($EDGEKIT_DATA), and its accuracy on the test set is printed. All take about five minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "exported"
SAMPLES = 16
FREE_BATCH = ("dense", "residual")
"""Models whose ONNX files leave the number of samples open, as many exports do."""


def models() -> Iterator[tuple[str, Any, Any]]:
    """Yield names, trained or seeded modules in evaluation mode, and inputs."""
    import torch
    from torch import nn

    class Depthwise(nn.Sequential):
        def __init__(self, inputs: int, outputs: int, stride: int, act: type[nn.Module]) -> None:
            super().__init__(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                act(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                act(),
            )

    class Residual(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)
            self.skip = nn.Sequential()
            if (inputs, stride) != (outputs, 1):
                convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.skip = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            inner = torch.relu(self.norm1(self.first(x)))
            return torch.relu(self.norm2(self.second(inner)) + self.skip(x))

    class Attention(nn.Module):
        """A block of a transformer, on vectors or on the numbers of words."""

        def __init__(self, words: int | None) -> None:
            super().__init__()
            self.words = nn.Embedding(words, 24) if words else nn.Linear(10, 24)
            self.places = nn.Parameter(0.3 * torch.randn(12, 24))
            self.norm1 = nn.LayerNorm(24)
            self.attention = nn.MultiheadAttention(24, 4, batch_first=True)
            self.norm2 = nn.LayerNorm(24)
            self.inner = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
            self.norm3 = nn.LayerNorm(24)
            self.head = nn.Linear(24, 5)

        def forward(self, x: Any) -> Any:
            x = self.words(x) + self.places
            inner = self.norm1(x)
            x = x + self.attention(inner, inner, inner, need_weights=False)[0]
            x = x + self.inner(self.norm2(x))
            return torch.softmax(self.head(self.norm3(x).mean(1)), -1)

    class Recurrent(nn.Module):
        def __init__(self, kind: type[nn.Module]) -> None:
            super().__init__()
            self.recurrent = kind(6, 12, batch_first=True)
            self.head = nn.Linear(12, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.recurrent(x)[0][:, -1])

    torch.manual_seed(0)  # before each, so that one can be changed without the others
    mobile = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        Depthwise(16, 24, 1, nn.ReLU6),
        Depthwise(24, 32, 2, nn.Hardswish),
        Depthwise(32, 48, 2, nn.ReLU6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, 10),
    )
    yield "mobile", *trained(mobile)
    torch.manual_seed(1)
    residual = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        Residual(8, 8, 1),
        Residual(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 6),
    )
    yield "residual", *normalized(residual, torch.randn(256, 3, 16, 16))
    torch.manual_seed(2)
    dense = nn.Sequential(
        nn.Linear(20, 48),
        nn.ReLU(),
        nn.BatchNorm1d(48),
        nn.Linear(48, 32),
        nn.ReLU(),
        nn.BatchNorm1d(32),
        nn.Linear(32, 4),
    )
    yield "dense", *normalized(dense, torch.randn(256, 20))
    torch.manual_seed(3)
    yield "attention", Attention(None).eval(), torch.randn(SAMPLES, 12, 10)
    torch.manual_seed(4)
    yield "words", Attention(40).eval(), torch.randint(0, 40, (SAMPLES, 12))
    for name, kind in (("lstm", nn.LSTM), ("gru", nn.GRU)):
        torch.manual_seed(5)
        yield name, Recurrent(kind).eval(), torch.randn(SAMPLES, 10, 6)


def normalized(model: Any, x: Any) -> tuple[Any, Any]:
    """Give normalizations the statistics of samples, and factors as if they had been trained."""
    import torch
    from torch import nn

    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(layer.weight, 0.3, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.3)
            layer.momentum = None  # statistics of all batches alike
    with torch.no_grad():
        model.train()(x)
    return model.eval(), x[:SAMPLES]


def trained(model: Any) -> tuple[Any, Any]:
    """Train a classifier of Fashion-MNIST for two epochs, and print its accuracy."""
    import torch

    images, labels = fashion("train")
    test_images, test_labels = fashion("t10k")
    epochs, batch = 2, 128
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-3)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for rows in order.split(batch)[: len(images) // batch]:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = (model(test_images).argmax(1) == test_labels).float().mean()
    print(f"accuracy on the test set: {right:.4f}")
    return model, test_images[:SAMPLES]


def fashion(part: str) -> tuple[Any, Any]:
    """Read a part of Fashion-MNIST as images of 0 to 1, `[n, 1, 28, 28]`, and labels."""
    import gzip

    import torch

    folder = Path(os.environ["EDGEKIT_DATA"]) / "fashion_mnist"
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 1, 28, 28).astype(np.float32) / 255
    return torch.from_numpy(pixels), torch.from_numpy(np.frombuffer(labels, np.uint8).astype(int))


def from_torch(folder: Path) -> None:
    """Convert with litert-torch, write ONNX files to a folder, and keep PyTorch's outputs."""
    import litert_torch
    import torch

    FOLDER.mkdir(exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, model, x in models():
        with torch.no_grad():
            y = model(x)
        np.savez_compressed(FOLDER / f"{name}.npz", x=x.numpy(), y=y.numpy())
        free = name in FREE_BATCH
        torch.onnx.export(
            model,
            (x[:2] if free else x[:1],),
            folder / f"{name}.onnx",
            input_names=["input"],
            dynamic_shapes=({0: "batch"},) if free else None,
        )
        litert_torch.convert(model, (x[:1],)).export(str(FOLDER / f"{name}_torch.tflite"))


def from_onnx(folder: Path) -> None:
    """Convert the ONNX files of a folder with onnx2tf, as its command does by default."""
    # For models of pictures it downloads 20, which decide nothing here, unless they are there.
    pictures = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    np.save(folder / "calibration_image_sample_data_20x128x128x3_float32.npy", pictures)
    for path in sorted(folder.glob("*.onnx")):
        made = (folder / path.stem).absolute()
        command = [Path(sys.executable).parent / "onnx2tf", "-i", path.name, "-o", made, "-n"]
        subprocess.run(command, check=True, cwd=folder)
        shutil.copy(made / f"{path.stem}_float32.tflite", FOLDER / f"{path.stem}_onnx.tflite")


if __name__ == "__main__":
    {"torch": from_torch, "onnx": from_onnx}[sys.argv[1]](Path(sys.argv[2]))
