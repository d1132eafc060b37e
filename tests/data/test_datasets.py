"""The loader: real digits, the other sets' files as their makers write them, and what is wrong with files."""

import gzip
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ppl_vae import InputError, load
from ppl_vae.data.images import DATASETS
from ppl_vae.data.pixels import check_pixels

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


@pytest.fixture
def users_folder(mnist_root, tmp_path):
    """MNIST without its test images, and a file of the user's own beside it."""
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(mnist_root / "MNIST" / "raw", raw)
    (raw / "t10k-images-idx3-ubyte").unlink()
    (raw.parent / "notes.txt").write_text("kept")
    return raw


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fails", ["download", "move"])
def test_a_failed_download_leaves_the_users_folder_as_it_was(users_folder, mnist_root, monkeypatch, fails):
    before = contents(users_folder.parent)

    def fetch(url, download_root, **_):
        if fails == "download":
            raise RuntimeError("Error downloading")
        shutil.copytree(mnist_root / "MNIST" / "raw", download_root, dirs_exist_ok=True)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fetch)
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte missing.*(Error downloading|No space left)"):
        load("mnist", users_folder.parents[1])
    assert contents(users_folder.parent) == before


def test_a_download_adds_only_what_is_missing(users_folder, monkeypatch):
    before = contents(users_folder.parent)

    def fetch(url, download_root, **_):
        for name, count in FILES.items():
            whole = struct.pack(">IIII", 2051, count, 28, 28) + bytes(count * 784)
            (Path(download_root) / name).write_bytes(whole)
        for name, count in LABELS.items():
            (Path(download_root) / name).write_bytes(struct.pack(">II", 2049, count) + bytes(count))

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fetch)
    mnist = load("mnist", users_folder.parents[1])
    assert mnist.train.max() == 1  # the user's
    assert mnist.test.max() == 0  # the download's
    after = contents(users_folder.parent)
    assert {path: after.pop(path) for path in before} == before
    assert [path.name for path in after] == ["t10k-images-idx3-ubyte"]


def test_packed_files_are_read_without_a_download(users_folder, mnist_root, no_network):
    whole = (mnist_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()
    packed = users_folder / "t10k-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.compress(whole, 1))
    assert load("mnist", users_folder.parents[1]).test.max() == 1
    assert packed.exists()
    (users_folder / "t10k-images-idx3-ubyte").unlink()
    packed.write_bytes(packed.read_bytes()[:1000])
    with pytest.raises(InputError, match="could not be unpacked or downloaded"):
        load("mnist", users_folder.parents[1])


def test_a_failed_download_makes_no_root(tmp_path, no_network):
    with pytest.raises(InputError, match="could not be unpacked or downloaded"):
        load("mnist", tmp_path / "data")
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


GREY = np.arange(10 * 4 * 5).reshape(10, 4, 5) + 50
BITS = GREY % 3 == 0


@pytest.mark.parametrize(
    ("array", "largest", "levels"),
    [
        *((BITS.astype(kind), 1.0, "bits") for kind in (bool, np.uint8, np.int64, np.float16, np.float64)),
        *((GREY.astype(kind), 249 / 255, "grey levels from 0.196") for kind in (np.uint8, np.int16, np.uint64)),
        (GREY / 500, 249 / 500, "grey levels from 0.1"),
        (255 * BITS.astype(np.uint8), 1.0, "bits"),
        (np.zeros((10, 4, 5), np.uint8), 0.0, "bits"),
    ],
)
def test_ones_own_images_are_bits_or_grey_levels_as_their_numbers_say(tmp_path, array, largest, levels):
    path = tmp_path / "own.npy"
    np.save(path, array)
    images = load(str(path))
    pixels = torch.cat([images.train, images.test])
    assert (len(images.train), len(images.test), images.shape) == (8, 2, (4, 5))
    assert pixels.dtype == torch.float32
    assert pixels.max().item() == pytest.approx(largest, rel=1e-3)
    assert images.binary == (levels == "bits")
    assert images.described.startswith(f"{path}: 8 + 2 images of 4 x 5, {levels}")


OWN = {
    "nan": (np.full((10, 2, 2), np.nan), "NaN in 10 of 10 images, first in image 0: drop or fill"),
    "levels": (
        np.full((10, 2, 2), 255.0),
        "real numbers from 255 to 255, expected 0 to 1: divide them by 255 if they are grey levels from 0 to 255",
    ),
    "slightly above": (np.linspace(0, 1.5, 40).reshape(10, 2, 2), "real numbers from 0 to 1.5, expected 0 to 1"),
    "range": (np.linspace(0, 3e4, 40).reshape(10, 2, 2), "numbers from 0 to 30000, expected 0 to 1: rescale them"),
    "negative": (np.full((10, 2, 2), -0.5), "real numbers from -0.5 to -0.5, expected 0 to 1"),
    "infinite": (np.full((10, 2, 2), np.inf), "numbers from inf to inf, expected 0 to 1"),
    "spins": (
        np.where(np.arange(40) % 2, 1, -1).reshape(10, 2, 2),
        "whole numbers from -1 to 1, expected 0 and 1 (bits) or 0 to 255 (grey levels): write others as reals from 0 "
        "to 1, such as (array - -1) / 2",
    ),
    "two bytes": (np.full((10, 2, 2), 65535, np.uint16), "whole numbers from 65535 to 65535, expected 0 and 1"),
    "empty": (np.zeros((0, 2, 2)), "holds 0 images: at least 2 are needed"),
    "no pixels": (np.zeros((10, 0, 2)), "the set is empty"),
    "shape": (np.zeros((10, 4)), "holds an array of shape (10, 4) and type float64, expected real numbers of shape"),
    "text": (np.full((10, 2, 2), "a"), "expected real numbers of shape"),
    "complex": (np.full((10, 2, 2), 0.5 + 0.5j), "type complex128, expected real numbers of shape"),
    "times": (np.full((10, 2, 2), 1, "m8[s]"), "type timedelta64[s], expected real numbers of shape"),
}


@pytest.mark.parametrize("wrong", OWN)
def test_what_is_wrong_with_ones_own_images(tmp_path, wrong):
    array, message = OWN[wrong]
    np.save(tmp_path / "own.npy", array)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load(str(tmp_path / "own.npy"))
    assert "\n" not in str(caught.value)


def test_an_archive_of_arrays_is_no_array(tmp_path):
    np.savez(tmp_path / "own.npz", a=GREY)
    (tmp_path / "own.npz").rename(tmp_path / "own.npy")
    with pytest.raises(InputError, match="holds several arrays, expected one"):
        load(str(tmp_path / "own.npy"))


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
