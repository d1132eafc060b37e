"""What holds for each file that a loader is given, however damaged.

It ends in an InputError of one line, or in data. Data are right: those of a set with published checksums are the
published ones, bit for bit; those of one's own file are what numpy or the csv module reads from the same bytes. (Bits
that are flipped within pixels leave a valid file of other pixels, which nobody can tell from the one that was meant.)

Some 200 files a loader here; ``PPL_VAE_SOAK=10000`` tries so many.
"""

import csv
import gzip
import io
import math
import os
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from damage import damaged
from small_sets import TRAIN, amat_files, idx_files, publish

from ppl_vae import InputError, load
from ppl_vae.data.tables import load_table

COUNT = int(os.environ.get("PPL_VAE_SOAK", "200"))
GENERATOR = np.random.default_rng(0)
MEMORY = 64 << 20  # bytes that a small file may take: far more than it needs, far less than its header may ask for


def outcomes(wholes, count, tokens, attempt, is_right):
    """Counts how a loader ends on damaged copies of each file, which differ in their seeds; prints it for ``-s``."""
    found = {"refused": 0, "right": 0}
    for seed, whole in enumerate(wholes):
        assert is_right(attempt(whole), whole)
        tracemalloc.start()  # not before all is imported
        for content in damaged(whole, math.ceil(count / len(wholes)), seed, tokens):
            tracemalloc.reset_peak()
            start, result, message = tracemalloc.get_traced_memory()[0], None, ""
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    result = attempt(content)
            except InputError as error:
                message = str(error)
            peak = tracemalloc.get_traced_memory()[1] - start
            found["right" if result else "refused"] += 1
            assert (result and is_right(result, content)) or message, content[:1000]
            assert message.isprintable(), content[:1000]
            assert max(len(message) / 1000, peak / MEMORY) < 1, content[:1000]
    print(found)
    return found


@pytest.fixture(autouse=True)
def _counted_memory():
    yield
    tracemalloc.stop()


SAME = ("train", "test", "train_labels", "test_labels")


def same(images, others):
    pairs = [(getattr(images, part), getattr(others, part)) for part in SAME]
    return all(one is other or torch.equal(one, other) for one, other in pairs)


GZIP = [b"\x1f\x8b\x08\0", b"\x1f\x8b\x08\x1f", b"\x1f\x8b\x08\x04\xff\xff", gzip.compress(b""), gzip.compress(b"0")]
IDX = [struct.pack(">I", value) for value in (2051, 2049, 28, TRAIN, 0, 1 << 31)]
SETS = {"mnist": ("MNIST", "MNIST/raw", idx_files), "static-mnist": ("binarized-mnist", ".", amat_files)}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", SETS)
def test_of_a_published_set_nothing_is_read_but_what_was_published(tmp_path, monkeypatch, name, ending):
    source, folder, make = SETS[name]
    contents = make()
    publish(monkeypatch, source, contents)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    paths = [tmp_path / folder / (file + ending) for file in contents]
    wholes = [gzip.compress(content, mtime=0) if ending else content for content in contents.values()]
    for path, whole in zip(paths, wholes, strict=True):
        path.write_bytes(whole)
    truth = load(name, tmp_path)
    for path, whole in zip(paths, wholes, strict=True):

        def attempt(content, path=path):
            path.write_bytes(content)
            return load(name, tmp_path)

        outcomes(
            [whole],
            COUNT / len(paths),
            [*GZIP, *IDX, b"0 ", b"1 ", b"\r\n"],
            attempt,
            lambda found, _: same(found, truth),
        )
        path.write_bytes(whole)


def saved(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


GREY = GENERATOR.integers(0, 256, (10, 4, 5), np.uint8)
ARRAYS = [GREY, GREY / 255, (GREY / 255).astype(">f4"), np.asfortranarray(GREY), GREY % 2, GREY > 99]
TYPES = [
    "'<f4'",
    "'|u1'",
    "'>f8'",
    "'<c8'",
    "'|O'",
    "'<U4'",
    "'<f2'",
    "'<i8'",
    "'<m8[s]'",
    "'|V0'",
    "[('a', '<f4')]",
    "None",
]
SHAPES = [
    "(10, 4, 5)",
    "(10, 4)",
    "()",
    "(10, 4, 5, 1)",
    "(9999999999, 4, 5)",
    "(-10, -4, 5)",
    "(0, 9, 9)",
    "(2, 0, 5)",
]
SHAPES += [
    "(1000000000000000000000000000000, 0, 5)",
    "(10L, 4, 5)",
    "(True, 4, 50)",
    "[10, 4, 5]",
    "(1e1, 4, 5)",
    "(5, 2, 20)",
]
WORDS = [
    "True",
    "False",
    "'descr'",
    "'shape'",
    "'fortran_order'",
    "\n",
    "(" * 200,
    "-" * 5000,
    "{",
    "}",
    "'",
    "lambda: 0",
]
NPY = [b"\x93NUMPY", b"\x93NUMPY\2\0", b"\x93NUMPY\3\0", b"PK\x03\x04", b"\x80\x04", b"\xff\xff", b"\0\0\0\x80"]
NPY += [word.encode() for word in TYPES + SHAPES + WORDS]


def meant(content):
    """The pixels of a .npy file, by numpy alone; None where they are no pictures."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.ndim != 3 or array.dtype.kind not in "buif" or not (array >= 0).all():
        return None
    scale = 255 if array.dtype.kind in "ui" and array.max() > 1 else 1
    pixels = (array.astype(np.float64) / scale).astype(np.float32)
    return pixels.reshape(len(array), -1) if pixels.max() <= 1 else None


def test_ones_own_images_are_what_numpy_reads(tmp_path):
    path = tmp_path / "own.npy"

    def attempt(content):
        path.write_bytes(content)
        return load(str(path))

    def is_right(images, content):
        pixels = torch.cat([images.train, images.test]).numpy()
        return sorted(pixels.tolist()) == sorted(meant(content).tolist())

    found = outcomes([*map(saved, ARRAYS), saved(GREY, (2, 0))], COUNT, NPY, attempt, is_right)
    assert found["right"] > COUNT / 50


NUMBERS = "a,b,kind\n" + "".join(
    f"{value:.4f},{row},{'xyz'[row % 3]}\n" for row, value in enumerate(GENERATOR.normal(size=30))
)
QUOTED = 'a,"b, or so",kind\r\n' + "".join(f'"{value:.3e}",{value:+.2f}, {value / 3}\r\n' for value in range(20))
CELLS = [
    "1e39",
    "1O0",
    "1_0",
    "nan",
    "NA",
    "0x10",
    '"',
    "1e400",
    "١٢",
    "\0",
    "TRUE",
    "1,5",
    "\r",
    "\r\n",
    "\n\n",
    ",",
    ";",
]
CELLS += [
    "inf",
    "-",
    "1e",
    "1.5.2",
    "\ufeff",
    "1700000001",
    "x",
    " ",
    "0",
    '"2"3',
    "#",
    "''",
    "\u2028",
    "x" * 5000,
    "1" * 400,
]
CSV = [b"\xff\xfe", b"\x80", *(cell.encode() for cell in CELLS)]


def rows_of(content):
    """The rows of a CSV file that are not blank, by the csv module alone."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    return [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]


def numbers_of(cells):
    return np.array([float(cell if "_" not in cell else "no number") for cell in cells]).astype(np.float32)


def test_ones_own_table_is_what_the_csv_module_reads(tmp_path):
    path = tmp_path / "own.csv"

    def attempt(content):
        path.write_bytes(content)
        return load_table(str(path), target="kind")

    def is_right(table, content):
        header, *rows = rows_of(content)
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
        kinds = columns.pop("kind")
        if table.classes:
            kinds_are_right = [table.classes[int(number)] for number in table.targets] == list(kinds)
        else:
            kinds_are_right = np.array_equal(table.targets.numpy(), numbers_of(kinds))
        values = np.stack([numbers_of(cells) for cells in columns.values()], 1)
        return kinds_are_right and table.columns == tuple(columns) and np.array_equal(table.values.numpy(), values)

    found = outcomes(
        [NUMBERS.encode(), QUOTED.encode(), b"\xef\xbb\xbf" + NUMBERS.encode()], COUNT, CSV, attempt, is_right
    )
    assert found["right"] > COUNT / 50
