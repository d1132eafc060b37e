"""Real images behind one function: :func:`load`."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.files import quoted, shown
from ppl_vae.data.pixels import read_pixels
from ppl_vae.data.published import download, missing, read_all
from ppl_vae.errors import InputError
from ppl_vae.errors import shown as described

DATA_ROOT = "PPL_VAE_DATA"
_PIXELS_FROM, _LABELS_FROM = 16, 8  # the bytes of an idx file before its content


@dataclass(frozen=True)
class Images:
    """A set of training and test images, flattened.

    Attributes:
        name: what :func:`load` was asked for.
        train: shape (images, pixels), float32 in [0, 1].
        test: likewise.
        shape: height and width.
        train_labels: shape (images,), or None where the set has none.
        test_labels: likewise.

    Examples:
        >>> import torch
        >>> from ppl_vae import Images
        >>> Images("stripes", train=torch.eye(4).repeat(5, 1), test=torch.eye(4), shape=(2, 2)).described
        'stripes: 20 + 4 images of 2 x 2, bits'
    """

    name: str
    train: Tensor
    test: Tensor
    shape: tuple[int, int]
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None

    @property
    def binary(self) -> bool:
        """Whether every pixel is 0 or 1 already, so that nothing is left to binarize."""
        return all(bool(((part == 0) | (part == 1)).all()) for part in (self.train, self.test))

    @property
    def described(self) -> str:
        """Describes the set as it was understood: "own.npy: 80 + 20 images of 28 x 20, bits", training + test."""
        low, high = float(self.train.min()), float(self.train.max())
        levels = "bits" if self.binary else f"grey levels from {low:g} to {high:g}"
        height, width = self.shape
        return f"{shown(self.name)}: {len(self.train)} + {len(self.test)} images of {height} x {width}, {levels}"


def load(name: str, root: str | os.PathLike[str] | None = None) -> Images:
    """Loads a set of images by its name in :data:`DATASETS`, or from your own .npy file.

    Args:
        name: "digits", "mnist", "fashion-mnist", "static-mnist", or the path of a .npy file that holds an array of
            shape (images, height, width): bits, whole grey levels from 0 to 255, or reals from 0 to 1 (see
            :func:`ppl_vae.data.pixels.read_pixels`). A fifth of it becomes the test images.
        root: the folder that the files are in; ``$PPL_VAE_DATA`` or ``data`` where None. MNIST and Fashion-MNIST are
            downloaded into it where they are missing.

    Raises:
        InputError: for an unknown name, a missing or damaged file, other values than these, NaN or an empty set.

    Examples:
        >>> from ppl_vae import load
        >>> load("digits").described
        'digits: 1437 + 360 images of 8 x 8, grey levels from 0 to 1'
    """
    if not isinstance(name, str):
        raise InputError(f"the data set's name is {described(name)}; expected {', '.join(DATASETS)}, or a .npy file")
    if root is not None and not isinstance(root, str | os.PathLike):
        raise InputError(f"root is {described(root)}; expected the folder that the files are in")
    if name not in DATASETS and not name.endswith(".npy"):
        raise InputError(
            f"there is no data set {quoted(name)}: choose from {', '.join(DATASETS)}, or give the path of a .npy file, "
            "or that of a .csv table"
        )
    folder = Path(root if root is not None else os.environ.get(DATA_ROOT, "data"))
    return DATASETS[name](folder) if name in DATASETS else _from_file(Path(name))


def _digits(root: Path) -> Images:
    """1437 + 360 handwritten digits of 8x8 pixels, real, embedded in scikit-learn."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, labels, test_size=0.2, random_state=0, stratify=labels)
    train, test, train_labels, test_labels = (torch.from_numpy(part) for part in parts)
    return Images("digits", train.float(), test.float(), (8, 8), train_labels, test_labels)


def _torchvision(name: str, source: str, line: str) -> Callable[[Path], Images]:
    def read(root: Path) -> Images:
        raw = root / source / "raw"
        if missing(source, raw):
            download(source, raw)
        train, test, *labels = (np.frombuffer(content, np.uint8) for content in read_all(source, raw))
        train_labels, test_labels = (torch.from_numpy(part[_LABELS_FROM:].astype(np.int64)) for part in labels)
        pixels, held_out = (_grey(part[_PIXELS_FROM:]) for part in (train, test))
        return Images(name, pixels, held_out, (28, 28), train_labels, test_labels)

    read.__doc__ = line
    return read


def _grey(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(levels.reshape(-1, 784).astype(np.float32)).div_(255)


def _static_mnist(root: Path) -> Images:
    """50000 + 10000 MNIST digits, binarized once (Larochelle & Murray 2011)."""
    folders = (root, root / "binarized-mnist")
    if absent := missing("binarized-mnist", *folders):
        raise InputError(
            f"static-mnist: there is no {absent[0].name} (or {absent[0].name}.gz) in {shown(root)}: put Larochelle's "
            f"files there, or name their folder by --data-root or {DATA_ROOT}"
        )
    contents = read_all("binarized-mnist", *folders)
    digits = (
        np.frombuffer(content, np.uint8)[::2] - ord("0") for content in contents
    )  # a space or line end after each
    train, test = (torch.from_numpy(part.reshape(-1, 784)).float() for part in digits)
    return Images("static-mnist", train, test, (28, 28))


def _from_file(path: Path) -> Images:
    from sklearn.model_selection import train_test_split

    pixels = read_pixels(path)
    train, test = train_test_split(pixels.flatten(1), test_size=0.2, random_state=0)
    return Images(str(path), train, test, (pixels.shape[1], pixels.shape[2]))


DATASETS: dict[str, Callable[[Path], Images]] = {
    "digits": _digits,
    "mnist": _torchvision("mnist", "MNIST", "60000 + 10000 handwritten digits of 28x28 pixels (torchvision)."),
    "fashion-mnist": _torchvision(
        "fashion-mnist", "FashionMNIST", "60000 + 10000 pieces of clothing of 28x28 pixels (torchvision)."
    ),
    "static-mnist": _static_mnist,
}
