"""What an array of pixels means: bits, or grey levels from black to white."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError

_WHITE = 255  # of a grey level in one byte


def read_pixels(path: Path) -> Tensor:
    """Reads images from a .npy file; returns pixels in [0, 1], shape (images, height, width), float32.

    Whole numbers that are 0 and 1 alone, and booleans, are bits; other whole numbers from 0 to 255 are grey levels and
    are divided by 255. Real numbers from 0 to 1 are taken as they are. No other array is guessed at.

    Raises:
        InputError: for a file that holds no such array, NaN, or fewer than two images.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} can't be read as a .npy file ({one_line(error)}): write it with numpy.save") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays, expected one: write it with numpy.save")
    if array.ndim != 3 or array.dtype.kind not in "buif":
        raise InputError(
            f"{path} holds an array of shape {array.shape} and type {array.dtype}, expected real numbers of shape "
            "(images, height, width): reshape it, (images, 1, width) if a row is no picture"
        )
    if len(array) < 2:
        raise InputError(f"{path} holds {len(array)} images: at least 2 are needed, one to train on and one to test on")
    pixels = torch.from_numpy(array.astype(np.float32))
    whole = array.dtype.kind != "f"
    if whole and pixels.numel():
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > _WHITE:
            raise InputError(
                f"{path} holds whole numbers from {low} to {high}, expected 0 and 1 (bits) or 0 to 255 (grey levels): "
                f"write others as reals from 0 to 1, such as (array - {low}) / {max(high - low, 1)}"
            )
        if high > 1:
            pixels /= _WHITE
    check_pixels(pixels.flatten(1), str(path))
    return pixels


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
        grey = low >= 0 and high <= _WHITE
        mend = "divide them by 255 if they are grey levels from 0 to 255, else scale them" if grey else "rescale them"
        raise InputError(f"{what}: real numbers from {low:g} to {high:g}, expected 0 to 1: {mend}")


def one_line(error: BaseException) -> str:
    """Shortens an error to its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
