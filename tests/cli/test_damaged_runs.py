"""A run's folder with one file damaged, gone or another run's: refused in one line, or read as what the run left.

Some 300 damages over all files here; ``PPL_VAE_SOAK=10000`` makes so many.
"""

import os
import random
import shutil
from collections import Counter

import pytest
import torch
from hostile_calls import TRAIN, ending

from ppl_vae import InputError, open_run
from ppl_vae.runs.folder import RECORD, _write, read_record

COUNT = int(os.environ.get("PPL_VAE_SOAK", "300"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in their seeds."""
    folder, before = tmp_path_factory.mktemp("runs"), os.getcwd()
    os.chdir(folder)
    try:
        for name, seed in (("one", "0"), ("other", "1")):
            assert ending((*TRAIN, "--seed", seed, "--run", name))[0] == "status None"
    finally:
        os.chdir(before)
    return folder / "one", folder / "other"


def content(run):
    """All that a run gives back, to be compared."""
    pairs = {name: [module.state_dict() for module in pair] for name, pair in run.pairs.items()}
    return pairs, (run.settings, run.data, run.made_with, run.histories, run.results), run.bounds


def is_same(first, second):
    states = [[state for pair in pairs.values() for state in pair] for pairs in (first[0], second[0])]
    tensors = all(
        one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        for one, other in zip(*states, strict=True)
    )
    return tensors and first[1] == second[1] and first[2].identical(second[2])


def damage(whole, other, source):
    """One damage of a file's bytes; None removes it."""
    place, size = source.randrange(len(whole)), source.choice((1, 4, 64))
    kinds = {
        "flip": whole[:place] + bytes([whole[place] ^ 1 << source.randrange(8)]) + whole[place + 1 :],
        "scramble": whole[:place] + source.randbytes(size) + whole[place + size :],
        "truncate": whole[:place],
        "append": whole + source.choice((b"\0", b"\n", b"{}")),
        "swap": other,
        "remove": None,
    }
    kind = source.choice(list(kinds))
    return kind, kinds[kind]


def test_damaged_files(runs, tmp_path):
    one, other = runs
    copy = shutil.copytree(one, tmp_path / "copy")
    files = [path.relative_to(one) for path in sorted(one.rglob("*")) if path.is_file()]
    whole, source, found = content(open_run(one)), random.Random(0), Counter()
    for _ in range(COUNT):
        file = source.choice(files)
        kind, changed = damage((one / file).read_bytes(), (other / file).read_bytes(), source)
        (copy / file).unlink() if changed is None else (copy / file).write_bytes(changed)
        try:
            now, message = content(open_run(copy)), ""
        except InputError as error:
            now, message = None, str(error)
        (copy / file).write_bytes((one / file).read_bytes())
        found["refused" if message else "equal"] += 1
        assert message.isprintable()
        if not message and not is_same(now, whole):
            found[f"another: {kind} {file}"] += 1
    print(found)
    assert set(found) == {"refused", "equal"}


@pytest.mark.parametrize("file", ["model.safetensors", "bounds.nc", "history.json", RECORD])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name)])
def test_what_is_no_file(runs, tmp_path, file, make):
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    (copy / file).unlink()
    make(copy / file)
    with pytest.raises(InputError, match=file):
        open_run(copy)


@pytest.mark.parametrize(
    ("name", "value"), [("versions", None), ("settings", [1]), ("data", "x"), ("pairs", [1]), ("files", 3)]
)
def test_a_record_of_other_kinds(runs, tmp_path, name, value):
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    record = read_record(copy)
    record.pop(name) if value is None else record.update({name: value})
    _write(copy, record)
    with pytest.raises(InputError, match=f"can't be opened by this version .*{name}"):
        open_run(copy)


@pytest.mark.parametrize(
    ("name", "value"), [("seed", "x"), ("seed", {}), ("data", 3), ("images", []), ("latents", 10**12)]
)
def test_settings_of_other_kinds(runs, tmp_path, name, value):
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    record = read_record(copy)
    record["settings"][name] = value
    _write(copy, record)
    with pytest.raises(InputError, match="can't be opened by this version"):
        open_run(copy)
