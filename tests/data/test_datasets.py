"""The loader: real digits, the other sets' files as their makers write them, and what is wrong with files."""

import gzip
import http.client
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from small_sets import TEST, TRAIN, amat_files, idx_files, publish

from ppl_vae import InputError, load
from ppl_vae.data.images import DATASETS


@pytest.fixture
def raw(monkeypatch, tmp_path):
    """A folder with small files in MNIST's layout, which count as the published ones."""
    contents = idx_files()
    publish(monkeypatch, "MNIST", contents)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


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
def test_mnist_from_its_files(raw, tmp_path, monkeypatch, given):
    if given == "environment":
        monkeypatch.setenv("PPL_VAE_DATA", str(tmp_path))
    mnist = load("mnist", tmp_path if given == "argument" else None)
    assert (mnist.train.shape, mnist.test.shape) == ((TRAIN, 784), (TEST, 784))
    assert mnist.train[51, :3].tolist() == pytest.approx([51 / 255, 1, 0])
    assert mnist.train_labels.tolist() == [number % 10 for number in range(TRAIN)]
    assert mnist.test_labels.tolist() == list(range(TEST))


@pytest.mark.skipif("PPL_VAE_DATA" not in os.environ, reason="$PPL_VAE_DATA names no folder of the published files")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "static-mnist"])
def test_the_published_files_are_those_that_the_checksums_know(name):
    """Torchvision reads the idx files, numpy the text."""
    root = Path(os.environ["PPL_VAE_DATA"])
    images = load(name, root)
    if name == "static-mnist":
        path = next(root.glob("**/binarized_mnist_test.amat*"))
        assert np.array_equal(images.test.numpy(), np.loadtxt(path, np.float32))
        assert images.train.shape == (50000, 784)
        return
    kind = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
    for pixels, labels, part, count in (
        (images.train, images.train_labels, "train", 60000),
        (images.test, images.test_labels, "t10k", 10000),
    ):
        files = (next((root / kind / "raw").glob(f"{part}-{what}*.gz")) for what in ("images", "labels"))
        expected, expected_labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
        assert np.array_equal(pixels.numpy(), expected[16:].reshape(count, 784).astype(np.float32) / 255)
        assert np.array_equal(labels.numpy(), expected_labels[8:])


DIFFERENT = {
    "truncated": (lambda whole: whole[:-1], r"\(it holds 7855 bytes, expected 7856\)"),
    "longer": (lambda whole: whole + b"0", "has 7857 bytes, expected 7856 at most"),
    "another pixel": (lambda whole: whole[:-1] + b"1", r"is not the published file \(its SHA-256 is another one\)"),
}


@pytest.mark.parametrize("how", DIFFERENT)
def test_another_file_than_the_published_is_named(raw, tmp_path, how):
    change, message = DIFFERENT[how]
    path = raw / "t10k-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(
        InputError, match=f"t10k-images-idx3-ubyte .*{message}.*: delete it, and it is downloaded; images"
    ):
        load("mnist", tmp_path)


def test_a_failed_download_leaves_nothing(tmp_path, no_network):
    with pytest.raises(InputError, match=r"FashionMNIST is not in .* \(RuntimeError: Error downloading") as caught:
        load("fashion-mnist", tmp_path)
    assert "--data-root or PPL_VAE_DATA" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def users_folder(raw):
    """MNIST without its test images, and a file of the user's own beside it."""
    (raw / "t10k-images-idx3-ubyte").unlink()
    (raw.parent / "notes.txt").write_text("kept")
    return raw


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetched(url, download_root, **_):
    for name, content in idx_files().items():
        (Path(download_root) / name).write_bytes(content)


def fetched_damaged(url, download_root, **_):
    fetched(url, download_root)
    (Path(download_root) / "t10k-images-idx3-ubyte").write_bytes(b"<html>")


def fetched_nothing(url, download_root, **_):
    raise RuntimeError("File not found or corrupted.")


def interrupted(url, download_root, **_):
    raise http.client.IncompleteRead(b"")


def no_space(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("fetch", "move"),
    [(fetched_nothing, os.replace), (fetched_damaged, os.replace), (interrupted, os.replace), (fetched, no_space)],
)
def test_a_failed_download_leaves_the_users_folder_as_it_was(users_folder, monkeypatch, fetch, move):
    before = contents(users_folder.parent)
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fetch)
    monkeypatch.setattr("os.replace", move)
    with pytest.raises(
        InputError, match=r"MNIST is not in .*t10k-images-idx3-ubyte missing.*could not be downloaded"
    ) as at:
        load("mnist", users_folder.parents[1])
    assert "\n" not in str(at.value)
    assert contents(users_folder.parent) == before


def test_a_download_adds_only_what_is_missing(users_folder, monkeypatch):
    before = contents(users_folder.parent)
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fetched)
    assert load("mnist", users_folder.parents[1]).test.shape == (TEST, 784)
    after = contents(users_folder.parent)
    assert {path: after.pop(path) for path in before} == before
    assert [path.name for path in after] == ["t10k-images-idx3-ubyte"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
def test_a_download_replaces_nothing_that_has_the_name_of_a_file(users_folder, monkeypatch, kind):
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fetched)
    path = users_folder / "t10k-images-idx3-ubyte"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "dangling link": lambda: path.symlink_to("gone")}[kind]()
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte (is a folder|is a pipe|can't be read)"):
        load("mnist", users_folder.parents[1])
    assert not path.is_file()
    assert os.path.lexists(path)


def test_packed_files_are_read_where_they_lie(raw, tmp_path, no_network):
    whole = load("mnist", tmp_path)
    for path in list(raw.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    before = contents(raw)
    packed = load("mnist", tmp_path)
    assert torch.equal(packed.test, whole.test)
    assert torch.equal(packed.train_labels, whole.train_labels)
    assert contents(raw) == before


def test_a_failed_download_makes_no_root(tmp_path, no_network):
    with pytest.raises(InputError, match="could not be downloaded"):
        load("mnist", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_static_mnist_from_text(tmp_path, monkeypatch):
    contents = amat_files()
    publish(monkeypatch, "binarized-mnist", contents)
    with pytest.raises(
        InputError, match=r"no binarized_mnist_train.amat \(or .*gz\) in .* --data-root or PPL_VAE_DATA"
    ):
        load("static-mnist", tmp_path)
    train, test = (tmp_path / name for name in contents)
    train.with_name(train.name + ".gz").write_bytes(gzip.compress(contents[train.name]))
    test.write_bytes(contents[test.name])
    static = load("static-mnist", tmp_path)
    assert static.binary
    assert static.train.shape == (TRAIN, 784)
    assert static.train[37, :7].tolist() == [1, 0, 1, 0, 0, 1, 1]
    assert static.test[9, :6].tolist() == [1, 0, 0, 1, 0, 0]
    test.write_bytes(contents[test.name].replace(b"1", b"0", 1))
    with pytest.raises(InputError, match=r"test.amat is not the published file .*: fetch Larochelle's file anew"):
        load("static-mnist", tmp_path)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="no data set 'minst': choose from " + ", ".join(DATASETS)):
        load("minst")
