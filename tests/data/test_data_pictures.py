"""Pictures of every kind: the host, the runner and Keras read the same pixels."""

from __future__ import annotations

import struct
import types
import zlib
from pathlib import Path

import keras_pictures
import numpy as np
import pytest
from PIL import Image, ImageOps

import edgekit_runner
from edgekit.data import bind, open_data
from edgekit.data.preprocessing import check_preprocessing
from edgekit.records import TensorSpec
from edgekit.worker import Worker
from edgekit_runner import PictureError, decode_picture, open_picture

HEIGHT, WIDTH = 24, 20
LOSSLESS = (
    "rgb.png", "rgb.bmp", "rgb.gif", "animated.gif", "palette.png", "transparent.png", "one.png",
    "grey.png", "grey_alpha.png", "rgb_alpha.png", "grey16.png", "rgb16.png", "rgb_alpha16.png",
    "grey_alpha16.png", "dark16.png", "turned.png",
)  # fmt: skip
JPEGS = ("rgb.jpg", "grey.jpg", "half_colour.jpg", "progressive.jpg", "cmyk.jpg", "ycck.jpg")
# Keras refuses one channel of a GIF, BMP or CMYK JPEG.
GREY = (*[n for n in LOSSLESS if n.endswith("png")], *[n for n in JPEGS if n[0] not in "cy"])
# TensorFlow computes the cosine transform of a JPEG fast, and Pillow accurately: this far apart,
# more where black is multiplied in.
JPEG_CODES, CMYK_CODES = 5, 20


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, of which Pillow writes only those with one."""
    height, width, channels = pixels.shape
    colours = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2").reshape(height, -1)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0)
    chunks = (chunk(b"IHDR", head), chunk(b"IDAT", content), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def smooth() -> np.ndarray:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [127 + 110 * np.sin(rows / 5 + columns / 7 + k) for k in range(4)]
    return np.stack(waves, -1).astype(np.uint8)


def write_pictures(folder: Path) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 65536, (HEIGHT, WIDTH, 4)).astype(np.uint16)
    rgb = Image.fromarray((noise[..., :3] >> 8).astype(np.uint8))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray((noise[..., 3] >> 8).astype(np.uint8)))
    frames = [rgb.rotate(90 * k).resize((WIDTH, HEIGHT)).quantize(32) for k in range(3)]
    rgb.save(folder / "rgb.png")
    rgb.save(folder / "rgb.bmp")
    rgb.quantize(64).save(folder / "rgb.gif")
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:], duration=50)
    rgb.quantize(16).save(folder / "palette.png")
    rgb.quantize(16).save(folder / "transparent.png", transparency=3)
    rgb.convert("1").save(folder / "one.png")
    rgb.convert("L").save(folder / "grey.png")
    alpha.convert("LA").save(folder / "grey_alpha.png")
    alpha.save(folder / "rgb_alpha.png")
    (folder / "grey16.png").write_bytes(png16(noise[..., :1]))
    (folder / "dark16.png").write_bytes(png16(noise[..., :1] >> 8))
    (folder / "grey_alpha16.png").write_bytes(png16(noise[..., :2]))
    (folder / "rgb16.png").write_bytes(png16(noise[..., :3]))
    (folder / "rgb_alpha16.png").write_bytes(png16(noise))
    rgb.save(folder / "turned.png", exif=exif(6))
    rgb.save(folder / "rgb.jpg", quality=90)
    rgb.save(folder / "half_colour.jpg", quality=60)
    rgb.save(folder / "progressive.jpg", progressive=True)
    rgb.convert("L").save(folder / "grey.jpg")
    channels = [Image.fromarray(smooth()[..., k]) for k in range(4)]
    Image.merge("CMYK", channels).save(folder / "cmyk.jpg", quality=95)
    (folder / "ycck.jpg").write_bytes(as_ycck((folder / "cmyk.jpg").read_bytes()))


def as_ycck(content: bytes) -> bytes:
    """Declare the channels of a CMYK JPEG to be YCCK, in its Adobe marker."""
    place = content.index(b"Adobe") + 11
    return content[:place] + b"\x02" + content[place + 1 :]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


def spec_of(channels: int, **keys: object) -> dict:
    size = {"height": HEIGHT, "width": WIDTH, "scale": 1.0}
    return check_preprocessing({"kind": "image", "channels": channels, **size, **keys}, "test")


def on_device(path: Path, spec: dict) -> np.ndarray:
    """What the runner feeds to a float model."""
    shape = [1, spec["height"], spec["width"], spec["channels"]]
    details = {"index": 0, "shape": shape, "dtype": np.float32, "quantization": (0.0, 0)}
    model = types.SimpleNamespace(path="m.tflite", inputs=[edgekit_runner.Tensor("x", details)])
    (sample,) = edgekit_runner.Source(model, {"preprocessing": spec}, None).file(str(path))
    return sample.codes[0][0]


def on_host(folder: Path, spec: dict) -> dict[str, np.ndarray]:
    """What edgekit scores, of pictures that are linked into a class folder."""
    root = folder / f"host{len(list(folder.glob('host*')))}"
    (root / "test").mkdir(parents=True)
    (root / "test" / "all").symlink_to(folder)
    dataset = open_data(str(root), preprocessing=spec)
    assert not [note for note in dataset.notes if "left out" in note]
    files = dataset.test.read.store.files
    x = dataset.test.read(np.arange(dataset.test.n)).inputs["x"]
    return {Path(file).name: row for file, row in zip(files, x, strict=True)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (9, 31)])
def test_host_and_runner_read_the_same_pixels(tmp_path, channels, size):
    # Given pictures of every kind, also those that Keras does not read
    write_pictures(tmp_path)
    source = Image.open(tmp_path / "rgb.png")
    for orientation in range(1, 9):
        for ending in ("jpg", "png", "webp", "tif"):
            source.save(tmp_path / f"turned{orientation}.{ending}", exif=exif(orientation))
    Image.fromarray(np.full((5, 4), 51200, np.uint16)).save(tmp_path / "grey16.tif")
    (tmp_path / "grey16.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([1, 2, 200, 3]))
    # When both sides read them, then each value is the same.
    spec = spec_of(channels, height=size[0], width=size[1])
    host = on_host(tmp_path, spec)
    assert len(host) == len(LOSSLESS) + len(JPEGS) + 32 + 2
    for name, pixels in host.items():
        np.testing.assert_array_equal(pixels, on_device(tmp_path / name, spec), err_msg=name)


@pytest.mark.tensorflow
def test_pixels_are_those_of_keras(pictures, tmp_path, repository):
    # Given what Keras reads of pictures in colour, in grey, and resized
    for name in GREY:
        (tmp_path / name).symlink_to(pictures / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository / "tests" / "sources"))
        with Worker() as worker:
            size = (HEIGHT, WIDTH)
            colour = worker.run(
                keras_pictures.read_as_keras, folder=pictures, size=size, colours="rgb"
            )
            grey = worker.run(
                keras_pictures.read_as_keras, folder=tmp_path, size=size, colours="grayscale"
            )
            small = worker.run(
                keras_pictures.read_as_keras, folder=pictures, size=(7, 33), colours="rgb"
            )
            accurate = {
                (name, channels): worker.run(
                    keras_pictures.decode_accurately, path=pictures / name, channels=channels
                )
                for name in JPEGS
                for channels in ((1, 3) if name in GREY else (3,))
            }
    assert set(colour) == {*LOSSLESS, *JPEGS}
    # Then lossless colours are the same, without the orientation that Keras ignores,
    for name in LOSSLESS:
        ours = on_device(pictures / name, spec_of(3, orientation=False))
        np.testing.assert_array_equal(ours, colour[name], err_msg=name)
    # grey is at most one code apart, and a JPEG a few,
    for name in GREY:
        apart = np.abs(on_device(pictures / name, spec_of(1, orientation=False)) - grey[name])
        assert apart.max() <= (JPEG_CODES if name in JPEGS else 1), name
    for name in JPEGS:
        apart = np.abs(on_device(pictures / name, spec_of(3)) - colour[name])
        assert apart.max() <= (CMYK_CODES if name[0] in "cy" else JPEG_CODES), name
    # which is nothing but the speed of the transform,
    for (name, channels), pixels in accurate.items():
        apart = np.abs(on_device(pictures / name, spec_of(channels)) - pixels)
        assert apart.max() <= (1 if name[0] in "cy" else 0), name
    # and resized pixels lose their fraction.
    for name in LOSSLESS:
        spec = spec_of(3, height=7, width=33, orientation=False)
        lost = small[name] - on_device(pictures / name, spec)
        assert lost.min() >= -1e-3, name
        assert lost.max() < 1, name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_pictures_are_turned_upright_unless_that_is_declined(tmp_path, ending, orientation):
    path = tmp_path / f"turned.{ending}"
    pixels = smooth()[..., :3]
    Image.fromarray(pixels).save(
        path, exif=exif(orientation), lossless=True, quality=100, subsampling=0
    )
    stored = Image.fromarray(np.asarray(decode_picture(open_picture(str(path)), {})))
    tagged = stored.copy()
    tagged.getexif()[0x0112] = orientation

    upright = decode_picture(open_picture(str(path)), {"orientation": True})
    as_stored = decode_picture(open_picture(str(path)), {"orientation": False})

    np.testing.assert_allclose(as_stored, pixels, atol=8)
    np.testing.assert_array_equal(upright, ImageOps.exif_transpose(tagged))


def test_a_manifest_from_before_the_key_leaves_pictures_as_stored(tmp_path):
    Image.fromarray(smooth()[..., :3]).save(tmp_path / "a.png", exif=exif(3))
    now = spec_of(3)
    before = {key: value for key, value in now.items() if key != "orientation"}

    stored = on_device(tmp_path / "a.png", before)

    np.testing.assert_array_equal(stored, smooth()[..., :3])
    np.testing.assert_array_equal(on_device(tmp_path / "a.png", now), stored[::-1, ::-1])


def test_the_high_byte_of_16_bits_is_taken(tmp_path):
    values = np.array([[[0], [255], [256], [65535]]], np.uint16)
    (tmp_path / "a.png").write_bytes(png16(values))

    pixels = decode_picture(open_picture(str(tmp_path / "a.png")), {"channels": 1})

    assert pixels.ravel().tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("values", [np.int32([[0, 256]]), np.float32([[0.0, 0.5]])])
def test_pixels_of_an_unknown_range_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")

    with pytest.raises(PictureError, match="save it with 8 or 16 bits"):
        decode_picture(open_picture(str(tmp_path / "a.tif")), {})


@pytest.mark.parametrize("values", [np.int32([[7, 255]]), np.float32([[7.4, 254.6]])])
def test_wide_pixels_from_0_to_255_are_taken_as_they_are(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")

    pixels = decode_picture(open_picture(str(tmp_path / "a.tif")), {})

    assert pixels.ravel().tolist() == [7, 255]


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    Image.new("L", (30, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)

    with pytest.raises(PictureError, match="decompression bomb"):
        open_picture(str(tmp_path / "a.png"))


def test_a_model_of_thermal_pictures_sees_them(tmp_path):
    # Given 16-bit pictures, half of them dark and half of them light
    random = np.random.default_rng(0)
    for name, level in (("dark", 70), ("light", 185)):
        (tmp_path / "test" / name).mkdir(parents=True)
        for k in range(5):
            pixels = (random.normal(level, 5, (16, 16)).clip(0, 255) * 257).astype(np.uint16)
            Image.fromarray(pixels).save(tmp_path / "test" / name / f"{k}.png")
    (tmp_path / "preprocessing.toml").write_text('kind = "image"\nscale = 0.00392156863\n')
    inputs = [TensorSpec(name="x", shape=(1, 16, 16, 1), dtype="float32")]
    outputs = [TensorSpec(name="y", shape=(1, 2), dtype="float32")]

    bound = bind(open_data(str(tmp_path)), inputs, outputs)

    batch = bound.test.read(np.arange(10))
    means = batch.inputs["x"].mean((1, 2, 3))
    np.testing.assert_allclose(means, np.repeat([70 / 255, 185 / 255], 5), atol=0.01)
    np.testing.assert_array_equal(means > 0.5, batch.targets == 1)


@pytest.mark.parametrize("shape", [(1, 6, 5), (1, 6, 5, 1)])
def test_a_model_without_a_channel_axis_is_fed_grey_pictures(shape, tmp_path):
    # Given coloured pictures in class folders, and a model that takes [1, height, width]
    for split in ("train", "test"):
        for k, name in enumerate(("dark", "light")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (5, 6), (200 * k, 100, 50)).save(folder / "a.png")
    spec = {"kind": "image", "scale": 1}
    opened = open_data(tmp_path, preprocessing=spec)
    taken = [TensorSpec(name="x", shape=shape, dtype="float32")]
    # When they are bound to it
    bound = bind(opened, taken, [TensorSpec(name="y", shape=(1, 2), dtype="float32")])
    # Then it gets grey values, and nothing is said of it.
    values = bound.test.read(np.arange(2)).inputs["x"]
    assert values.shape == (2, *shape[1:])
    grey = [
        np.asarray(Image.new("RGB", (1, 1), (r, 100, 50)).convert("L")).item() for r in (0, 200)
    ]
    assert values.reshape(2, -1)[:, 0].tolist() == grey
    assert not any("axis" in note for note in bound.notes)
