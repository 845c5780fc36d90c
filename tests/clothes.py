"""Images like those of Fashion-MNIST: light grey, textured shapes on black, some nearly black.

Four classes in two shapes. What tells shirts from coats, and boots from bags, are grey values
inside the shape, which a preparation for digits does not keep.
"""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("Bag", "Boot", "Coat", "Shirt")  # sorted, as folders are


def clothes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 28, 28) and labels (count,), both uint8."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    return np.stack([_drawn(label, rng) for label in labels.tolist()]), labels.astype(np.uint8)


def as_folder(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """Write the images as PNG into `folder`, a subfolder for each class; return the folder."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / CLASSES[label] / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def _drawn(label: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:28, :28]
    if label < 2:  # a broad shape, which fills most of the border
        shape = y >= rng.integers(3, 7)
        shape &= (y > rng.integers(10, 14)) | (abs(x - rng.uniform(12, 15)) < rng.uniform(5, 9))
    else:  # a high one, with sleeves
        middle = rng.uniform(12.5, 14.5)
        body = abs(x - middle) < rng.uniform(5, 8)
        sleeves = abs(x - middle) + 0.4 * y < rng.uniform(13, 16)
        shape = (body | sleeves) & (y >= rng.integers(0, 3))
    brightness = rng.uniform(4, 14) if rng.random() < 0.1 else rng.uniform(90, 250)
    across = x if label % 2 else y
    stripes = 1 - rng.uniform(0.2, 0.4) * ((across + rng.integers(6)) // 3 % 2)
    texture = stripes * rng.uniform(0.85, 1, shape.shape)
    return np.where(shape, np.clip(brightness * texture, 1, 255), 0).astype(np.uint8)
