"""The door for data files: what is no file is not opened, what is too large is not read, and a message is one line."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from small_sets import amat_files, idx_files, publish

from ppl_vae import InputError, load
from ppl_vae.data.files import opened, quoted, shown
from ppl_vae.data.tables import load_table

LOADERS = {"npy": load, "csv": load_table}


def refusal(kind, path):
    with pytest.raises(InputError) as caught:
        LOADERS[kind](str(path))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def loop(path):
    path.symlink_to(path)


def link_to(target):
    return lambda path: path.symlink_to(target)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 43)


NO_FILES = {
    "folder": (Path.mkdir, "is a folder, expected a file"),
    "pipe": (os.mkfifo, "is a pipe, expected a file"),
    "endless device": (link_to("/dev/zero"), "is a device or a socket, expected a file"),
    "loop of links": (loop, r"can't be read \(.*symbolic links\)"),
    "dangling link": (link_to("gone"), r"can't be read \(No such file or directory\): name a file that is there$"),
    "larger than the memory": (sparse, r"has 8796093022208 bytes, expected \d+ at most"),
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_to_read_is_refused_at_once(tmp_path, kind, what):
    make, message = NO_FILES[what]
    try:
        make(tmp_path / f"own.{kind}")
    except OSError as error:
        pytest.skip(f"this machine makes none: {error}")
    with pytest.raises(InputError, match=message):
        LOADERS[kind](str(tmp_path / f"own.{kind}"))


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("name", ["two\nlines", "null\0", "\udcff", "x" * 5000])
def test_any_name_stands_on_one_line(tmp_path, kind, name):
    assert refusal(kind, tmp_path / f"{name}.{kind}").endswith(("numpy.save", "commas", "a file that is there"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all files")
@pytest.mark.parametrize("kind", LOADERS)
def test_a_file_that_may_not_be_read(tmp_path, kind):
    path = tmp_path / f"own.{kind}"
    path.touch(0o000)
    assert "(Permission denied)" in refusal(kind, path)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), EOFError(), MemoryError(), UnicodeError("no\ntext")]
)
def test_what_fails_while_a_file_is_read_is_one_line(tmp_path, error):
    (tmp_path / "a").touch()
    with (
        pytest.raises(InputError, match=r"a can't be read \(.+\): give another$") as caught,
        opened(tmp_path / "a", 1, "give another"),
    ):
        raise error
    assert str(caught.value).isprintable()


def test_an_error_of_the_program_itself_is_no_fault_of_the_file(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(ZeroDivisionError), opened(tmp_path / "a", 1, "give another"):
        1 / 0  # noqa: B018


def test_long_text_is_shortened():
    assert (shown("own.npy"), shown("a\tb"), quoted("1\n")) == ("own.npy", "'a\\tb'", "'1\\n'")
    assert len(quoted("\0" * 10**6)) < 310


def peak(call):
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        call()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size, str(caught.value)


@pytest.fixture(params=["mnist", "static-mnist"])
def packed(request, tmp_path, monkeypatch):
    """The name of a set of small packed files, one of them, and its bytes unpacked."""
    source, folder, make = {
        "mnist": ("MNIST", "MNIST/raw", idx_files),
        "static-mnist": ("binarized-mnist", ".", amat_files),
    }[request.param]
    contents = make()
    publish(monkeypatch, source, contents)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (path := tmp_path / folder / f"{name}.gz").write_bytes(gzip.compress(content))
    load(request.param, tmp_path)
    return request.param, path, content


def test_a_bomb_is_unpacked_no_further_than_the_published_size(packed, tmp_path):
    name, path, content = packed
    path.write_bytes(gzip.compress(content + bytes(1 << 21)))
    size, message = peak(lambda: load(name, tmp_path))
    assert f"holds more than {len(content)} bytes unpacked, expected {len(content)}" in message
    assert size < 1 << 20


PACKED_WRONG = {
    "rubbish after it": (lambda content: gzip.compress(content) + b"rubbish", "Not a gzipped file"),
    "another member": (lambda content: gzip.compress(content) + gzip.compress(b"0"), "holds more than"),
    "the checksum": (lambda content: gzip.compress(content)[:-8] + bytes(8), "CRC check failed"),
    "cut off": (lambda content: gzip.compress(content)[:-9], "ended before"),
    "no member": (lambda content: b"", "holds 0 bytes unpacked"),
    "a thousand members": (lambda content: gzip.compress(b"") * 1000, "at most|holds 0 bytes"),
}


@pytest.mark.parametrize("wrong", PACKED_WRONG)
def test_what_is_wrong_with_a_packed_file(packed, tmp_path, wrong):
    name, path, content = packed
    make, message = PACKED_WRONG[wrong]
    path.write_bytes(make(content))
    with pytest.raises(InputError, match=message) as caught:
        load(name, tmp_path)
    assert path.name in str(caught.value)
    assert str(caught.value).isprintable()


def test_members_of_the_published_bytes_are_read(packed, tmp_path):
    name, path, content = packed
    path.write_bytes(gzip.compress(content[:100]) + gzip.compress(content[100:]))
    load(name, tmp_path)


@pytest.mark.parametrize("shape", [(10**11, 4, 5), (10**30, 0, 5), (-10, -4, 5), (10, 4, 4), (10, 4, 6)])
def test_an_arrays_shape_is_held_against_the_files_size_before_memory_is_taken(tmp_path, shape):
    path = tmp_path / "own.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(200))
    size, message = peak(lambda: load(str(path)))
    assert size < 1 << 20
    assert "write it with numpy.save" in message


def test_a_header_takes_no_more_memory_than_the_file_has(tmp_path):
    path = tmp_path / "own.npy"
    path.write_bytes(b"\x93NUMPY\2\0" + struct.pack("<I", 1 << 30) + b"{'descr': '|u1'}")
    size, message = peak(lambda: load(str(path)))
    assert size < 1 << 20
    assert "expected 1073741824 bytes got 16" in message


def test_an_array_larger_than_the_memory_is_not_read(tmp_path, monkeypatch):
    np.save(tmp_path / "own.npy", np.zeros((10, 2, 2), np.uint8))
    monkeypatch.setattr("ppl_vae.data.pixels.memory", lambda: 500)
    assert "holds 40 pixels, more than fit into the memory" in refusal("npy", tmp_path / "own.npy")
    monkeypatch.setattr("ppl_vae.data.pixels.memory", lambda: 550)
    assert len(load(str(tmp_path / "own.npy")).train) == 8


def test_nothing_is_unpickled(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    np.save(tmp_path / "own.npy", np.array([[[Harmful()]]] * 10, object), allow_pickle=True)
    assert "type object, expected real numbers" in refusal("npy", tmp_path / "own.npy")
    np.array([[[Harmful()]]], object).dump(tmp_path / "own.npy")
    assert "can't be read as a .npy file" in refusal("npy", tmp_path / "own.npy")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("row", ["0", '"\n",', "\0"], ids=["digits", "lines", "nulls"])
@pytest.mark.parametrize("header", ["", "a,b\n"], ids=["first", "second"])
def test_a_row_without_end_is_not_held(tmp_path, monkeypatch, row, header):
    monkeypatch.setattr("ppl_vae.data.csv_file._LONGEST_ROW", 20_000)
    (tmp_path / "own.csv").write_text(header + row * 1_000_000)
    size, message = peak(lambda: load_table(str(tmp_path / "own.csv")))
    assert "has a row of more than 20000 characters" in message
    assert size < 3 << 20


def test_more_rows_than_fit_into_the_memory(tmp_path, monkeypatch):
    (tmp_path / "own.csv").write_text("a,b\n" + "1,2\n" * 100)
    assert load_table(str(tmp_path / "own.csv")).values.shape == (100, 2)
    monkeypatch.setattr("ppl_vae.data.csv_file.memory", lambda: 99 * 2 * 128)
    assert "has more than 99 rows" in refusal("csv", tmp_path / "own.csv")
