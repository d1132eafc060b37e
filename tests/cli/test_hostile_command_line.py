"""Every hostile call ends in one line on standard error and status 2, and leaves nothing behind.

Some 60 calls here; ``PPL_VAE_SOAK=3000`` tries so many.
"""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
from hostile_calls import COMPARE, GRADIENTS, MIXTURE, TRAIN, calls, ending, prepare

from ppl_vae import InputError
from ppl_vae.cli.new import new_pair
from ppl_vae.errors import in_one_line
from ppl_vae.training.arguments import resolve_device

COUNT = int(os.environ.get("PPL_VAE_SOAK", "60"))
FAULTS = {  # found by an earlier search
    "a seed beyond numpy's": ((*TRAIN, "--seed", str(2**32)), "--seed is 4294967296; 2147483647 is the most"),
    "more than any memory": ((*COMPARE, "--latents", str(2**31 - 1), "--hidden", str(2**31 - 1)), "not enough memory"),
    "a width beyond counting": ((*TRAIN, "--hidden", str(2**70)), "expected numbers from 1 to 2147483647"),
    "an infinite rate": ((*TRAIN, "--lr", "inf"), "lr is inf; a learning rate is above 0 and finite"),
    "an infinite rate for a table": ((*MIXTURE, "--lr", "inf"), "--lr is inf; a learning rate is above 0 and finite"),
    "a rate that ends in NaN": ((*COMPARE, "--lr", "1e30"), "the ELBO became nan"),
    "a guide twice": ((*COMPARE, "--guides", "diagonal,iaf,iaf"), "each once: see `ppl-vae list`"),
    "an estimator twice": ((*GRADIENTS, "--estimators", "pathwise,pathwise"), "each once: see `ppl-vae list`"),
    "no estimator": ((*GRADIENTS, "--estimators", ","), "--estimators is ','; expected names"),
    "a line break": ((*TRAIN, "--data", "a\nb.npy"), r"a\nb.npy"),
    "a letter that is none": (("evaluate", "\udcff"), r"\udcff is no folder"),
    "an unknown option with a colour": (("train", "--\x1b[31mred"), "No such option"),
    "a long name": (("evaluate", "x" * 5000), "xxx...xxx"),
    "a device without numbers": ((*COMPARE, "--device", "meta"), "device 'meta' can't be used here"),
    "no name of a class": (("new", "_1"), "can't name a Python module"),
    "the module that runs": (("new", "__main__"), "can't name a Python module"),
    "a name too long for a file": (("new", "x" * 252), "can't name a Python module"),
    "a file for a folder": (("new", "my_own", "--folder", "file/deeper"), "can't be written (Not a directory)"),
    "a link to itself": (("new", "my_own", "--folder", "loop.npy/x"), "can't be written"),
}


@pytest.fixture(autouse=True)
def _in_a_folder(monkeypatch, tmp_path):
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gets_its_sentence(name):
    call, words = FAULTS[name]
    how, line = ending(call)
    assert (how, words in line) == ("clean", True), (how, line)


def test_hostile_calls():
    assert ending((*TRAIN, "--run", "runs/vae"))[0] == "status None"
    assert ending((*MIXTURE, "--run", "runs/iris"))[0] == "status None"
    found = Counter()
    for call in calls(COUNT, 0, ["folder", "file"]):
        if "runs/schools" not in call:
            how, line = ending(call)
            found[how] += 1
            assert how == "clean", (call, line)
    print(found)


def test_names_that_stand_in_a_message():
    assert in_one_line("plain: é, 'quoted'") == "plain: é, 'quoted'"
    assert str(InputError("a\nb\x1b\udcff")) == r"a\nb\x1b\udcff"
    assert len(in_one_line(f"{'x' * 10_000} is no name")) < 400


def test_a_new_pair_takes_plain_names(tmp_path):
    for name in ("ﬁle", "é", "x" * 101, "__future__"):
        with pytest.raises(InputError, match="up to 100 lower-case letters"):
            new_pair(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert resolve_device("cpu").type == "cpu"


def test_a_name_that_is_no_text_is_printed_as_it_is(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "ppl_vae", "new", "my_own", "--folder", os.fsdecode(b"\xff")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0] == b"\xff/my_own.py"
