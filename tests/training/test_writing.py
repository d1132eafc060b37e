"""Files are whole at any moment, and two runs never write one at once."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from ppl_vae import InputError
from ppl_vae.training.tensor_files import read_content, write_content
from ppl_vae.training.writing import locked, replaced

HOLDER = """
import sys, time
from pathlib import Path
from ppl_vae.training.writing import locked
with locked(Path(sys.argv[1]), "name another file"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def files_of_at_most(size):
    """As a full disk: writing beyond so many bytes fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_file_of_before(tmp_path):
    write_content(tmp_path / "kept.pt", {"weight": torch.ones(10)})
    with (
        files_of_at_most(1000),
        pytest.raises(InputError, match=r"kept.pt can't be written \(.*File too large") as caught,
    ):
        write_content(tmp_path / "kept.pt", {"weight": torch.ones(10_000)})
    assert len(str(caught.value).splitlines()) == 1
    assert os.listdir(tmp_path) == ["kept.pt"]
    assert read_content(tmp_path / "kept.pt", "a checkpoint")["weight"].sum() == 10


def test_a_failure_while_writing_leaves_the_file_of_before(tmp_path):
    (tmp_path / "result.txt").write_text("whole")

    def interrupted():
        with replaced(tmp_path / "result.txt") as new:
            new.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "result.txt").read_text() == "whole"
    assert os.listdir(tmp_path) == ["result.txt"]


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"), replaced(tmp_path / "file" / "result.txt"):
        pass


def test_what_is_in_use_is_refused_and_free_again_when_its_user_is_killed(tmp_path):
    place = tmp_path / "kept.pt"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(place)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=rf"in use by another run \(process {holder.pid}\): .* name another file"),
            locked(place, "name another file"),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with locked(place, "name another file"):
        with pytest.raises(InputError, match="in use"), locked(place, "name another file"):
            pass
        assert os.listdir(tmp_path) == [".kept.pt.lock"]
    assert not os.listdir(tmp_path)


def test_a_child_does_not_hold_what_its_parent_locked(tmp_path):
    """As a loader's worker, which lives on for a while after its parent is killed."""
    place = tmp_path / "kept.pt"
    forking = HOLDER.replace(
        "    print(", "    child = os.fork()\n    if child == 0: time.sleep(60)\n    print(child, "
    )
    code = forking.replace("import sys, time", "import os, sys, time")
    holder = subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline().split()[0])
    holder.kill()
    holder.wait()
    try:
        with locked(place, "name another file"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_of_many_at_once_one_has_the_lock(tmp_path):
    """Also where its holder removes it while others wait at the door."""
    place, inside = tmp_path / "kept.pt", tmp_path / "inside"
    code = """
import os, sys, time
from pathlib import Path
from ppl_vae.errors import InputError
from ppl_vae.training.writing import locked
place, inside = map(Path, sys.argv[1:])
for _ in range(300):
    try:
        with locked(place, ""):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where somebody else is inside
            time.sleep(0.0005)
            inside.unlink()
    except InputError:
        time.sleep(0.0003)
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, str(place), str(inside)]) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
