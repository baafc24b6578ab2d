"""Small data sets of pictures with boxes, of the same content in every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("ant", "bee")
# Picture -> width, height, and boxes (class, x1, y1, x2, y2) in pixels from 0.
PICTURES = {
    "train": {
        "a": (40, 20, [("bee", 4, 5, 20, 15), ("ant", 0, 0, 40, 20)]),
        "b": (30, 30, [("bee", 3, 6, 9, 15)]),
        "c": (24, 16, []),
    },
    "test": {"d": (20, 40, [("ant", 10, 10, 15, 30)])},
}
# x1, y1, x2, y2, class, ignored.
TARGETS = {
    "train": [
        [[0.1, 0.25, 0.5, 0.75, 1, 0], [0, 0, 1, 1, 0, 0]],
        [[0.1, 0.2, 0.3, 0.5, 1, 0], [0, 0, 0, 0, -1, 0]],
        [[0, 0, 0, 0, -1, 0], [0, 0, 0, 0, -1, 0]],
    ],
    "test": [[[0.5, 0.25, 0.75, 0.75, 0, 0], [0, 0, 0, 0, -1, 0]]],
}


def picture(path: Path, width: int, height: int, orientation: int | None = None) -> None:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dice = np.random.default_rng(len(path.name) + width)
    pixels = dice.integers(0, 256, (height, width, 3), np.uint8)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def voc(root: Path) -> Path:
    """Write them as Pascal VOC, whose pixels count from 1."""
    for split, pictures in PICTURES.items():
        for name, (width, height, boxes) in pictures.items():
            picture(root / "JPEGImages" / f"{name}.jpg", width, height)
            write_xml(root / "Annotations" / f"{name}.xml", width, height, boxes)
        listed = root / "ImageSets" / "Main" / f"{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(pictures) + "\n")
    return root


def write_xml(path: Path, width: int, height: int, boxes, *, first: int = 1, difficult: int = 0):
    """Write an annotation of Pascal VOC; `first` is the number of the first pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmin>{x1 + first}</xmin><ymin>{y1 + first}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for name, x1, y1, x2, y2 in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    path.write_text(f"<annotation>{size}{objects}</annotation>")


def coco_document(pictures) -> dict:
    """What a COCO file says, with numbers of categories that have gaps."""
    images, annotations = [], []
    for number, (name, (width, height, boxes)) in enumerate(pictures.items(), 100):
        images.append({"id": number, "file_name": f"{name}.jpg", "width": width, "height": height})
        annotations += [
            {
                "id": len(annotations),
                "image_id": number,
                "category_id": {"ant": 3, "bee": 7}[kind],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "iscrowd": 0,
            }
            for kind, x1, y1, x2, y2 in boxes
        ]
    categories = [{"id": 7, "name": "bee"}, {"id": 3, "name": "ant"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco(root: Path) -> Path:
    """Write them as COCO does."""
    (root / "annotations").mkdir(parents=True)
    for split, pictures in PICTURES.items():
        for name, (width, height, _) in pictures.items():
            picture(root / f"{split}2017" / f"{name}.jpg", width, height)
        path = root / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(coco_document(pictures)))
    return root


def roboflow(root: Path) -> Path:
    """Write them as Roboflow does, with the project as a category above all others."""
    for split, pictures in PICTURES.items():
        for name, (width, height, _) in pictures.items():
            picture(root / split / f"{name}.jpg", width, height)
        document = coco_document(pictures)
        for category in document["categories"]:
            category["supercategory"] = "insects"
        document["categories"].insert(0, {"id": 0, "name": "insects", "supercategory": "none"})
        (root / split / "_annotations.coco.json").write_text(json.dumps(document))
    return root


def yolo(root: Path) -> Path:
    """Write them as YOLO does: the picture without boxes has no text file."""
    for split, pictures in PICTURES.items():
        (root / "labels" / split).mkdir(parents=True)
        for name, (width, height, boxes) in pictures.items():
            picture(root / "images" / split / f"{name}.jpg", width, height)
            lines = [
                f"{NAMES.index(kind)} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
                f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}"
                for kind, x1, y1, x2, y2 in boxes
            ]
            if lines:
                (root / "labels" / split / f"{name}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("train: images/train\nnames:\n  0: ant\n  1: bee\n")
    return root
