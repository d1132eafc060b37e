"""``ppl-vae new``: what it writes passes and runs at once, is clean, and stands whole or not at all."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from ruff.__main__ import find_ruff_bin

from ppl_vae import InputError
from ppl_vae.cli.new import KINDS, new_pair

TESTED_THEN_RUN = """
import runpy, pytest
failed = pytest.main(["-q", "-p", "no:cacheprovider", "test_mine.py"])
runpy.run_path("run_mine.py")
raise SystemExit(failed)
"""
COUNT = {"local": 3, "shared": 4, "conditional": 4, "discrete": 5, "counts": 4}
GUIDES = {"shared": {"own", "AutoNormal", "full"}, "discrete": {"own", "wider", "linear"}}
RULES = "E,F,I,B,UP,D1,RUF,SIM,PT,ANN"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_passes_its_tests_and_prints_its_table(tmp_path, kind):
    paths = new_pair("mine", tmp_path, kind)
    assert [path.name for path in paths] == ["mine.py", "test_mine.py", "run_mine.py"]
    script = paths[2].read_text()
    shorter = re.sub(r"epochs=\d+", "epochs=5", script)
    assert shorter != script
    paths[2].write_text(shorter)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", TESTED_THEN_RUN], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{COUNT[kind]} passed" in done.stdout
    heading, *rows = done.stdout[done.stdout.index("guide  ") :].splitlines()
    assert heading.split("  ")[0] == "guide"
    assert re.split(r"  +", heading) == ["guide", "ELBO", "log p(x)", "gap", "k-hat"]
    own, *_ = (row.split() for row in rows if row.startswith("own"))
    assert float(own[4]) - float(own[1]) == pytest.approx(float(own[5]), abs=2e-3)
    assert all(any(row.startswith(name) for row in rows) for name in GUIDES.get(kind, {"own"}))
    assert ("log p(x): exact" in rows) == (kind == "discrete")
    assert any(row.startswith(f"nats per data {'set' if kind == 'shared' else 'point'}") for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_clean(tmp_path, kind):
    new_pair("mine", tmp_path, kind)
    settings = ["--isolated", "--no-cache", "--line-length", "120"]
    lint = ["check", *settings, "--select", RULES, "--ignore", "D103,D107", "."]  # names say what they hold
    for arguments in (["format", "--check", *settings, "."], lint):
        done = subprocess.run([ruff(), *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def ruff():
    """The program, beside this Python or beside the package where an environment looks into another one."""
    try:
        return find_ruff_bin()
    except FileNotFoundError:
        package = importlib.util.find_spec("ruff").origin
        return os.path.join(package.split(f"{os.sep}lib{os.sep}")[0], "bin", "ruff")


def test_the_name_replaces_the_templates_own_everywhere(tmp_path):
    for kind in KINDS:
        for path in new_pair("mine", tmp_path / kind, kind):
            text = path.read_text()
            assert "my_model" not in text
            compile(text, path, "exec")
            assert "mine" in text


def test_a_kind_that_there_is_not(run, tmp_path):
    status, out, err = run("new", "mine", "--kind", "global")
    assert (status, out) == (2, "")
    message = "there is no kind 'global': choose from local, shared, conditional, discrete, counts"
    assert err == f"ppl-vae: {message}\n"
    assert not list(tmp_path.iterdir())


def test_the_help_has_a_line_for_each_kind(run):
    _, out, _ = run("new", "--help")
    listed = out.partition("The kinds to start from:")[2].partition("Example:")[0]
    found = {line.split()[0] for line in listed.splitlines() if line.strip()}
    assert found == set(KINDS)


@pytest.mark.parametrize("name", ["My", "my-model", "1st", "class", ""])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(InputError, match="can't name a Python module"):
        new_pair(name, tmp_path)


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py", "run_mine.py"])
def test_nothing_is_written_over(tmp_path, there):
    (tmp_path / there).write_text("kept")
    with pytest.raises(InputError, match="is there already: take another name"):
        new_pair("mine", tmp_path, "counts")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "kept"
