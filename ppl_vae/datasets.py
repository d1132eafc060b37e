"""Real images behind one function: :func:`load`."""

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets import MNIST, FashionMNIST

from ppl_vae.errors import InputError

DATA_ROOT = "PPL_VAE_DATA"


@dataclass(frozen=True)
class Images:
    """Training and test images, flattened.

    Attributes:
        name: what :func:`load` was asked for.
        train: shape (images, pixels), float32 in [0, 1].
        test: likewise.
        shape: height and width.
        train_labels: shape (images,), or None where the set has none.
        test_labels: likewise.
    """

    name: str
    train: Tensor
    test: Tensor
    shape: tuple[int, int]
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None

    @property
    def binary(self) -> bool:
        """Whether every pixel is 0 or 1, so that there is nothing to binarize."""
        return all(bool(((part == 0) | (part == 1)).all()) for part in (self.train, self.test))


def load(name: str, root: str | os.PathLike[str] | None = None) -> Images:
    """Loads a set of images by its name in :data:`DATASETS`, or from an .npy file of one's own.

    Args:
        name: "digits", "mnist", "fashion-mnist", "static-mnist", or the path of a .npy file that holds an array of
            shape (images, height, width), in [0, 1] or of type uint8 (a fifth of it becomes the test images).
        root: the folder that the files are in; ``$PPL_VAE_DATA`` or ``data`` where None. MNIST and Fashion-MNIST are
            downloaded into it where they are missing.

    Raises:
        InputError: for an unknown name, a missing or damaged file, values outside [0, 1], NaN or an empty set.
    """
    if name not in DATASETS and not name.endswith(".npy"):
        raise InputError(
            f"there is no data set {name!r}: choose from {', '.join(DATASETS)}, or give the path of a .npy file, or "
            "that of a .csv table"
        )
    folder = Path(root if root is not None else os.environ.get(DATA_ROOT, "data"))
    images = DATASETS[name](folder) if name in DATASETS else _own(Path(name))
    for part, pixels in (("training", images.train), ("test", images.test)):
        check_pixels(pixels, f"{name}, {part} images")
    return images


def check_pixels(pixels: Tensor, what: str) -> None:
    """Raises InputError unless the pixels, shape (images, pixels), are finite and in [0, 1], and there are some."""
    if pixels.numel() == 0:
        raise InputError(f"{what}: the set is empty, at least one image is needed")
    if (bad := pixels.isnan().any(1)).any():
        raise InputError(
            f"{what}: NaN in {int(bad.sum())} of {len(pixels)} images, first in image {int(bad.nonzero()[0])}: "
            "drop or fill these"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise InputError(f"{what}: values from {low:g} to {high:g}, expected 0 to 1: rescale them")


def _digits(root: Path) -> Images:
    """1437 + 360 handwritten digits of 8x8 pixels, real, embedded in scikit-learn."""
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, labels, test_size=0.2, random_state=0, stratify=labels)
    train, test, train_labels, test_labels = (torch.from_numpy(part) for part in parts)
    return Images("digits", train.float(), test.float(), (8, 8), train_labels, test_labels)


def _torchvision(name: str, source: type[MNIST], line: str) -> Callable[[Path], Images]:
    def read(root: Path) -> Images:
        raw = root / source.__name__ / "raw"
        if not _all_there(source, root):
            _download(name, source, root)
        try:
            train, test = (source(str(root), train=is_train) for is_train in (True, False))
        except (AssertionError, ValueError, RuntimeError, TypeError, EOFError, OSError) as error:
            raise InputError(
                f"{name}: a file in {raw} is damaged ({_one_line(error)}): delete the folder, and it comes anew"
            ) from None
        for part, count in ((train, 60000), (test, 10000)):
            if part.data.shape != (count, 28, 28) or len(part.targets) != count:
                raise InputError(
                    f"{name}: a file in {raw} holds {len(part.data)} images of {tuple(part.data.shape[1:])} and "
                    f"{len(part.targets)} labels, expected {count} of (28, 28): delete the folder, it comes anew"
                )
        pixels, held_out = (part.data.flatten(1).float() / 255 for part in (train, test))
        return Images(name, pixels, held_out, (28, 28), train.targets, test.targets)

    read.__doc__ = line
    return read


def _all_there(source: type[MNIST], root: Path) -> bool:
    files = (Path(resource).name.removesuffix(".gz") for resource, _ in source.resources)
    return all((root / source.__name__ / "raw" / file).is_file() for file in files)


def _download(name: str, source: type[MNIST], root: Path) -> None:
    """Torchvision's own download and checksum, into a folder beside and moved in place when it is whole."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory(dir=root, prefix=".download-") as partial:
            source(partial, download=True)
            shutil.rmtree(root / source.__name__, ignore_errors=True)
            os.replace(Path(partial) / source.__name__, root / source.__name__)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{name} is not in {root} and could not be downloaded ({_one_line(error)}): put its four idx files into "
            f"{root / source.__name__ / 'raw'}, or name the folder that holds {source.__name__}/ by --data-root or "
            f"{DATA_ROOT}"
        ) from None


def _static_mnist(root: Path) -> Images:
    """50000 + 10000 MNIST digits, binarized once (Larochelle & Murray 2011)."""
    train, _, test = (_amat(root, part, count) for part, count in (("train", 50000), ("valid", 10000), ("test", 10000)))
    return Images("static-mnist", train, test, (28, 28))


def _amat(root: Path, part: str, count: int) -> Tensor:
    """One of Larochelle's text files, 784 digits 0 or 1 a row."""
    file = f"binarized_mnist_{part}.amat"
    places = [folder / (file + ending) for folder in (root, root / "binarized-mnist") for ending in ("", ".gz")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise InputError(
            f"static-mnist: there is no {file} (or {file}.gz) in {root}: put Larochelle's three files there, or name "
            f"their folder by --data-root or {DATA_ROOT}"
        )
    try:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"static-mnist: {path} is damaged ({_one_line(error)}): fetch it anew") from None
    values = np.frombuffer(text.translate(None, b" \r\n\t"), np.uint8)
    if values.size and not np.isin(values, (ord("0"), ord("1"))).all():
        raise InputError(f"static-mnist: {path} holds other characters than 0, 1 and white space: fetch it anew")
    if values.size != count * 784:
        raise InputError(
            f"static-mnist: {path} holds {values.size} digits, expected {count} rows of 784 ({count * 784}): it is "
            "truncated, fetch it anew"
        )
    return torch.from_numpy(values.reshape(count, 784) - ord("0")).float()


def _own(path: Path) -> Images:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} can't be read as a .npy file ({_one_line(error)}): write it with numpy.save"
        ) from None
    if array.ndim != 3 or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise InputError(
            f"{path} holds an array of shape {array.shape} and type {array.dtype}, expected numbers of shape (images, "
            "height, width): reshape it, (images, 1, width) if a row is no picture"
        )
    if len(array) < 2:
        raise InputError(f"{path} holds {len(array)} images: at least 2 are needed, one to train on and one to test on")
    scaled = array / 255 if array.dtype == np.uint8 else array
    pixels = torch.from_numpy(scaled.reshape(len(array), -1).astype(np.float32))
    train, test = train_test_split(pixels, test_size=0.2, random_state=0)
    return Images(str(path), train, test, (array.shape[1], array.shape[2]))


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


DATASETS: dict[str, Callable[[Path], Images]] = {
    "digits": _digits,
    "mnist": _torchvision("mnist", MNIST, "60000 + 10000 handwritten digits of 28x28 pixels (torchvision)."),
    "fashion-mnist": _torchvision(
        "fashion-mnist", FashionMNIST, "60000 + 10000 pieces of clothing of 28x28 pixels (torchvision)."
    ),
    "static-mnist": _static_mnist,
}
