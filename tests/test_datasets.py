"""The loader: real digits, the other sets' files as their makers write them, and what is wrong with files."""

import gzip
import struct

import numpy as np
import pytest
import torch
import torchvision

from ppl_vae import InputError, load
from ppl_vae.datasets import DATASETS, check_pixels

FILES = {"train-images-idx3-ubyte": 60000, "t10k-images-idx3-ubyte": 10000}
LABELS = {"train-labels-idx1-ubyte": 60000, "t10k-labels-idx1-ubyte": 10000}


@pytest.fixture(scope="module")
def mnist_root(tmp_path_factory):
    """Files of MNIST's format and size; the first pixel of image i is i % 256."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in FILES.items():
        pixels = np.zeros((count, 784), np.uint8)
        pixels[:, 0] = np.arange(count) % 256
        (raw / name).write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
    for name, count in LABELS.items():
        (raw / name).write_bytes(struct.pack(">II", 2049, count) + bytes(count))
    return root


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried three mirrors")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", refuse)


def test_digits_are_real_and_split_alike_every_time():
    digits = load("digits")
    assert digits.train.shape == (1437, 64)
    assert digits.test.shape == (360, 64)
    assert digits.shape == (8, 8)
    assert (digits.train.min(), digits.train.max()) == (0, 1)
    assert not digits.binary
    assert digits.test_labels.bincount().min() > 30
    assert torch.equal(digits.test, load("digits").test)


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_mnist_from_its_files(mnist_root, monkeypatch, given):
    if given == "environment":
        monkeypatch.setenv("PPL_VAE_DATA", str(mnist_root))
    mnist = load("mnist", mnist_root if given == "argument" else None)
    assert mnist.train.shape == (60000, 784)
    assert mnist.test.shape == (10000, 784)
    assert mnist.train[51, 0].item() == pytest.approx(51 / 255)
    assert mnist.train.max() == 1


def test_a_truncated_file_is_named(mnist_root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (mnist_root / "MNIST" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes()[:1_000_000])
    with pytest.raises(InputError, match=r"mnist: a file in .*raw is damaged \(.*\): delete the folder"):
        load("mnist", tmp_path)


def test_a_failed_download_leaves_nothing(tmp_path, no_network):
    with pytest.raises(InputError, match=r"fashion-mnist is not in .* \(RuntimeError: Error downloading") as caught:
        load("fashion-mnist", tmp_path)
    assert "--data-root or PPL_VAE_DATA" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def amat(root, part, rows, cell="0", ending=""):
    text = (" ".join([cell] * 784) + "\n").encode() * rows
    path = root / f"binarized_mnist_{part}.amat{ending}"
    path.write_bytes(gzip.compress(text, 1) if ending else text)
    return path


def test_static_mnist_from_text(tmp_path):
    amat(tmp_path, "train", 50000, "1", ".gz")
    amat(tmp_path, "valid", 10000)
    amat(tmp_path, "test", 10000)
    static = load("static-mnist", tmp_path)
    assert static.binary
    assert static.train.shape == (50000, 784)
    assert static.train.mean() == 1
    assert static.test.sum() == 0


def test_static_mnist_mistakes(tmp_path):
    with pytest.raises(
        InputError, match=r"no binarized_mnist_train.amat \(or .*gz\) in .* --data-root or PPL_VAE_DATA"
    ):
        load("static-mnist", tmp_path)
    amat(tmp_path, "train", 49999)
    with pytest.raises(
        InputError, match=r"holds 39199216 digits, expected 50000 rows of 784 \(39200000\): it is trunc"
    ):
        load("static-mnist", tmp_path)
    amat(tmp_path, "train", 50000, "2")
    with pytest.raises(InputError, match="other characters than 0, 1"):
        load("static-mnist", tmp_path)
    (tmp_path / "binarized_mnist_train.amat").unlink()
    path = amat(tmp_path, "train", 50000, "1", ".gz")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"is damaged .*: fetch it anew"):
        load("static-mnist", tmp_path)


def test_ones_own_images(tmp_path):
    path = tmp_path / "own.npy"
    np.save(path, np.full((10, 4, 5), 51, np.uint8))
    images = load(str(path))
    assert images.train.shape == (8, 20)
    assert images.test.shape == (2, 20)
    assert images.shape == (4, 5)
    assert images.train.unique().item() == pytest.approx(0.2)


OWN = {
    "nan": (np.full((10, 2, 2), np.nan), "NaN in 8 of 8 images, first in image 0: drop or fill"),
    "range": (np.full((10, 2, 2), 255.0), "values from 255 to 255, expected 0 to 1: rescale"),
    "negative": (np.full((10, 2, 2), -0.5), "values from -0.5 to -0.5, expected 0 to 1"),
    "empty": (np.zeros((0, 2, 2)), "holds 0 images: at least 2 are needed"),
    "no pixels": (np.zeros((10, 0, 2)), "the set is empty"),
    "shape": (np.zeros((10, 4)), r"holds an array of shape \(10, 4\) and type float64, expected numbers of shape"),
    "text": (np.full((10, 2, 2), "a"), "expected numbers of shape"),
}


@pytest.mark.parametrize("wrong", OWN)
def test_what_is_wrong_with_ones_own_images(tmp_path, wrong):
    array, message = OWN[wrong]
    np.save(tmp_path / "own.npy", array)
    with pytest.raises(InputError, match=message) as caught:
        load(str(tmp_path / "own.npy"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"not an array"])
def test_a_file_that_is_no_array(tmp_path, content):
    path = tmp_path / "own.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"can't be read as a .npy file \(.*\): write it with numpy.save"):
        load(str(path))


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="no data set 'minst': choose from " + ", ".join(DATASETS)):
        load("minst")


def test_empty_pixels():
    with pytest.raises(InputError, match="these: the set is empty"):
        check_pixels(torch.zeros(0, 4), "these")
