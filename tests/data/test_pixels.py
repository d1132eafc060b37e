"""One's own images: what the numbers of an array mean, and which arrays are none."""

import re

import numpy as np
import pytest
import torch

from ppl_vae import InputError, load

GREY = np.arange(10 * 4 * 5).reshape(10, 4, 5) + 50
BITS = GREY % 3 == 0


@pytest.mark.parametrize(
    ("array", "largest", "levels"),
    [
        *((BITS.astype(kind), 1.0, "bits") for kind in (bool, np.uint8, np.int64, np.float16, np.float64)),
        *((GREY.astype(kind), 249 / 255, "grey levels from 0.196") for kind in (np.uint8, np.int16, np.uint64)),
        (GREY / 500, 249 / 500, "grey levels from 0.1"),
        ((GREY / 500).astype(">f8"), 249 / 500, "grey levels from 0.1"),
        (np.asfortranarray(GREY.astype(">u2")), 249 / 255, "grey levels from 0.196"),
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
    scale = 255 if array.dtype.kind in "ui" and array.max() > 1 else 1
    torch.testing.assert_close(pixels.sort(0)[0], torch.tensor(array.reshape(10, 20) / scale).float().sort(0)[0])
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
    "objects": (np.full((10, 2, 2), None), "type object, expected real numbers of shape"),
    "beyond float32": (np.linspace(0, 1e300, 40).reshape(10, 2, 2), "real numbers from 0 to 1e+300, expected 0 to 1"),
    "below float32": (
        np.where(np.arange(40) % 2, 1e-46, 2e-46).reshape(10, 2, 2),
        "real numbers from 1e-46 to 2e-46, which float32 rounds by up to 1.4e-45: rescale them to fill",
    ),
    "too close": (
        np.where(np.arange(40) % 2, 0.5, 0.5 + 1e-9).reshape(10, 2, 2),
        "real numbers from 0.5 to 0.500000001, which float32 rounds by up to 3e-08",
    ),
    "one number": (np.float32(1), "holds an array of shape () and type float32"),
    "times": (np.full((10, 2, 2), 1, "m8[s]"), "type timedelta64[s], expected real numbers of shape"),
}


@pytest.mark.parametrize("wrong", OWN)
def test_what_is_wrong_with_ones_own_images(tmp_path, wrong):
    array, message = OWN[wrong]
    np.save(tmp_path / "own.npy", array)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load(str(tmp_path / "own.npy"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"not an array", b"PK\x03\x04"])
def test_a_file_that_is_no_array(tmp_path, content):
    path = tmp_path / "own.npy"
    if content is not None:
        path.write_bytes(content)
    remedy = "name a file that is there" if content is None else "write it with numpy.save"
    with pytest.raises(InputError, match=rf"can't be read (as a .npy file )?\(.*\): {remedy}$"):
        load(str(path))
