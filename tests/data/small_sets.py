"""Small sets in the layout of the published ones, and how to declare their files the published ones."""

import dataclasses
import hashlib
import struct

import numpy as np

from ppl_vae.data.published import PUBLISHED

TRAIN, TEST = 60, 10


def idx_files() -> dict[str, bytes]:
    """Files of MNIST's format; the first pixel of image i is i % 256, its label i % 10."""
    contents = {}
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        pixels = np.zeros((count, 784), np.uint8)
        pixels[:, 0] = np.arange(count) % 256
        pixels[:, 1] = 255
        labels = bytes(number % 10 for number in range(count))
        contents[f"{part}-images-idx3-ubyte"] = struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes()
        contents[f"{part}-labels-idx1-ubyte"] = struct.pack(">II", 2049, count) + labels
    return contents


def amat_files() -> dict[str, bytes]:
    """Files of Larochelle's format: each image's digits are those of its number in binary, again and again."""
    digits = {
        part: np.arange(count)[:, None] >> np.arange(784) % 6 & 1 for part, count in (("train", TRAIN), ("test", TEST))
    }
    return {
        f"binarized_mnist_{part}.amat": "".join(" ".join(map(str, row)) + "\n" for row in rows.tolist()).encode()
        for part, rows in digits.items()
    }


def publish(monkeypatch, source, contents):
    """Declares the contents the published files of a set."""
    files = tuple(
        dataclasses.replace(file, size=len(contents[file.name]), sha256=hashlib.sha256(contents[file.name]).hexdigest())
        for file in PUBLISHED[source]
    )
    monkeypatch.setitem(PUBLISHED, source, files)
