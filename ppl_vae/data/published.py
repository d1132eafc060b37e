"""Data sets whose files are known to the byte: MNIST, Fashion-MNIST and Larochelle's binarized MNIST.

Nothing of such a file is interpreted before it is known to be the published one, so a damaged file can't be read wrong.
"""

import gzip
import hashlib
import http.client
import os
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from ppl_vae.data.files import one_line, opened, shown
from ppl_vae.errors import InputError


@dataclass(frozen=True)
class Published:
    """A file as its makers published it, plain or packed by gzip (``.gz`` after its name).

    Attributes:
        name: its name.
        size: the number of its bytes, unpacked.
        sha256: their checksum.
        remedy: what to do where a file of that name is another one.
    """

    name: str
    size: int
    sha256: str
    remedy: str

    def find(self, *folders: Path) -> Path | None:
        """Returns the first path of that name in the folders, the plain file before the packed one."""
        candidates = (folder / (self.name + ending) for folder in folders for ending in ("", ".gz"))
        return next((path for path in candidates if os.path.lexists(path)), None)

    def read(self, path: Path) -> bytes:
        """Returns the unpacked bytes; InputError where they are not the published ones."""
        packed = path.suffix == ".gz"
        most = self.size + self.size // 64 + 4096 if packed else self.size  # gzip adds less than that to any bytes
        with opened(path, most, self.remedy) as file:
            content = (gzip.GzipFile(fileobj=file) if packed else file).read(self.size + 1)
        if len(content) != self.size:
            count = f"more than {self.size}" if len(content) > self.size else len(content)
            differs = f"it holds {count} bytes{' unpacked' if packed else ''}, expected {self.size}"
        elif hashlib.sha256(content).hexdigest() != self.sha256:
            differs = "its SHA-256 is another one"
        else:
            return content
        raise InputError(f"{shown(path)} is not the published file ({differs}): {self.remedy}")


def _idx(*files: tuple[str, int, str]) -> tuple[Published, ...]:
    remedy = "delete it, and it is downloaded; images of your own are read from a .npy file"
    return tuple(Published(*file, remedy) for file in files)


def _amat(*files: tuple[str, int, str]) -> tuple[Published, ...]:
    remedy = "fetch Larochelle's file anew; images of your own are read from a .npy file"
    return tuple(Published(*file, remedy) for file in files)


# The sizes and checksums are those of the unpacked files; the packed ones have the MD5 that torchvision knows.
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "MNIST": _idx(
        ("train-images-idx3-ubyte", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        ("t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        ("train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        ("t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
    "FashionMNIST": _idx(
        ("train-images-idx3-ubyte", 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        ("t10k-images-idx3-ubyte", 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        ("train-labels-idx1-ubyte", 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        ("t10k-labels-idx1-ubyte", 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ),
    "binarized-mnist": _amat(
        ("binarized_mnist_train.amat", 78400000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        ("binarized_mnist_test.amat", 15680000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    ),
}


def missing(source: str, *folders: Path) -> list[Published]:
    """Returns the files of a set that are in none of the folders."""
    return [file for file in PUBLISHED[source] if file.find(*folders) is None]


def read_all(source: str, *folders: Path) -> list[bytes]:
    """Returns the bytes of each file of a set, in the order of :data:`PUBLISHED`."""
    return [file.read(file.find(*folders) or folders[0] / file.name) for file in PUBLISHED[source]]


def download(source: str, raw: Path) -> None:
    """Downloads the missing files of a set of torchvision's; existing ones are never changed, nor by a failure."""
    from torchvision import datasets

    absent = missing(source, raw)
    existing = next(folder for folder in (raw, *raw.parents) if os.path.isdir(folder))
    try:
        with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory(dir=existing, prefix=".download-") as partial:
            getattr(datasets, source)(partial, download=True)
            fresh = Path(partial) / source / "raw"
            for file in absent:
                file.read(fresh / file.name)
            raw.mkdir(parents=True, exist_ok=True)
            for file in absent:
                os.replace(fresh / file.name, raw / file.name)
    except (OSError, EOFError, RuntimeError, ValueError, http.client.HTTPException) as error:
        names = ", ".join(file.name for file in absent)
        raise InputError(
            f"{source} is not in {shown(raw)} ({names} missing) and could not be downloaded ({one_line(error)}): put "
            f"the files there, plain or as .gz, or name the folder that holds {source}/ by --data-root or PPL_VAE_DATA"
        ) from None
