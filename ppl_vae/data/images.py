"""Real images behind one function: :func:`load`."""

import gzip
import os
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.pixels import check_pixels, one_line, read_pixels
from ppl_vae.errors import InputError

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

DATA_ROOT = "PPL_VAE_DATA"


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
        return f"{self.name}: {len(self.train)} + {len(self.test)} images of {height} x {width}, {levels}"


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
    if name not in DATASETS and not name.endswith(".npy"):
        raise InputError(
            f"there is no data set {name!r}: choose from {', '.join(DATASETS)}, or give the path of a .npy file, or "
            "that of a .csv table"
        )
    folder = Path(root if root is not None else os.environ.get(DATA_ROOT, "data"))
    images = DATASETS[name](folder) if name in DATASETS else _from_file(Path(name))
    for part, pixels in (("training", images.train), ("test", images.test)):
        check_pixels(pixels, f"{name}, {part} images")
    return images


def _digits(root: Path) -> Images:
    """1437 + 360 handwritten digits of 8x8 pixels, real, embedded in scikit-learn."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, labels, test_size=0.2, random_state=0, stratify=labels)
    train, test, train_labels, test_labels = (torch.from_numpy(part) for part in parts)
    return Images("digits", train.float(), test.float(), (8, 8), train_labels, test_labels)


def _torchvision(name: str, kind: str, line: str) -> Callable[[Path], Images]:
    def read(root: Path) -> Images:
        from torchvision import datasets

        source: type[MNIST] = getattr(datasets, kind)
        raw = root / source.__name__ / "raw"
        _complete(name, source, raw)
        try:
            train, test = (source(str(root), train=is_train) for is_train in (True, False))
        except (AssertionError, ValueError, RuntimeError, TypeError, EOFError, OSError) as error:
            raise InputError(
                f"{name}: a file in {raw} is damaged ({one_line(error)}): delete the folder, and it comes anew"
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


def _missing(source: "type[MNIST]", raw: Path) -> list[str]:
    files = (Path(resource).name.removesuffix(".gz") for resource, _ in source.resources)
    return [file for file in files if not (raw / file).is_file()]


def _complete(name: str, source: "type[MNIST]", raw: Path) -> None:
    """Unpacks or downloads the missing files; existing files are never changed, and a failure changes nothing."""
    missing = _missing(source, raw)
    if not missing:
        return
    existing = next(folder for folder in (raw, *raw.parents) if folder.is_dir())
    try:
        with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory(dir=existing, prefix=".download-") as partial:
            fresh = {file: Path(partial) / file for file in missing}
            for file, path in fresh.items():
                if (packed := raw / f"{file}.gz").is_file():
                    path.write_bytes(gzip.decompress(packed.read_bytes()))
            if not all(path.exists() for path in fresh.values()):
                source(partial, download=True)  # checks its files' MD5
            raw.mkdir(parents=True, exist_ok=True)
            for file, path in fresh.items():
                os.replace(path if path.exists() else Path(partial) / source.__name__ / "raw" / file, raw / file)
    except (OSError, RuntimeError, EOFError, zlib.error) as error:
        raise InputError(
            f"{name} is not in {raw} ({', '.join(missing)} missing) and could not be unpacked or downloaded "
            f"({one_line(error)}): put its four idx files there, or name the folder that holds {source.__name__}/ by "
            f"--data-root or {DATA_ROOT}"
        ) from None


def _static_mnist(root: Path) -> Images:
    """50000 + 10000 MNIST digits, binarized once (Larochelle & Murray 2011)."""
    train, _, test = (_amat(root, part, count) for part, count in (("train", 50000), ("valid", 10000), ("test", 10000)))
    return Images("static-mnist", train, test, (28, 28))


def _amat(root: Path, part: str, count: int) -> Tensor:
    """Reads one of Larochelle's text files, which have 784 digits, 0 or 1, in a row."""
    file = f"binarized_mnist_{part}.amat"
    folders = (root, root / "binarized-mnist")
    candidates = [folder / (file + ending) for folder in folders for ending in ("", ".gz")]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise InputError(
            f"static-mnist: there is no {file} (or {file}.gz) in {root}: put Larochelle's three files there, or name "
            f"their folder by --data-root or {DATA_ROOT}"
        )
    try:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"static-mnist: {path} is damaged ({one_line(error)}): fetch it anew") from None
    values = np.frombuffer(text.translate(None, b" \r\n\t"), np.uint8)
    if values.size and not np.isin(values, (ord("0"), ord("1"))).all():
        raise InputError(f"static-mnist: {path} holds other characters than 0, 1 and white space: fetch it anew")
    if values.size != count * 784:
        raise InputError(
            f"static-mnist: {path} holds {values.size} digits, expected {count} rows of 784 ({count * 784}): it is "
            "truncated, fetch it anew"
        )
    return torch.from_numpy(values.reshape(count, 784) - ord("0")).float()


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
