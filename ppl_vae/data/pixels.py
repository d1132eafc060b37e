"""What an array of pixels means: bits, or grey levels from black to white."""

import io
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.files import memory, one_line, opened, shown
from ppl_vae.errors import InputError

_LONGEST_HEADER = 1 << 14  # bytes; numpy evaluates no longer ones either
_WHITE = 255  # of a grey level in one byte
_COARSE = 1e-4  # of the range of the pixels: float32 may round them by so much
_SINGLE = np.finfo(np.float32)
_COPIES = 3 * 4  # bytes for each pixel in float32: read, and divided into training and test images


def read_pixels(path: Path) -> Tensor:
    """Reads images from a .npy file; returns pixels in [0, 1], shape (images, height, width), float32.

    Whole numbers that are 0 and 1 alone, and booleans, are bits; other whole numbers from 0 to 255 are grey levels and
    are divided by 255. Real numbers from 0 to 1 are taken as they are. No other array is guessed at.

    Raises:
        InputError: for a file that holds no such array, NaN, or fewer than two images.
    """
    what, remedy = shown(path), "write it with numpy.save"
    with opened(path, memory(), remedy) as file:
        shape, in_columns, dtype = _header(file, what)
        if len(shape) != 3 or dtype.kind not in "buif":
            raise InputError(
                f"{what} holds an array of shape {shown(str(shape))} and type {shown(str(dtype))}, expected real "
                "numbers of shape (images, height, width): reshape it, (images, 1, width) if a row is no picture"
            )
        count, given = math.prod(shape), os.fstat(file.fileno()).st_size - file.tell()
        if count * dtype.itemsize != given:
            raise InputError(
                f"{what} has {given} bytes after its header, expected {count * dtype.itemsize} for shape "
                f"{shown(str(shape))} and type {dtype}: {remedy}"
            )
        if shape[0] < 2:
            raise InputError(
                f"{what} holds {shape[0]} images: at least 2 are needed, one to train on and one to test on"
            )
        if count == 0:
            raise InputError(f"{what}: the set is empty, at least one pixel is needed")
        if count * (dtype.itemsize + _COPIES) > memory():
            raise InputError(f"{what} holds {count} pixels, more than fit into the memory: take fewer images")
        array = np.frombuffer(file.read(given), dtype).reshape(shape, order="F" if in_columns else "C")
        return _meant(array.astype(dtype.newbyteorder("="), copy=False), what)


def _header(file: BinaryIO, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the shape, whether the columns come first, and the type; no data, and nothing is unpickled."""
    start = io.BytesIO(file.read(_LONGEST_HEADER))  # numpy takes memory for the length that a header states
    try:
        version = np.lib.format.read_magic(start)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, in_columns, dtype = read(start)
    except Exception as error:  # whatever numpy's and Python's parsers say of bytes that are no header
        raise InputError(f"{what} can't be read as a .npy file ({one_line(error)}): write it with numpy.save") from None
    if min(shape, default=0) < 0:
        raise InputError(f"{what} holds an array of shape {shown(str(shape))}: write it with numpy.save")
    file.seek(start.tell())
    return shape, in_columns, dtype


def _meant(array: np.ndarray, what: str) -> Tensor:
    """Returns an array of numbers as the pixels that they mean."""
    if array.dtype.kind == "f":
        return _reals(array, what)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > _WHITE:
        raise InputError(
            f"{what} holds whole numbers from {low} to {high}, expected 0 and 1 (bits) or 0 to 255 (grey levels): "
            f"write others as reals from 0 to 1, such as (array - {low}) / {max(high - low, 1)}"
        )
    pixels = torch.from_numpy(array.astype(np.float32))
    return pixels.div_(_WHITE) if high > 1 else pixels


def _reals(array: np.ndarray, what: str) -> Tensor:
    """Returns reals from 0 to 1 as float32; InputError where that would lose what distinguishes them."""
    exact = torch.from_numpy(array.astype(np.float64 if array.itemsize > 4 else np.float32))
    if (bad := exact.flatten(1).isnan().any(1)).any():
        raise InputError(
            f"{what}: NaN in {int(bad.sum())} of {len(exact)} images, first in image {int(bad.nonzero()[0])}: "
            "drop or fill these"
        )
    low, high = float(exact.min()), float(exact.max())
    if low < 0 or high > 1:
        grey = low >= 0 and high <= _WHITE
        mend = "divide them by 255 if they are grey levels from 0 to 255, else scale them" if grey else "rescale them"
        raise InputError(f"{what}: real numbers from {low:g} to {high:g}, expected 0 to 1: {mend}")
    error = high * _SINGLE.eps / 2 + _SINGLE.smallest_subnormal
    if array.itemsize > 4 and high > low and error > _COARSE * (high - low):
        raise InputError(
            f"{what}: real numbers from {low:.15g} to {high:.15g}, which float32 rounds by up to {error:.2g}: rescale "
            "them to fill the range from 0 to 1"
        )
    return exact.float()
